"""HTTPS's certificate, as the admin process cares for it: new ones taken up, its end told in time.

Under systemd a root oneshot (`er tls renew`) hands new credentials over, because the gateway may
not read their files; without systemd the files are looked at here. What can't be used changes
nothing.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

from er import journal
from er.config import Tls
from er.tls import Credentials, Safe, TlsError, context
from er.tls.credentials import by_systemd, from_files
from er.tls.facts import Facts, day, ending, read, row

LOOK_S = 1.0
WARN_EVERY_S = 86400.0


class Certificate:
    """Of one generation. `clock`: Unix seconds."""

    def __init__(self, tls: Tls, safe: Safe, clock: Callable[[], float] = time.time) -> None:
        self._tls, self._safe, self._clock = tls, safe, clock
        self._watches = not by_systemd()
        self._last: object = None  # how the files looked
        self._tried: object = None  # and when they were read
        self._warned = float("-inf")
        self.end: float | None = None  # of the one in force, Unix seconds
        self._known: tuple[bytes, Facts] | None = None  # by the safe's mark

    async def run(self) -> None:
        """Look for ever."""
        while True:
            try:
                await asyncio.to_thread(self.look)
            except Exception as error:
                journal.mishap(error, "looking at the certificate")
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Take up files that changed and have come to rest; warn of an end. Blocks a little."""
        if self._watches:
            stands = self._files()
            if stands == self._last and stands != self._tried:
                self._tried = stands
                try:
                    self.exchange(from_files(self._tls))
                except TlsError as error:
                    journal.log("err", f"the certificate stays as it was: {error}")
            self._last = stands
        self._warn()

    def _files(self) -> object:
        """Differs once one of the files, or a link on the way to it, is another."""
        found: list[tuple[int, ...]] = []
        for path in (self._tls.certificate, self._tls.key, self._tls.client_ca):
            if path is None:
                continue
            try:
                stands = path.stat()
            except OSError as error:
                found.append((error.errno or 0,))
            else:
                found.append((stands.st_ino, stands.st_size, stands.st_mtime_ns))
        return found

    def exchange(self, credentials: Credentials) -> bool:
        """Put new credentials in force; whether they are others. Raises TlsError and OSError."""
        before = self._safe.take()
        if credentials == before:
            return False
        context.make(credentials, self._tls.client_certificates)
        facts = read(credentials.certificate)
        if facts.not_after <= self._clock() and before is not None:
            raise TlsError(f"the new one {ending(facts, self._clock())}")
        self._safe.put(credentials)
        names = ", ".join(facts.names) or "no name"
        journal.log(
            "notice",
            f"HTTPS has a new certificate: for {names}, until {day(facts.not_after)}, SHA-256 "
            f"{facts.fingerprint}; connections that exist keep the old one",
        )
        self._warned = float("-inf")
        return True

    def _facts(self) -> Facts | None:
        mark = self._safe.mark()
        if self._known is None or self._known[0] != mark:
            credentials = self._safe.take()
            self._known = (mark, read(credentials.certificate)) if credentials else None
        return self._known[1] if self._known else None

    def _warn(self) -> None:
        facts, now = self._facts(), self._clock()
        if facts is not None:
            self.end = facts.not_after
        told = ending(facts, now) if facts else ""
        if told and not 0 <= now - self._warned < WARN_EVERY_S:
            self._warned = now
            level: journal.Level = "err" if facts and facts.not_after <= now else "warning"
            journal.log(level, f"the certificate of HTTPS {told}")

    def row(self) -> dict[str, Any]:
        """For GET /status."""
        return row(self._tls, self._facts(), "" if self._facts() else self._lacking())

    def _lacking(self) -> str:
        """Why HTTPS refuses every client."""
        if not self._watches:
            return "no certificate that can be used; sudo er tls renew says why"
        try:
            context.make(from_files(self._tls), self._tls.client_certificates)
        except TlsError as error:
            return str(error)
        return "its certificate is taken up in a moment"


def may(host: str) -> bool:
    """Whether the caller at `host` ("uid:N") may exchange credentials: root, or this very user.

    Under systemd root alone: there this user changes nothing (`callers`).
    """
    return host in ("uid:0", f"uid:{os.geteuid()}")
