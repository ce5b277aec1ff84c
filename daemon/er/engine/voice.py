"""What a launcher says about its replica, to everyone at once: systemd, journal, ledger, sample."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

from er import systemd
from er.config import Config
from er.engine.sample import READY, Life
from er.journal import Level, log
from er.ledger import Ledger, LedgerError


class Voice:
    """Speaks for one replica; `life` is what the once-a-second sample shows of it."""

    def __init__(self, config: Config, life: Life, ledger: Path) -> None:
        self.life = life
        self._notifier = systemd.Notifier()
        self.ledger: Ledger | None = None
        try:
            self.ledger = Ledger.open(ledger, [r.name for r in config.replicas])
        except (OSError, LedgerError) as error:
            self.say("warning", f"runs without the ledger, so the gateway can't drain it: {error}")

    def say(self, level: Level, text: str) -> None:
        """A line of the launcher's own in the journal."""
        log(level, f"{self.life.name}: {text}")

    def enter(self, phase: str, status: str = "") -> None:
        """Be in `phase`; `status` says it longer."""
        again = self.life.attempt > 1 and self.life.ready_since is None
        attempt = f" (attempt {self.life.attempt})" if again else ""
        self._notifier.notify(status=f"{status or phase}{attempt}")
        if self.life.enter(phase) and self.life.ready_since is None:
            self.verdict("starting", phase)

    def status(self, text: str) -> None:
        """Another STATUS in the same phase."""
        self._notifier.notify(status=text)

    def more_time(self, seconds: float) -> None:
        """Ask systemd for `seconds` more to start."""
        self._notifier.extend_timeout(seconds)

    def ready(self, probe_ms: float, seconds: float) -> None:
        """The first inference was right, `seconds` after the engine's start."""
        self.life.ready_since, self.life.load_s = time.time(), round(seconds, 1)
        self.life.enter(READY)
        if self.ledger is not None:
            self.ledger.drain(self.life.name, "launcher", False, time.time())
        self.verdict("up", "")
        self._notifier.notify(ready=True, status=f"ready: right answer in {probe_ms:.0f} ms")
        self.say("notice", f"READY after {seconds:.1f} s, first inference {probe_ms:.0f} ms")

    def alive(self) -> None:
        """Proven again: feed the watchdog."""
        self._notifier.watchdog()

    def stopping(self) -> None:
        """On the way out, as somebody asked."""
        self._notifier.stopping("stopping")

    def verdict(self, state: Literal["starting", "up", "down"], reason: str) -> None:
        """Tell the gateway's workers at once, through the ledger.

        What a worker found wrong is not called "up" by a proof that ran beside it.
        """
        if self.ledger is not None and not (state == "up" and self.wrong_answer()):
            self.ledger.set_verdict(self.life.name, state, reason, time.time())

    def answered_since(self, began: float) -> bool:
        """Whether the gateway got a good answer after `began` (monotonic s)."""
        if self.ledger is None:
            return False
        return self.ledger.verdict(self.life.name).answered > began * 1e9

    def patience_s(self, otherwise: float) -> float:
        """How long an answer may take behind what is in flight; `otherwise` where nobody knows."""
        return otherwise if self.ledger is None else self.ledger.patience_s(self.life.name)

    def wrong_answer(self) -> str | None:
        """Why the gateway's workers hold this engine for wrong, None when they don't."""
        if self.ledger is None:
            return None
        known = self.ledger.verdict(self.life.name)
        return (known.reason or "no reason kept") if known.wrong else None

    def drain(self, on: bool) -> None:
        """Have the gateway send nothing new, or lift that."""
        if self.ledger is not None:
            self.ledger.drain(self.life.name, "launcher", on, time.time())

    def in_flight(self) -> int:
        """Tokens that the gateway waits for from this engine."""
        return 0 if self.ledger is None else self.ledger.tokens_in_flight(self.life.name)
