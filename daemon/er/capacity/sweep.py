"""The sweep: for each shape of request the highest rate of arrivals whose p99 stays under a goal.

Requests arrive when they are due, whether others are answered or not, and each one's time counts
from when it was due: a service that falls behind can't hide it (no coordinated omission). The rate
is found by bisection under a ceiling that as many clients as would fit have reached before; where
others are being served the rate grows from below instead, and ends at the first that is too much.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, NamedTuple, Protocol

from er.capacity.quantiles import LEAST, Quantile, crossing, quantile
from er.capacity.result import Row, Tried

Verdict = Literal["good", "slow", "behind", "refused", "unclear"]
GOAL_TIMES, GOAL_LEAST_S = 5.0, 0.025  # the goal, where none is given: of a lone request's median
CALM_SHARE, CEILING_SHARE = 0.06, 0.12  # of the time for a shape
CALM_LEAST_S, CEILING_LEAST_S, STEP_LEAST_S, PIECE_S = 1.0, 2.0, 2.0, 1.0
CLIENTS = 64  # that reach the ceiling
WANTED = 1000  # requests at a rate: a p99 to some 0.6 % of them
PIECES = 4  # that they are sent in
SPEND = 0.4  # of the time that is left, for one rate
STEPS = 6
NEAR = 0.15  # the bisection ends when its bounds are so near
OVER = 1.15  # of the ceiling: nothing more is expected
GROWS = 1.5  # from below
REFUSED_MOST = 0.01
BEHIND = 2.0  # times as slow at a step's end as at its beginning
UNANSWERED = 0.95  # of what was sent, answered by a step's end: less, and slower, is behind
PIECE_GOALS = 6.0  # so many times the goal takes a piece
PIECE_SHARE = 0.1  # of the time for a shape, at most
SLIDES, SLIDES_GOAL = 0.03, 8.0  # of what arrives is too much; and that shows by goal / 8
WALK_SHARE = 0.45  # of the time, for small steps around the best rate
LESS = 0.92  # one such step down
FAR = 0.7  # of the goal: two steps up at once
TOLERANCE = 1.05  # by which a good rate may pass what all samples together say


class Shape(NamedTuple):
    """What is asked: texts in a request, tokens in a text (about)."""

    inputs: int
    tokens: int


class Outcome(NamedTuple):
    """What became of requests that were due in `seconds`."""

    seconds: float
    times: Sequence[float]  # of each good answer, in the order of arrival, from when it was due
    refused: dict[str, int]  # by "STATUS code"
    tokens: int  # of all good answers
    answered: int  # good answers that came within `seconds`
    late_s: float = 0.0  # by how much the sender was late: p99
    parts_ms: dict[str, float] = {}  # noqa: RUF012 - means of queue, tokenise, engine, encode


NOTHING = Outcome(0.0, [], {}, 0, 0)


class Load(Protocol):
    """Who sends. Both return early when they are told to stop."""

    def arrive(self, shape: Shape, rate: float, seconds: float) -> Awaitable[Outcome]:
        """Requests that are due at random moments, `rate` a second in the mean (Poisson)."""

    def press(self, shape: Shape, clients: int, seconds: float) -> Awaitable[Outcome]:
        """So many clients, each of which asks again when it was answered."""


class Found(NamedTuple):
    """A shape's row, with what its ceiling looked like (None: it was not pressed)."""

    row: Row
    ceiling: Outcome | None
    late_s: float  # of the sender, at the highest good rate


async def knee(
    load: Load,
    shape: Shape,
    seconds: float,
    goal_s: float | None,
    *,
    gently: bool = False,
    over: Callable[[], bool] = lambda: False,
    now: Callable[[], float] = time.monotonic,
) -> Found:
    """The row of one shape, in about `seconds`; what there is when `over()` says so."""
    ends = now() + seconds
    calm_s = max(CALM_LEAST_S, CALM_SHARE * seconds)
    calm = await load.press(shape, 1, calm_s)
    lone = quantile(sorted(calm.times), 0.5)
    goal = goal_s or max(GOAL_LEAST_S, GOAL_TIMES * (lone.value if lone else 1.0))
    ceiling, high = None, None
    if not gently and not over():
        ceiling_s = max(CEILING_LEAST_S, CEILING_SHARE * seconds)
        ceiling = await load.press(shape, CLIENTS, ceiling_s)
        if ceiling.answered:
            high = OVER * ceiling.answered / ceiling.seconds
    search = _Search(high, 0.5 / lone.value if lone else 1.0)
    good: dict[float, Outcome] = {}
    tried: list[Tried] = []
    walks, least_s = ends - WALK_SHARE * seconds, _piece_s(goal, seconds)
    while len(tried) < STEPS and (rate := search.next()) is not None:
        outcome, verdict = await _try(load, shape, rate, goal, walks, least_s, over, now)
        if outcome is None or (over() and len(outcome.times) < LEAST):
            break
        tried.append(_tried(rate, outcome, verdict))
        search.learn(rate, verdict == "good")
        if verdict == "good":
            good[rate] = outcome
    good = await _walk(load, shape, goal, good, tried, ends, least_s, over, now)
    best = _best(good, tried, goal)
    open_end = best is not None and all(one.verdict == "good" for one in tried)
    row = _row(shape, goal, best, ceiling, tried, open_end=open_end)
    return Found(row, ceiling, best[1].late_s if best else 0.0)


