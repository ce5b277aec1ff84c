"""The Quality page's sentences, rows and panels: the canary, what clients said, proofs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from er_console.graded import Canary, Exam, Examined, Feedback, Liked, Quality, Remark
from er_console.judgement import lasted
from er_console.language import count, heard, noted, say
from er_console.looks import Line, Looks, Piece, clock, figure, fit, share, told, wrapped
from er_console.parts import key_of
from er_console.state import Missing, Proof, Replica
from er_console.tables import WIDE, Column, Row, column_widths, table_line

FINGERPRINT = 8
ROWS_FOR_ALL = 20
SPARK_CELLS, PLOT_CELLS = 12, 48
BAD = ("drifted", "wrong")
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
CANARY_COLUMNS = (
    Column(noted("replica"), 11, 24),
    Column(noted("canary"), 10, 12),
    Column(noted("nDCG@10"), 7, 7, right=True),
    Column(noted("MRR"), 5, 5, right=True),
    Column(noted("drift"), 7, 7, right=True),
    Column(noted("tolerated"), 9, 9, right=True, from_width=70),
    Column(noted("last"), 4, 6, right=True),
    Column(noted("history"), 8, SPARK_CELLS, from_width=76),
    Column(noted("wrong"), 5, 8, right=True, from_width=90),
    Column(noted("last found right"), 16, 40, from_width=110),
    Column(noted("model"), 12, 32, from_width=130),
    Column(noted("why out"), 16, 400, from_width=150),
)
LIKED_COLUMNS = (
    Column(noted("model"), 16, 400),
    Column(noted("requests"), 8, 8, right=True),
    Column(noted("told of"), 8, 8, right=True),
    Column(noted("clicked"), 7, 7, right=True),
    Column(noted("satisfied"), 9, 9, right=True),
    Column(noted("MRR"), 5, 5, right=True),
)
NONE_YET = noted(
    "This gateway has no canary and no feedback yet: nothing compares its answers with ones known "
    "to be good, and no client says how good a result was. What is known follows."
)
NO_CANARY = noted(
    "This gateway has no canary: nothing compares its answers with ones known to be good."
)
NO_FEEDBACK = noted("This gateway takes no feedback: no client says how good a result was.")
CHECKED = noted(
    "Every answer is checked for its size, for numbers that are none, each vector's length and "
    "each score's range. A replica with a wrong one is out until it has answered right again."
)


# -- rows ------------------------------------------------------------------------------------


def proof_row(replica: Replica, now: float, looks: Looks, wrong: Mapping[str, float] | None) -> Row:
    """A replica's row; `wrong` has the calls with wrong answers by replica, where known."""
    proof, sample = replica.proof, replica.sample
    mark = sample.identity[:FINGERPRINT] if sample is not None else ""
    engine = _engine(replica)
    cells = (
        (looks.words(replica.name), "strong"),
        looks.state(replica.state),
        (looks.words(found_right(proof, now)), "" if proof is not None else "dim"),
        _wrong_cell(replica, wrong, looks),
        (engine or say("unknown"), "" if engine else "dim"),
        (mark or say("unknown"), "" if mark else "dim"),
        (looks.words(replica.model) or "-", "dim"),
        (looks.words(heard(replica.reason)) if replica.state != "up" else "", "dim"),
    )
    return Row(key_of(replica), cells)


def canary_row(
    replica: Replica,
    one: Examined | None,
    now: float,
    looks: Looks,
    wrong: Mapping[str, float] | None,
) -> Row:
    """A replica's row, with what the canary found of it last."""
    last = one.last if one is not None else None
    exam = last or Exam()
    beyond = None not in (exam.drift, exam.tolerance) and exam.drift > exam.tolerance  # type: ignore[operator]
    history = [ndcg for _, ndcg, _ in one.history] if one is not None else []
    bad = one is not None and one.state in BAD
    cells = (
        (looks.words(replica.name), "strong"),
        looks.state(one.state if one is not None else "unknown"),
        (_grade(exam.marks.ndcg10), "bad" if bad else "strong"),
        (_grade(exam.marks.mrr), ""),
        (_small(exam.drift), "bad" if beyond else ""),
        (_small(exam.tolerance), "dim"),
        (lasted(max(0.0, now - exam.at)) if exam.at is not None else "-", "dim"),
        (looks.spark(history, min(SPARK_CELLS, len(history))) if history else "-", "plot"),
        _wrong_cell(replica, wrong, looks),
        (looks.words(found_right(replica.proof, now)), "" if replica.proof is not None else "dim"),
        (looks.words(replica.model) or "-", "dim"),
        (looks.words(heard(one.reason)) if one is not None and one.reason else "", "dim"),
    )
    return Row(key_of(replica), cells)


