"""What the console asks of the machine; `machine` answers from the real one, `demo` from a play."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

from er_console.graded import Quality
from er_console.sources.config import Editing
from er_console.sources.trial import Trial
from er_console.state import (
    Gpu,
    Key,
    LogLine,
    Missing,
    Outcome,
    Past,
    Recent,
    Sample,
    Status,
    Unit,
)


class Sources(Protocol):
    """All readings raise state.Missing when there is nothing to read, with reason and remedy."""

    tag: str  # shown in the header, "" for the real machine
    manages_units: bool  # False where no systemd runs ER here

    @property
    def config(self) -> Editing:
        """er.toml, what is wrong with it, and applying it."""

    @property
    def trial(self) -> Trial:
        """Where trial requests go."""

    async def status(self) -> Status:
        """GET /status of the admin API."""

    async def units(self) -> Mapping[str, Unit]:
        """ER's units by name."""

    async def changed(self) -> None:
        """Returns as soon as a unit is otherwise than `units` last said; perhaps never."""

    async def gpus(self) -> tuple[Gpu, ...]:
        """The GPUs as the driver sees them."""

    async def samples(self) -> tuple[Sample, ...]:
        """What the launchers wrote a moment ago."""

    async def keys(self) -> tuple[Key, ...]:
        """All keys, without secrets."""

    async def history(self, seconds: int) -> Past:
        """The traffic of the last 300, 3600 or 86400 seconds."""

    async def recent(self, seconds: int) -> Recent:
        """The last 60 or 300 seconds by model, key and dialect; the slowest and failed requests."""

    async def create_key(self, options: Mapping[str, Any]) -> tuple[Key, str]:
        """A new key and its secret; options as POST /keys takes them."""

    async def rotate_key(self, key_id: str, grace: str) -> tuple[Key, str]:
        """A new secret; the old one stays valid for `grace` ("24h")."""

    async def change_key(self, key_id: str, fields: Mapping[str, Any]) -> Key:
        """Change what is given of name, rate_limit, expires, models; None = the default."""

    async def revoke_key(self, key_id: str) -> None:
        """The key is refused from now on."""

    async def quality(self) -> Quality:
        """What the gateway tells of its answers' quality."""

    async def drain(self, replica: str, on: bool) -> Outcome:
        """Take a replica out of service, or back."""

    async def act(self, verb: str, unit: str) -> Outcome:
        """Start, stop or restart a unit; returns when systemd's job has ended."""

    def follow(self, unit: str, level: int = 7, key: str = "") -> AsyncIterator[Sequence[LogLine]]:
        """The last records of a unit ("" is all of ER, "audit" the audit), then new ones.

        Those of syslog priority `level` and worse; `key`: the audit's of that key alone.
        """

    async def lines_of(self, request: str) -> Sequence[LogLine]:
        """Every line that carries a request's id, oldest first."""

    async def record_of(self, line: LogLine) -> Sequence[tuple[str, str]]:
        """All fields of a line's record; none where it is not kept any more."""

    def why_not_units(self) -> Missing | None:
        """Why this user can't start and stop units, None when they can."""

    def close(self) -> None:
        """Ends what runs in the background."""


__all__ = ["Missing", "Sources"]
