"""`er doctor`: looks for the cause of trouble and says the cure, one line each."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import httpx
import msgspec
import psutil

from er import gpus, health, keys, systemctl
from er.cli import (
    as_user,
    audit_journal,
    check_machine,
    check_programs,
    check_systemd,
    doctor_cards,
    doctor_network,
    network,
)
from er.cli.screen import clean
from er.config import (
    Config,
    ConfigError,
    active_path,
    applied_path,
    directory,
    edited_path,
    load,
)
from er.engine import build as engine_build
from er.engine.build import Build
from er.keys import KeysError
from er.quantities import bytes_text

Mark = Literal["ok", "!", "x"]
GIB = 1 << 30
DISK_LOW, DISK_OUT = 2 * GIB, 200 << 20
MEMORY_LOW = 1 * GIB
BUILT = 1_767_225_600  # 2026-01-01: no right clock stands before
LOG_LINES = 3


class Line(msgspec.Struct, frozen=True):
    """One thing looked at: good, odd (`!`) or wrong (`x`), with what to do."""

    mark: Mark
    what: str
    told: str
    cure: str = ""


def examine(answer: dict[str, Any]) -> Iterator[Line]:
    """Every line, as it is found. `answer` is the current status (GET /status)."""
    path = edited_path() if os.access(edited_path(), os.F_OK) else active_path()
    config, found = check_machine.examine(path)
    if not found:
        yield Line("ok", "er.toml", f"{path} fits this machine")
    for item in found:
        finding = item.finding
        mark: Mark = "x" if finding.level == "error" else "!"
        told, _, lines = finding.message.partition("\n")
        cure = "er check, which shows the lines" if lines else ""
        yield Line(mark, "er.toml", f"{finding.file}:{finding.line}: {told}", cure)
    if path != active_path():
        try:
            load(active_path())
        except ConfigError as error:
            yield Line("x", "applied.toml", str(error.findings[0]), "sudo er apply")
    if answer["gateway"].get("config_differs"):
        yield Line("!", "er.toml", "says other things than what runs", "sudo er apply")
    yield from units()
    yield from gateway(answer["gateway"])
    if config is not None:
        yield from way_in(config)
        yield from graphics(config)
        yield from vllm(config)
        yield from elsewhere(config)
        if config.state is not None:
            from er.cli import doctor_hosts  # with what only several hosts need

            yield from (Line(*each) for each in doctor_hosts.lines(config))
    yield from replicas(answer)
    yield memory()
    for folder in (directory("state"), directory("runtime"), directory("cache")):
        # without systemd the cache is made when it is first needed
        if folder.exists() or systemctl.booted() or folder != directory("cache"):
            yield from disk(folder)
    if config is not None:
        yield from audit(config)
    yield clock()
    yield from permissions()
    yield key_file()


def units() -> Iterator[Line]:
    """The state of the target, the sockets and the gateway."""
    if not systemctl.booted():
        name = _comm(1)
        if name == "er-gateway":
            yield Line("ok", "systemd", "not here: a container of the gateway")
            return
        told = f"PID 1 is {name}, not systemd; run er-gateway and er-vllm NAME in the foreground"
        yield Line("!", "systemd", told)
        return
    for one in check_systemd.lines(systemctl.version()):
        yield Line(*one)
    sockets = [f"er-gateway-{name}.socket" for name in ("http", "local", "admin")]
    names = [systemctl.TARGET, *sockets, systemctl.GATEWAY]
    shown = systemctl.show(names)
    if shown is None:
        yield Line("x", "systemd", "systemctl does not answer", "look at: systemctl status")
        return
    for name in names:
        unit = shown.get(name)
        if unit is None or not unit.loaded:
            yield Line("x", name, "is not installed", "sudo ./install.sh")
        elif unit.state == "active":
            yield Line("ok", name, unit.status_text or unit.state)
        elif unit.state == "failed":
            told = f"failed ({unit.result}) {unit.status_text}".rstrip()
            yield Line("x", name, told, f"journalctl -u {name} -n 50; sudo er apply")
        else:
            yield Line("x", name, unit.state, "sudo systemctl start er.target")


def gateway(row: dict[str, Any]) -> Iterator[Line]:
    """Whether its workers serve."""
    if row["state"] == "up":
        yield Line("ok", "gateway", "answers")
    else:
        mark: Mark = "!" if row["state"] in ("unknown", "starting") else "x"
        yield Line(mark, "gateway", f"{row['state']}: {row['reason']}")
    tls = row.get("tls")
    if tls is not None:
        yield https(tls, time.time())


def https(tls: dict[str, Any], now: float) -> Line:
    """The certificate that clients are shown, and its end."""
    if tls["not_after"] is None:
        return Line("x", "https", f"refuses every client: {tls['reason']}", "er check; er help tls")
    left = tls["not_after"] - now
    end = time.strftime("%Y-%m-%d", time.gmtime(tls["not_after"]))
    told = f"the certificate of {', '.join(tls['names']) or 'no name'} ends on {end}"
    if left <= 0 or now < tls["not_before"]:
        told = told if left <= 0 else f"{told} and is not valid yet"
        return Line("x", "https", f"{told}; clients refuse it", "renew it: er help tls")
    mark: Mark = "!" if left < 14 * 86400 else "ok"
    return Line(mark, "https", told, "renew it: er help tls" if mark == "!" else "")


def way_in(config: Config) -> Iterator[Line]:
    """How containers and the public reach the gateway."""
    there = network.interfaces()
    for one in doctor_network.containers(config.gateway, there, network.ufw()):
        yield Line(*one)
    for one in doctor_network.plain(config.gateway, there):
        yield Line(*one)


def graphics(config: Config) -> Iterator[Line]:
    """The driver and each card that er.toml names."""
    wanted = [r for r in config.replicas if r.url is None and not r.cpu]
    if not wanted:
        return
    for one in doctor_cards.lines(doctor_cards.facts(gpus.Gpus())):
        yield Line(*one)


def vllm(config: Config) -> Iterator[Line]:
    """The installed vLLM, where a replica of this machine needs one."""
    local = [r for r in config.replicas if not r.url]
    ways: dict[str, Callable[[], Build]] = {}
    if any(r.vllm is None for r in local):
        ways["vLLM"] = lambda: engine_build.examine(engine_build.find_python(os.environ))
    for replica in local:
        if replica.vllm is not None:
            ways[f"vLLM of {replica.name}"] = partial(
                check_programs.own, replica, os.environ, trusted=False
            )
    for name, way in ways.items():
        try:
            build = way()
        except check_programs.UnseenError as error:
            yield Line("!", name, str(error))
            continue
        except engine_build.BuildError as error:
            yield Line("x", name, str(error))
            continue
        where = build.python.parent.parent
        yield Line("ok", name, f"{build.distribution} {build.version} in {where}")


def elsewhere(config: Config) -> Iterator[Line]:
    """Which vLLM answers at each `url`."""
    for replica in (r for r in config.replicas if r.url):
        name = f"vLLM of {replica.name}"
        version = asyncio.run(_version(replica.address))
        age = engine_build.age(version or "")
        if age == "older":
            told, _, cure = engine_build.older(version or "", replica.address).rpartition(": ")
            yield Line("x", name, told, cure)
        elif age == "newer":
            told = engine_build.untried(version or "", replica.address)
            yield Line("!", name, told, "er quality run compares its answers with before")
        elif version:
            yield Line("ok", name, f"{version} at {replica.address}")
        else:
            yield Line("!", name, f"{replica.address} tells no version: its answers alone count")


async def _version(address: str) -> str | None:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await health.version(client, address)


def replicas(answer: dict[str, Any]) -> Iterator[Line]:
    """Each replica; of those that do not answer, the last error lines of their vLLM."""
    rows = {r["name"]: r for m in answer["models"] for r in m["replicas"]}
    for name, row in rows.items():
        if row["state"] == "up":
            yield Line("ok", f"replica {name}", "answers right")
            continue
        mark: Mark = "x" if row["state"] in ("down", "failed", "stopped", "waiting") else "!"
        yield Line(mark, f"replica {name}", f"{row['state']}: {row['reason']}")
        for text in () if "@" in name else last_errors(systemctl.replica_unit(name)):
            yield Line("!", f"replica {name}", f"its log: {text}")


def last_errors(unit: str) -> list[str]:
    """The unit's last lines at level err or worse; [] where no journal can be read."""
    if shutil.which("journalctl") is None or not systemctl.booted():
        return []
    command = ["journalctl", "-u", unit, "-p", "err", "-n", str(LOG_LINES), "-o", "cat", "-q"]
    try:
        done = subprocess.run(
            [*command, "--no-pager"], capture_output=True, text=True, timeout=10.0
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line for line in done.stdout.splitlines() if line.strip()]


