"""`er restart`: replicas one after the other, each proven before the next, and nobody refused.

A replica is restarted while another of its model serves; or while a successor does, which is
started beside it for that; where neither can be, it is said for how long its clients get 503.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Literal

import msgspec

from er import systemctl
from er.cli import consent, surge
from er.cli.audit import note
from er.cli.coming_up import (
    SERVES,
    STOP_S,
    BusyError,
    NotUpError,
    Row,
    alone,
    proven,
    restart,
    rows,
    start_s,
)
from er.cli.command import run as _run
from er.config import Config, ConfigError, Replica, successor
from er.units import UnitsError

WRONG_USE = 64
Way = Literal["idle", "beside", "surge", "gap"]


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says."""

    names: tuple[str, ...] = ()
    model: str | None = None
    rolling: bool = False
    surge: bool = False
    yes: bool = False


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One replica's restart: by which way, and what that means for clients."""

    name: str
    way: Way
    says: str


class Interrupt:
    """Ctrl-C: once, and nothing follows the present step; twice, and it is left at once."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> Interrupt:
        self._before = signal.signal(signal.SIGINT, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        print("\nends after this one; Ctrl-C again leaves at once", file=sys.stderr, flush=True)


def run(wish: Wish) -> int:
    """Returns 0 once all are proven, 1 when one failed or was not begun, 64 for wrong use."""
    if bool(wish.names) == (wish.model is not None) or (wish.rolling and wish.surge):
        told = "name replicas, or --model M, or all; and one of --rolling and --surge at most"
        return _fail(told, WRONG_USE)
    if not systemctl.booted():
        return _fail("systemd does not run this machine; restart er-vllm NAME where it was started")
    try:
        config = surge.applied()
        targets = _targets(config, wish)
        with alone():
            return _all(config, targets, wish)
    except ConfigError as error:
        return _fail(str(error.findings[0]))
    except LookupError as error:
        return _fail(str(error.args[0]), WRONG_USE)
    except (BusyError, UnitsError, OSError) as error:
        return _fail(f"{error}")


def _fail(text: str, code: int = 1) -> int:
    print(f"er restart: {text}", file=sys.stderr)
    return code


def _targets(config: Config, wish: Wish) -> list[Replica]:
    """In the order of er.toml. Raises LookupError with what there is instead."""
    here = [r for r in config.replicas if not r.url]
    if wish.model is not None:
        model = config.model(wish.model)
        if model is None:
            there = ", ".join(m.name for m in config.models)
            raise LookupError(f"no model {wish.model!r}; there are: {there}")
        here = [r for r in here if r in config.replicas_of(model.name)]
    elif wish.names != ("all",):
        known = {r.name for r in here}
        for name in wish.names:
            if name not in known:
                far = any(r.name == name for r in config.replicas)
                why = "is run by something else" if far else "is none here"
                raise LookupError(f"{name!r} {why}; there are: {', '.join(sorted(known))}")
        here = [r for r in here if r.name in wish.names]
    if not here:
        raise LookupError("no replica that ER starts")
    return here


# -- said before -----------------------------------------------------------------------------


def _all(config: Config, targets: Sequence[Replica], wish: Wish) -> int:
    surge.clean_up(config, _run)
    turns = list(planned(config, targets, wish))
    for turn in turns:
        print(f"{turn.name}: {turn.says}", flush=True)
    if any(turn.way == "gap" for turn in turns) and not wish.yes:
        if not sys.stdin.isatty():
            return _fail("nothing was restarted; where 503 is accepted, say so: --yes", WRONG_USE)
        if not consent.given("Go on?", sys.stdout):
            return _fail("nothing was restarted")
    return roll(config, turns)


def planned(config: Config, targets: Sequence[Replica], wish: Wish) -> Iterator[Turn]:
    """How each of them would be restarted now."""
    there = rows()
    for replica in targets:
        row = there.get(replica.name)
        took = start_s(replica.name)
        about = "" if took is None else f", about {took:.0f} s"
        others = _others(replica, there)
        if row is None or row["state"] != SERVES:
            said = f"does not serve now, so nobody loses anything{about}"
            yield Turn(name=replica.name, way="idle", says=said)
            continue
        if others and not wish.surge:
            said = f"restarts while {', '.join(others)} serves{about}"
            yield Turn(name=replica.name, way="beside", says=said)
            continue
        why = "--rolling" if wish.rolling else surge.why_not(config, replica, row)
        if not why:
            about = "" if took is None else f", about {2 * took:.0f} s"
            said = f"a successor is started beside it and serves meanwhile; two loads{about}"
            yield Turn(name=replica.name, way="surge", says=said)
            continue
        if others:  # --surge, and no room for one
            said = f"no successor ({why}); restarts while {', '.join(others)} serves{about}"
            yield Turn(name=replica.name, way="beside", says=said)
            continue
        yield Turn(name=replica.name, way="gap", says=_gap(replica, why, took))


def _gap(replica: Replica, why: str, took: float | None) -> str:
    length = "as long as it loads" if took is None else f"about {took + STOP_S:.0f} s"
    no_other = f"no other replica of {replica.model} serves"
    reason = "" if why == "--rolling" else f", and no successor can ({why})"
    return f"{no_other}{reason}: its clients get 503 for {length}"


def _others(replica: Replica, there: dict[str, Row]) -> list[str]:
    """Who serves the same model beside `replica`."""
    return [
        name
        for name, row in there.items()
        if name != replica.name and row["model"] == replica.model and row["state"] == SERVES
    ]


# -- done ------------------------------------------------------------------------------------


def roll(config: Config, turns: Sequence[Turn]) -> int:
    """Restart them, each proven before the next. Returns 0; 1 at the first that fails, said why.

    The caller holds `alone`.
    """
    done: list[str] = []
    with Interrupt() as interrupt:
        for turn in turns:
            if interrupt.asked:
                return _stopped(turns, done, "interrupted")
            try:
                why = _one(config, turn)
            except KeyboardInterrupt:
                return _stopped(turns, done, f"left while {turn.name} was at it; er status")
            except (NotUpError, UnitsError, OSError) as error:
                why = _did_not(turn, f"{error}")
            if why:
                return _stopped(turns, done, why)
            done.append(turn.name)
            print(f"done: {turn.name} answers", flush=True)
    note("restart", ", ".join(done))
    return 0


def _stopped(turns: Sequence[Turn], done: Sequence[str], why: str) -> int:
    """Say what stands where."""
    left = [turn.name for turn in turns if turn.name not in done]
    there = rows()
    told = [f"{name} is {there[name]['state']}" for name in left if name in there]
    named = {successor.name_of(name) for name in left} & set(there)
    told += [f"{name} serves in its place" for name in named if there[name]["state"] == SERVES]
    if done:
        note("restart", ", ".join(done))
        told.insert(0, f"restarted: {', '.join(done)}")
    return _fail("; ".join([why, *told]))


def _did_not(turn: Turn, cause: str) -> str:
    refused = "Access denied" in cause or "authentication" in cause.lower()
    if refused and os.geteuid() != 0:
        cause += "; use sudo, or be a member of group er: sudo adduser NAME er"
    return f"{turn.name} did not come up: {cause}"


def _one(config: Config, turn: Turn) -> str:
    """Restart one: why it was not begun, "" when it is done. Raises NotUpError and others."""
    replica = config.replica(turn.name)
    assert replica is not None  # it was found there
    if turn.way == "beside" and not _others(replica, rows()):
        return f"nothing else serves {replica.model} any more, so {turn.name} was left alone"
    if turn.way == "surge":
        _succeed(config, replica)
        restart(turn.name, _run, _say)
        surge.end(turn.name, _run)
    else:
        restart(turn.name, _run, _say)
        surge.clean_up(config, _run)
    return ""


def _succeed(config: Config, replica: Replica) -> None:
    """Start a successor and prove it; one that fails leaves nothing behind. Raises NotUpError."""
    began = time.time()
    try:
        name = surge.begin(config, replica, _run)
        proven(name, began, _say)
    except (NotUpError, UnitsError, KeyboardInterrupt) as error:
        surge.end(replica.name, _run)
        if isinstance(error, KeyboardInterrupt):
            raise
        told = f"its successor failed, and was ended; it serves on as before: {error}"
        raise NotUpError(told) from None


def _say(text: str) -> None:
    print(text, flush=True)
