"""Counts exchanges as the tally does, and has traces made of some: only where [tracing] is set."""

from __future__ import annotations

import random

from er.dialects import HOT
from er.gateway.exchange import Note, printable
from er.gateway.tally import SHOWN, Tally
from er.journal import blotted, without
from er.ledger import Ledger
from er.limits import Limits
from er.traces import Context, Traced, Traces
from er.traces.context import UNCHOSEN

ROUTES = frozenset(HOT.values())


class TracedTally(Tally):
    """A worker's counts, and its traces."""

    def __init__(self, ledger: Ledger, limits: Limits, traces: Traces) -> None:
        super().__init__(ledger, limits)
        self._traces = traces
        self._choose = traces.sampler.choose

    def begin(self, note: Note) -> None:
        """Choose its place in a trace, which its calls are told."""
        context = note.context = self._chosen(note)
        if context is not None:
            note.engine_span = random.getrandbits(64) or 1
            note.onward = context.onward(note.engine_span)

    def _chosen(self, note: Note) -> Context | None:
        head = note.request.head
        context = self._choose(head.headers)
        if context is not None and context.state:
            state = context.state.decode("latin-1")
            if without(blotted(state), head.secret or "") != state:
                return context._replace(state=b"")  # it has a key in it
        return context

    def add(self, note: Note) -> None:
        """Count one exchange that is over; it is told which trace it belongs to."""
        super().add(note)
        context = self._chosen(note) if note.context is UNCHOSEN else note.context
        if context is None:
            return
        note.trace_id = f"{context.trace_id:032x}"
        if not context.sampled:
            return
        head = note.request.head
        path = printable(blotted((note.path or head.path)[:SHOWN]))
        self._traces.take(
            Traced(
                context,
                note.id,
                head.method,
                path,
                path if path in ROUTES else "",
                note.status,
                note.code,
                note.dialect,
                note.served,
                note.who.id if note.who else "",
                note.replica,
                note.items,
                note.tokens,
                note.known,
                note.queue_ns,
                note.tokenise_ns,
                note.engine_ns,
                note.encode_ns,
                note.total_ns,
                note.began,
                note.engine_span,
            )
        )
