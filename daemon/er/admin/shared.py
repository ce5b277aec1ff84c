"""The admin process's watch over what hosts share: does it answer, and are the keys the same?

Nothing of a request waits for it. What it finds is told once in the journal, and to everybody else
by a small file (`shared_state.verdict`).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from er.config import Config, directory
from er.config.state import host_name
from er.journal import Seldom, log, mishap
from er.keys import KeysError, origin
from er.keys import path as keys_path
from er.keys.shared import News, Shared
from er.quantities import written_time
from er.shared_state import Away, key
from er.shared_state import verdict as verdicts
from er.shared_state.verdict import Keys, Verdict

EVERY_S = 0.25
TELL_S = 1.0  # between two tellings of the verdict, and two proofs that it takes changes
USES_S = 5.0  # between two tellings of the keys' last uses
AGAIN_S = 5.0  # keys that are not those of all hosts are looked at again, without any change
PROOF_S = 60  # how long a proof stays there
GOES_ON = "traffic goes on with the last known keys and limits"


class SharedState:
    """Of one generation. `clock`: Unix seconds."""

    def __init__(self, config: Config, clock: Callable[[], float] = time.time) -> None:
        assert config.state is not None
        self._name, self._host, self._clock = config.state.name, host_name(config.host), clock
        self._runtime, self._path = directory("runtime"), keys_path()
        self.keys = Shared(config, self._path, clock=clock)
        before = verdicts.read(self._runtime)
        # Of the generation before, which has told the journal of it.
        fresh = before is not None and abs(clock() - before.at) <= verdicts.OLD_S
        self._found = before if before is not None and fresh else Verdict(since=clock())
        self._news = News("ok")
        self._stands: object = None  # what the last full look at the keys was made of
        self._proved = self._told = self._used = self._looked = float("-inf")
        self._seldom = Seldom()

    async def run(self) -> None:
        """Look for ever."""
        try:
            while True:
                try:
                    await asyncio.to_thread(self.look)
                except Exception as error:
                    mishap(error, "looking at the shared state")
                await asyncio.sleep(EVERY_S)
        finally:
            self.keys.close()

    def look(self) -> None:
        """One look. Blocks, some seconds where the shared state does not answer."""
        began = self._found.state
        try:
            self._keys()
            self._prove()
            self._uses()
        except Away as error:
            self._away(error)
        else:
            self._answered()
        if began != self._found.state or time.monotonic() - self._told >= TELL_S:
            self._tell()

    def _keys(self) -> None:
        """Raises Away."""
        stands = (self.keys.mark(), *map(_stamp, (self._path, origin.beside(self._path))))
        waits = time.monotonic() - self._looked < AGAIN_S
        if stands == self._stands and (self._news.standing == "ok" or waits):
            return
        before, self._looked = self._news, time.monotonic()
        try:
            self._news = self.keys.follow()
        except (KeysError, OSError) as error:
            if self._seldom.due("copy"):
                log("err", f"the keys of the shared state are not in force here: {error}")
            return  # and again with the next look
        self._stands = (stands[0], *map(_stamp, (self._path, origin.beside(self._path))))
        if self._news.done:
            log("notice", f"keys: {self._news.done}")
        if self._news.standing == "damaged":
            if self._seldom.due("damaged"):
                log("err", self._news.text)
        elif self._news.standing != "ok" and self._news.text != before.text:
            log("warning", self._news.text)
        elif self._news.standing == "ok" and before.standing == "damaged":
            log("notice", "the keys in the shared state can be read again")

    def _prove(self) -> None:
        """That it takes changes: a full one and a copy still answer what is read. Raises Away."""
        now = time.monotonic()
        if now - self._proved < TELL_S and self._found.state == "ok":
            return
        with self.keys.asked() as client:
            client.set(key(self._name, "proof", self._host), f"{self._clock():.3f}", ex=PROOF_S)
        self._proved = now

    def _uses(self) -> None:
        """Raises Away."""
        if self._news.standing != "ok" or time.monotonic() - self._used < USES_S:
            return
        self._used = time.monotonic()
        try:
            self.keys.told_uses()
        except OSError as error:
            if self._seldom.due("uses"):
                log("warning", f"last uses of keys on other hosts are not kept: {error}")

    def _away(self, error: Away) -> None:
        found = self._found
        if found.state == "ok" or found.cause != error.cause:
            log("warning", f"{error.text}; {GOES_ON}")
        since = self._clock() if found.state == "ok" else found.since
        changed = {"state": "away", "since": since, "cause": error.cause, "reason": error.text}
        self._found = msgspec.structs.replace(found, **changed)

    def _answered(self) -> None:
        now, found = self._clock(), self._found
        if found.state == "away":
            lasted = written_time(max(1, round(now - found.since)))
            log("notice", f"the shared state answers again, after {lasted}")
            found = Verdict(since=now)
        self._found = msgspec.structs.replace(found, answered=now)

    def _tell(self) -> None:
        news = self._news
        keys = Keys(state=news.standing, reason=news.text, version=news.version)
        self._found = msgspec.structs.replace(self._found, at=self._clock(), keys=keys)
        try:
            verdicts.write(self._runtime, self._found)
        except OSError as error:
            if self._seldom.due("tell"):
                log("warning", f"what is known of the shared state can't be told: {error}")
        self._told = time.monotonic()


def _stamp(path: Path) -> object:
    try:
        known = os.stat(path)  # noqa: PTH116 - four times a second
    except OSError:
        return None
    return known.st_mtime_ns, known.st_ino, known.st_size
