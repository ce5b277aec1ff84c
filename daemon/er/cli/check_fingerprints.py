"""er check's look at names that would give other vectors than before, and what er apply remembers.

Vectors that clients have stored under a name can't be compared with those of other weights or of
another recipe, and nothing else would tell them so: neither numbers nor lengths look wrong.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from er.config import Config, Model
from er.fingerprint import Fingerprint
from er.fingerprint.applied import Applied, Given, differs

WAYS = (
    "what is stored under that name would no longer fit. Put the new model beside it, under a name "
    "of its own (er model add, er help vectors), or, if all that is stored is to be built again: "
    "sudo er apply --new-vectors"
)
LOST = (
    "so nothing tells whether names give other vectors than before. Bring it back from a backup "
    "(er help backup), or move it away: then the next er apply takes what they give as it is"
)
ACCEPTED = "all that is stored under that name is to be built again, as --new-vectors has it"


class Other(NamedTuple):
    """A finding: which [[model]], from 0, its key, what to say, and whether apply refuses."""

    number: int
    key: str
    message: str
    level: Literal["error", "warning"]


def given(config: Config, seen: Mapping[str, Fingerprint]) -> dict[str, Given]:
    """What each name of a model that has a folder gives by now; `seen` by the model's name."""
    found: dict[str, Given] = {}
    for model in config.models:
        if model.path is None:
            continue
        now = seen.get(model.name, Fingerprint())
        one = Given(model.task, now.weights, now.recipe, str(model.path), model.name)
        found |= dict.fromkeys((model.name, *model.aliases), one)
    return found


def findings(
    config: Config, seen: Mapping[str, Fingerprint], applied: Applied, *, accepted: bool
) -> Iterator[Other]:
    """What of each name differs from what was applied; `accepted`: with --new-vectors."""
    now = given(config, seen)
    for index, model in enumerate(config.models):
        if model.path is None:
            continue
        for name in (model.name, *model.aliases):
            before = applied.names.get(name)
            what = differs(before, now[name])
            if before is None or not what:
                continue
            if "embed" in (before.task, model.task):
                said = f"{_said(name, model, before, now[name], what)}; "
                level: Literal["error", "warning"] = "warning" if accepted else "error"
                yield Other(
                    index, _key(name, model), said + (ACCEPTED if accepted else WAYS), level
                )
            else:
                said = f"{_said(name, model, before, now[name], what)}: its scores change, and "
                cure = f"replicas that run take it up with: er restart --model {shlex.quote(name)}"
                yield Other(index, _key(name, model), f"{said}{cure}", "warning")


def _key(name: str, model: Model) -> str:
    return "path" if name == model.name else "aliases"


def _said(name: str, model: Model, before: Given, now: Given, what: str) -> str:
    whose = f"{name} gives other {'vectors' if model.task == 'embed' else 'scores'} than before"
    if before.model != model.name:
        whose += f": it was a name of {before.model}"
    moved = f" ({before.path} before)" if before.path != now.path else ""
    return f"{whose}, other {what} in {now.path}{moved}: {now}, applied is {before}"


def others(config: Config, seen: Mapping[str, Fingerprint], applied: Applied) -> list[str]:
    """The names that give other vectors than was applied."""
    now = given(config, seen)
    return [
        name
        for name, one in now.items()
        if one.task == "embed" and differs(applied.names.get(name), one)
    ]
