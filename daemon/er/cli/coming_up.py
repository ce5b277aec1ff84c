"""One replica restarted and waited for, until it is proven: READY, and right when it was asked."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from er import systemctl
from er.cli.screen import clean
from er.cli.status import COUNTDOWN, current
from er.config import directory
from er.status import sample_of
from er.units import Run, turns

SERVES = "up"  # the state of a replica that takes requests
STOP_S = 2.0  # about what draining and ending an idle engine takes
LOOK_S = 0.5
STOPPED_S = 5.0  # a unit that stands still for so long was stopped by somebody
SILENT_S = 120.0  # without a word of the new launcher
ATTEMPT = 2  # of the launcher's: its first one failed

Row = dict[str, Any]  # of one replica in the status
Say = Callable[[str], None]


class NotUpError(Exception):
    """A replica did not come up; the text is the cause."""


class BusyError(Exception):
    """Somebody else restarts replicas or applies a configuration."""


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Be the only one that restarts replicas. Raises BusyError."""

    def busy() -> None:
        raise BusyError("another er restart or er apply is at work; wait for its end")

    folder = directory("runtime") / "replicas"
    with turns.locked(folder, busy) if folder.is_dir() else contextlib.nullcontext():
        yield  # without the folder no replica ever ran here


def rows() -> dict[str, Row]:
    """Each replica as it stands, by name."""
    return rows_of(current())


def rows_of(status: Row) -> dict[str, Row]:
    """The same from a status."""
    return {r["name"]: r for m in status["models"] for r in m["replicas"]}


def start_s(name: str) -> float | None:
    """What the replica's last start took, in seconds; None where nobody knows.

    From the launcher's last sample, however old: a start's length does not change by waiting.
    """
    sample = sample_of(directory("runtime"), name) or {}
    took = sample.get("start_s") or sample.get("load_s")
    return float(took) if isinstance(took, int | float) else None


def restart(name: str, run: Run, say: Say) -> None:
    """Have systemd restart it, which drains it first, and wait until it is proven.

    Raises NotUpError; UnitsError where systemd refuses.
    """
    before = rows().get(name) or {}
    began = time.time()
    run(["systemctl", "restart", "--no-block", systemctl.replica_unit(name)])
    proven(name, began, say, before.get("pid"))


def proven(name: str, began: float, say: Say, old: int | None = None) -> None:
    """Wait until `name` answers right since `began` (Unix s). Raises NotUpError.

    `old` is the process id of the launcher before, whose last words count for nothing.
    """
    shown, heard = "", began
    while True:
        status = current()
        row = rows_of(status).get(name)
        now = time.time()
        if row is not None:
            sample = row["sample"] if row["sample"] and row["sample"].get("pid") != old else None
            heard = now if sample else heard
            if sample and _is_proven(row, sample, began, status["gateway"]["state"] == "up"):
                return
            _must_not_fail(row, sample, now - heard)
            text = clean(row["status_text"] if row["state"] == "starting" else row["reason"])
            news = f"{name}: {row['state']}" + (f" ({text})" if text else "")
            if COUNTDOWN.sub("", news) != shown:
                shown = COUNTDOWN.sub("", news)
                say(f"{time.strftime('%H:%M:%S')}  {news}")
        elif now - heard > SILENT_S:
            raise NotUpError("nobody says anything of it; er status")
        time.sleep(LOOK_S)


def _is_proven(row: Row, sample: Row, began: float, gateway: bool) -> bool:
    ready, proof = sample.get("ready_since"), row["proof"]
    if not ready or ready < began or sample.get("phase") != "ready":
        return False
    if not gateway:  # nobody else asks it
        return True
    right = max(proof["probed"] or 0.0, proof["answered"] or 0.0)
    return right >= ready and (row["state"] == "up" or bool(row["drained_by"]))


def _must_not_fail(row: Row, sample: Row | None, silent_s: float) -> None:
    if row["unit_state"] == "failed":
        raise NotUpError(row["reason"])
    if row["unit_state"] == "inactive" and silent_s > STOPPED_S:
        raise NotUpError("its unit was stopped meanwhile")
    if sample is None:
        if silent_s > SILENT_S:
            raise NotUpError("its launcher says nothing; journalctl -u " + str(row["unit"]))
        return
    phase = str(sample.get("phase") or "")
    failed = int(sample.get("attempt") or 1) >= ATTEMPT or phase.startswith("waiting")
    if failed or phase == "failed":
        raise NotUpError(str(sample.get("last_error") or phase))
