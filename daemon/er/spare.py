"""What of a replica the lines of batches may take: only what others leave.

Pure: times are arguments, monotonic ns. Counted in tokens, as a replica's budget is. Beside
requests of clients batches have one call at once to a replica, of at most a quarter of an engine's
step together with what is there already: whoever comes waits for no more than that. A call of less
than an eighth of a step is not worth its price. Once nobody has asked for ten seconds they have two
calls of half a step each, as small calls cost an engine more; the first who comes then waits for a
step. Behind a replica that is never left alone a batch still gets on: one small call, then a rest
of 19 times as long as that took, a twentieth of its time at most.
"""

from __future__ import annotations

from er.tickets import Load

LATELY_NS = 10_000_000_000  # for which a client's request counts
CALLS = 2  # to one replica, while no client asks
REST = 19  # times what the last call took
REST_MAX_NS = 60_000_000_000


class Spare:
    """One model's rule, in the worker that runs batches."""

    def __init__(self, batch_tokens: int) -> None:
        """`batch_tokens`: the engine's step."""
        self._step = batch_tokens
        self.budget = 2 * batch_tokens  # what the scheduler takes for a replica's
        self._asked = -LATELY_NS  # when a client's request was seen last
        self._rested: dict[str, int] = {}  # replica -> from when on it need not be free

    def asked(self, now: int) -> None:
        """Clients' requests are being worked on."""
        self._asked = now

    def answered(self, replica: str, took: int, now: int) -> None:
        """A call of a batch came back from `replica` after `took` ns."""
        self._rested[replica] = now + min(REST * took, REST_MAX_NS)

    def _lately(self, now: int) -> bool:
        return now - self._asked < LATELY_NS

    def call_tokens(self, now: int) -> int:
        """The most that one call may have."""
        return max(1, self._step // (4 if self._lately(now) else 2))

    def offer(self, load: Load, *, waits: bool, calls: int, now: int) -> Load:
        """`load` as the scheduler of batches is to see it: taken, but for what it may have.

        `load.tokens` are all in flight there, `calls` those of batches. `waits`: a client's
        sequences wait for a replica of the model.
        """
        idle, most = not load.tokens, 1 if self._lately(now) else CALLS
        room = most * self.call_tokens(now) - load.tokens
        if waits or calls >= most or room < self._step // 8:
            room, idle = 0, False
        # Where nothing of its own is in flight the scheduler sends one call in any case.
        free = idle or (not calls and now >= self._rested.get(load.replica, 0))
        return load._replace(tokens=self.budget - room, mine=0 if free else 1)
