"""The gateway's live figures in words: systemd's STATUS line and the journal's line a minute."""

from __future__ import annotations

from er.config import Config
from er.ledger import Ledger

COUNTED = ("requests", "ok", "refused", "failed", "sequences", "tokens")


class Figures:
    """Differences of the ledger's counters between two looks. Times in monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._at = now
        self._before: dict[str, int] | None = None

    def since_last(self, ledger: Ledger, now: float) -> tuple[dict[str, int], float]:
        """What was counted since the last call, and in how many seconds."""
        totals = ledger.totals()
        before, self._before = self._before or totals, totals
        seconds, self._at = max(1e-3, now - self._at), now
        # A ledger that was made anew begins at nothing.
        return {name: max(0, totals[name] - before.get(name, 0)) for name in COUNTED}, seconds


def status(ledger: Ledger, config: Config, figures: Figures, now: float) -> str:
    """One line for `systemctl status`."""
    counted, seconds = figures.since_last(ledger, now)
    return (
        f"{_replicas(ledger, config)}; {counted['requests'] / seconds:.1f} requests/s, "
        f"{counted['tokens'] / seconds:.0f} tokens/s, {_now(ledger)}"
    )


def minute(ledger: Ledger, config: Config, figures: Figures, now: float) -> str:
    """One line for the journal."""
    counted, seconds = figures.since_last(ledger, now)
    requests = counted["requests"]
    if not requests:
        return f"figures: no requests in {seconds:.0f} s; {_now(ledger)}; " + _replicas(
            ledger, config
        )
    return (
        f"figures: {requests} requests in {seconds:.0f} s ({requests / seconds:.1f}/s), "
        f"{counted['ok']} ok, {counted['refused']} refused, {counted['failed']} failed; "
        f"{counted['sequences']} sequences, {counted['tokens']} tokens; {_now(ledger)}; "
        f"{_replicas(ledger, config)}"
    )


def _now(ledger: Ledger) -> str:
    queued = sum(worker.queued for worker in ledger.workers())
    return f"{ledger.in_flight()} in flight, {queued} sequences queued"


def _replicas(ledger: Ledger, config: Config) -> str:
    names = [replica.name for replica in config.replicas]
    states = {name: ledger.verdict(name).state for name in names}
    up = sum(state == "up" for state in states.values())
    out = ", ".join(f"{name} {state}" for name, state in states.items() if state != "up")
    return f"{up} of {len(names)} replicas up" + (f" ({out})" if out else "")
