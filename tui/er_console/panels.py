"""Turn the parts into lines of words and figures, for the screens and for `--once` alike. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from er_console.judgement import Advice, Change, Verdict
from er_console.language import heard, say
from er_console.looks import (
    Line,
    Looks,
    clock,
    figure,
    fit,
    line_width,
    memory,
    role_of,
    share,
    size,
    width_of,
    wrapped,
)
from er_console.parts import gpus
from er_console.state import Gpu, Snapshot, Status, Traffic

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


def header(
    verdict: Verdict, looks: Looks, width: int, now: float, tags: Iterable[str] = ()
) -> Line:
    """The one line at the top: ER, the verdict, the cause, the clock."""
    level = verdict.level if verdict.word != "STARTING" else "starting"
    role = {"ok": "good", "down": "bad"}.get(level, "warn")
    right = "  ".join([*tags, clock(now, seconds=width >= 60)])
    left: Line = [(" ER ", "title"), (f" {looks.glyph(level)} {say(verdict.word)} ", role)]
    room = width - line_width(left) - width_of(right) - 2
    forms = [looks.words(said) for said in (verdict.sentence, *verdict.shorter)]
    said = next((said for said in forms if width_of(said) < room), forms[-1])
    more = "~" if looks.ascii_only else "…"
    return [*left, (fit(" " + said, room, more=more), ""), (f" {right} ", "dim")]


def traffic_lines(status: Status | None, looks: Looks, width: int) -> list[Line]:
    """Rates, success, latency, in flight and queue, in two lines; a third one with refusals."""
    t = status.traffic if status else Traffic()
    front = status.gateway if status else None
    full = f"/{front.max_concurrency:.0f}" if front and front.max_concurrency else ""
    in_flight = front.in_flight if front and front.in_flight is not None else t.in_flight
    queued = front.queued if front and front.queued is not None else t.queued
    success = "" if t.success_rate is None or t.success_rate >= 0.99 else "bad"
    first = [
        (say("requests"), say("req"), _a_second(t.requests_per_s), ""),
        (say("sequences"), say("seq"), _a_second(t.sequences_per_s), ""),
        (say("tokens"), say("tok"), _a_second(t.tokens_per_s), ""),
        (say("success"), say("ok"), share(t.success_rate), success),
    ]
    second = [
        (say("latency p50"), "p50", _ms(t.p50_ms), ""),
        ("p95", "p95", _ms(t.p95_ms), ""),
        ("p99", "p99", _ms(t.p99_ms), ""),
        (say("in flight"), say("busy"), f"{figure(in_flight)}{full}", ""),
        (say("queue"), say("queue"), figure(queued), ""),
    ]
    said = refusals(t) or (say("none") if status else "-")
    name = f"{say('refused')} "
    room = max(0, width - width_of(name))
    more = "~" if looks.ascii_only else "…"
    third: Line = [(name, "dim"), (fit(said, room, more=more).rstrip(), "")]
    return [_in_a_row(first, width), _in_a_row(second, width), third]


def _in_a_row(facts: Sequence[tuple[str, str, str, str]], width: int) -> Line:
    """Names with their figures; in short names where the long ones don't fit: a figure cut in two
    would be another one. A fact is name, short name, figure, role.
    """
    lines: list[Line] = []
    for short, apart in ((False, "   "), (True, "  ")):
        line: Line = []
        for name, brief, said, role in facts:
            line.append((f"{apart if line else ''}{brief if short else name} ", "dim"))
            line.append((said, role or "strong"))
        lines.append(line)
    return next((line for line in lines if line_width(line) <= width), lines[-1])


def _a_second(value: float | None) -> str:
    return say("{n}/s", n=figure(value))


def refusals(traffic: Traffic) -> str:
    """What was refused in the window, by cause, most first."""
    counted = sorted(traffic.refusals.items(), key=lambda item: -item[1])
    causes = ", ".join(f"{n:.0f} {code}" for code, n in counted if n)
    window = f"{traffic.window_s or 60:.0f}"
    return say("{causes} in {n} s", causes=causes, n=window) if causes else ""


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    if value < 10:
        return f"{value:.1f} ms"
    return f"{value:.0f} ms" if value < 10000 else f"{value / 1000:.1f} s"


def spark_line(history: History, looks: Looks, width: int) -> Line:
    """Sequences a second and p95 over the last minutes, side by side in one line."""
    kinds = ((say("seq/s"), "sequences_per_s", ""), ("p95", "p95_ms", " ms"))
    said: list[tuple[str, str, str]] = []  # before the spark, the figure, its maximum
    for title, name, unit in kinds:
        past = history.of(name)
        now = past[-1] if past else None
        top = max((v for v in past if v is not None), default=None)
        said.append((f"{title} ", f" {figure(now)}{unit}", f" {say('max')} {figure(top)}"))
    gap = " " * 3
    room = width - width_of(gap) - sum(width_of(piece) for pieces in said for piece in pieces)
    line: Line = []
    for (title, now_said, top_said), (_, name, _) in zip(said, kinds, strict=True):
        spark = looks.spark(history.of(name), max(6, room // 2))
        line += [(gap if line else "", ""), (title, "dim"), (spark, "plot")]
        line += [(now_said, "strong"), (top_said, "dim")]
    return line


def plot_lines(
    title: str, past: Sequence[float | None], looks: Looks, width: int, height: int
) -> list[Line]:
    """A figure's past as a small plot with its title and scale."""
    top = max((v for v in past[-width:] if v is not None), default=None)
    last = past[-1] if past else None
    most = say("max")
    head: Line = [
        (f"{title} ", "dim"),
        (figure(last), "strong"),
        (f"   {most} {figure(top)}", "dim"),
    ]
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
        plot_lines(say("sequences/s"), history.of("sequences_per_s"), looks, half, height),
        plot_lines(say("p95 ms"), history.of("p95_ms"), looks, half, height),
        half + 4,
    )


