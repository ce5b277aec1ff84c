"""A clock of its own for one process and its children, which a file sets (tests/fake_clock.c)."""

from __future__ import annotations

import subprocess
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "fake_clock.c"


class Clock:
    """The machine's clock as those see it who run with `told` in their environment.

    What the kernel itself notes by its own clock stays right: times of files, of the journal.
    """

    def __init__(self, folder: Path, ahead_s: int = 0) -> None:
        self._library, self._shift = folder / "clock.so", folder / "clock"
        command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(self._library), str(SOURCE)]
        subprocess.run(command, check=True)
        self.set(ahead_s)

    @property
    def told(self) -> dict[str, str]:
        """The variables."""
        return {"LD_PRELOAD": str(self._library), "FAKE_CLOCK": str(self._shift)}

    def set(self, ahead_s: int) -> None:
        """From now on it is so many seconds ahead; less than 0: behind."""
        new = self._shift.with_suffix(".new")
        new.write_text(str(ahead_s))
        new.replace(self._shift)
