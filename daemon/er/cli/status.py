"""`er status` and `er wait`: one screen of truth, also with the gateway down."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import orjson

from er import __version__, status, systemctl
from er.batches import Store
from er.capacity import result
from er.cli.admin_client import NoAdmin, call
from er.cli.screen import Name, age, clean, number, state, table
from er.config import (
    Config,
    ConfigError,
    Tls,
    active_path,
    applied_path,
    directory,
    load,
    successor,
)
from er.ledger import Ledger, LedgerError
from er.quantities import bytes_text
from er.status.judged import shared_state
from er.status.machine import Meter
from er.status.traffic import quiet

EXIT = {"ok": 0, "degraded": 1, "down": 2, "unknown": 3}
LOOK_EVERY_S = 1.0
PATIENT_S = 10.0  # after a reload the admin process comes last, and a busy machine takes its time
_LEFT = (
    "{} serves while er restart --surge is at work; if none is, the next er restart or sudo er "
    "apply ends it"
)
COUNTDOWN = re.compile(r"waiting \d+ s")  # of a launcher's pause: each second is no news


def current() -> dict[str, Any]:
    """The status: from the admin process when it answers, else from files and systemd."""
    try:
        code, answer = call("GET", "/status", timeout_s=PATIENT_S)
    except NoAdmin as error:
        return offline(error)
    if code != 200 or "status" not in answer:
        return offline(NoAdmin(f"the admin process answered {code}"))
    return answer


def offline(why: NoAdmin) -> dict[str, Any]:
    """The status without the gateway's help, from ledger, launchers' samples and systemd."""
    try:
        config, _ = successor.running(active_path())
    except ConfigError as error:
        cure = "; sudo er apply writes it anew" if active_path() == applied_path() else ""
        return _nothing(f"{error.findings[0]}{cure}")
    runtime = directory("runtime")
    gateway = status.GatewayFacts(unseen=str(why), config_differs=status.differs(config))
    seen: dict[str, status.Seen] = {}
    totals: dict[str, int] = {}
    ledger = _ledger(runtime / "ledger", config)
    if ledger is not None:
        with contextlib.closing(ledger):
            gateway = status.gateway_in(ledger, config)
            seen, totals = status.seen_in(ledger, config), ledger.totals()
    elif not why.closed and not (runtime / "ledger").exists():
        gateway = msgspec.structs.replace(gateway, unseen="")  # never ran: that is known well
    facts = status.Facts(
        config=config,
        now=time.time(),
        gateway=gateway,
        seen=seen,
        samples=status.read_samples(runtime, config),
        units=systemctl.show(status.units_of(config)),
        traffic=quiet(totals.get("requests")),
        machine=msgspec.to_builtins(Meter().sample(time.monotonic())),
        tls=_tls(config.gateway.tls),
        state=shared_state(runtime, config, time.time()),
    )
    return status.build(facts)


def _tls(tls: Tls | None) -> dict[str, Any] | None:
    if tls is None:
        return None
    from er.tls import facts  # large, and seldom wanted

    return facts.row_of_files(tls)


def _ledger(path: Path, config: Config) -> Ledger | None:
    """The ledger where there is one that this user may open; none is made by looking.

    Nor is one replaced that looks strange from here: a new version's layout may be another, and in
    a systemd-nspawn machine a unit's sandbox shows another boot id than a shell does.
    """
    with contextlib.suppress(OSError, LedgerError):
        return Ledger.open(path, [r.name for r in config.replicas], make=False)
    return None


def _nothing(reason: str) -> dict[str, Any]:
    return {
        "version": __version__,
        "time": time.time(),
        "status": "unknown",
        "reason": reason,
        "gateway": {"state": "unknown", "reason": reason, "config_differs": False},
        "state": None,
        "models": [],
        "gpus": [],
        "traffic": {**quiet(), "in_flight": 0, "queued": 0},
        "machine": None,
    }


def run_status(as_json: bool) -> int:
    """`er status [--json]`. Returns the exit status: 0 ok, 1 degraded, 2 down, 3 unknown."""
    answer = current()
    if as_json:
        print(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())
    else:
        print("\n".join(lines(answer, unicode=_unicode()) + _batches() + _capacity()))
    return EXIT.get(str(answer["status"]), 3)


def _batches() -> list[str]:
    """How many are not over, and their room; nothing where there are none or none may be seen."""
    with contextlib.suppress(OSError, ConfigError):
        settings = load(active_path()).batches
        store = Store(directory("state") / "batches", quota=settings.quota, keep_s=settings.keep_s)
        if count := len(store.open_batches()):
            took = f"{bytes_text(store.used())} of {bytes_text(settings.quota)}"
            return [f"batches  {count} not over; files of batches take {took}"]
    return []


def _capacity() -> list[str]:
    """What was measured last of the first model, in a line; nothing where nothing was."""
    with contextlib.suppress(OSError, ValueError):
        found = result.read(directory("state"))
        for model in found.models if found else []:
            row = max(model.rows, key=lambda row: row.texts_per_s, default=None)
            if row is not None and row.rate and row.p99_ms is not None and found is not None:
                day = time.strftime("%Y-%m-%d", time.gmtime(found.at))
                text = f"{row.texts_per_s:,.0f} texts/s of {row.mean_tokens:.0f} tokens"
                text += f" at p99 {row.p99_ms:.0f} ms, measured on {day}"
                return [f"capacity  {clean(model.model)}: {text}; er capacity"]
    return []


def _unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def lines(answer: dict[str, Any], *, unicode: bool = True) -> list[str]:
    """The screen for people."""
    now = float(answer.get("time") or time.time())
    head = f"ER {answer['version']}  {state(answer['status'], unicode=unicode)}: "
    out = [head + clean(answer["reason"]), ""]
    out += table([_gateway_row(answer, now, unicode)])
    out += _https(answer["gateway"].get("tls"), now)
    out += _shared(answer.get("state"), now, unicode)
    for model in answer["models"]:
        also = f"; also {', '.join(model['aliases'])}" if model["aliases"] else ""
        via = f", via {model['via']}" if model["via"] else ""
        out += ["", clean(f"{model['name']}  ({model['task']}{via}{also})")]
        rows = [_replica_row(r, now, unicode) for r in model["replicas"]]
        out += table(rows or [("no replica; add a [[replica]] to er.toml",)], indent="  ")
    if answer["gpus"]:
        out += ["", *table([_gpu_row(g) for g in answer["gpus"]])]
    out += ["", *_traffic(answer["traffic"]), *_machine(answer["machine"])]
    names = {r["name"] for m in answer["models"] for r in m["replicas"]}
    for name in sorted(filter(successor.is_successor, names)):
        out += ["", _LEFT.format(name)]
    if answer["gateway"].get("config_differs"):
        out += ["", "er.toml differs from what runs; see: er apply --dry-run, then: sudo er apply"]
    return out


def _gateway_row(answer: dict[str, Any], now: float, unicode: bool) -> tuple[str, ...]:
    gateway = answer["gateway"]
    since = gateway.get("since")
    told = gateway.get("reason") or (
        f"{gateway['workers']} worker{'s' * (gateway['workers'] != 1)} on "
        f"{', '.join(gateway['listen'])}; {gateway['in_flight']} of "
        f"{gateway['max_concurrency']} requests in flight, {gateway['queued']} sequences waiting"
    )
    return "gateway", state(gateway["state"], unicode=unicode), age(since and now - since), told


def _https(tls: dict[str, Any] | None, now: float) -> list[str]:
    """Where, for whom and how long; nothing without HTTPS."""
    if tls is None:
        return []
    where = f"https    {', '.join(tls['listen'])}"
    if tls["not_after"] is None:
        return [f"{where}; refuses every client: {clean(tls['reason'])}"]
    days = (tls["not_after"] - now) / 86400
    end = time.strftime("%Y-%m-%d", time.gmtime(tls["not_after"]))
    left = f"ends on {end}, in {days:.0f} days" if days >= 0 else f"expired on {end}"
    names = clean(", ".join(tls["names"]) or "no name")
    return [f"{where}; the certificate of {names} {left}"]


def _shared(shared: dict[str, Any] | None, now: float, unicode: bool) -> list[str]:
    """What hosts share, and since when it is as it is; nothing without [state]."""
    if shared is None:
        return []
    since, keys = shared["since"], shared["keys"]
    told = shared["reason"] or keys["reason"]
    row = ("state", state(shared["state"], unicode=unicode), age(since and now - since), told)
    return table([row])


def _replica_row(row: dict[str, Any], now: float, unicode: bool) -> tuple[str, ...]:
    where = "cpu" if row["gpu"] == ["cpu"] else ", ".join(f"GPU {g}" for g in row["gpu"])
    since = row["since"]
    parts = [row["reason"]] if row["reason"] else []
    parts += [f"{row['in_flight_tokens']} tokens in flight"] if row["in_flight_tokens"] else []
    parts += [f"{row['restarts']} restarts"] if row["restarts"] else []
    return (
        row["name"],
        state(row["state"], unicode=unicode),
        age(since and now - since),
        where or "elsewhere",
        row["address"].removeprefix("http://"),
        "; ".join(parts),
    )


def _gpu_row(gpu: dict[str, Any]) -> tuple[str, ...]:
    used, total = gpu.get("memory_used"), gpu.get("memory_total")
    power = f"{number(gpu.get('power_w'))}/{number(gpu.get('power_limit_w'))} W"
    return (
        f"GPU {gpu.get('index')}",
        Name(gpu.get("name")),
        f"{number(gpu.get('utilization'))} %",
        f"{bytes_text(used)} of {bytes_text(total)}" if used is not None and total else "-",
        f"{number(gpu.get('temperature'))} °C",
        power,
        Name(", ".join(gpu["replicas"])),
    )


def _traffic(traffic: dict[str, Any]) -> list[str]:
    if traffic["requests_per_s"] is None:
        return ["traffic  not known"]
    rates = ", ".join(
        f"{number(traffic[f'{what}_per_s'], 1)} {what}/s"
        for what in ("requests", "sequences", "tokens")
    )
    good, p50 = traffic["success_rate"], traffic["p50_ms"]
    text = f"traffic  {rates}"
    if good is not None:
        text += f"; {100 * good:.1f} % answered well"
    if p50 is not None:
        spread = "/".join(number(traffic[f"p{q}_ms"]) for q in (50, 95, 99))
        text += f"; p50/p95/p99 {spread} ms"
    refused = ", ".join(f"{n} {code}" for code, n in traffic["refusals"].items())
    return [text, *([f"         refused in the last minute: {refused}"] if refused else [])]


def _machine(machine: dict[str, Any] | None) -> list[str]:
    if machine is None:
        return []
    cpu = machine["cpu_percent"]
    used = f"{bytes_text(machine['memory_used'])} of {bytes_text(machine['memory_total'])}"
    load = f"memory {used}, load {machine['load1']:.1f}"
    return [f"machine  {load}" if cpu is None else f"machine  CPU {cpu:.0f} %, {load}"]


def run_wait(timeout_s: float) -> int:
    """`er wait`: 0 once every replica answers; 1 after `timeout_s`, or when one can't ever."""
    began, shown = time.monotonic(), dict[str, str]()
    while True:
        answer = current()
        for name, text in _phases(answer):
            news = COUNTDOWN.sub("", text)
            if shown.get(name) != news:
                shown[name] = news
                print(f"{time.strftime('%H:%M:%S')}  {name}: {text}", flush=True)
        if answer["status"] == "ok" or _all_up(answer):
            print(f"all replicas answer, after {age(time.monotonic() - began)}")
            return 0
        rows = [r for m in answer["models"] for r in m["replicas"]]
        failed = [r["name"] for r in rows if r["state"] == "failed"]
        failed += ["the gateway"] if answer["gateway"]["state"] == "failed" else []
        if failed:
            print(f"{failed[0]} has failed for good; mend its cause, then: sudo er apply")
            return 1
        if time.monotonic() - began + LOOK_EVERY_S > timeout_s:
            print(f"gave up after {age(timeout_s)}: {clean(answer['reason'])}")
            return 1
        time.sleep(LOOK_EVERY_S)


def _all_up(answer: dict[str, Any]) -> bool:
    """Whether all replicas answer, whatever else there is to say: the shared state may be away."""
    rows = [model["replicas"] for model in answer["models"]]
    up = all(found and all(row["state"] == "up" for row in found) for found in rows)
    return answer["status"] == "degraded" and bool(rows) and up


def _phases(answer: dict[str, Any]) -> list[tuple[str, str]]:
    """(name, state and why) of the gateway and each replica, once."""
    gateway = answer["gateway"]
    rows = {"gateway": gateway} | {r["name"]: r for m in answer["models"] for r in m["replicas"]}
    found = []
    for name, row in rows.items():
        told = row.get("status_text") if row["state"] == "starting" else ""
        why = clean(told or row.get("reason") or "")
        found.append((name, row["state"] + (f" ({why})" if why and row["state"] != "up" else "")))
    return found
