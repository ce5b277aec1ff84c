"""Series of figures on one clock, each as long as all others: the newest overwrites the oldest."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Iterator, Mapping

Path = tuple[str, ...]
NOTHING = math.nan  # what a figure is that nobody knows
FLOAT = "f"  # four bytes: seven digits are more than any plot shows
DEEPEST = 4  # names in a path
OF_KEYS = "keys"  # the first name of a series that is one key's


class Ring:
    """`count` figures of `step` seconds each. Figure i stands for the time from i * step on."""

    def __init__(self, step: float, count: int) -> None:
        self.step, self.count = step, count
        self._series: dict[Path, array[float]] = {}
        self._newest: int | None = None
        self._written: int | None = None

    def at(self, now: float) -> int:
        """The figure that `now` belongs to."""
        return math.floor(now / self.step)

    def end(self, now: float, quiet_s: float) -> int:
        """The last figure to show: the last one that was written, unless that is long ago."""
        if self._written is None or now - (self._written + 1) * self.step > quiet_s:
            return self.at(now)
        return self._written

    def go_on(self, index: int) -> None:
        """The newest is now `index` at least; what lies between it and the last is unknown."""
        if self._newest is None:
            self._newest = index
        passed = index - self._newest
        for i in range(max(self._newest + 1, index - self.count + 1), index + 1):
            for values in self._series.values():
                values[i % self.count] = NOTHING
        if passed > 0:
            self._newest = index

    def write(self, index: int, figures: Mapping[Path, float], series_max: int) -> None:
        """Put down figure `index` of each series; series beyond `series_max` are left out.

        Half of them at the most are of keys: others must find room however many keys there are.
        """
        self.go_on(index)
        assert self._newest is not None
        if index <= self._newest - self.count:
            return
        self._written = index
        new = len(figures.keys() - self._series.keys())
        if new and len(self._series) + new > series_max // 2:
            self._forget()
        of_keys = sum(path[0] == OF_KEYS for path in self._series)
        for path, value in figures.items():
            if path not in self._series:
                mine = path[0] == OF_KEYS
                if len(self._series) >= series_max or (mine and of_keys >= series_max // 2):
                    continue
                of_keys += mine
                self._series[path] = self._unknown()
            self._series[path][index % self.count] = value

    def _forget(self) -> None:
        """Leave out series of which nothing is known any more."""
        for path in [path for path, v in self._series.items() if all(map(math.isnan, v))]:
            del self._series[path]

    def since(self, first: int, points: int) -> Iterator[tuple[Path, list[float | None]]]:
        """Each series from figure `first` on; those of which nothing is known are left out."""
        for path, values in self._series.items():
            found = [self._known(values, first + i) for i in range(points)]
            if any(value is not None for value in found):
                yield path, found

    def _known(self, values: array[float], index: int) -> float | None:
        if self._newest is None or not self._newest - self.count < index <= self._newest:
            return None
        value = values[index % self.count]
        return None if math.isnan(value) else float(f"{value:.5g}")

    def packed(self) -> tuple[int, list[tuple[list[str], bytes]]]:
        """(the oldest figure, the series in the order of time as little-endian floats)."""
        first = (self._newest or 0) - self.count + 1
        turn = first % self.count
        packed = []
        for path, values in self._series.items():
            if not all(map(math.isnan, values)):
                packed.append((list(path), _little(values[turn:] + values[:turn])))
        return first, packed

    def take(self, first: int, now: int, series: list[tuple[list[str], bytes]]) -> None:
        """Take over what was packed, beginning with figure `first`; nothing younger than `now`.

        Raises ValueError when it is not what `packed` gave.
        """
        self._newest = now
        for path, data in series:
            values: array[float] = array(FLOAT)
            values.frombytes(data)
            if len(values) != self.count or not 1 <= len(path) <= DEEPEST:
                raise ValueError(f"series {path} of {len(values)} figures")
            if any(map(math.isinf, values)):
                raise ValueError(f"series {path} has no numbers")
            own = self._series[tuple(path)] = self._unknown()
            for i, value in enumerate(_little_array(values), first):
                if now - self.count < i <= now:
                    own[i % self.count] = value

    def _unknown(self) -> array[float]:
        return array(FLOAT, [NOTHING]) * self.count


def _little(values: array[float]) -> bytes:
    return _little_array(values).tobytes()


def _little_array(values: array[float]) -> array[float]:
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values
