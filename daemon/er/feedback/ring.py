"""The newest answered requests of one worker: a memory-mapped file of a fixed size, used in rounds.

One process writes, any may look. A request is found by a digest of its key and its id, so a key
finds its own alone. A row's digest is cleared before the row is written and set after it: what an
interruption leaves half written is not found.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from er.feedback import Answered
from er.job import Scores
from er.mapped import HEAD_BYTES, opened

DEPTH = 128  # documents of a ranking whose places are remembered, from the first
ASKED, RANKED = 131_072, 32_768  # rows of requests without, and of those with a ranking
ID_MAX, KEYED_BYTES, SALTS_MAX = 128, 16, 4096
MODELS, MODEL_BYTES = 64, 128
FAR = (1 << 16) - 1  # a document numbered so or higher, in 16 bits
CLICK, RATING, ONE_MORE = 1, 2, 4  # of `told`: which kinds came, and how many times anything did
TIMES_MAX = 20  # feedbacks to one request
MAGIC = b"er answered requests 1, %d rows\n"
_COUNT, _SECRET, _FACTORS = 64, 72, 128  # in the head
_MODELS = HEAD_BYTES
_DIGESTS = _MODELS + MODELS * MODEL_BYTES
PLAIN = [("at", "<u4"), ("model", "u1"), ("told", "u1")]
RANKING = [*PLAIN, ("documents", "<u4"), ("answered", "<u4"), ("order", "<u2", DEPTH)]


class Ranking(NamedTuple):
    """What a rerank answered: of so many documents the first ones, by their numbers."""

    documents: int
    answered: int
    order: tuple[int, ...]  # DEPTH at most; FAR for a number that has no room

    @classmethod
    def of(cls, scores: Scores, top_n: int | None) -> Ranking:
        """Of `scores` (n,), as they are answered: equal ones by their number, `top_n` at most."""
        answered = min(top_n or len(scores), len(scores))
        order = np.argsort(-scores, kind="stable")[: min(answered, DEPTH)]
        return cls(len(scores), answered, tuple(np.minimum(order, FAR).tolist()))

    def rank(self, document: int) -> int | None:
        """Its place from 1; None where that is not known. Raises ValueError: it has none."""
        if document < FAR and document in self.order:
            return self.order.index(document) + 1
        if document >= FAR or self.answered > DEPTH:
            return None
        raise ValueError


class Known(NamedTuple):
    """An answered request, and where it stands."""

    model: str
    at: int  # Unix seconds
    ranking: Ranking | None
    ring: Ring
    row: int
    digest: int


class Ring:
    """One file. Its maps last as long as the object."""

    def __init__(self, file: int, rows: int, ranked: bool) -> None:
        layout = np.dtype(RANKING if ranked else PLAIN)
        self.ranked, self._n = ranked, rows
        self._map = mmap.mmap(file, size_of(rows, ranked))
        self._count = np.frombuffer(self._map, np.uint64, 1, _COUNT)
        self._secret = bytes(self._map[_SECRET : _SECRET + KEYED_BYTES])
        self._factors = np.frombuffer(self._map, np.uint64, ID_MAX, _FACTORS)
        self._names = np.frombuffer(self._map, f"S{MODEL_BYTES}", MODELS, _MODELS)
        self._digests = np.frombuffer(self._map, np.uint64, rows, _DIGESTS)
        self._rows = np.frombuffer(self._map, layout, rows, _DIGESTS + 8 * rows)
        self._salts: dict[str, np.uint64] = {}
        self._numbers = {
            name.decode(errors="replace"): number
            for number, name in enumerate(self._names.tolist())
            if name
        }

    @classmethod
    def open(cls, path: Path, *, ranked: bool) -> Ring:
        """Open or make it. Raises OSError, also where the disk has no room for all of it."""
        rows = RANKED if ranked else ASKED
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        file, fresh = opened(path, MAGIC % rows, size_of(rows, ranked))
        try:
            if fresh:
                # Odd, so that no difference of two ids is lost; secret, so that nobody can choose
                # an id which is found in another's place.
                factors = np.frombuffer(os.urandom(8 * ID_MAX), np.uint64) | np.uint64(1)
                os.pwrite(file, os.urandom(KEYED_BYTES), _SECRET)
                os.pwrite(file, factors.tobytes(), _FACTORS)
            return cls(file, rows, ranked)
        finally:
            os.close(file)

    @classmethod
    def look(cls, path: Path, *, ranked: bool) -> Ring | None:
        """One that another process may write; None where there is none. Raises OSError."""
        rows = RANKED if ranked else ASKED
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            magic = MAGIC % rows
            if os.fstat(file).st_size != size_of(rows, ranked):
                return None
            return cls(file, rows, ranked) if os.pread(file, len(magic), 0) == magic else None
        finally:
            os.close(file)

    # -- the one that writes ---------------------------------------------------------------------

    def add(self, answered: Answered, now: int, ranking: Ranking | None = None) -> None:
        """Remember these requests, fewer than there are rows; with a `ranking` it is one."""
        ids = answered.ids
        if len(self._numbers.keys() | set(answered.models)) > MODELS:
            # Of all that were configured in turn: begin anew.
            self._digests[:] = 0
            self._names[:] = b""
            self._numbers = {}
        numbers = np.array([self._number(model) for model in answered.models], np.uint8)
        salts = np.array([self._salt(key) for key in answered.keys])
        count = int(self._count[0])
        at = (count + np.arange(len(ids))) % self._n
        self._digests[at] = 0
        rows = self._rows
        rows["at"][at], rows["told"][at] = now, 0
        rows["model"][at] = numbers[answered.model_of]
        if ranking is not None:
            rows["documents"][at], rows["answered"][at] = ranking.documents, ranking.answered
            rows["order"][at, : len(ranking.order)] = ranking.order
        self._digests[at] = self._digested(ids, salts[answered.key_of])
        self._count[0] = count + len(ids)

    def _number(self, model: str) -> int:
        number = self._numbers.get(model)
        if number is None:
            number = self._numbers[model] = len(self._numbers)
            self._names[number] = model.encode()[:MODEL_BYTES]
        return number

    def _salt(self, key: str) -> np.uint64:
        salt = self._salts.get(key)
        if salt is None:
            if len(self._salts) > SALTS_MAX:
                self._salts.clear()
            keyed = hashlib.blake2b(key.encode(), digest_size=8, key=self._secret).digest()
            salt = self._salts[key] = np.frombuffer(keyed, np.uint64)[0]
        return salt

    def _digested(
        self, ids: Sequence[str], salts: npt.NDArray[np.uint64]
    ) -> npt.NDArray[np.uint64]:
        """Of each id, never 0: its characters, each times a factor, and its key's salt in all."""
        codes = np.array(ids).view(np.uint32).reshape(len(ids), -1)
        found: npt.NDArray[np.uint64] = codes.astype(np.uint64) @ self._factors[: codes.shape[1]]
        found += salts
        found[found == 0] = 1
        return found

    # -- anybody ---------------------------------------------------------------------------------

    def find(self, key: str, request_id: str) -> Known | None:
        """The newest of that key's requests with this id."""
        digest = self._digested([request_id], np.array([self._salt(key)]))[0]
        found = np.flatnonzero(self._digests == digest)
        if not len(found):
            return None
        next_ = int(self._count[0]) % self._n
        row = int(found[np.argmax((found - next_) % self._n)])
        kept = self._rows[row].copy()
        name = bytes(self._names[kept["model"] % MODELS]).decode(errors="replace")
        if self._digests[row] != digest:  # written over meanwhile
            return None
        ranking = None
        if self.ranked:
            documents, answered = int(kept["documents"]), int(kept["answered"])
            places = min(answered, DEPTH)
            ranking = Ranking(documents, answered, tuple(kept["order"][:places].tolist()))
        return Known(name, int(kept["at"]), ranking, self, row, int(digest))

    def told(self, known: Known) -> int:
        """What was said of it so far, as CLICK, RATING and ONE_MORE."""
        return int(self._rows["told"][known.row]) if self._there(known) else 0

    def tell(self, known: Known, kinds: int) -> None:
        """Note that one more feedback came, of these kinds."""
        if self._there(known):
            told = int(self._rows["told"][known.row])
            self._rows["told"][known.row] = min(told + ONE_MORE, 255) | kinds

    def _there(self, known: Known) -> bool:
        return int(self._digests[known.row]) == known.digest

    def oldest(self) -> int | None:
        """Since when (Unix seconds) all are remembered; None: none was written over yet."""
        count = int(self._count[0])
        return int(self._rows["at"][count % self._n]) if count > self._n else None


def size_of(rows: int, ranked: bool) -> int:
    """Bytes of a file."""
    return _DIGESTS + rows * (8 + np.dtype(RANKING if ranked else PLAIN).itemsize)