def memory() -> Line:
    """Main memory that is left."""
    figures = psutil.virtual_memory()
    told = f"{bytes_text(figures.available)} of {bytes_text(figures.total)} free"
    if figures.available < MEMORY_LOW:
        return Line("x", "memory", told, "end what uses it: ps aux --sort=-rss | head")
    return Line("ok", "memory", told)


def disk(folder: Path) -> Iterator[Line]:
    """Room in one of ER's folders."""
    try:
        room = os.statvfs(folder)
    except FileNotFoundError:
        cure = "sudo systemd-tmpfiles --create er.conf, or sudo ./install.sh"
        yield Line("x", "disk", f"{folder} is missing", cure)
        return
    except OSError as error:
        yield Line("!", "disk", f"{folder}: {error.strerror}", "try again with sudo")
        return
    free = room.f_bavail * room.f_frsize
    told = f"{bytes_text(free)} free in {folder}"
    if free < DISK_OUT or (room.f_files and room.f_favail == 0):
        yield Line("x", "disk", told, f"make room: du -xh {folder} | sort -h | tail")
    else:
        # /run is memory and small by nature; ER writes little there.
        low = free < DISK_LOW and not str(folder).startswith("/run")
        yield Line("!" if low else "ok", "disk", told)


def audit(config: Config) -> Iterator[Line]:
    """How many days of records fit into the audit's journal."""
    if not systemctl.booted():
        return
    if why := audit_journal.why_nothing():
        yield Line("!", "audit", why)
    elif found := audit_journal.pieces():
        good, told = audit_journal.fits(found, config.audit, time.time())
        cure = "" if good else "raise size in [audit] of er.toml, then: sudo er apply"
        yield Line("ok" if good else "!", "audit", told, cure)


