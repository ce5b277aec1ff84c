"""What a request that got no answer had of the engines until then, for its audit record. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from er.job import Spent
from er.replicas.pools import Request
from er.tickets import Batch, Ticket

Flights = Mapping[Ticket, Mapping[int, list[Batch]]]  # by the number of a sequence


def flights(batches: Iterable[Batch]) -> Flights:
    """Which calls each request's sequences are in, of these."""
    found: dict[Ticket, dict[int, list[Batch]]] = {}
    for batch in batches:
        for item in batch.items:
            found.setdefault(item.ticket, {}).setdefault(item.index, []).append(batch)
    return found


def spent(request: Request, way: Flights, now: int) -> Spent:
    """How long it waited and computed by `now` (monotonic ns), and where.

    `way` has the calls that its sequences are in or just came back from; the others wait or are
    done.
    """
    mine = way.get(request, {})
    age = now - request.admitted
    waited = request.waited_ns + (request.left - len(mine)) * age
    for calls in mine.values():
        waited += min(call.taken for call in calls) - request.admitted
    queue_ns = waited // len(request.sequences)
    there = (call.replica for calls in mine.values() for call in calls)
    return Spent(queue_ns, age - queue_ns, tuple(dict.fromkeys((*request.replicas, *there))))