async def _walk(
    load: Load,
    shape: Shape,
    goal_s: float,
    chosen: dict[float, Outcome],
    tried: list[Tried],
    ends: float,
    least_s: float,
    over: Callable[[], bool],
    now: Callable[[], float],
) -> dict[float, Outcome]:
    """From the best rate in small steps up and down, on samples of their own; the good ones.

    The best of several samples looks better than it is, a short one more so; and one that was
    unlucky sent the bisection to the wrong half.
    """
    good: dict[float, Outcome] = {}
    fresh: dict[float, Outcome] = {}
    bad = math.inf
    rate = max(chosen, default=LESS * min((one.rate for one in tried), default=0.0))
    while rate and not over() and (left := ends - now()) > least_s / 2:
        seconds = left if left < 2 * least_s else max(least_s, min(left / 2, WANTED / 2 / rate))
        piece = await _arrived(load, shape, rate, goal_s, seconds)
        whole = fresh[rate] = _both(fresh.get(rate, NOTHING), piece)
        verdict = "behind" if slides(piece, rate, goal_s) else judge(whole, rate, goal_s, last=True)
        tried.append(_tried(rate, whole, verdict))
        if verdict != "good":
            bad = min(bad, rate)
            good.pop(rate, None)
            rate = max((one for one in good if one < rate), default=LESS * rate)
            continue
        good[rate] = whole
        p99 = quantile(sorted(whole.times), 0.99)
        far = p99 is not None and p99.value < FAR * goal_s and rate / LESS**2 < bad
        if far or rate / LESS < 0.999 * bad:
            rate /= LESS**2 if far else LESS
        elif len(whole.times) >= WANTED:
            break
    good |= {one: outcome for one, outcome in chosen.items() if one not in fresh}
    if not good and chosen:  # the time was over: the least of them, with all that is known of it
        least = min(chosen | fresh)
        good[least] = _both(chosen.get(least, NOTHING), fresh.get(least, NOTHING))
    return good


def _best(
    good: dict[float, Outcome], tried: Sequence[Tried], goal_s: float
) -> tuple[float, Outcome] | None:
    """The highest good rate that all that was tried does not speak against."""
    points = []
    for one in tried:
        p99 = one.p99_ms if one.p99_ms is not None and one.verdict != "refused" else math.inf
        if one.verdict == "behind":
            p99 = max(p99, 2e3 * goal_s)
        points.append((one.rate, float(max(1, one.requests)), p99))
    limit = TOLERANCE * crossing(points, 1e3 * goal_s)
    rates = [rate for rate in good if rate <= limit] or sorted(good)[:1]
    return (max(rates), good[max(rates)]) if rates else None


