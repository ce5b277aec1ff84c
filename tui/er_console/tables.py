"""The rows and columns of the console's tables, for the screens and for `--once` alike. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from er_console.judgement import last_error, lasted
from er_console.language import count, heard, noted, say
from er_console.looks import Line, Looks, figure, fit, memory, width_of
from er_console.parts import DOING, Pending, gateway, gpus, key_of, replicas, target, unit_word
from er_console.state import GATEWAY_UNIT, TARGET_UNIT, Gpu, Replica, Snapshot

HOT = 90.0  # degrees C


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: its key, and a (text, role) for each column."""

    key: str
    cells: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of at least `least` cells and, where its texts need it and there is room, at most
    `most`; the one with the largest `most` takes what is left. Shown from width `from_width`."""

    title: str
    least: int
    most: int
    right: bool = False
    from_width: int = 0


WIDE = 100  # from here on columns stand two cells apart
PART_COLUMNS = (
    Column(noted("part"), 11, 24),
    Column(noted("state"), 11, 12),
    Column(noted("since"), 5, 6, right=True),
    Column(noted("model"), 12, 32),
    Column(noted("gpu"), 3, 8),
    Column(noted("tokens"), 6, 6, right=True, from_width=100),
    Column(noted("run/wait"), 8, 8, right=True, from_width=130),
    Column(noted("restarts"), 8, 8, right=True, from_width=130),
    Column(noted("why"), 16, 400),
)
REPLICA_COLUMNS = (
    Column(noted("replica"), 10, 24),
    Column(noted("state"), 11, 12),
    Column(noted("since"), 5, 6, right=True),
    Column(noted("restarts"), 8, 8, right=True, from_width=90),
    Column(noted("gpu"), 3, 8),
    Column(noted("mem"), 8, 9, right=True),
    Column(noted("load"), 4, 4, right=True),
    Column(noted("deg C"), 5, 5, right=True, from_width=112),
    Column(noted("power"), 5, 5, right=True, from_width=112),
    Column(noted("run/wait"), 8, 8, right=True),
    Column(noted("tokens"), 6, 6, right=True, from_width=140),
    Column(noted("tok/s"), 6, 6, right=True),
    Column(noted("seq/s"), 7, 7, right=True, from_width=160),
    Column(noted("p50 ms"), 8, 8, right=True, from_width=140),
    Column(noted("p95 ms"), 8, 8, right=True),
    Column(noted("last error"), 16, 400, from_width=150),
)


def column_widths(
    columns: tuple[Column, ...], rows: Sequence[Row], width: int, gap: int
) -> list[int]:
    """Cells of each column at a width; 0 for those that are not shown."""
    shown = [column.from_width <= width for column in columns]
    widths = [c.least if s else 0 for c, s in zip(columns, shown, strict=True)]
    spare = max(0, width - sum(widths) - gap * (sum(shown) - 1))
    for i, column in enumerate(columns):
        if shown[i]:
            needed = max((width_of(row.cells[i][0]) for row in rows), default=0)
            more = min(spare, max(0, min(needed, column.most) - widths[i]))
            widths[i] += more
            spare -= more
    widest = max(range(len(columns)), key=lambda i: columns[i].most if shown[i] else -1)
    widths[widest] += spare
    return widths


def table_line(
    columns: tuple[Column, ...], widths: list[int], row: Row, more: str, gap: int = 1
) -> Line:
    """A row's cells, fitted."""
    line: Line = []
    for column, width, (said, role) in zip(columns, widths, row.cells, strict=True):
        if width:
            line += [(fit(said, width, right=column.right, more=more), role), (" " * gap, "")]
    return line[:-1]


