"""`er hosts`, `er undrain` and what `er drain` says of a host: all machines that share a [state].

The running gateway is asked; without one the shared state itself; and when that is away too, what
this host kept of the others is shown.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import msgspec
import orjson

from er import members, shared_state
from er.cli.admin_client import NoAdmin, call, told
from er.cli.screen import Name, age, clean, number, state, table
from er.config import Config, ConfigError, State, active_path, directory, load
from er.config.reader import NAME
from er.config.state import address, host_name
from er.members import NOT_ASKED, exchange, memory
from er.shared_state import Away

ALONE = "this machine is alone: its er.toml has no [state]; er help hosts"
LOOK_EVERY_S = 0.5
FIRST_S = 5.0  # for a gateway's first answer of the shared state
WAIT_S = 600.0  # for a drained host's last requests


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asked for."""

    command: str
    action: str | None = None
    host: str = ""
    as_json: bool | None = False


class Trouble(Exception):  # noqa: N818 - it is an answer
    """What could not be done; the text says why and what to do."""


def run(wish: Wish) -> int:
    """`er hosts [forget HOST | rotate]`, `er undrain HOST`. Returns the exit status."""
    try:
        if wish.command == "undrain":
            return drain(wish.host, on=False)
        if wish.action == "forget":
            _changed("forget", wish.host)
            print(f"host {wish.host} is forgotten; it is a member again when it comes back")
            return 0
        if wish.action == "rotate":
            _changed("rotate", "")
            print("the hosts' secret is changed; every host takes it up within a second")
            return 0
        return _show(wish.as_json or False)
    except Trouble as error:
        verb = wish.command + (f" {wish.action}" if wish.action else "")
        print(f"er {verb}: {error}", file=sys.stderr)
        return 1


def drain(host: str, *, on: bool, wait: bool = False) -> int:
    """Say that `host` is drained, or not any more. Raises Trouble. Returns the exit status."""
    _changed("drain" if on else "undrain", host)
    if not on:
        print(f"host {host} is in use again")
        return 0
    print(f"host {host} gets nothing new from the others. Back with: er undrain {host}")
    return _wait(host) if wait else 0


def _wait(host: str) -> int:
    """Until it has finished what it had. Raises Trouble."""
    began, shown = time.monotonic(), ""
    while time.monotonic() - began < WAIT_S:
        row = next((r for r in found()["hosts"] if r["name"] == host), None)
        if row is None or row["state"] == "silent":
            print(f"host {host} is not heard any more")
            return 0
        tokens = sum(r["in_flight_tokens"] for r in row["replicas"])
        if row["knows_drain"] and not row["requests"] and not tokens:
            print(f"host {host} has nothing left to do, after {age(time.monotonic() - began)}")
            return 0
        text = f"host {host} still has {row['requests']} requests and {tokens} tokens in flight"
        if text != shown:
            print(text, flush=True)
            shown = text
        time.sleep(LOOK_EVERY_S)
    raise Trouble(f"host {host} is still at work after {age(WAIT_S)}; it stays drained")


# -- what is there -------------------------------------------------------------------------------


def found() -> dict[str, Any]:
    """{"hosts", "shared_state"} as GET /hosts has it. Raises Trouble."""
    until = time.monotonic() + FIRST_S
    while True:
        try:
            code, answer = call("GET", "/hosts")
        except NoAdmin as error:
            return _straight(str(error))
        # A gateway that has just begun has not asked yet, and knows nobody.
        if code != 200 or answer["shared_state"]["reason"] != NOT_ASKED:
            break
        if time.monotonic() >= until:
            break
        time.sleep(LOOK_EVERY_S)
    if code == 404:
        raise Trouble(ALONE)
    if code != 200:
        raise Trouble(told(answer))
    return answer


def _straight(why: str) -> dict[str, Any]:
    """From the shared state itself, else what was known last. Raises Trouble."""
    config, given = _given(why)
    shared = {"address": str(address(given.url)), "state": "up", "reason": ""}
    own = host_name(config.host)
    try:
        heard = exchange.heard(_ask(given, exchange.beat(shared_state.key(given.name), None)))
    except Away as error:
        known = memory.read(directory("state"))
        rows = [
            _row(one, own, known.drains, "", silent_s + max(0.0, time.time() - known.at))
            for silent_s, one in known.hosts
        ]
        shared |= {"state": "away", "reason": error.text}
        return {"hosts": rows, "shared_state": shared, "gateway": why}
    rows = [
        _row(
            one,
            own,
            heard.drains,
            "up" if one.id in heard.alive else "silent",
            max(0.0, (heard.now - one.at) / 1000),
        )
        for one in heard.hosts
    ]
    return {"hosts": rows, "shared_state": shared, "gateway": why}


def _row(
    one: members.Announced,
    own: str,
    drains: dict[str, members.Drain],
    word: str,
    silent_s: float,
) -> dict[str, Any]:
    drained = one.host in drains and drains[one.host].on
    return members.row(
        one,
        state="drained" if drained and word == "up" else word or "unknown",
        drained=drained,
        silent_s=silent_s,
        own=one.host == own,
        used=(),
        distance_ms=None,
        odd=[],
    )


