"""All rings together: a worker writes its own, and finds a request in anybody's."""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from itertools import compress
from pathlib import Path

import numpy as np

from er.feedback import Answered
from er.feedback.ring import Known, Ranking, Ring
from er.job import Scores
from er.journal import Seldom, log

KNOWN = "known"
FILE = re.compile(r"(asked|ranked)-\d+\Z")
AGAIN_S = 30.0  # until files that could not be made are tried again


class Memory:
    """One object a worker."""

    def __init__(self, folder: Path, slot: int, ranking: Collection[str]) -> None:
        """`slot` is the worker's own; `ranking` names the models that rank, told one by one."""
        self._folder, self._slot, self._ranking = folder / KNOWN, slot, ranking
        self._asked: Ring | None = None
        self._ranked: Ring | None = None
        self._tried = float("-inf")
        self._seldom = Seldom()
        self._ready()

    def _ready(self) -> bool:
        if self._ranked is not None:
            return True
        now = time.monotonic()
        if now - self._tried < AGAIN_S:
            return False
        self._tried = now
        try:
            self._asked = Ring.open(self._folder / f"asked-{self._slot}", ranked=False)
            self._ranked = Ring.open(self._folder / f"ranked-{self._slot}", ranked=True)
        except OSError as error:
            if self._seldom.due("open"):
                told = f"{self._folder} can't be written ({error.strerror})"
                log("warning", f"feedback: {told}; of requests answered now none can be given")
            return False
        return True

    @property
    def ready(self) -> bool:
        """Whether this worker's requests are remembered."""
        return self._ranked is not None

    def asked(self, answered: Answered) -> None:
        """Remember requests that ended, of models that do not rank."""
        if not self._ready():
            return
        assert self._asked is not None
        plain = np.array([model not in self._ranking for model in answered.models], np.bool_)
        mine = plain[answered.model_of]
        if not mine.all():
            answered = answered._replace(
                ids=list(compress(answered.ids, mine.tolist())),
                key_of=answered.key_of[mine],
                model_of=answered.model_of[mine],
            )
        if answered.ids:
            self._asked.add(answered, int(time.time()))

    def ranked(
        self, key: str, model: str, request_id: str, scores: Scores | None, top_n: int | None
    ) -> None:
        """Remember a request that ranked; no scores: its scores are of no one query."""
        if not self._ready():
            return
        assert self._ranked is not None and self._asked is not None
        now = int(time.time())
        if scores is None:
            self._asked.add(Answered.one(key, model, request_id), now)
        else:
            one = Answered.one(key, model, request_id)
            self._ranked.add(one, now, Ranking.of(scores, top_n))

    def find(self, key: str, request_id: str) -> Known | None:
        """The newest of that key's requests with this id. Blocks a little. Raises OSError."""
        found = [known for ring in self._rings() if (known := ring.find(key, request_id))]
        return max(found, key=lambda known: known.at, default=None)

    def since(self) -> int | None:
        """Since when (Unix seconds) all rankings are remembered; None: for ever. Raises OSError."""
        ends = [ring.oldest() for ring in self._rings() if ring.ranked]
        return max((end for end in ends if end is not None), default=None)

    def _rings(self) -> list[Ring]:
        try:
            names = sorted(path.name for path in self._folder.iterdir() if FILE.match(path.name))
        except FileNotFoundError:
            return []
        rings = (Ring.look(self._folder / n, ranked=n.startswith("ranked")) for n in names)
        return [ring for ring in rings if ring is not None]
