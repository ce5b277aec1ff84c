"""Quality: what is known of whether answers are right and good, and what nobody knows yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widget import Widget

from er_console.judgement import lasted
from er_console.language import count, heard, noted, say
from er_console.looks import Line, Looks, Piece, told, wrapped
from er_console.parts import key_of, replicas
from er_console.screens.page import Hint, Page
from er_console.state import Missing, Proof, Quality, Replica
from er_console.tables import Column, Row
from er_console.widgets.lines import Lines
from er_console.widgets.table import Table

REFRESH_S = 5.0
FINGERPRINT = 8
ROWS_AROUND = 5
ROWS_LEAST = 3
ROWS_FOR_ALL = 20
PROOF_COLUMNS = (
    Column(noted("replica"), 11, 24),
    Column(noted("state"), 11, 12),
    Column(noted("last found right"), 16, 40),
    Column(noted("wrong"), 5, 8, right=True),
    Column(noted("engine"), 12, 18),
    Column(noted("fingerprint"), 11, 11, from_width=76),
    Column(noted("model"), 12, 32, from_width=100),
    Column(noted("why out"), 16, 400, from_width=140),
)
NONE_YET = noted(
    "This gateway has no canary and no feedback yet: nothing compares its answers with ones known "
    "to be good, and no client says how good a result was. What is known follows."
)
CHECKED = noted(
    "Every answer is checked for its size, for numbers that are none, each vector's length and "
    "each score's range. A replica with a wrong one is out until it has answered right again."
)


def proof_row(replica: Replica, now: float, looks: Looks, wrong: Mapping[str, float] | None) -> Row:
    """A replica's row; `wrong` has the calls with wrong answers by replica, where known."""
    proof, sample = replica.proof, replica.sample
    version = sample.vllm_version if sample is not None else ""
    mark = sample.identity[:FINGERPRINT] if sample is not None else ""
    n = _wrong(replica, wrong)
    cells = (
        (looks.words(replica.name), "strong"),
        looks.state(replica.state),
        (looks.words(found_right(proof, now)), "" if proof is not None else "dim"),
        (f"{looks.glyph('slow')} {n:.0f}", "warn") if n else ("-" if n is None else "0", "dim"),
        (f"vLLM {version}" if version else say("unknown"), "" if version else "dim"),
        (mark or say("unknown"), "" if mark else "dim"),
        (looks.words(replica.model) or "-", "dim"),
        (looks.words(heard(replica.reason)) if replica.state != "up" else "", "dim"),
    )
    return Row(key_of(replica), cells)


def _wrong(replica: Replica, calls: Mapping[str, float] | None) -> float | None:
    """Wrong answers: the larger of those since the gateway began and since its launcher did."""
    own = replica.proof.wrong if replica.proof is not None else None
    known = None if calls is None else calls.get(replica.name, 0.0)
    return max((n for n in (own, known) if n is not None), default=None)


def found_right(proof: Proof | None, now: float) -> str:
    """By whom and when a replica's numbers were last found right."""
    if proof is None:
        return say("unknown")
    if proof.answered is None and proof.probed is None:
        return say("never yet")
    if proof.probed is not None and proof.probed >= (proof.answered or 0.0):
        span = lasted(max(0.0, now - proof.probed))
        if proof.probe_ms is None:
            return say("by a probe {span} ago", span=span)
        return say("by a probe {span} ago, {ms} ms", span=span, ms=f"{proof.probe_ms:.0f}")
    return say("by a request {span} ago", span=lasted(max(0.0, now - (proof.answered or 0.0))))


def mixed(found: Sequence[Replica]) -> list[str]:
    """A sentence for each model whose replicas are not all the same engine."""
    said = []
    for model in dict.fromkeys(replica.model for replica in found if replica.model):
        engines: dict[str, list[str]] = {}
        for replica in found:
            sample = replica.sample
            if replica.model == model and sample is not None and sample.vllm_version:
                mark = f" ({sample.identity[:FINGERPRINT]})" if sample.identity else ""
                engines.setdefault(f"vLLM {sample.vllm_version}{mark}", []).append(replica.name)
        if len(engines) > 1:
            each = say("; ").join(f"{what}: {', '.join(who)}" for what, who in engines.items())
            words = say("{model} is served by engines that differ: {each}", model=model, each=each)
            said.append(words)
    return said


