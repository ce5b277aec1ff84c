"""er check's look at the names of models: those that some clients, or some keys, can't say."""

from __future__ import annotations

from collections.abc import Iterator

from er.config import Config, Model
from er.dialects.ollama import LATEST

EVERY = "all"  # what `er keys --models` calls every model


def findings(config: Config) -> Iterator[tuple[int, str, str]]:
    """(index of the [[model]], its key, message) of each warning."""
    for index, model in enumerate(config.models):
        for name in (model.name, *model.aliases):
            if name.endswith(LATEST):
                key = "name" if name == model.name else "aliases"
                if message := _latest(config, model, name):
                    yield index, key, message
        if all("," in name or name == EVERY for name in (model.name, *model.aliases)):
            yield (
                index,
                "name",
                "no key can be given this model alone: er keys --models takes a comma, and the "
                f"word {EVERY}, for something else than {model.name!r}; give it an alias",
            )


def _latest(config: Config, model: Model, name: str) -> str:
    """What becomes of a name with Ollama's usual tag; "" where it comes to the same."""
    bare = name.removesuffix(LATEST)
    found = config.model(bare)
    if found is model:
        return ""
    start = f"{name!r}: Ollama's clients put {LATEST} behind every name, so ER takes it off there; "
    if found is None:
        return f'{start}for them to find this model, add "{bare}" to its aliases'
    return f"{start}at /api/embed this name leads to {found.name}, elsewhere to {model.name}"
