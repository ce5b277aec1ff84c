"""The questions for each model: the shipped set and operators' own, read, tokenised and kept."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from er import model_files
from er.config import Config
from er.exam import Paper, paper, prompter
from er.journal import log, mishap
from er.model_files import ModelFilesError
from er.quality import CanarySet, SetError, load, own_files

READ_AGAIN_S = 30.0  # model files that were missing are looked for again


class Own(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's set; `error` says why it can't be used, "" when it can."""

    file: str
    canary: CanarySet | None
    error: str = ""


class Sets(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of one model's replicas."""

    canary: CanarySet
    shipped: Paper
    own: tuple[tuple[Own, Paper], ...]


class Papers:
    """Calling it blocks, about a second where a model is new; threads may share one."""

    def __init__(
        self, config: Config, folder: Path, trim: Callable[[], None] = lambda: None
    ) -> None:
        """`folder` has operators' sets; `trim` gives back what a tokenizer took."""
        self._config, self._folder, self._trim = config, folder, trim
        self.shipped = load()
        self.own: tuple[Own, ...] = ()
        self._seen: object = None  # the state of the own files when they were read
        self._known: dict[str, Sets | str] = {}
        self._read_at: dict[str, float] = {}
        self._reading = threading.Lock()
        self.look()

    def __call__(self, model: str) -> Sets | str:
        """What to ask, or in words why that is not known: the model's files can't be used."""
        with self._reading:
            self.look()
            known = self._known.get(model)
            age = time.monotonic() - self._read_at.get(model, float("-inf"))
            if not isinstance(known, Sets) and age > READ_AGAIN_S:
                known = self._known[model] = self._read(model)
                self._read_at[model] = time.monotonic()
                self._trim()
            return known or f"no model {model}"

    def digest(self, model: str) -> str:
        """Of all that is asked in every model's own tokens; "" until that was read."""
        known = self._known.get(model)
        if not isinstance(known, Sets):
            return ""
        return "-".join((known.shipped.digest, *(asked.digest for _, asked in known.own)))

    def look(self) -> None:
        """Read operators' sets where a file of them changed; says in the journal what is wrong."""
        seen = _state(self._folder)
        if seen == self._seen:
            return
        self._seen = seen
        self.own = tuple(_read_own(file) for file in _files(self._folder))
        self._known.clear()
        self._read_at.clear()
        for one in self.own:
            if one.error:
                log("warning", f"{one.error}; this set is left out, the others are asked")

    def _read(self, name: str) -> Sets | str:
        model = self._config.model(name)
        if model is None or model.path is None:
            return f"no model {name}"
        try:
            words = prompter(model)
            asked = paper(words, model.task, self.shipped.queries)
            own = tuple(
                (one, paper(words, model.task, one.canary.queries))
                for one in self.own
                if one.canary is not None
            )
        except ModelFilesError as error:
            return f"{error}{model_files.unseen(model.path)}"
        except Exception as error:
            mishap(error, f"making the canary's questions for model {name}")
            return f"the files of model {name} can't be used: {error}"
        return Sets(canary=self.shipped, shipped=asked, own=own)

    def answer(self) -> dict[str, Any]:
        """The sets, as GET /quality has them."""
        own = [
            {
                "file": one.file,
                "queries": len(one.canary.queries) if one.canary else 0,
                "error": one.error or None,
            }
            for one in self.own
        ]
        return {
            "queries": len(self.shipped.queries),
            "pairs": self.shipped.pairs,
            "sha256": self.shipped.sha256,
            "languages": self.shipped.languages,
            "own": own,
        }


def _files(folder: Path) -> list[Path]:
    try:
        return own_files(folder)
    except OSError as error:
        log("warning", f"own sets in {folder} can't be read: {error.strerror or error}")
        return []


def _state(folder: Path) -> object:
    try:
        with os.scandir(folder) as found:
            return sorted(
                (one.name, one.stat(follow_symlinks=False).st_mtime_ns, one.inode())
                for one in found
                if one.name.endswith(".jsonl")
            )
    except OSError as error:
        return error.errno


def _read_own(file: Path) -> Own:
    try:
        return Own(file=file.name, canary=load(file))
    except SetError as error:
        return Own(file=file.name, canary=None, error=str(error))
