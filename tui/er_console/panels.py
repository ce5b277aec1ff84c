"""Turn the parts into lines of words and figures, for the screens and for `--once` alike. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from er_console.judgement import Advice, Change, Verdict, lasted, plural
from er_console.looks import (
    Line,
    Looks,
    clock,
    figure,
    fit,
    line_width,
    share,
    size,
    width_of,
    wrapped,
)
from er_console.parts import DOING, Pending, gateway, gpus, replicas, target, unit_word
from er_console.state import GATEWAY_UNIT, TARGET_UNIT, Gpu, Replica, Snapshot, Status, Traffic

HISTORY_POINTS = 600


@dataclass(slots=True)
class History:
    """The last ten minutes of figures at one a second, bounded; a gap is None."""

    points: dict[str, deque[float | None]] = field(default_factory=dict)

    def add(self, traffic: Traffic | None) -> None:
        """One moment's figures; None when nobody knows them."""
        for name in ("sequences_per_s", "requests_per_s", "p95_ms", "queued", "in_flight"):
            row = self.points.setdefault(name, deque(maxlen=HISTORY_POINTS))
            row.append(getattr(traffic, name) if traffic is not None else None)

    def of(self, name: str) -> Sequence[float | None]:
        """A figure's past, oldest first."""
        return list(self.points.get(name, ()))


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


PART_COLUMNS = (
    Column("part", 11, 24),
    Column("state", 11, 12),
    Column("since", 5, 5, right=True),
    Column("model", 12, 32),
    Column("gpu", 3, 8),
    Column("tokens", 6, 6, right=True, from_width=100),
    Column("run/wait", 8, 8, right=True, from_width=130),
    Column("restarts", 8, 8, right=True, from_width=130),
    Column("why", 16, 400),
)
KEY_COLUMNS = (
    Column("name", 11, 24),
    Column("id", 9, 12),
    Column("state", 10, 10),
    Column("limit", 10, 14),
    Column("last used", 10, 12),
    Column("old secret till", 15, 16),
    Column("expires", 16, 16, from_width=100),
    Column("models", 8, 400, from_width=100),
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
        why = plural(front.workers, "worker")
        why += f", {front.listen[0]}" if front.listen else ""
    head = ("gateway", "strong"), looks.state(front.state), (since, "dim"), ("", ""), ("", "")
    rest = (_count(front.restarts), "dim")
    rows = [Row(GATEWAY_UNIT, (*head, ("", ""), ("", ""), rest, (looks.words(why), "dim")))]
    rows += [_replica_row(replica, now, looks) for replica in replicas(snapshot, now, pending)]
    aim = target(snapshot, now)
    if aim is not None:
        asked = pending.get(TARGET_UNIT)
        word = DOING[asked.verb] if asked else unit_word(aim)
        said = "er.target: start, stop or restart everything"
        state = (looks.state(word)[0], "dim")
        blank = ("", "")
        cells = (
            ("all", "strong"),
            state,
            (_since(aim.since, now), "dim"),
            *[blank] * 5,
            (said, "dim"),
        )
        rows.append(Row(TARGET_UNIT, cells))
    return rows


def _since(since: float | None, now: float) -> str:
    return lasted(now - since) if since is not None else "-"


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)


def _replica_row(replica: Replica, now: float, looks: Looks) -> Row:
    why = replica.reason or (replica.status_text if replica.state != "up" else "")
    if replica.state == "starting" and replica.status_text:
        why = replica.status_text
    if replica.drained_by:
        why = why or f"by {replica.drained_by}"
    sample = replica.sample
    engine = f"{figure(sample.running)}/{figure(sample.waiting)}" if sample else "-"
    restarts = replica.restarts
    cells = (
        (replica.name, "strong"),
        looks.state(replica.state),
        (_since(replica.since, now), "dim"),
        (replica.model or "-", ""),
        (",".join(replica.gpus) or "-", ""),
        (figure(replica.tokens), ""),
        (engine, ""),
        (_count(restarts), "warn" if restarts else "dim"),
        (looks.words(why), "" if why else "dim"),
    )
    return Row(replica.unit or f"replica:{replica.name}", cells)


def header(
    verdict: Verdict, looks: Looks, width: int, now: float, tags: Iterable[str] = ()
) -> Line:
    """The one line at the top: ER, the verdict, the cause, the clock."""
    level = verdict.level if verdict.word != "STARTING" else "starting"
    role = {"ok": "good", "down": "bad"}.get(level, "warn")
    right = "  ".join([*tags, clock(now, seconds=width >= 60)])
    left: Line = [(" ER ", "title"), (f" {looks.glyph(level)} {verdict.word} ", role)]
    room = width - sum(len(piece) for piece, _ in left) - len(right) - 2
    said = verdict.brief if width < 100 and verdict.brief else verdict.sentence
    sentence = looks.words(said)
    more = "~" if looks.ascii_only else "…"
    return [*left, (fit(" " + sentence, room, more=more), ""), (f" {right} ", "dim")]