def gpu_lines(snapshot: Snapshot, now: float, looks: Looks, width: int) -> list[Line]:
    """One line per GPU, or one sentence why there is none to show."""
    found = gpus(snapshot, now)
    if found:
        return [gpu_line(gpu, looks, width) for gpu in found]
    missing = snapshot.gpus.missing
    return [[(looks.words(heard(missing.reason) if missing else say("no GPU is known of")), "dim")]]


def gpu_line(gpu: Gpu, looks: Looks, width: int, *, names: bool = True) -> Line:
    """A card's figures in one row, and the replicas on it (`names`)."""
    used, total = gpu.memory_used, gpu.memory_total
    part = used / total if used is not None and total else None
    busy = gpu.utilization / 100 if gpu.utilization is not None else None
    cells = 6 if width < 100 else 14
    degrees = "" if looks.ascii_only else "°"
    line: Line = [
        (f"{gpu.index if gpu.index is not None else '?':<2}", "strong"),
        (fit(gpu.name.replace("NVIDIA ", ""), 7 if width < 100 else 14) + " ", ""),
        (f"{say('use')} " if width >= 100 else "", "dim"),
        (looks.bar(busy, cells), "accent"),
        (f" {figure(gpu.utilization):>3}%  ", ""),
        (f"{say('mem')} " if width >= 100 else "", "dim"),
        (looks.bar(part, cells), "accent"),
        (f" {memory(used, total)}".ljust(10), ""),
        (f" {figure(gpu.temperature):>3}{degrees}C", "bad" if (gpu.temperature or 0) >= 90 else ""),
        (f" {figure(gpu.power_w):>4}/{figure(gpu.power_limit_w)}W ", ""),
    ]
    if not names:
        return line
    slow = f" {say('throttled: {why}', why=heard(gpu.throttle))} " if gpu.throttle else ""
    room, more = width - line_width(line), "~" if looks.ascii_only else "…"
    slow = fit(slow, min(width_of(slow), room), more=more)
    owners = f" {', '.join(gpu.replicas) or say('no replica')}"
    return [*line, (slow, "warn"), (fit(owners, room - width_of(slow), more=more).rstrip(), "dim")]