def _grade(value: float | None) -> str:
    """0 to 1 in three digits."""
    return "-" if value is None else f"{value:.3f}"


def _small(value: float | None) -> str:
    """A distance in at most seven signs: 0, 0.0312, 2.1e-05."""
    if value is None:
        return "-"
    return "0" if not value else f"{value:.4f}" if abs(value) >= 0.001 else f"{value:.1e}"


def _wrong_cell(replica: Replica, calls: Mapping[str, float] | None, looks: Looks) -> Piece:
    """Wrong answers: the larger of those since the gateway began and since its launcher did."""
    own = replica.proof.wrong if replica.proof is not None else None
    known = None if calls is None else calls.get(replica.name, 0.0)
    n = max((n for n in (own, known) if n is not None), default=None)
    return (f"{looks.glyph('slow')} {n:.0f}", "warn") if n else ("-" if n is None else "0", "dim")


def _engine(replica: Replica) -> str:
    version = replica.sample.vllm_version if replica.sample is not None else ""
    return f"vLLM {version}" if version else ""


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


# -- above the table ---------------------------------------------------------------------------


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
    now: float,
) -> list[Line]:
    """What stands above the table: what the canary asks, who failed it, what else is known.

    `size` is the screen's, (cells, rows).
    """
    said: list[Piece] = []
    if missing is not None:
        said.append((f"{looks.glyph('unknown')} {told(missing)}", "warn"))
    elif quality is not None and quality.canary is not None:
        said += _canary_said(quality.canary, looks, now)
    elif quality is not None:
        said.append((say(NONE_YET if quality.feedback is None else NO_CANARY), ""))
    if size[1] >= ROWS_FOR_ALL and (quality is None or quality.canary is None):
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
    return _rows(said, looks, size[0])


def _rows(said: Sequence[Piece], looks: Looks, width: int) -> list[Line]:
    return [
        [(f"  {looks.words(row)}", role)]
        for words, role in said
        for row in wrapped(words, max(20, width - 4))
    ]


def _canary_said(canary: Canary, looks: Looks, now: float) -> list[Piece]:
    """What is asked and how often, then each replica that answers other than it should."""
    languages = ", ".join(f"{name} {figure(n)}" for name, n in canary.languages)
    asked = say(
        "The canary has {queries} questions ({languages}) and {pairs} judged documents.",
        queries=figure(canary.queries),
        languages=languages or "-",
        pairs=figure(canary.pairs),
    )
    if canary.every_s is None:
        often = say("It runs when somebody asks for it: er quality run")
    else:
        often = say("It asks each replica every {span} in idle time.", span=lasted(canary.every_s))
    said: list[Piece] = [(f"{asked} {often}", "")]
    if canary.own:
        each = ", ".join(f"{file} ({figure(n)})" for file, n in canary.own)
        said.append((say("Your own sets: {each}", each=each), ""))
    for one in canary.replicas:
        if one.state in BAD or one.out:
            glyph, state = looks.glyph(one.state), say(one.state)
            span = lasted(max(0.0, now - one.since)) if one.since is not None else "-"
            words = say("{name} {state}, for {span}", name=one.name, state=state, span=span)
            where = say("is out") if one.out else say("goes on serving")
            why = heard(one.reason or "no reason known")
            said.append((f"{glyph} {words} ({where}): {why}", "bad"))
    return said


def _wrong_calls(total: float, sign: str) -> Piece:
    if not total:
        return say("No call had a wrong answer since the gateway began."), "dim"
    words = count(
        total,
        "{n} call had a wrong answer since the gateway began, and was asked again elsewhere.",
        "{n} calls had a wrong answer since the gateway began, and were asked again elsewhere.",
    )
    return f"{sign} {words}", "warn"


# -- below it --------------------------------------------------------------------------------