def traffic_lines(status: Status | None, looks: Looks, width: int) -> list[Line]:
    """Rates, success, latency, in flight and queue, in two lines."""
    t = status.traffic if status else Traffic()
    front = status.gateway if status else None
    full = f"/{front.max_concurrency:.0f}" if front and front.max_concurrency else ""
    in_flight = front.in_flight if front and front.in_flight is not None else t.in_flight
    queued = front.queued if front and front.queued is not None else t.queued
    success = "" if t.success_rate is None or t.success_rate >= 0.99 else "bad"
    first: Line = [
        ("requests ", "dim"),
        (f"{figure(t.requests_per_s)}/s", "strong"),
        ("   sequences ", "dim"),
        (f"{figure(t.sequences_per_s)}/s", "strong"),
        ("   tokens ", "dim"),
        (f"{figure(t.tokens_per_s)}/s", "strong"),
        ("   success ", "dim"),
        (share(t.success_rate), success or "strong"),
    ]
    second: Line = [
        ("latency ", "dim"),
        ("p50 ", "dim"),
        (_ms(t.p50_ms), "strong"),
        ("  p95 ", "dim"),
        (_ms(t.p95_ms), "strong"),
        ("  p99 ", "dim"),
        (_ms(t.p99_ms), "strong"),
        ("   in flight ", "dim"),
        (f"{figure(in_flight)}{full}", "strong"),
        ("   queue ", "dim"),
        (figure(queued), "strong"),
    ]
    refused = refusals(t)
    third: Line = [
        ("refused ", "dim"),
        (fit(refused or ("none" if status else "-"), max(0, width - 8)).rstrip(), ""),
    ]
    return [first, second, third]


def refusals(traffic: Traffic) -> str:
    """What was refused in the window, by cause, most first."""
    counted = sorted(traffic.refusals.items(), key=lambda item: -item[1])
    told = ", ".join(f"{n:.0f} {code}" for code, n in counted if n)
    return f"{told} in {traffic.window_s or 60:.0f} s" if told else ""


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f} ms" if value < 10000 else f"{value / 1000:.1f} s"


