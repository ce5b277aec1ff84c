"""How much one request may ask, as er.toml says: texts, documents, and tokens in all."""

from __future__ import annotations

from er.config import Gateway
from er.dialects.texts import check_repeated
from er.gateway.values import Most, over
from er.job import Job, Refusal, Task
from er.prompts import Prompter

SETTINGS = {"embed": ("max_inputs", "max_request_tokens")}
SETTINGS["score"] = ("max_documents", "max_rerank_tokens")
COUNTED = {
    "embed": "special tokens and instructions",
    "score": "the query and prompt of each document",
}
FIELDS_MAX = 32  # texts, lists and objects for each text that a request may have


class Bounds:
    """The limits of one request. A single short text is within them whatever er.toml says."""

    def __init__(self, settings: Gateway) -> None:
        self._items, self._tokens = (
            {task: int(getattr(settings, names[i])) for task, names in SETTINGS.items()}
            for i in (0, 1)
        )
        things = FIELDS_MAX * max(self._items.values())
        # Of token ids more may come than are computed: a model may cut them.
        self._values = Most(things, things + 4 * self._tokens["embed"])

    def most(self, task: Task) -> int:
        """How many texts (or documents) one request of that task may have."""
        return self._items[task]

    def check_values(self, body: bytes) -> None:
        """Refuse a body that holds far more than any request may have, before it is read.

        What it would be read to takes many times its bytes. Raises Refusal 400.
        """
        if over(body, self._values):
            names = " or ".join(names[0] for names in SETTINGS.values())
            raise Refusal(
                400,
                "too_many_items",
                f"the body holds over {self._values.things} texts, lists and objects, or over "
                f"{self._values.values} numbers; at most {self._items['embed']} texts or "
                f"{self._items['score']} documents fit in one request: send several, or raise "
                f"{names} in [gateway] of er.toml",
            )

    def check_items(self, job: Job) -> None:
        """Refuse a job of too many texts, or of too many times its instruction. Raises Refusal."""
        most = self._items[job.task]
        if job.items > most:
            name = _texts_name(job)
            raise Refusal(
                400,
                "too_many_items",
                f"{name} has {job.items} items; at most {most} fit in one request: send several, "
                f"or raise {SETTINGS[job.task][0]} in [gateway] of er.toml",
                param=name,
            )
        if job.instruction:
            check_repeated(job.instruction, job.items, "instruction")

    def check_query(self, job: Job, prompter: Prompter) -> None:
        """Refuse a rerank job whose query alone, computed with each document, is too much.

        Before any sequence is made: a long query times 10,000 documents would fill the memory.
        Raises Refusal 400.
        """
        if (
            job.task == "score"
            and not job.queries
            and job.items * prompter.max_tokens > self._tokens["score"]
        ):
            alone = prompter.score(job.query, ("",), instruction=job.instruction)
            self.check_tokens(job, alone.tokens * job.items, "at least ")

    def check_tokens(self, job: Job, tokens: int, least: str = "") -> None:
        """Refuse a job of too many tokens, all its sequences together. Raises Refusal 400."""
        most = self._tokens[job.task]
        if tokens > most:
            name = _texts_name(job)
            raise Refusal(
                400,
                "max_tokens_per_request",
                f"this request has {least}{tokens} tokens, {COUNTED[job.task]} included; at most "
                f"{most} fit in one request: send less at once, or raise "
                f"{SETTINGS[job.task][1]} in [gateway] of er.toml",
                param=name,
            )


def _texts_name(job: Job) -> str:
    return job.texts_name if job.task == "embed" else "documents"
