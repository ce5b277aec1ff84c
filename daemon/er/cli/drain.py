"""`er drain` and `er resume`: a replica of this machine, or a host of several, gets nothing new."""

from __future__ import annotations

import sys
import time
from typing import Any

from er.cli.admin_client import NoAdmin, call, told
from er.cli.screen import age
from er.config import ConfigError, active_path, load
from er.config.reader import NAME

LOOK_EVERY_S = 0.5
WAIT_S = 600.0


def _fail(verb: str, text: str) -> int:
    print(f"er {verb}: {text}", file=sys.stderr)
    return 1


def run(name: str, *, host: bool, wait: bool) -> int:
    """`er drain NAME`. A name of both a replica and a host is the replica's, but for `host`."""
    if not NAME.match(name):
        return _fail("drain", f"no replica {name!r}; er status lists them")
    if host:
        return _host(name, wait)
    try:
        code, answer = call("POST", f"/replicas/{name}/drain")
    except NoAdmin as error:
        # Without its gateway a host can be drained all the same, and a replica can't.
        return _fail("drain", f"{error}") if _alone(name) else _host(name, wait)
    if code == 404 and not _alone(name):
        return _host(name, wait)
    if code != 200:
        return _fail("drain", told(answer))
    left = answer.get("in_flight_tokens") or 0
    more = f"; {left} tokens still in flight" if left else ""
    print(f"{name} gets nothing new{more}. Back with: er resume {name}")
    return _wait(name) if wait and left else 0


def resume(name: str) -> int:
    """`er resume NAME`."""
    if not NAME.match(name):
        return _fail("resume", f"no replica {name!r}; er status lists them")
    try:
        code, answer = call("POST", f"/replicas/{name}/resume")
    except NoAdmin as error:
        return _fail("resume", f"{error}")
    if code != 200:
        return _fail("resume", told(answer))
    by = f" (still drained by the {answer['drained_by']})" if answer["drained_by"] else ""
    print(f"{name} is in use again{by}")
    return 0


def _alone(name: str) -> bool:
    """Whether `name` can't be a host's: there is no [state], or a replica is called so."""
    try:
        config = load(active_path())
    except ConfigError:
        return True
    return config.state is None or config.replica(name) is not None


def _host(name: str, wait: bool) -> int:
    from er.cli import hosts  # with the client of the shared state

    try:
        return hosts.drain(name, on=True, wait=wait)
    except hosts.Trouble as error:
        return _fail("drain", f"{error}")


def _wait(name: str) -> int:
    """Until the replica has finished what it had."""
    began = time.monotonic()
    while time.monotonic() - began < WAIT_S:
        try:
            _, answer = call("GET", "/status")
        except NoAdmin as error:
            return _fail("drain", f"{error}")
        if not _left(answer, name):
            print(f"{name} has nothing left to do, after {age(time.monotonic() - began)}")
            return 0
        time.sleep(LOOK_EVERY_S)
    return _fail("drain", f"{name} is still at work after {age(WAIT_S)}; it stays drained")


def _left(answer: dict[str, Any], name: str) -> int:
    rows = {r["name"]: r for m in answer.get("models", []) for r in m["replicas"]}
    return int(rows.get(name, {}).get("in_flight_tokens") or 0)