def clock() -> Line:
    """Whether the time can be right: keys end and logs are ordered by it."""
    now = time.time()
    said = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(now))
    if now < BUILT:
        return Line("x", "clock", f"{said} can't be right", "set it: timedatectl set-ntp true")
    newest = max((p.stat().st_mtime for p in _files()), default=0.0)
    if newest > now + 60:
        return Line("!", "clock", f"{said} is before ER's own files; was it set back?")
    return Line("ok", "clock", said)


def _files() -> list[Path]:
    files = [keys.path(), applied_path(), directory("runtime") / "ledger"]
    return [p for p in files if os.access(p, os.F_OK)]


def permissions() -> Iterator[Line]:
    """Who owns ER's files: user er must be able to write them, others must not read the keys."""
    account = as_user.account()
    if os.geteuid() != 0 and not os.access(directory("state"), os.X_OK):
        yield Line("!", "permissions", f"{directory('state')} is closed to you", "use sudo")
        return
    wrong = False
    for path in _files():
        have = path.stat()
        if account is not None and systemctl.booted() and have.st_uid != account.pw_uid:
            wrong = True
            yield Line("x", "permissions", f"{path} is not user er's", f"chown er:er {path}")
        if path == keys.path() and have.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
            wrong = True
            told = f"{path} has mode {stat.S_IMODE(have.st_mode):04o}, not 0640"
            yield Line("x", "permissions", told, f"chmod 0640 {path}")
    if not wrong:
        yield Line("ok", "permissions", "of ER's state files")


def key_file() -> Line:
    """Whether there is a key to ask with."""
    path = keys.path()
    try:
        known = keys.list_keys(path)
    except KeysError as error:
        return Line("x", "keys", str(error))
    except OSError as error:
        return Line("!", "keys", f"{path}: {error.strerror}", "try again with sudo")
    usable = [k for k in known if not k["revoked"]]
    if not usable:
        return Line(
            "!", "keys", "there is none: every request gets 401", "er keys create --name web"
        )
    return Line("ok", "keys", f"{len(usable)} in force")


def _comm(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "comm").read_text().strip()
    except OSError:
        return "unknown"


def run(answer: dict[str, Any]) -> int:
    """Print the lines; 1 when something is wrong."""
    bad = 0
    for line in examine(answer):
        bad += line.mark == "x"
        cure = f"\n      -> {clean(line.cure)}" if line.cure else ""
        print(f"{line.mark:2}  {line.what}: {clean(line.told)}{cure}", flush=True)
    print("\nNothing wrong found." if not bad else f"\n{bad} wrong.")
    return 1 if bad else 0
