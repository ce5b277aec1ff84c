"""`er bench`: the operator's own measurement of the running service, as its clients see it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import signal
import sys
import time
from typing import Any, Literal, TextIO

import msgspec
import orjson
import uvloop

from er.cli.bench_load import Client, Tally, Where, Work, Wrong, client
from er.cli.screen import clean, table
from er.config import directory

# What one command may ask of a service at most.
LIMITS = {"clients": 1024, "tokens": 32_768, "inputs": 2048, "seconds": 3600}
KINDS = {"embed": "embedding", "score": "rerank"}
PERCENTILES = (50, 90, 99, 99.9)
ROWS, BAR = 12, 40  # of the histogram: lines, cells
TICK_S = 0.2
LINGER_S = 10.0  # for the answers to what was asked before the end
KEY = "ER_API_KEY"


class Wish(msgspec.Struct, kw_only=True):
    """What the command line asked for. None = not said."""

    model: str | None = None
    task: Literal["embed", "score"] | None = None
    clients: int = 32
    tokens: int = 128
    inputs: int = 1
    seconds: float = 10.0
    url: str | None = None
    as_json: bool = False


def run(wish: Wish) -> int:
    """Measure, and print it. Returns 0, 1 when something was not answered, 64 for wrong use."""
    try:
        where = _where(wish)
    except ValueError as error:
        print(f"er bench: {error}", file=sys.stderr)
        return 64
    key = os.environ.get(KEY, "") if wish.url else ""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            result = runner.run(_measure(wish, where, key))
        except (Wrong, OSError) as error:
            print(f"er bench: {_reason(error, wish, where)}", file=sys.stderr)
            return 1
    if wish.as_json:
        print(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode())
    else:
        print("\n".join(lines(result, unicode=_draws(sys.stdout))))
    return 0 if result["requests"] and not result["errors"] else 1


def _where(wish: Wish) -> Where:
    """Raises ValueError for what can't be asked."""
    for name, most in LIMITS.items():
        value = getattr(wish, name)
        if not 0 < value <= most:
            raise ValueError(f"--{name} {value:g}: from 1 to {most}")
    return Where.parse(wish.url) if wish.url else Where(directory("runtime") / "gateway.sock")


def _reason(error: Exception, wish: Wish, where: Where) -> str:
    """Why the first request came to nothing, with what to do."""
    if isinstance(error, Wrong):
        hint = f"; put a key into {KEY}" if wish.url and str(error).startswith("401") else ""
        return f"{clean(error)}{hint}"
    if where.path is None:
        return f"{wish.url}: {error}"
    if isinstance(error, PermissionError):
        return f"{where.path} is for root and members of group er: use sudo, or --url"
    return f"no gateway answers at {where.path} ({error}); start it, or name one with --url"


# -- measuring -----------------------------------------------------------------------------------


async def _work(wish: Wish, asking: Client) -> Work:
    """The work that is meant, asked of the service itself. Raises Wrong, OSError."""
    cards = orjson.loads(await asking.ask("GET", "/v1/models"))["data"]
    known = {str(c["id"]): str(c.get("model_type", "")) for c in cards}
    kind = KINDS.get(wish.task or "", "")
    name = wish.model or next((n for n, k in known.items() if not kind or k == kind), "")
    if not name:
        raise Wrong(f"no model for {wish.task or 'anything'} is served there")
    # A model by one of its aliases is not in the list: it is asked for what was said, or embed.
    task = wish.task or ("score" if known.get(name) == KINDS["score"] else "embed")
    return Work(task=task, model=name, inputs=wish.inputs, tokens=wish.tokens)


