"""What clients are told of the models: a list, one of them, in each dialect's own shape."""

from __future__ import annotations

from er.config import Model
from er.dialects import Route, models
from er.dialects.models import ModelCard
from er.gateway.bounds import Bounds
from er.gateway.exchange import Note, Request, Response
from er.gateway.served import Served, check_right, may_use
from er.gateway.small_body import BODY_MAX, small_body
from er.keys import Identity

TOO_LARGE = f"the body is over {BODY_MAX} bytes; all it has to do is to name a model"


class ModelPages:
    """Answers at these addresses. One object a worker."""

    def __init__(self, served: Served, started: int) -> None:
        """`started` in Unix seconds."""
        self._served, self._started = served, started
        self._bounds = Bounds(served.config.gateway)

    async def answer(self, route: Route, request: Request, who: Identity, note: Note) -> Response:
        """The answer to a known client. Raises Refusal, Gone."""
        if route.page is not None:
            cards = [self._card(m) for m in self._served.config.models if may_use(who, m)]
            return Response(200, route.page(models.asked(cards, request.head.query)))
        note.model = route.model
        if route.named is not None:
            note.model = route.named(await small_body(request, TOO_LARGE))
        model = self._served.named(note.model, who)
        check_right(who, model)
        return Response(200, route.one(self._card(model)))

    def _card(self, model: Model) -> ModelCard:
        prompter = self._served.prompters.get(model.via or model.name)
        return ModelCard(
            id=model.name,
            task=model.task,
            created=self._started,
            max_model_len=prompter.max_tokens if prompter else model.max_tokens,
            dimensions=model.dimensions or (prompter.dimensions if prompter else None)
            if model.task == "embed"
            else None,
            aliases=model.aliases,
            max_inputs=self._bounds.most(model.task),
            max_requests=self._served.config.gateway.max_concurrency,
            fingerprint=self._served.fingerprints[model.name].decode(),
            pooling=prompter.pooling if prompter else "LAST",
            cuts=model.over_length == "cut" or model.task == "score",
        )