def spark_line(history: History, looks: Looks, width: int) -> Line:
    """Sequences a second and p95 over the last minutes, side by side in one line."""
    each = max(6, (width - 40) // 2)
    line: Line = []
    for title, name, unit in (("seq/s", "sequences_per_s", ""), ("p95", "p95_ms", " ms")):
        past = history.of(name)
        now = past[-1] if past else None
        top = max((v for v in past if v is not None), default=None)
        line += [(f"{title} ", "dim"), (looks.spark(past, each), "plot")]
        line += [(f" {figure(now)}{unit}", "strong"), (f" max {figure(top)}   ", "dim")]
    return line


def plot_lines(
    title: str, past: Sequence[float | None], looks: Looks, width: int, height: int
) -> list[Line]:
    """A figure's past as a small plot with its title and scale."""
    top = max((v for v in past[-width:] if v is not None), default=None)
    last = past[-1] if past else None
    head: Line = [(f"{title} ", "dim"), (figure(last), "strong"), (f"   max {figure(top)}", "dim")]
    return [head, *([(row, "plot")] for row in looks.plot(past, width, height))]


def beside(left: Sequence[Line], right: Sequence[Line], width: int) -> list[Line]:
    """Two blocks of lines side by side, the left one `width` cells wide."""
    blank: Line = []
    rows = max(len(left), len(right))
    both = zip([*left, *[blank] * rows], [*right, *[blank] * rows], strict=False)
    pairs = list(both)[:rows]
    return [[*a, (" " * max(0, width - line_width(a)), ""), *b] for a, b in pairs]


def past_lines(history: History, looks: Looks, width: int, height: int) -> list[Line]:
    """Sequences a second and p95 as two plots beside each other."""
    half = (width - 4) // 2
    return beside(
        plot_lines("sequences/s", history.of("sequences_per_s"), looks, half, height),
        plot_lines("p95 ms", history.of("p95_ms"), looks, half, height),
        half + 4,
    )


def gpu_lines(snapshot: Snapshot, now: float, looks: Looks, width: int) -> list[Line]:
    """One line per GPU, or one sentence why there is none to show."""
    found = gpus(snapshot, now)
    if found:
        return [_gpu_line(gpu, looks, width) for gpu in found]
    missing = snapshot.gpus.missing
    return [[(looks.words(missing.reason if missing else "no GPU is known of"), "dim")]]


def _gpu_line(gpu: Gpu, looks: Looks, width: int, *, names: bool = True) -> Line:
    used, total = gpu.memory_used, gpu.memory_total
    part = used / total if used is not None and total else None
    busy = gpu.utilization / 100 if gpu.utilization is not None else None
    cells = 6 if width < 100 else 14
    degrees = "" if looks.ascii_only else "°"
    line: Line = [
        (f"{gpu.index if gpu.index is not None else '?':<2}", "strong"),
        (fit(gpu.name.replace("NVIDIA ", ""), 7 if width < 100 else 18) + " ", ""),
        (looks.bar(busy, cells), "accent"),
        (f" {figure(gpu.utilization):>3}%  ", ""),
        (looks.bar(part, cells), "accent"),
        (f" {size(used)}/{size(total)}".ljust(11), ""),
        (f" {figure(gpu.temperature):>3}{degrees}C", "bad" if (gpu.temperature or 0) >= 90 else ""),
        (f" {figure(gpu.power_w):>4}/{figure(gpu.power_limit_w)}W ", ""),
        (" " + (", ".join(gpu.replicas) or "no replica") if names else "", "dim"),
    ]
    if gpu.throttle:
        line.append((f"  throttled: {gpu.throttle}", "warn"))
    return line


def advice_lines(found: Sequence[Advice], looks: Looks, width: int) -> list[Line]:
    """What is wrong and what to do about it."""
    if not found:
        return [[("nothing to do", "dim")]]
    lines: list[Line] = []
    for item in found:
        sign = looks.glyph("failed" if item.severe else "slow")
        role = "bad" if item.severe else "warn"
        todo = f" {looks.arrow} {item.todo}" if item.todo else ""
        rows = wrapped(looks.words(item.what) + todo, max(20, width - 2))
        lines += [[(f"{sign} " if i == 0 else "  ", role), (row, "")] for i, row in enumerate(rows)]
    return lines


def change_lines(found: Sequence[Change], looks: Looks, width: int) -> list[Line]:
    """What changed while the console watched, newest first."""
    if not found:
        return [[("no change of state since this console was opened", "dim")]]
    lines: list[Line] = []
    for change in reversed(found):
        said = f"{change.part} {change.before} {looks.arrow} "
        reason = f"  {looks.words(change.reason)}" if change.reason else ""
        room = max(0, width - 10 - len(said) - len(change.after) - 2)
        after = looks.state(change.after)
        cut = fit(reason, room).rstrip()
        lines.append([(f"{clock(change.time)}  ", "dim"), (said, ""), after, (cut, "dim")])
    return lines


def replica_lines(replica: Replica, snapshot: Snapshot, now: float, looks: Looks) -> list[Line]:
    """All that is known of one replica."""
    state, role = looks.state(replica.state)
    since = f" for {lasted(now - replica.since)}" if replica.since is not None else ""
    vouch = {"gateway": "", "systemd": "  (says systemd)", "launcher": "  (says its launcher)"}
    lines: list[Line] = [
        [
            (f"{replica.name}  ", "strong"),
            (state, role),
            (since + vouch.get(replica.source, ""), "dim"),
        ]
    ]
    sample = replica.sample
    facts: list[tuple[str, str]] = [
        ("why", replica.reason),
        ("status", replica.status_text),
        ("last error", sample.last_error if sample else ""),
        ("model", replica.model),
        ("address", replica.address),
        ("unit", f"{replica.unit} {replica.unit_state}".strip() or "none (no systemd)"),
        ("drained by", replica.drained_by),
        ("restarts", _count(replica.restarts)),
        ("process", f"pid {replica.pid}" if replica.pid else ""),
        ("in flight", f"{figure(replica.tokens)} tokens"),
    ]
    if sample is not None:
        attempt = f", try {sample.attempt}" if sample.attempt else ""
        facts.append(("phase", f"{sample.phase} since {clock(sample.phase_since)}{attempt}"))
        running = f"{figure(sample.running)} running, {figure(sample.waiting)} waiting"
        facts.append(("engine", f"{running}, vLLM {sample.vllm_version or '-'}"))
        facts.append(("memory", size(sample.rss_bytes)))
    lines += [[(f"{name:<11}", "dim"), (looks.words(said), "")] for name, said in facts if said]
    shown = [gpu for gpu in gpus(snapshot, now) if replica.name in gpu.replicas]
    lines += [[(f"{'GPU':<11}", "dim"), *_gpu_line(gpu, looks, 80, names=False)] for gpu in shown]
    return lines


def machine_line(status: Status | None, looks: Looks) -> Line:
    """The host's own load."""
    m = status.machine if status else {}
    memory = f"{size(m.get('memory_used'))}/{size(m.get('memory_total'))}"
    return [
        ("cpu ", "dim"),
        (f"{figure(m.get('cpu_percent'))}%", ""),
        ("   load ", "dim"),
        (figure(m.get("load1")), ""),
        ("   memory ", "dim"),
        (memory, ""),
        ("   net in ", "dim"),
        (_rate(m.get("net_rx_bytes_per_s")), ""),
        ("  out ", "dim"),
        (_rate(m.get("net_tx_bytes_per_s")), ""),
    ]


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value / 1e6:.1f} MB/s"
