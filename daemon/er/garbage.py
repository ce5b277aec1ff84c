"""When a worker looks for garbage: while it is idle, or when much has come together.

Left to itself Python looks through all that a worker holds whenever that has grown by a quarter, so
above all while many clients connect: for 30 ms with 1,500 connections, in which all of them wait.
What is short-lived is found as ever.
"""

from __future__ import annotations

import gc
import time

MUCH = 30  # collections of what is young, since the last of all: about 200,000 objects that stayed
IDLE_S = 60.0  # between two while idle
NEVER = 1 << 30


class Garbage:
    """One process's; `look` is called twice a second."""

    def __init__(self) -> None:
        gc.freeze()  # what is there now stays
        young, middle, _ = gc.get_threshold()
        gc.set_threshold(young, middle, NEVER)
        self._looked = time.monotonic()

    def look(self, idle: bool) -> bool:
        """Collect, if it is time; whether it did. `idle`: no request is being worked on."""
        come, now = gc.get_count()[2], time.monotonic()
        if come < MUCH and not (idle and come and now - self._looked > IDLE_S):
            return False
        gc.collect()
        self._looked = now
        return True
