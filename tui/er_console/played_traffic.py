"""The requests of the play: by model, key and dialect, the slowest, and those an outage failed.

All follows from the figures of the moment that are given, so that it goes with the plots. Pure.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping

from er_console.state import Ended, LogLine, Past, Recent, Sums

Figures = Callable[[float], Mapping[str, float | None]]  # of a moment, as GET /history names them

# What part of the requests each has; the names are those of the play.
PARTS: dict[str, tuple[tuple[str, str, float], ...]] = {
    "models": (("Qwen3-Embedding-0.6B", "", 0.78), ("Qwen3-Reranker-0.6B", "", 0.22)),
    "keys": (
        ("kab2cd3ef", "web", 0.75),
        ("kq7m2xw5a", "etl", 0.25),
    ),
    "dialects": (("openai", "", 0.74), ("cohere", "", 0.2), ("tei", "", 0.06)),
}
SLOWEST, FAILED = 20, 12
LOOK_BACK_S, MINUTE_S = 600, 60
REPLICAS = 3.0
REFUSED = (
    (503, "no_healthy_replica"),
    (503, "overloaded"),
    (504, "timeout"),
)


def recent(figures: Figures, seconds: int, now: float) -> Recent:
    """The last `seconds` before `now`."""
    at = figures(now)
    if at.get("requests_per_s") is None:
        return Recent(seconds, float(seconds), dict.fromkeys(PARTS, ()), (), ())
    sums = {
        kind: tuple(_sums(name, title, share, at, seconds) for name, title, share in parts)
        for kind, parts in PARTS.items()
    }
    slowest = sorted(_slow(figures, now, seconds), key=lambda one: -(one.total_ms or 0.0))
    failed = list(_failed(figures, now, seconds))[:FAILED]
    return Recent(seconds, float(seconds), sums, tuple(slowest), tuple(failed))


def parts(past: Past) -> dict[tuple[str, str], Mapping[str, tuple[float | None, ...]]]:
    """The series of each model, key and dialect: its share of the whole."""
    shared = ("requests_per_s", "sequences_per_s", "refused_per_s")
    found: dict[tuple[str, str], Mapping[str, tuple[float | None, ...]]] = {}
    for kind, rows in PARTS.items():
        for name, _, share in rows:
            series = {
                figure: tuple(None if v is None else round(share * v, 2) for v in values)
                for figure, values in past.series.items()
                if figure in shared
            }
            found[kind, name] = series | {"p95_ms": past.series.get("p95_ms", ())}
    return found


def lines_of(figures: Figures, request: str, now: float) -> list[LogLine]:
    """The log of one of these requests: its record in the audit."""
    try:
        at = int(request[-8:], 16)  # the id ends with its second
    except ValueError:
        return []
    if not 0 <= now - at < LOOK_BACK_S:
        return []
    told = recent(figures, MINUTE_S, at + 1.0)
    found = [one for one in (*told.slowest, *told.failed) if one.id == request]
    return [_record(one) for one in found[:1]]


def _record(one: Ended) -> LogLine:
    priority = 3 if (one.status or 0) >= 500 else 4 if one.code else 6
    said = f"{one.id} {one.key} 192.0.2.17 POST {one.path or '/v1/embeddings'} {one.dialect}"
    said += f" {one.model} {one.replica} {one.status} {one.code} {one.items:.0f} {one.tokens:.0f}"
    times = f"{one.queue_ms} {one.engine_ms} {one.total_ms}"
    words = " ".join(f"{said} {times}".split())
    return LogLine(one.time or 0.0, "audit", priority, words, request=one.id, key=one.key)


def _sums(name: str, title: str, share: float, at: Mapping[str, float | None], s: int) -> Sums:
    asked, refused = at.get("requests_per_s") or 0.0, at.get("refused_per_s") or 0.0
    sequences, p95 = at.get("sequences_per_s") or 0.0, at.get("p95_ms") or 0.0
    return Sums(
        name,
        title,
        requests=round(share * asked * s),
        requests_per_s=share * asked,
        sequences_per_s=share * sequences,
        tokens_per_s=share * sequences * 110,
        success_rate=max(0.0, 1 - refused / asked) if asked else None,
        refused=round(share * refused * s),
        failed=0.0,
        p50_ms=round(p95 * 0.55, 1),
        p95_ms=p95,
        p99_ms=round(p95 * 1.7, 1),
    )


def _slow(figures: Figures, now: float, seconds: int) -> Iterator[Ended]:
    """What it is follows from its own second, so that it stays the same for as long as it stays."""
    first = math.floor(now) - seconds + 1
    for at in range(first, math.floor(now) + 1):
        if at % max(1, seconds // SLOWEST):
            continue
        dice = random.Random(at)
        texts = dice.choice((1, 1, 1, 8, 32, 100, 512))
        total = _p95(figures, at) * (1.1 + 0.9 * dice.random() + texts / 400)
        waits = dice.choice((0.08, 0.15, 0.4, 0.72))
        yield _ended(at + dice.random(), dice, texts, total, waits)


def _p95(figures: Figures, at: float) -> float:
    return figures(at).get("p95_ms") or 30.0


def _ended(at: float, dice: random.Random, texts: int, total: float, waits: float) -> Ended:
    tokenise, encode = 0.02 * texts + 0.05, 0.03 * texts + 0.04
    rest = 0.02 * total
    queue = waits * total
    engine = max(0.0, total - queue - tokenise - encode - rest)
    rerank = dice.random() < 0.2
    key, name, _ = PARTS["keys"][dice.choice((0, 0, 1))]
    model = PARTS["models"][1 if rerank else 0][0]
    return Ended(
        time=at,
        id=f"req-5e1f{int(at) % 16**8:08x}",
        key=key,
        key_name=name,
        model=model,
        dialect="cohere" if rerank else "openai",
        replica="reranker" if rerank else "embedding-0",
        status=200,
        items=float(texts),
        tokens=float(110 * texts),
        queue_ms=round(queue, 2),
        tokenise_ms=round(tokenise, 2),
        engine_ms=round(engine, 2),
        encode_ms=round(encode, 2),
        rest_ms=round(queue + tokenise + engine + encode + rest, 2)
        - round(queue + tokenise + engine + encode, 2),
        total_ms=round(queue + tokenise + engine + encode + rest, 2),
    )


def _failed(figures: Figures, now: float, seconds: int) -> Iterator[Ended]:
    """While replicas are away: refused at once, refused as too many wait, or too late; on a good
    day one key asks more than it may, now and then. The newest first.
    """
    for at in range(math.floor(now), math.floor(now) - seconds, -1):
        if at % 4 and at % 17:
            continue
        away = (figures(at).get("replicas_up") or 0.0) < REPLICAS
        dice = random.Random(f"failed {at}")
        if away and at % 4 == 0:
            status, code = REFUSED[(0, 1, 0, 1, 2)[at // 4 % 5]]
            total = 600_000.0 if status == 504 else _p95(figures, at) / 20
            yield _said_no(at, dice, status, code, total)
        elif at % 17 == 0:
            yield _said_no(at, dice, 429, "rate_limit_exceeded", 0.4)


def _said_no(at: float, dice: random.Random, status: int, code: str, total: float) -> Ended:
    key, name, _ = PARTS["keys"][1 if status == 429 else dice.choice((0, 0, 1))]
    queue = 0.98 * total if status == 504 else 0.0
    return Ended(
        time=at + dice.random() / 2 - 0.5,
        id=f"req-5e20{int(at) % 16**8:08x}",
        key=key,
        key_name=name,
        model=PARTS["models"][0][0],
        dialect="openai",
        status=status,
        code=code,
        path="/v1/embeddings",
        client="192.0.2.17",
        items=1.0,
        tokens=110.0,
        queue_ms=round(queue, 2),
        tokenise_ms=0.07,
        engine_ms=0.0,
        encode_ms=0.0,
        rest_ms=round(total - queue - 0.07, 2),
        total_ms=round(total, 2),
    )