async def _measure(wish: Wish, where: Where, key: str) -> dict[str, Any]:
    """The figures. Raises Wrong, OSError when the first request already fails."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stopped.set)
    first = Client(where, key)
    try:
        work = await _work(wish, first)
        await first.ask("POST", work.path, work.body(random.Random()))
    finally:
        first.close()
    tally, began = Tally(), time.monotonic()

    def over() -> bool:
        return stopped.is_set() or time.monotonic() - began >= wish.seconds

    clients = [
        asyncio.create_task(client(where, key, work, tally, over)) for _ in range(wish.clients)
    ]
    progress = Progress(wish.seconds, sys.stderr)
    while not over():
        progress.show(time.monotonic() - began, tally)
        left = began + wish.seconds - time.monotonic()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), min(TICK_S, max(0.0, left)))
    took, inside, tokens = time.monotonic() - began, tally.count, tally.tokens
    progress.end()
    # What is on its way still counts for the percentiles: they would be too good without it.
    until = time.monotonic() + LINGER_S
    while not stopped.is_set() and any(not c.done() for c in clients) and time.monotonic() < until:
        await asyncio.wait(clients, timeout=TICK_S)
    unanswered = sum(not c.done() for c in clients)
    for task in clients:
        task.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    return {
        "model": work.model,
        "task": work.task,
        "clients": wish.clients,
        "inputs": wish.inputs,
        "seconds": round(took, 3),
        "interrupted": stopped.is_set(),
        "requests": inside,
        "requests_per_s": round(inside / took, 1),
        "sequences_per_s": round(inside * wish.inputs / took, 1),
        "tokens_per_s": round(tokens / took),
        "percentiles_ms": {f"{p:g}": _ms(tally.percentile(p)) for p in PERCENTILES},
        "histogram": [{"to_ms": _ms(end), "requests": n} for end, n in tally.histogram(ROWS)],
        "errors": sum(tally.wrong.values()),
        "wrong": [{"count": n, "first": tally.said[kind]} for kind, n in tally.wrong.most_common()],
        "unanswered": unanswered,
    }


def _ms(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 3)


# -- showing -------------------------------------------------------------------------------------


def _draws(stream: TextIO) -> bool:
    """Whether it is a terminal that shows block characters."""
    return stream.isatty() and "utf" in (stream.encoding or "").lower()


class Progress:
    """A bar that moves, on a terminal; nothing anywhere else."""

    def __init__(self, seconds: float, stream: TextIO) -> None:
        self._seconds, self._stream = seconds, stream
        self._full, self._empty = ("█", "░") if _draws(stream) else ("#", ".")

    def show(self, elapsed: float, tally: Tally) -> None:
        """Draw it anew."""
        if not self._stream.isatty():
            return
        done = min(20, int(20 * elapsed / self._seconds))
        bar = self._full * done + self._empty * (20 - done)
        rate = tally.count / elapsed if elapsed > 0 else 0.0
        text = f"{bar} {elapsed:.0f} of {self._seconds:g} s  {rate:,.0f} requests/s"
        if tally.count:
            text += f"  p50 {tally.percentile(50):.1f} ms  p99 {tally.percentile(99):.1f} ms"
        if tally.wrong:
            text += f"  errors {sum(tally.wrong.values()):,}"
        self._stream.write(f"\r{text}\x1b[K")
        self._stream.flush()

    def end(self) -> None:
        """Take it away."""
        if self._stream.isatty():
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def lines(result: dict[str, Any], *, unicode: bool) -> list[str]:
    """The figures for people; bars of # where `unicode` blocks can't be shown."""
    texts = "text" if result["inputs"] == 1 else "texts"
    shown = [
        f"{clean(result['model'])} ({result['task']}): {result['clients']} clients, "
        f"{result['inputs']} {texts} a request, {result['seconds']:.1f} s"
        + (", interrupted" if result["interrupted"] else ""),
        "",
    ]
    rows = [("requests/s", f"{result['requests_per_s']:,.1f}")]
    if result["inputs"] != 1:
        rows.append(("sequences/s", f"{result['sequences_per_s']:,.1f}"))
    rows.append(("tokens/s", f"{result['tokens_per_s']:,}"))
    for percent, value in result["percentiles_ms"].items():
        rows.append((f"p{percent}", "-" if value is None else f"{value:,.2f} ms"))
    shown += table(rows, indent="  ", named=False)
    bars = result["histogram"]
    if bars:
        shown += ["", "  answers within"]
        most = max(bar["requests"] for bar in bars)
        size = max(len(f"{bar['to_ms']:,.2f}") for bar in bars)
        for bar in bars:
            drawn = ("█" if unicode else "#") * math.ceil(BAR * bar["requests"] / most)
            shown.append(f"  {bar['to_ms']:>{size},.2f} ms  {drawn} {bar['requests']:,}")
    if result["wrong"]:
        shown += ["", f"  not answered well: {result['errors']:,}"]
        shown += [f"  {w['count']:,} x {clean(w['first'])}" for w in result["wrong"]]
    if result["unanswered"]:
        shown += ["", f"  {result['unanswered']} requests were still unanswered at the end"]
    return shown
