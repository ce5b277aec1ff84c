"""The models this process serves: each one's prompter, loaded when its files are there.

A model folder may lie on a slow mount: what can't be read is tried again every so often, and its
requests are answered with the reason meanwhile; the others are served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from er import journal, model_files, prompters
from er.config import Config, Model
from er.fingerprint import Fingerprint
from er.job import Refusal, Task
from er.keys import Identity
from er.model_files import ModelFilesError
from er.prompts import Prompter

AGAIN_S = 30.0


class Served:
    """All models of a configuration, and the prompters of those that could be loaded."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.prompters: dict[str, Prompter] = {}  # by the model's name; those without `via`
        self.dimensions: dict[str, int] = {}
        unknown = str(Fingerprint()).encode()
        self.fingerprints = {m.name: unknown for m in config.models}  # as answers say them
        self.looked = asyncio.Event()  # every model's files were looked for once
        self.missing: dict[str, str] = {
            m.name: "its files are being read" for m in config.models if m.via is None
        }

    def find(self, name: str, task: Task, who: Identity) -> Model:
        """The model a client means; an empty name is the one model of that task, or the one that
        its key may use.

        Raises Refusal 404 for an unknown name, 400 where the name leaves a choice or is of the
        other task; they name only what `who` may use.
        """
        if name and (known := self.config.model(name)) is not None and known.task == task:
            return known
        candidates = [m for m in self.config.models if m.task == task]
        usable = [m for m in candidates if may_use(who, m)]
        fit = ", ".join(m.name for m in usable) or "none"
        if not name:
            if candidates and len(usable) < 2:
                return (usable or candidates)[0]  # one that it may not use says so: 403
            message = f"name a model; for this request there are: {fit}"
            raise Refusal(400, "invalid_request", message, param="model")
        model = self.named(name, who)
        other = "/v1/embeddings" if model.task == "embed" else "/v1/rerank"
        message = f"{model.name} is asked at {other}; for this request there are: {fit}"
        raise Refusal(400, "invalid_request", message, param="model")

    def named(self, name: str, who: Identity) -> Model:
        """The model of that name. Raises Refusal 404, which names only what `who` may use."""
        model = self.config.model(name)
        if model is None:
            known = ", ".join(m.name for m in self.config.models if may_use(who, m)) or "none"
            message = f"there is no model {name[:128]!r} here; there are: {known}"
            raise Refusal(404, "model_not_found", message, param="model")
        return model

    def prompter(self, model: Model) -> Prompter:
        """The prompter of `model`, or of the one it goes via. Raises Refusal 503."""
        name = model.via or model.name
        found = self.prompters.get(name)
        if found is None:
            raise Refusal(
                503,
                "no_healthy_replica",
                f"{model.name} can't be served yet: {self.missing.get(name, 'unknown')}",
                retry_after_s=AGAIN_S,
            )
        return found

    async def load_once(self, loaded: Callable[[str], None]) -> None:
        """Look once for the files of each model that is not loaded yet.

        `loaded` is told each name before a request can find that model: the next model's files may
        take long.
        """
        for model in [model for model in self.config.models if model.name in self.missing]:
            await self._load(model)
            if model.name not in self.missing:
                loaded(model.name)
        self.looked.set()

    async def load(self, loaded: Callable[[str], None]) -> None:
        """Load what is missing, again and again until nothing is; `loaded` is told each name."""
        while True:
            await self.load_once(loaded)
            if not self.missing:
                return
            await asyncio.sleep(AGAIN_S)

    async def _load(self, model: Model) -> None:
        try:
            prompter = await asyncio.to_thread(prompters.prompter, model)
        except ModelFilesError as error:
            assert model.path is not None
            why = f"{error}{model_files.unseen(model.path)}"
            if self.missing[model.name] != why:
                self.missing[model.name] = why
                again = f"tried again every {AGAIN_S:.0f} s"
                journal.log("warning", f"model {model.name} is not served: {why} ({again})")
            return
        except Exception as error:
            # Nobody waits for this task: without a word the other models would never be served.
            journal.mishap(error, f"reading the files of model {model.name}")
            return
        self.prompters[model.name] = prompter
        self.dimensions[model.name] = prompter.dimensions
        del self.missing[model.name]


def may_use(who: Identity, model: Model) -> bool:
    """Whether the key's list of models, if it has one, names this one or an alias of it."""
    return who.models is None or not who.models.isdisjoint((model.name, *model.aliases))


def check_right(who: Identity, model: Model) -> None:
    """Raise Refusal 403 if the key may not use the model."""
    if not may_use(who, model):
        raise Refusal(
            403,
            "key_not_permitted",
            f"key {who.id} ({who.name}) may not use {model.name}; it may use: "
            f"{', '.join(sorted(who.models or ()))}. To change that, on the server: "
            f"er keys set {who.id} --models …",
            param="model",
        )
