"""`er model add PATH` and `er model remove NAME`: what a folder's files say becomes er.toml."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal

import msgspec

from er.cli import check, edited, placing, replica
from er.cli.edited import ChangeError, Held, Will
from er.config import Model, edits

Task = Literal["embed", "score"]
GGUF = (
    "is GGUF, which no engine of ER's serves; get the same model as a folder with config.json, "
    "tokenizer.json and *.safetensors"
)
HUB = re.compile(r"models--[^/]+?--([^/]+)/snapshots/[0-9a-f]+\Z")  # a cache of Hugging Face's


class Wish(msgspec.Struct, kw_only=True):
    """What the command line asked for."""

    action: str
    path: Path = Path()
    name: str | None = None
    task: Task | None = None
    replica: str | None = None
    gpu: list[str] | None = None
    port: int | None = None
    kv_cache: str | None = None
    url: str | None = None
    dry_run: bool = False
    yes: bool = False
    no_apply: bool = False


def run(wish: Wish) -> int:
    """Do it. Returns 0 done, 1 not done, 64 nobody to ask."""
    how = {"add": _add, "remove": _remove}[wish.action]
    will = Will(dry_run=wish.dry_run, yes=wish.yes, apply=not wish.no_apply)
    return edited.run(f"model {wish.action}", lambda held: how(held, wish), will)


def _add(held: Held, wish: Wish) -> tuple[str, str, list[str]]:
    path = Path(os.path.abspath(wish.path))  # noqa: PTH100 - a link stays one: it may be meant
    _demand_folder(path)
    name = wish.name or name_of(path)
    _free_name(held, name)
    task, why = _task(path, wish)
    values: dict[str, Any] = {"name": name, "task": task, "path": str(path)}
    text = edits.add(held.text, "model", values)
    config = held.changed(text)
    first = wish.replica or placing.name_for(config, name)
    text, placed = replica.added(held, text, name, first, wish)
    return text, name, [*why, *placed]


def name_of(path: Path) -> str:
    """What a model is called by its folder, in a cache of Hugging Face's too."""
    found = HUB.search(str(path))
    return found[1] if found else path.name


def _demand_folder(path: Path) -> None:
    """Raises ChangeError for what is plainly no folder of a model."""
    if path.suffix.lower() == ".gguf":
        raise ChangeError(f"{path} {GGUF}")
    try:
        names = [entry.name for entry in path.iterdir()]
    except FileNotFoundError:
        raise ChangeError(
            f"{path}: no such folder; bring the model's files first (er models pull)"
        ) from None
    except NotADirectoryError:
        raise ChangeError(f"{path} is a file; name the folder that holds config.json") from None
    except OSError:
        return  # said with its cure where user er looks
    if "config.json" not in names:
        if any(name.lower().endswith(".gguf") for name in names):
            raise ChangeError(f"{path} {GGUF}")
        raise ChangeError(
            f"{path} has no config.json, so it is no folder of a model; name the one that has it"
        )


def _free_name(held: Held, name: str) -> None:
    there = held.config.model(name)
    if there is not None:
        how = "a model" if there.name == name else f"an alias of {there.name}"
        raise ChangeError(f"{name!r} is {how} already; give another name with --name")


def _task(path: Path, wish: Wish) -> tuple[Task, list[str]]:
    """What the model does, and by what sign. Raises ChangeError where its files don't tell."""
    probe = Model(name="?", task="embed", path=path)
    facts = check.look(probe, path, weights=wish.url is None)
    if facts["error"]:
        raise ChangeError(f"{facts['error']}")
    if wish.task is not None:
        return wish.task, [f"{path.name}: {facts['architecture']}, {wish.task} as you say"]
    found = task_of(path, facts)
    if found is None:
        raise ChangeError(
            f"{path}: a {facts['architecture']} without sentence-transformers' modules.json may be "
            "an embedding model, a reranker or one that writes text (which ER does not serve); say "
            "which with --task embed or --task score"
        )
    return found[0], [f"{path.name}: {facts['architecture']}, {found[0]}, as {found[1]}"]


def task_of(path: Path, facts: dict[str, Any]) -> tuple[Task, str] | None:
    """(the task, the sign of it) by the folder's files and name; None: they don't tell."""
    architecture = facts["architecture"]
    if "SequenceClassification" in architecture:
        return "score", "it is a classifier"
    if facts["embeds"]:
        return "embed", "it has sentence-transformers' modules.json"
    if facts["prompt"] == "qwen3":
        for word, task in (("rerank", "score"), ("embed", "embed")):
            if word in name_of(path).lower():
                return ("score" if task == "score" else "embed"), "its folder is called so"
        return None
    return None if "CausalLM" in architecture else ("embed", "that family makes vectors")


def _remove(held: Held, wish: Wish) -> tuple[str, str, list[str]]:
    config = held.config
    found = next((m for m in config.models if m.name == wish.name), None)
    if found is None:
        known = ", ".join(m.name for m in config.models)
        raise ChangeError(f"no model {wish.name!r}; there are: {known}")
    users = [m.name for m in config.models if m.via == found.name]
    if users:
        raise ChangeError(f"{', '.join(users)} goes via {found.name}; first: er model remove it")
    names = [r.name for r in config.replicas if r.model == found.name]
    text = held.text
    for name in names:
        text = edits.remove(text, "replica", name)
    text = edits.remove(text, "model", found.name)
    gone = f"; with it {', '.join(names)}" if names else ""
    asked = ", ".join((found.name, *found.aliases))
    return text, found.name, [f"{found.name} goes{gone}: requests for {asked} get 404 from then on"]
