"""What each model's answers are of, for their header and the list of models.

Weights and number format are the engines' own word, in their launchers' samples, as files may have
been exchanged since they were read; the recipe is this process's, which makes the prompts. An
engine at a `url` can't be asked. While no launcher lives the last word stays.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from er import small_file
from er.config import Replica
from er.fingerprint import Fingerprint, parsed, together
from er.gateway.served import Served
from er.small_file import DAMAGED

FRESH_S = 5.0  # a launcher writes a sample a second


class _Sample(msgspec.Struct):
    time: float = 0.0
    fingerprint: str | None = None


class Fingerprints:
    """Keeps `served.fingerprints` true. One object a worker."""

    def __init__(self, served: Served, runtime: Path) -> None:
        self._served, self._config, self._runtime = served, served.config, runtime
        self._engines: dict[str, Fingerprint] = {}

    def look(self, now: float | None = None) -> None:
        """Ask the samples again; `now` in Unix seconds."""
        now = time.time() if now is None else now
        for model in self._config.models:
            name = model.via or model.name
            said = [self._said(r, now) for r in self._config.replicas_of(name) if not r.host]
            told = [one for one in said if one is not None]
            if told:
                self._engines[name] = together(told)
            engine = self._engines.get(name, Fingerprint())
            prompter = self._served.prompters.get(name)
            recipe = prompter.recipe if prompter is not None else engine.recipe
            whole = msgspec.structs.replace(engine, recipe=recipe or engine.recipe)
            self._served.fingerprints[model.name] = str(whole).encode()

    def _said(self, replica: Replica, now: float) -> Fingerprint | None:
        """What its launcher says; None where none lives, or none has looked at the files yet."""
        if replica.url is not None:
            return Fingerprint()
        path = self._runtime / "replicas" / replica.name / "sample.json"
        try:
            sample = msgspec.json.decode(small_file.read(path), type=_Sample)
        except (OSError, *DAMAGED):
            return None
        if sample.fingerprint is None or abs(now - sample.time) > FRESH_S:
            return None
        return parsed(sample.fingerprint)