def quality_lines(
    quality: Quality | None,
    missing: Missing | None,
    found: Sequence[Replica],
    looks: Looks,
    size: tuple[int, int],
) -> list[Line]:
    """What stands above the table: what the gateway tells of quality, or that it has nothing.

    `size` is the screen's, (cells, rows).
    """
    said: list[Piece] = []
    if missing is not None:
        said.append((f"{looks.glyph('unknown')} {told(missing)}", "warn"))
    elif quality is not None and quality.told is None:
        said.append((say(NONE_YET), ""))
    elif quality is not None and quality.told is not None:
        said += [(f"{name}: {value}", "") for name, value in quality.told]
    if size[1] >= ROWS_FOR_ALL:
        said.append((say(CHECKED), "dim"))
    differing = mixed(found)
    sign = looks.glyph("slow")
    said += [(f"{sign} {words}", "warn") for words in differing]
    if differing:
        words = say(
            "Such engines' numbers may differ in their last digits, and the cache is off for them."
        )
        said.append((words, ""))
    if quality is not None and quality.wrong is not None:
        said.append(_wrong_calls(sum(quality.wrong.values()), sign))
    return [
        [(f"  {looks.words(row)}", role)]
        for words, role in said
        for row in wrapped(words, max(20, size[0] - 4))
    ]


def _wrong_calls(total: float, sign: str) -> Piece:
    if not total:
        return say("No call had a wrong answer since the gateway began."), "dim"
    words = count(
        total,
        "{n} call had a wrong answer since the gateway began, and was asked again elsewhere.",
        "{n} calls had a wrong answer since the gateway began, and were asked again elsewhere.",
    )
    return f"{sign} {words}", "warn"


class QualityPage(Page):
    """The gateway's word on quality, and each replica's proof."""

    page = "quality"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("l", "app.logs_of", "log", show=False)]

    found: Quality | None = None
    missing: Missing | None = None

    def body(self) -> Iterable[Widget]:
        """Sentences, and the table."""
        yield Lines(id="told")
        yield Table(PROOF_COLUMNS, self.desk.looks, empty=say("no replica is known of"), id="main")

    def on_mount(self) -> None:
        """Titles, seen where there is room for frames; asked again every 5 s while shown."""
        self.query_one("#told").border_title = say("quality")
        self.query_one("#main").border_title = say("proof")
        self.set_interval(REFRESH_S, self._refresh_if_shown)

    def hints(self) -> list[Hint]:
        """Only looking."""
        return [Hint("l", say("log"), bool(self.selected_unit())), Hint("/", say("filter"))]

    def selected_key(self) -> str:
        """The row under the cursor."""
        return self.query_one("#main", Table).cursor

    def enter(self) -> None:
        """Ask."""
        self.run_worker(self.read, group="quality", exclusive=True)  # type: ignore[arg-type]

    def _refresh_if_shown(self) -> None:
        if self.is_current:
            self.enter()

    async def read(self) -> None:
        """Ask the gateway; without one, say so."""
        try:
            self.found, self.missing = await self.desk.sources.quality(), None
        except Missing as missing:
            self.found, self.missing = None, missing
        self.show()

    def draw(self) -> None:
        """Sentences and rows."""
        desk, now = self.desk, self.desk.wall()
        known = replicas(desk.snapshot, now, desk.pending)
        lines = quality_lines(
            self.found, self.missing, known, desk.looks, (self.size.width, self.size.height)
        )
        wrong = self.found.wrong if self.found is not None else None
        rows = [proof_row(replica, now, desk.looks, wrong) for replica in known]
        rows = [row for row in rows if self.passes(" ".join(said for said, _ in row.cells))]
        table = self.query_one("#main", Table)
        table.styles.max_height = max(ROWS_LEAST, self.size.height - ROWS_AROUND - len(lines))
        empty = say("no row passes the filter") if known else say("no replica is known of")
        self.query_one("#told", Lines).put(lines)
        table.put(rows, empty)
