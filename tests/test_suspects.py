"""Whose fault a wrong answer is: the replica's, or the text's that gets one wherever it goes."""

from __future__ import annotations

from er.replicas.suspects import KEPT_NS, MOST, Suspects
from er.tickets import Batch, Item, Load, Ticket


def call(replica: str, *texts: int, taken: int = 0) -> Batch:
    """A call that was sent at `taken`, with a sequence of one token for each of `texts`."""
    items = [Item(Ticket([[text]], deadline=0), 0, 0) for text in texts]
    return Batch(Load(replica, 2, 0, 0), items, taken)


def test_the_second_time_elsewhere_it_is_the_text() -> None:
    """Whichever call was sent first: two replicas agree."""
    known = Suspects()
    assert not known
    assert known.met(call("r0", 1, 2, 3), [1], now=10) == []
    assert known
    batch = call("r1", 2, 4, taken=5)
    assert known.met(batch, [0, 1], now=20) == [batch.items[0]]
    again = call("r0", 2, taken=30)
    assert known.met(again, [0], now=40) == again.items


def test_calls_that_were_on_their_way_together_prove_nothing_new() -> None:
    """The same text twice at a replica that lies; once that was proven and asked again, it does."""
    known = Suspects()
    assert known.met(call("r0", 1, taken=1), [0], now=10) == []
    assert known.met(call("r0", 1, taken=2), [0], now=11) == []
    assert len(known.met(call("r0", 1, taken=12), [0], now=20)) == 1


def test_a_right_answer_clears_a_text() -> None:
    known = Suspects()
    known.met(call("r0", 1, 2), [0, 1], now=10)
    known.clear(call("r1", 1), now=20)
    assert known.met(call("r1", 1), [0], now=30) == []
    known.clear(call("r1", 1, 2), now=40)
    assert not known


def test_they_are_forgotten() -> None:
    """After a while, and the oldest first where there are too many."""
    known = Suspects()
    known.met(call("r0", 1), [0], now=10)
    known.clear(call("r0", 9), now=10 + KEPT_NS)
    assert known
    known.clear(call("r0", 9), now=11 + KEPT_NS)
    assert not known
    for text in range(MOST + 1):
        known.met(call("r0", text), [0], now=text)
    assert known.met(call("r1", MOST, taken=0), [0], now=MOST) != []
    assert known.met(call("r1", 0, taken=0), [0], now=MOST) == []
    assert len(known._seen) <= MOST
