"""A successor beside a replica: whether there is room for it, its beginning and its end.

er-vllm@NAME-surge runs the same engine at another port, from a file and a drop-in below /run. The
gateway takes it up with a new generation of workers, and lets go of it the same way.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from er import ports, systemctl
from er.cli import check_cards, generations
from er.cli.coming_up import SERVES, Row, rows
from er.config import (
    Config,
    ConfigError,
    Model,
    Replica,
    active_path,
    load,
    parse,
    read_text,
    successor,
)
from er.gpus import Gpu, Gpus, find
from er.quantities import bytes_text
from er.units import Run, UnitsError, kept, texts, weights_here
from er.units.files import write

ROOT = Path("/")
SYSTEM = Path("/run/systemd/system")
FOLDERS = Path("/run/er-vllm")  # of the replicas; root's, so nobody leads its removal elsewhere
FIRST_PORT = 8100
CPU_SPARE = 1.1  # times what the running one takes
HUP = ("systemctl", "kill", "--kill-who=main", "--signal=HUP", systemctl.GATEWAY)


def why_not(config: Config, replica: Replica, row: Row) -> str:
    """Why no successor can stand beside `replica`, "" where one can."""
    if os.geteuid() != 0:
        return "a successor needs root (sudo er restart)"
    if len(replica.name) > successor.NAME_MAX:
        return f"its name has more than {successor.NAME_MAX} characters"
    if not replica.cpu:
        cards = Gpus()
        found = cards.read(users=True)
        return _no_card(config, replica, found) if found else cards.reason
    takes = int((row.get("sample") or {}).get("rss_bytes") or 0)
    free = psutil.virtual_memory().available
    if not takes:
        return "nobody knows how much memory it takes"
    if takes * CPU_SPARE > free:
        return f"it takes {bytes_text(takes)} of memory, {bytes_text(free)} are free"
    return ""


def _no_card(config: Config, replica: Replica, cards: Sequence[Gpu]) -> str:
    """The same for one on GPUs: what vLLM asks for at its start, or what the running one takes."""
    model = config.model(replica.model)
    weights = 0 if model is None or model.path is None else weights_here(config)[model.path]
    unit = systemctl.replica_unit(replica.name)
    for wanted in replica.gpu:
        card = find(cards, wanted)
        if card is None:
            return f"GPU {wanted} can't be seen"
        share = check_cards.share(replica, card, weights)
        least = share if replica.kv_cache is None else max(share, check_cards.FREE)
        takes = sum(u.memory or 0 for u in card.users if ports.unit_of(u.pid) == unit)
        need = max(int(least * card.memory_total), takes)
        if need > card.memory_free:
            there = f"{bytes_text(card.memory_free)} of GPU {wanted} are free"
            return f"it takes {bytes_text(need)}, {there}"
    return ""


def there() -> str:
    """The replica that a successor stands beside, "" where there is none."""
    drop_ins = SYSTEM.glob(f"er-vllm@*{successor.SUFFIX}.service.d")
    found = next((d.name for d in drop_ins), "")
    name = found.removeprefix("er-vllm@").removesuffix(".service.d")
    if not name:
        try:
            config, _ = successor.running(active_path())
        except ConfigError:
            return ""
        name = next((r.name for r in config.replicas if successor.is_successor(r.name)), "")
    return successor.original(name)


def begin(config: Config, replica: Replica, run: Run) -> str:
    """Start a successor of `replica`; returns its name. Raises UnitsError.

    To be waited for; the gateway asks it as soon as it is ready.
    """
    replica, model = _as_applied(replica.name)
    made = successor.made(replica, _free_port(config))
    text = successor.written(made)
    source = active_path()
    try:
        parse(read_text(source) + text, source)
    except ConfigError as error:
        raise UnitsError(f"no successor can be added to {source}: {error}") from None
    unit = systemctl.replica_unit(made.name)
    folder = SYSTEM / f"{unit}.d"
    folder.mkdir(parents=True, exist_ok=True)
    drop_in = texts.replica(made, model, Gpus().read(), weights_here(config))
    (folder / "10-er.conf").write_text(drop_in, encoding="utf-8")
    write(successor.path(), text, 0o644, None)
    run(["systemctl", "daemon-reload"])
    _new_workers(run)
    run(["systemctl", "start", "--no-block", unit])
    return made.name


def _as_applied(name: str) -> tuple[Replica, Model]:
    """The replica and its model as root applied them: its drop-in is made of them.

    Raises UnitsError.
    """
    source = kept.source(ROOT)
    try:
        mine = load(source)
    except ConfigError as error:
        raise UnitsError(f"{error.findings[0]}; correct it, then: er apply") from None
    replica = mine.replica(name)
    model = None if replica is None else mine.model(replica.model)
    if replica is None or model is None:
        raise UnitsError(f"{source} has no replica {name}; er apply first")
    return replica, model


def end(name: str, run: Run) -> None:
    """End the successor of replica `name`, once nothing is sent there. Raises UnitsError."""
    unit = systemctl.replica_unit(successor.name_of(name))
    if successor.path().exists():
        successor.path().unlink()
        _new_workers(run)
    run(["systemctl", "stop", unit])
    folder = SYSTEM / f"{unit}.d"
    if folder.exists():
        (folder / "10-er.conf").unlink(missing_ok=True)
        folder.rmdir()
        run(["systemctl", "daemon-reload"])
    shutil.rmtree(FOLDERS / successor.name_of(name), ignore_errors=True)


def clean_up(config: Config, run: Run) -> None:
    """End what an earlier --surge left, once what it stands in for serves again.

    `config` is without it. Raises UnitsError.
    """
    name = there()
    if not name:
        return
    row = rows().get(name)
    beside = f"{successor.name_of(name)}, left by an er restart --surge that did not end"
    if os.geteuid() != 0:
        print(f"note: {beside}, is there; sudo er restart {name} ends it", file=sys.stderr)
    elif config.replica(name) is None or (row is not None and row["state"] == SERVES):
        print(f"ending {beside}", flush=True)
        end(name, run)


def _new_workers(run: Run) -> None:
    """Have the gateway take up what there is now. Raises UnitsError."""
    units = systemctl.show([systemctl.GATEWAY]) or {}
    gateway = units.get(systemctl.GATEWAY)
    if gateway is not None and gateway.state != "active":
        return
    before = generations.current()
    run(HUP)
    if why := generations.failure(before):
        raise UnitsError(why)


def _free_port(config: Config) -> int:
    taken = {r.port for r in config.replicas}
    for address in (*config.gateway.listen, config.gateway.metrics):
        if address:
            taken.add(ports.split(address)[1])
    free = (p for p in itertools.count(FIRST_PORT) if p not in taken)
    return next(p for p in free if ports.bind_error(f"127.0.0.1:{p}") is None)


def applied() -> Config:
    """What units run from, without a successor. Raises ConfigError."""
    return load(active_path())
