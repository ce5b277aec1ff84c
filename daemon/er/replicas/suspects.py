"""Which texts got wrong numbers: one that gets them wherever it is asked is at fault itself.

A replica with a wrong answer is out until it is proven right, or started anew. A text that a model
has no numbers for, as it overflows their format, would take out one replica after the other for as
long as its client sends it. So a text whose numbers were wrong is remembered. If they are wrong
again, from another replica or from one that was proven since, its request alone fails and the
replica stays. A right answer clears it: then it was the replica.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from hashlib import blake2b

from er.job import Ids, Refusal
from er.journal import log
from er.replicas.pools import SECOND_NS, Request, place_of
from er.tickets import Batch, Item
from er.upstream import UpstreamError

MOST, KEPT_NS = 1024, 600 * SECOND_NS


class Suspects:
    """One worker's, of one model."""

    def __init__(self) -> None:
        self._seen: dict[bytes, tuple[str, int]] = {}  # of ids: the first replica, and when

    def __bool__(self) -> bool:
        return bool(self._seen)

    def met(self, batch: Batch, rows: Sequence[int], now: int) -> list[Item]:
        """Those of a wrong answer's `rows` that are at fault themselves; the others are remembered.

        `now` in monotonic ns. A call that was sent before the first replica was found wrong is no
        second proof against a text, if it went to that replica too.
        """
        guilty = []
        for row in rows:
            item = batch.items[row]
            key = _key(item.ids)
            replica, when = self._seen.setdefault(key, (batch.replica, now))
            if replica != batch.replica or batch.taken > when:
                guilty.append(item)
        self._forget(now)
        return guilty

    def clear(self, batch: Batch, now: int) -> None:
        """Its sequences have right numbers."""
        for item in batch.items:
            self._seen.pop(_key(item.ids), None)
        self._forget(now)

    def _forget(self, now: int) -> None:
        """Those of long ago, which come first."""
        while self._seen:
            oldest = next(iter(self._seen))
            if len(self._seen) <= MOST and now - self._seen[oldest][1] <= KEPT_NS:
                break
            del self._seen[oldest]


def no_numbers(batch: Batch, item: Item, error: UpstreamError) -> Refusal:
    """500 for a text that was found at fault, and a line in the journal."""
    ticket = item.ticket
    assert isinstance(ticket, Request)
    place = place_of(item)
    told = f"item {place} of request {ticket.request_id} gets no right numbers anywhere"
    log("warning", f"{told}: at last {batch.replica} said so ({error.text}); it was refused")
    text = (
        f"Item {place} gets no right numbers from this model: the engines were asked twice, the "
        f"last one with this result: {error.text}. They answer other texts right, so change this "
        "one or leave it out."
    )
    return Refusal(500, "internal_error", text)


def _key(ids: Ids) -> bytes:
    return blake2b(array("I", ids).tobytes(), digest_size=16).digest()