async def _arrived(load: Load, shape: Shape, rate: float, goal_s: float, seconds: float) -> Outcome:
    """Without the first of them, which found nobody waiting."""
    all_ = await load.arrive(shape, rate, seconds)
    first = min(len(all_.times) // 5, round(2 * goal_s * rate))
    kept = all_.times[first:]
    tokens = round(all_.tokens * len(kept) / max(1, len(all_.times)))
    return all_._replace(times=kept, tokens=tokens, answered=max(0, all_.answered - first))


async def _try(
    load: Load,
    shape: Shape,
    rate: float,
    goal_s: float,
    ends: float,
    least_s: float,
    over: Callable[[], bool],
    now: Callable[[], float],
) -> tuple[Outcome | None, Verdict]:
    """One rate, in pieces: what is clear after the first takes no second. None: no time is left."""
    until = now() + max(STEP_LEAST_S, least_s, SPEND * (ends - now()))
    whole: Outcome | None = None
    verdict: Verdict = "unclear"
    while verdict == "unclear" and not over() and (left := min(until, ends) - now()) > least_s / 2:
        seconds = min(left, max(least_s, WANTED / PIECES / rate))
        piece = await _arrived(load, shape, rate, goal_s, seconds)
        whole = _both(whole, piece) if whole else piece
        last = over() or min(until, ends) - now() <= least_s / 2
        verdict = "behind" if slides(piece, rate, goal_s) else judge(whole, rate, goal_s, last=last)
    return whole, verdict


class _Search:
    """Which rate is next. `high` None: nothing that is too much is known."""

    def __init__(self, ceiling: float | None, first: float) -> None:
        self.low, self.high = 0.0, None if ceiling is None else ceiling
        self._proven = False  # whether `high` was tried
        self._first = 0.7 * ceiling / OVER if ceiling else first

    def next(self) -> float | None:
        """None: it is known well enough."""
        if self.low == 0.0 and not self._proven:
            return self._first
        if self.high is None:
            return self.low * GROWS
        if self.high - self.low <= NEAR * self.high:
            if self._proven:
                return None
            self.high = None  # the ceiling was none: go on from below
            return self.low * GROWS
        return (self.low + self.high) / 2

    def learn(self, rate: float, good: bool) -> None:
        """What became of it."""
        if good:
            self.low = max(self.low, rate)
        else:
            self.high, self._proven = rate, True
            self.low = min(self.low, rate)


def judge(outcome: Outcome, rate: float, goal_s: float, *, last: bool = False) -> Verdict:
    """Whether it was carried. "unclear": the p99's interval holds the goal, and more is asked.

    `rate` in requests a second; `last`: no more can be asked, the likelier one counts.
    """
    refused = sum(outcome.refused.values())
    sent = refused + len(outcome.times)
    if refused > REFUSED_MOST * sent:
        return "refused"
    found = quantile(sorted(outcome.times), 0.99)
    if found is None:
        return "behind"
    quarter = len(outcome.times) // 4
    if quarter >= 5:
        begin = quantile(sorted(outcome.times[:quarter]), 0.5)
        end = quantile(sorted(outcome.times[-quarter:]), 0.5)
        grows = begin is not None and end is not None and end.value > BEHIND * begin.value
        short = outcome.answered < UNANSWERED * sent
        if grows and end is not None and (short or end.value > goal_s / 2):
            return "behind"
    if found.high <= goal_s or found.low > goal_s or last or len(outcome.times) >= WANTED:
        return "good" if found.value <= goal_s else "slow"
    return "unclear"


def _piece_s(goal_s: float, seconds: float) -> float:
    """Seconds of a piece, of a shape's `seconds`: so long that who falls behind shows it."""
    return max(PIECE_S, min(PIECE_GOALS * goal_s, PIECE_SHARE * seconds))


def slides(piece: Outcome, rate: float, goal_s: float) -> bool:
    """Whether waits grew from third to third: more arrive than are answered.

    Of what arrives in a second, waits grow by the share that is too much. A goal that a short piece
    does not pass would be passed in a longer one, so the growth counts and not the wait.
    """
    third = len(piece.times) // 3
    if third < 20:
        return False
    means = [sum(piece.times[i * third : (i + 1) * third]) / third for i in range(3)]
    a_second = (means[2] - means[0]) / (2 * third / rate)
    steady = means[0] < means[1] < means[2] and means[2] - means[0] > goal_s / SLIDES_GOAL
    return steady and a_second > SLIDES


def _both(one: Outcome, two: Outcome) -> Outcome:
    """Two outcomes of the same rate as one."""
    kinds = one.refused.keys() | two.refused.keys()
    return Outcome(
        one.seconds + two.seconds,
        [*one.times, *two.times],
        {kind: one.refused.get(kind, 0) + two.refused.get(kind, 0) for kind in kinds},
        one.tokens + two.tokens,
        one.answered + two.answered,
        max(one.late_s, two.late_s),
        two.parts_ms,
    )


def _ms(found: Quantile | None, part: str = "value") -> float | None:
    value = None if found is None else getattr(found, part)
    return None if value is None or math.isinf(value) else round(1e3 * value, 3)


def _tried(rate: float, outcome: Outcome, verdict: Verdict) -> Tried:
    ordered = sorted(outcome.times)
    p99 = quantile(ordered, 0.99)
    refused = sum(outcome.refused.values())
    return Tried(
        rate=round(rate, 3),
        answered_per_s=round(outcome.answered / outcome.seconds, 3),
        requests=len(ordered) + refused,
        refused=refused,
        p50_ms=_ms(quantile(ordered, 0.5)),
        p99_ms=_ms(p99),
        p99_low_ms=_ms(p99, "low"),
        p99_high_ms=_ms(p99, "high"),
        verdict=verdict,
    )


def _row(
    shape: Shape,
    goal_s: float,
    best: tuple[float, Outcome] | None,
    ceiling: Outcome | None,
    tried: list[Tried],
    *,
    open_end: bool,
) -> Row:
    rate, outcome = best or (0.0, NOTHING)
    ordered = sorted(outcome.times)
    p99 = quantile(ordered, 0.99)
    counted = outcome if ordered else ceiling or outcome
    texts = len(counted.times) * shape.inputs
    tokens = counted.tokens / texts if texts else 0.0
    busiest = ceiling or outcome
    return Row(
        inputs=shape.inputs,
        tokens=shape.tokens,
        mean_tokens=round(tokens, 1),
        goal_ms=round(1e3 * goal_s, 3),
        rate=round(rate, 3),
        texts_per_s=round(rate * shape.inputs, 3),
        tokens_per_s=round(rate * shape.inputs * tokens, 1),
        p50_ms=_ms(quantile(ordered, 0.5)),
        p95_ms=_ms(quantile(ordered, 0.95)),
        p99_ms=_ms(p99),
        p99_low_ms=_ms(p99, "low"),
        p99_high_ms=_ms(p99, "high"),
        open_end=open_end,
        parts_ms={name: round(value, 3) for name, value in busiest.parts_ms.items()},
        tried=tried,
    )