def exam_lines(
    replica: Replica, one: Examined | None, looks: Looks, width: int, now: float
) -> list[Line]:
    """What is known of the replica under the cursor beside its row."""
    if one is None:
        return []
    exam = one.last or Exam()
    parts = [f"{name} {_grade(marks.ndcg10)}" for name, marks in exam.languages]
    parts += [f"{file} {_grade(marks.ndcg10)}" for file, marks in exam.own]
    facts = [f"nDCG@10: {', '.join(parts)}"] if parts else []
    if exam.marks.recall3 is not None:
        facts.append(f"recall@3 {_grade(exam.marks.recall3)}")
    if exam.largest is not None:
        facts.append(say("largest drift {n}", n=_small(exam.largest)))
    if exam.reference:
        span = "-" if exam.reference_at is None else lasted(max(0.0, now - exam.reference_at))
        kind = heard(exam.reference)
        facts.append(say("reference: {kind}, {span} old", kind=kind, span=span))
    if one.next is not None:
        facts.append(say("next in {span}", span=lasted(max(0.0, one.next - now))))
    if engine := _engine(replica):
        mark = replica.sample.identity[:FINGERPRINT] if replica.sample is not None else ""
        facts.append(f"{engine} {mark}".rstrip())
    facts.append(found_right(replica.proof, now))
    lines = _rows([(f"{one.name}: {f' {looks.dot} '.join(facts)}", "")], looks, width)
    drifts = [drift for _, _, drift in one.history]
    cells = min(PLOT_CELLS, len(drifts), max(8, width - 20))
    if any(drift is not None for drift in drifts):
        line: Line = [(f"  {say('drift')} ", "dim"), (looks.spark(drifts, cells), "plot")]
        top = max(drift for drift in drifts[-cells:] if drift is not None)
        lines.append([*line, (f" {say('max')} {_small(top)}", "dim")])
    return lines


def feedback_lines(
    feedback: Feedback | None, looks: Looks, width: int, rows: int, now: float
) -> list[Line]:
    """What clients said, in `rows` lines at most: by model, then by key, then the newest ones."""
    if feedback is None:
        return _rows([(say(NO_FEEDBACK), "")], looks, width)[:rows]
    span = "-" if feedback.since is None else lasted(max(0.0, now - feedback.since))
    total = feedback.total or 0.0
    said = count(total, "{n} feedback in {span}", "{n} feedbacks in {span}", span=span)
    lines = _rows([(said, "dim")], looks, width)
    found = [_liked_row(one, looks) for one in (*feedback.models, *feedback.keys)]
    if found:
        more, gap = "~" if looks.ascii_only else "…", 2 if width >= WIDE else 1
        widths = column_widths(LIKED_COLUMNS, found, width - 6, gap)
        head = Row("", tuple((say(column.title), "dim") for column in LIKED_COLUMNS))
        for row in (head, *found):
            lines.append([("  ", ""), *table_line(LIKED_COLUMNS, widths, row, more, gap)])
    lines += [_remark_line(one, looks, width) for one in feedback.recent]
    return lines[: max(0, rows)]


def _liked_row(one: Liked, looks: Looks) -> Row:
    name = f"{one.title}  {one.name}" if one.title and one.title != one.name else one.name
    cells = (
        (looks.words(name) or say("no key"), "strong"),
        (figure(one.requests), ""),
        (figure(one.feedbacks), ""),
        (share(one.click_rate), ""),
        (share(one.satisfaction), "warn" if (one.satisfaction or 1.0) < 0.5 else ""),
        (_grade(one.mrr), ""),
    )
    return Row(one.name, cells)


def _remark_line(one: Remark, looks: Looks, width: int) -> Line:
    """When, what, of which request; the comment as far as there is room."""
    if one.kind == "click":
        what = say("click on rank {n}", n=figure(one.rank))
    else:
        what = say("rating {n}", n="-" if one.rating is None else f"{one.rating:g}")
    rest = "  ".join(filter(None, (one.key, one.model, one.request_id, one.comment)))
    more = "~" if looks.ascii_only else "…"
    room = max(0, width - 4 - 10 - 18)
    return [
        (f"  {clock(one.at)}  ", "dim"),
        (fit(looks.words(what), 18, more=more), ""),
        (fit(looks.words(rest), room, more=more).rstrip(), "dim"),
    ]