def part_rows(
    snapshot: Snapshot, now: float, looks: Looks, pending: Mapping[str, Pending]
) -> list[Row]:
    """The overview's table: the gateway, each replica, and all of ER as one (er.target)."""
    front = gateway(snapshot, now, pending)
    since = lasted(now - front.since) if front.since is not None else "-"
    why = front.reason or (front.status_text if front.state == "starting" else "")
    if not why and front.workers is not None:
        why = count(front.workers, "{n} worker", "{n} workers")
        if front.listen:
            why = say("{workers}, {listen}", workers=why, listen=front.listen[0])
    head = (say("gateway"), "strong"), looks.state(front.state), (since, "dim"), ("", ""), ("", "")
    rest = (_count(front.restarts), "dim")
    rows = [Row(GATEWAY_UNIT, (*head, ("", ""), ("", ""), rest, (looks.words(heard(why)), "dim")))]
    rows += [_replica_row(replica, now, looks) for replica in replicas(snapshot, now, pending)]
    aim = target(snapshot, now)
    if aim is not None:
        asked = pending.get(TARGET_UNIT)
        word = DOING[asked.verb] if asked else unit_word(aim)
        said = say("er.target: start, stop or restart everything")
        state = (looks.state(word)[0], "dim")
        blank = ("", "")
        cells = (
            (say("all"), "strong"),
            state,
            (_since(aim.since, now), "dim"),
            *[blank] * 5,
            (said, "dim"),
        )
        rows.append(Row(TARGET_UNIT, cells))
    return rows


def replica_rows(
    snapshot: Snapshot, now: float, looks: Looks, pending: Mapping[str, Pending]
) -> list[Row]:
    """The Replicas page's table: each with its GPU's figures, its queue, rate, latency, error."""
    cards = gpus(snapshot, now)
    return [
        Row(key_of(replica), _replica_cells(replica, cards, now, looks))
        for replica in replicas(snapshot, now, pending)
    ]


def _replica_cells(
    replica: Replica, cards: Sequence[Gpu], now: float, looks: Looks
) -> tuple[tuple[str, str], ...]:
    own = [gpu for gpu in cards if replica.name in gpu.replicas]
    hottest = max((g.temperature for g in own if g.temperature is not None), default=None)
    busy = [g.utilization for g in own if g.utilization is not None]
    watts = _sum(g.power_w for g in own)
    last = heard(last_error(replica))
    restarts = replica.restarts
    return (
        (replica.name, "strong"),
        looks.state(replica.state),
        (_since(replica.since, now), "dim"),
        (_count(restarts), "warn" if restarts else "dim"),
        (",".join(replica.gpus) or "-", ""),
        (memory(_sum(g.memory_used for g in own), _sum(g.memory_total for g in own)), ""),
        (f"{figure(sum(busy) / len(busy))}%" if busy else "-", ""),
        (figure(hottest), "bad" if (hottest or 0) >= HOT else ""),
        (figure(watts, "W") if watts is not None else "-", ""),
        (_engine(replica), ""),
        (figure(replica.tokens), ""),
        (figure(replica.tokens_per_s), ""),
        (figure(replica.sequences_per_s), ""),
        (figure(replica.p50_ms), ""),
        (figure(replica.p95_ms), ""),
        (looks.words(last) or "-", "" if last else "dim"),
    )


def _sum(values: Iterable[float | None]) -> float | None:
    """The sum of what is known, None when nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _engine(replica: Replica) -> str:
    """Sequences that the engine works on, and that wait in it."""
    sample = replica.sample
    return f"{figure(sample.running)}/{figure(sample.waiting)}" if sample else "-"


def _since(since: float | None, now: float) -> str:
    return lasted(now - since) if since is not None else "-"


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)


def _replica_row(replica: Replica, now: float, looks: Looks) -> Row:
    why = replica.reason or (replica.status_text if replica.state != "up" else "")
    if replica.state == "starting" and replica.status_text:
        why = replica.status_text
    if replica.drained_by:
        why = why or say("by {who}", who=heard(replica.drained_by))
    restarts = replica.restarts
    cells = (
        (replica.name, "strong"),
        looks.state(replica.state),
        (_since(replica.since, now), "dim"),
        (looks.words(replica.model) or "-", ""),
        (",".join(replica.gpus) or "-", ""),
        (figure(replica.tokens), ""),
        (_engine(replica), ""),
        (_count(restarts), "warn" if restarts else "dim"),
        (looks.words(heard(why)), "" if why else "dim"),
    )
    return Row(key_of(replica), cells)