def _given(why: str) -> tuple[Config, State]:
    try:
        config = load(active_path())
    except ConfigError as error:
        raise Trouble(f"{why}; {error.findings[0]}") from None
    if config.state is None:
        raise Trouble(ALONE)
    return config, config.state


def _ask(given: State, words: tuple[Any, ...]) -> Any:
    """One question to the shared state. Raises Away."""
    with shared_state.once(given) as client:
        return exchange.ask_now(client, words)


# -- what is changed -----------------------------------------------------------------------------


def _changed(verb: str, host: str) -> None:
    """Have the gateway do it, else do it in the shared state. Raises Trouble."""
    if host and not NAME.match(host):
        raise Trouble(f"no host {host!r}; er hosts lists them")
    path = "/hosts-secret/rotate" if verb == "rotate" else f"/hosts/{host}/{verb}"
    try:
        code, answer = call("POST", path)
    except NoAdmin as error:
        if error.closed:
            raise Trouble(str(error)) from None
        return _change_straight(verb, host, str(error))
    error_ = answer.get("error")
    if code == 404 and isinstance(error_, dict) and "GET /docs" in str(error_.get("message")):
        raise Trouble(ALONE)
    if code != 200:
        raise Trouble(told(answer))
    return None


def _change_straight(verb: str, host: str, why: str) -> None:
    _, given = _given(why)
    prefix = shared_state.key(given.name)
    try:
        heard = exchange.heard(_ask(given, exchange.beat(prefix, None)))
        named = [one for one in heard.hosts if one.host == host]
        if host and not named and host not in heard.drains:
            there = ", ".join(dict.fromkeys(one.host for one in heard.hosts)) or "none"
            raise Trouble(f"no host {host!r}; there are: {there}")
        if verb == "rotate":
            _ask(given, exchange.secret(prefix, None, old_s=exchange.SECRET_SOON_S))
        elif verb == "forget":
            if any(one.id in heard.alive for one in named):
                raise Trouble(f"host {host} is announced at present; stop its gateway first")
            _ask(given, exchange.forget(prefix, [one.id for one in named]))
            _ask(given, exchange.drain(prefix, host, on=False))
        else:
            _ask(given, exchange.drain(prefix, host, on=verb == "drain"))
    except Away as error:
        raise Trouble(f"nothing was changed: {error.text}") from None


# -- the screen ----------------------------------------------------------------------------------


def _show(as_json: bool) -> int:
    answer = found()
    if as_json:
        print(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())
    else:
        unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
        print("\n".join(lines(answer, unicode=unicode)))
    well = all(row["state"] in ("up", "drained") for row in answer["hosts"])
    return 0 if well and answer["shared_state"]["state"] == "up" else 1


def lines(answer: dict[str, Any], *, unicode: bool = True) -> list[str]:
    """The screen for people."""
    shared = answer["shared_state"]
    row_ = ("shared state", state(shared["state"], unicode=unicode), Name(shared["address"]))
    out = table([row_])
    if shared["reason"]:
        out.append(clean(shared["reason"]))
    if answer.get("gateway"):
        last = shared["state"] == "away"
        known = "this is what was heard last" if last else "this is the shared state's own word"
        out += [clean(answer["gateway"]), known]
    for row in answer["hosts"]:
        out += ["", *_host(row, unicode)]
    if not answer["hosts"]:
        out += ["", "no host is known"]
    return out


def _host(row: dict[str, Any], unicode: bool) -> list[str]:
    since = age(max(0.0, (row["heard"] or row["since"]) - row["since"]))
    facts = [Name(row["address"]), f"ER {row['version']}"]
    facts.append("this host" if row["own"] else f"up for {since}" if since else "just started")
    if row["state"] in ("silent", "unknown"):
        facts.append(f"heard {age(row['silent_s'])} ago")
    if row["clock_s"] >= 1:
        facts.append(f"its clock {number(row['clock_s'])} s ahead")
    if row["clock_s"] <= -1:
        facts.append(f"its clock {number(-row['clock_s'])} s behind")
    if not row["own"] and row["distance_ms"] is not None:
        facts.append(f"{number(row['distance_ms'], 1)} ms away")
    if row["state"] in ("up", "drained"):
        facts.append(f"{row['requests']} requests in flight")
    if row["drained"]:
        facts.append(f"back with: er undrain {row['name']}")
    head = table([(Name(row["name"]), state(row["state"], unicode=unicode), ", ".join(facts))])
    cells = [_replica(r, unicode) for r in row["replicas"]]
    return [
        *head,
        *table(cells or [("no replica of its own",)], indent="  "),
        *(f"  ! {clean(words)}" for words in row["odd"]),
    ]


def _replica(row: dict[str, Any], unicode: bool) -> tuple[object, ...]:
    known = row["state"] != "unknown"
    load = f"{row['in_flight_tokens']} of {row['budget_tokens']} tokens in flight" if known else ""
    engine = f"vLLM {row['engine']}" if row["engine"] else ""
    why = "; ".join(filter(None, (row["reason"], load, engine)))
    return Name(row["name"]), Name(row["model"]), state(row["state"], unicode=unicode), why