def host_lines(status: Status | None, looks: Looks, width: int) -> list[Line]:
    """One line per machine that serves together with this one, and what is odd of it below."""
    lines: list[Line] = []
    more = "~" if looks.ascii_only else "…"
    for host in status.hosts if status else ():
        facts = [say("{up} of {n} replicas up", up=f"{host.up}", n=f"{host.replicas}")]
        if host.state == "silent":
            facts = [say("not heard for {n} s", n=figure(host.silent_s))]
        else:
            facts.append(say("{n} tokens in flight", n=figure(host.tokens)))
        if host.own:
            facts.append(say("this machine"))
        elif host.distance_ms is not None and host.state != "silent":
            facts.append(say("{n} ms away", n=f"{host.distance_ms:.1f}"))
        state = f"{looks.glyph(host.state)} {heard(host.state)}"
        head: Line = [
            (fit(host.name, 16, more=more) + " ", "strong"),
            (fit(state, 14, more=more) + " ", role_of(host.state)),
        ]
        room = max(0, width - line_width(head))
        lines.append([*head, (fit(say(", ").join(facts), room, more=more).rstrip(), "dim")])
        for words in host.odd:
            lines += [[(f"  {part}", "warn")] for part in wrapped(heard(words), width - 2)]
    return lines


def advice_lines(found: Sequence[Advice], looks: Looks, width: int) -> list[Line]:
    """What is wrong and what to do about it."""
    if not found:
        return [[(say("nothing to do"), "dim")]]
    lines: list[Line] = []
    for item in found:
        sign = looks.glyph("failed" if item.severe else "slow")
        role = "bad" if item.severe else "warn"
        todo = f"{looks.arrow} {item.todo}" if item.todo else ""
        rows = _folded(f"{looks.words(item.what)} {todo}".rstrip(), width)
        if len(rows) > 1 and todo:  # what to do begins a row of its own
            rows = [row for said in (looks.words(item.what), todo) for row in _folded(said, width)]
        lines += [[(f"{sign} " if i == 0 else "  ", role), (row, "")] for i, row in enumerate(rows)]
    return lines


def _folded(said: str, width: int) -> list[str]:
    return wrapped(said, max(20, width - 2))


def change_lines(found: Sequence[Change], looks: Looks, width: int) -> list[Line]:
    """What changed while the console watched, newest first."""
    if not found:
        return [[(say("no change of state since this console was opened"), "dim")]]
    lines: list[Line] = []
    for change in reversed(found):
        part = say("gateway") if change.part == "gateway" else change.part
        said = f"{part} {say(change.before)} {looks.arrow} "
        reason = f"  {looks.words(heard(change.reason))}" if change.reason else ""
        after = looks.state(change.after)
        room = max(0, width - 10 - width_of(said) - width_of(after[0]))
        more = "~" if looks.ascii_only else "…"
        cut = fit(reason, room, more=more).rstrip()
        lines.append([(f"{clock(change.time)}  ", "dim"), (said, ""), after, (cut, "dim")])
    return lines


def machine_line(status: Status | None, looks: Looks) -> Line:
    """The host's own load."""
    m = status.machine if status else {}
    memory = f"{size(m.get('memory_used'))}/{size(m.get('memory_total'))}"
    return [
        (f"{say('cpu')} ", "dim"),
        (f"{figure(m.get('cpu_percent'))}%", ""),
        (f"   {say('load')} ", "dim"),
        (figure(m.get("load1")), ""),
        (f"   {say('memory')} ", "dim"),
        (memory, ""),
        (f"   {say('net in')} ", "dim"),
        (_rate(m.get("net_rx_bytes_per_s")), ""),
        (f"  {say('out')} ", "dim"),
        (_rate(m.get("net_tx_bytes_per_s")), ""),
    ]


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value / 1e6:.1f} MB/s"
