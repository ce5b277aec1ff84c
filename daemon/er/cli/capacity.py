"""`er capacity`: what load this machine carries at which p99, and what to change first."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

import orjson
import uvloop

from er.capacity import result, words
from er.capacity.result import Capacity
from er.capacity.sweep import Shape
from er.cli import consent
from er.cli.admin_client import NoAdmin, call
from er.cli.bench import KEY
from er.cli.bench_load import Where, Wrong
from er.cli.capacity_run import PATIENCE_S, Around, Run, Wish, served
from er.cli.screen import age, clean, table
from er.config import ConfigError, active_path, directory, load

MINUTES = (0.1, 60.0)
SHAPES_MAX = 16
TOKENS_MAX, INPUTS_MAX = 32_768, 2048


def run(wish: Wish) -> int:
    """Measure, print, keep. Returns the exit status: 0, 1 not done or not all, 64 wrong use."""
    try:
        shapes, where = _shapes(wish), _where(wish)
    except ValueError as error:
        return _fail(str(error), 64)
    try:
        around = _around(wish)
    except NoAdmin as error:
        return _fail(str(error), 1)
    if not _may(wish, around):
        return 1
    key = os.environ.get(KEY, "") if wish.url else ""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            found = runner.run(Run(wish, where, key, around, shapes).all())
        except (Wrong, OSError) as error:
            return _fail(f"nothing could be measured: {error}", 1)
    kept = wish.url is not None or _keep(found)
    if wish.as_json:
        print(orjson.dumps(result.as_data(found), option=orjson.OPT_INDENT_2).decode())
    else:
        print("\n".join(lines(found)))
    measured = any(row.rate for model in found.models for row in model.rows)
    return 0 if kept and measured and not found.interrupted and not found.stopped else 1


def _fail(text: str, code: int) -> int:
    print(f"er capacity: {clean(text)}", file=sys.stderr)
    return code


def _keep(found: Capacity) -> bool:
    """Whether it is in STATE now; says why where it is not. One without a row keeps the last."""
    if not any(model.rows for model in found.models):
        return True
    try:
        result.write(directory("state"), found)
    except OSError as error:
        _fail(f"{directory('state') / result.FILE}: {error.strerror}; er report can't quote it", 1)
        return False
    return True


def _shapes(wish: Wish) -> list[Shape]:
    """Raises ValueError."""
    low, high = MINUTES
    if not low <= wish.minutes <= high:
        raise ValueError(f"--minutes {wish.minutes:g}: from {low:g} to {high:g}")
    if wish.p99 is not None and not 0 < wish.p99 <= 600_000:
        raise ValueError(f"--p99 {wish.p99:g}: milliseconds, up to 600000")
    tokens = _numbers("tokens", wish.tokens, TOKENS_MAX)
    inputs = _numbers("inputs", wish.inputs, INPUTS_MAX)
    shapes = [Shape(i, t) for t in tokens for i in inputs]
    if len(shapes) > SHAPES_MAX:
        raise ValueError(f"{len(shapes)} shapes of requests; at most {SHAPES_MAX}")
    return shapes


def _numbers(name: str, text: str, most: int) -> list[int]:
    try:
        found = sorted({int(word) for word in text.split(",")})
    except ValueError:
        raise ValueError(f'--{name} {text}: numbers with commas, as "1,16"') from None
    if found[0] < 1 or found[-1] > most:
        raise ValueError(f"--{name} {text}: from 1 to {most}")
    return found


def _where(wish: Wish) -> Where:
    return Where.parse(wish.url) if wish.url else Where(directory("runtime") / "gateway.sock")


def _around(wish: Wish) -> Around:
    """Raises NoAdmin: who can't be asked must not be loaded, others may be served."""
    if wish.url:
        return Around(replicas={})
    code, status = call("GET", "/status", timeout_s=PATIENCE_S)
    if code != 200:
        raise NoAdmin(f"the admin process answered {code}")
    up = {
        m["name"]: sum(r["state"] == "up" for r in m["replicas"])
        for m in status["models"]
        if not m["via"]
    }
    gateway = status["gateway"]
    limit = None
    with contextlib.suppress(ConfigError, OSError):
        rate = load(active_path()).gateway.rate_limit
        limit = (str(rate), rate.count / rate.period_s) if rate else None
    return Around(
        replicas={name: count for name, count in up.items() if count},
        workers=max(1, int(gateway["workers"])),
        gateway_pid=gateway["pid"],
        max_concurrency=int(gateway["max_concurrency"]),
        rate_limit=limit,
        before=served(),
    )


def _may(wish: Wish, around: Around) -> bool:
    """Consent: --yes, or a yes from whoever sits there."""
    told = f"This loads {wish.url or 'this machine'} for up to {age(60 * wish.minutes)}, as much as"
    told += " it carries."
    before = around.before
    if before is not None and before.requests:
        told += f" Clients asked {before.requests} times in the last minute: the load will grow"
        told += " slowly, and end when they wait noticeably longer."
    elif before is None:
        told += " Whether others are being served there can't be seen from here."
    if wish.yes:
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        _fail(f"{told} To agree: --yes", 1)
        return False
    return consent.given(f"{told} Go on?", sys.stderr)


# -- showing -------------------------------------------------------------------------------------


def lines(found: Capacity) -> list[str]:
    """The verdict for people."""
    out = []
    for model in found.models:
        count = f", {model.replicas} replica{'s' * (model.replicas != 1)}" if model.replicas else ""
        out.append(f"{clean(model.model)} ({model.task}{count})")
        carried = [row for row in model.rows if row.rate]
        for row in carried:
            out.append(f"  carries {'at least ' * row.open_end}{words.carries(row)}")
        head = ("TEXTS x TOKENS", "REQUESTS/S", "TEXTS/S", "TOKENS/S", "P50", "P95", "P99", "GOAL")
        rows: list[tuple[str, ...]] = [head]
        for row in model.rows:
            figures = (row.p50_ms, row.p95_ms, row.p99_ms)
            rows.append(
                (
                    f"{row.inputs} x {row.mean_tokens:.0f}",
                    *(f"{n:,.1f}" for n in (row.rate, row.texts_per_s, row.tokens_per_s)),
                    *("-" if ms is None else f"{ms:,.1f} ms" for ms in figures),
                    f"{row.goal_ms:,.0f} ms",
                )
            )
        out += ["", *table(rows, indent="  "), ""]
        for number, one in enumerate(model.advice):
            out.append(f"  {'Change first' if not number else 'Then'}: {words.advice(one)}")
        out.append("")
    if found.interrupted:
        out.append("Interrupted: this is what was measured until then.")
    if found.stopped:
        out.append(f"Ended early for the clients' sake: {found.stopped}.")
    if not found.models:
        out.append("Nothing was measured.")
    return out


__all__ = ["Wish", "lines", "run"]
