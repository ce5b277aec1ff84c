"""What to change first, from what was measured: the limit that was met, and what costs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from er.capacity.result import Advice
from er.capacity.sweep import Found

LATE = 0.25  # of the goal: a sender that is so late measures itself
OWN_MOST = 0.93  # of a core that the sender may use
TOKENISING = 0.45  # of the workers' time
WORKERS_MOST = 0.85  # of their cores
ENGINE = 0.6  # of a request's time
GPU_IDLE = 60.0  # percent
GAIN = 1.5  # in texts a second, by more texts in a request
LIMIT = 0.5  # of what is carried: one key may not ask for more


class Machine(NamedTuple):
    """What stood around it. None: not known."""

    workers: int
    cores: int
    replicas: int
    max_concurrency: int
    rate_limit: tuple[str, float] | None  # as written, in requests a second; None: off
    worker_share: float | None  # of their cores, that the workers used at the ceiling
    own_share: float  # of one core, that the sender used
    gpu_percent: float | None


def advice(found: Sequence[Found], machine: Machine) -> list[Advice]:
    """The most important first; empty only where nothing was found."""
    rows = [one for one in found if one.row.rate > 0]
    if not rows:
        return [_of("nothing", goal=found[0].row.goal_ms)] if found else []
    limit = _limit(found, machine)
    more = _batching(rows)
    order = [
        *_generator(rows, machine),
        *(more if not limit or limit[0].kind != "concurrency" else []),
        *limit,
        *(more if limit and limit[0].kind == "concurrency" else []),
        *_rate_limit(rows, machine),
    ]
    if all(one.row.open_end for one in rows):
        order.append(_of("open_end"))
    return order


def _of(kind: str, **figures: float | str) -> Advice:
    return Advice(kind=kind, figures=figures)


def _generator(rows: Sequence[Found], machine: Machine) -> list[Advice]:
    late = max(rows, key=lambda one: one.late_s / one.row.goal_ms)
    if 1e3 * late.late_s > LATE * late.row.goal_ms or machine.own_share > OWN_MOST:
        return [_of("generator", late=1e3 * late.late_s)]
    return []


def _limit(found: Sequence[Found], machine: Machine) -> list[Advice]:
    """What was met first, by requests of the smallest shape that was pressed."""
    full = sum(
        n
        for one in found
        if one.ceiling is not None
        for kind, n in one.ceiling.refused.items()
        if "overloaded" in kind
    )
    if full:
        return [_of("concurrency", limit=machine.max_concurrency, refused=full)]
    pressed = next((one.ceiling for one in found if one.ceiling and one.ceiling.answered), None)
    parts = pressed.parts_ms if pressed else found[0].row.parts_ms
    whole = sum(parts.values())
    if whole <= 0:
        return []
    cores = {"workers": machine.workers, "cores": machine.cores}
    if pressed is not None:
        a_second = pressed.answered / pressed.seconds
        share = parts.get("tokenise", 0.0) / 1e3 * a_second / max(1, machine.workers)
        if share >= TOKENISING:
            return [_of("tokenising", share=min(1.0, share), **cores)]
    if machine.worker_share is not None and machine.worker_share >= WORKERS_MOST:
        return [_of("gateway", share=min(1.0, machine.worker_share), **cores)]
    share = (parts.get("queue", 0.0) + parts.get("engine", 0.0)) / whole
    if share >= ENGINE:
        if machine.gpu_percent is not None and machine.gpu_percent < GPU_IDLE:
            return [_of("larger_calls", gpu=machine.gpu_percent)]
        return [_of("replicas", share=share, replicas=machine.replicas)]
    return []


def _batching(rows: Sequence[Found]) -> list[Advice]:
    """Whether the same texts in fewer requests come faster."""
    best: tuple[float, int] | None = None
    for one in rows:
        for other in rows:
            same = one.row.tokens == other.row.tokens
            if same and one.row.inputs < other.row.inputs:
                ratio = _texts(other) / _texts(one)
                if ratio >= GAIN and (best is None or ratio > best[0]):
                    best = ratio, other.row.inputs
    return [_of("batching", ratio=best[0], inputs=best[1])] if best else []


def _texts(one: Found) -> float:
    """Texts a second: at the ceiling, which hangs on no goal, where that is known."""
    if one.ceiling is not None and one.ceiling.answered:
        return one.ceiling.answered * one.row.inputs / one.ceiling.seconds
    return one.row.texts_per_s


def _rate_limit(rows: Sequence[Found], machine: Machine) -> list[Advice]:
    if machine.rate_limit is None:
        return []
    written, a_second = machine.rate_limit
    share = a_second / max(one.row.rate for one in rows)
    return [_of("rate_limit", limit=written, share=share)] if share < LIMIT else []
