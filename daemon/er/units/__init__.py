"""From er.toml to systemd: what has to change, said first and then done.

`plan` is pure: the configuration before and after, what lies in /etc/systemd/system, and which
units run, give a list of changes; none when all is as it should be. Only files that carry our mark
are ever changed or removed; what `systemctl edit` writes lies beside them.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import msgspec

from er.config import Config, applied_path
from er.gpus import Gpu
from er.units import https, kept
from er.units import texts as unit_texts
from er.units.change import Change as Change
from er.units.files import UnitsError as UnitsError
from er.units.files import write
from er.units.https import HOSTS, HTTPS, PATH, TIMER
from er.units.rolling import by_turns
from er.units.takeup import ENGINE_FIELDS
from er.units.texts import AUDIT_FILE, AUDIT_JOURNAL, GATEWAY, HTTP, MARK, REPLICA

SYSTEM = "etc/systemd/system"
WANTS = "er.target.wants"
TEMPLATE = f"{https.FOLDER}/er-vllm@.service"
OPTIONAL = (HTTPS, PATH, TIMER, HOSTS)
TARGET = "er.target"
NAME = re.compile(r"er-vllm@([a-z0-9][a-z0-9-]*)\.service")
NOT_WORKERS = ("audit", "source")  # of a Config: what makes no difference to the gateway's workers
RUNNING = {"active", "activating", "reloading", "deactivating", "failed"}

Run = Callable[[Sequence[str]], str]  # a command's output; raises for one that fails


class Existing(msgspec.Struct, frozen=True):
    """What lies in /etc/systemd/system of ER's: drop-ins by path with their text, and links."""

    files: Mapping[str, str] = {}
    links: Mapping[str, str] = {}


def read_existing(root: Path = Path("/")) -> Existing:
    """The drop-ins and links of ER's units below `root`."""
    system = root / SYSTEM
    drop_ins = [root / AUDIT_FILE, *system.glob("er-vllm@*.service.d/10-er.conf")]
    drop_ins += [system / f"{unit}.d/10-er.conf" for unit in (GATEWAY, HTTP, *OPTIONAL)]
    files = {
        str(f.relative_to(root)): f.read_text(encoding="utf-8", errors="replace")
        for f in drop_ins
        if f.is_file()
    }
    links = [p for p in (system / WANTS).glob("er-*") if p.name in OPTIONAL or NAME.match(p.name)]
    return Existing(files, {str(f.relative_to(root)): str(f.readlink()) for f in links})


def active_units(run: Run) -> set[str]:
    """ER's units that run or tried to: those that a change must stop or restart."""
    listing = run(
        ["systemctl", "list-units", "--all", "--plain", "--no-legend", "--no-pager", "er*"]
    )
    rows = [line.split() for line in listing.splitlines()]
    return {row[0] for row in rows if len(row) > 2 and row[2] in RUNNING}


def weights_here(config: Config) -> dict[Path, int]:
    """Bytes of weights in each model's folder, 0 where it can't be looked into."""
    found: dict[Path, int] = {}
    for path in {m.path for m in config.models if m.path is not None}:
        try:
            found[path] = sum(f.stat().st_size for f in path.glob("*.safetensors"))
        except OSError:
            found[path] = 0
    return found


def plan(
    old: Config | None,
    new: Config,
    text: str,
    *,
    applied_text: str | None,
    kept_text: str | None,
    existing: Existing,
    gpus: Sequence[Gpu],
    active: Collection[str],
    weights: Mapping[Path, int],
) -> list[Change]:
    """Everything that makes systemd match `new`, in order.

    `old` is the applied configuration and `applied_text` its file's text, None before the first
    time; `kept_text` is root's own record of it; `text` is that of `new`. `active` are the units
    that run. Raises UnitsError.
    """
    files, links = rendered(new, gpus, weights)
    for path, there in existing.files.items():
        if not there.startswith(MARK):
            raise UnitsError(
                f"/{path} was not written by er apply; move your lines to another file of that "
                "folder (systemctl edit does), and remove it"
            )
    changed = _files(files, links, existing)
    units = {_unit(c.path) for c in changed if c.kind == "write"}
    added = {_unit(c.path) for c in changed if c.kind == "link"}
    there_were = {_unit(p) for p in (*existing.files, *existing.links)}
    gone = sorted(there_were - {_unit(p) for p in (*files, *links)})
    gone = [u for u in gone if NAME.fullmatch(u) or u in (PATH, TIMER)]
    steps = [
        Change(kind="run", says=f"stop {u}: er.toml has it no more", argv=_systemctl("stop", u))
        for u in gone
        if u in active
    ]
    readdressed = any(_unit(c.path) in (HTTP, HTTPS, HOSTS) for c in changed)
    if moved := readdressed and bool({HTTP, GATEWAY} & set(active)):
        says = "stop the gateway and its port: the addresses change"
        ports = [HTTP, *(unit for unit in (HTTPS, HOSTS) if unit in active)]
        steps.append(Change(kind="run", says=says, argv=_systemctl("stop", GATEWAY, *ports)))
    steps += changed
    if not text == applied_text == kept_text:
        says = f"store the configuration as applied ({applied_path()})"
        steps.append(Change(kind="store", says=says, text=text))
    if changed:
        says = "have systemd read its files again"
        steps.append(Change(kind="run", says=says, argv=("systemctl", "daemon-reload")))
    if any(c.path == AUDIT_FILE for c in changed):
        says = "have the audit's journal take up its limits; records wait for it meanwhile"
        steps.append(Change(kind="run", says=says, argv=_systemctl("try-restart", AUDIT_JOURNAL)))
    shown = {_unit(c.path): (existing.files.get(c.path, ""), c.text) for c in changed}
    anew = GATEWAY in shown and unit_texts.needs_restart(*shown[GATEWAY])
    steps += _gateway_steps(old, new, text != applied_text, moved, anew, active)
    if words := https.renewal(units, added, active):
        says = "watch the certificate's files"
        steps.append(Change(kind="run", says=says, argv=_systemctl(*words)))
    return steps + by_turns(old, new, _replica_steps(old, new, units, added, active))


def rendered(
    config: Config, gpus: Sequence[Gpu], weights: Mapping[Path, int]
) -> tuple[dict[str, str], dict[str, str]]:
    """(drop-ins by path, links by path) that there should be."""
    files: dict[str, str] = {}
    links: dict[str, str] = {}
    for replica in config.replicas:
        if replica.url:
            continue
        model = config.model(replica.model)
        assert model is not None  # the configuration was checked
        unit = REPLICA.format(replica.name)
        files[_drop_in(unit)] = unit_texts.replica(replica, model, gpus, weights)
        links[f"{SYSTEM}/{WANTS}/{unit}"] = TEMPLATE
    for unit in https.wanted(config):
        links[f"{SYSTEM}/{WANTS}/{unit}"] = f"{https.FOLDER}/{unit}"
    for unit, body in (
        (GATEWAY, unit_texts.gateway(config)),
        (HTTP, unit_texts.http_socket(config)),
        (HTTPS, unit_texts.https_socket(config)),
        (PATH, unit_texts.tls_path(config)),
        (HOSTS, unit_texts.hosts_socket(config)),
    ):
        if body is not None:
            files[_drop_in(unit)] = body
    if (kept := unit_texts.audit(config)) is not None:
        files[AUDIT_FILE] = kept
    return files, links


def _drop_in(unit: str) -> str:
    return f"{SYSTEM}/{unit}.d/10-er.conf"


def _unit(path: str) -> str:
    """The unit that a drop-in or a link is of."""
    parent, name = path.split("/")[-2:]
    return name if parent == WANTS else parent.removesuffix(".d")


def _files(files: dict[str, str], links: dict[str, str], existing: Existing) -> list[Change]:
    changes = [
        Change(kind="write", says=f"write /{path}", path=path, text=text)
        for path, text in files.items()
        if existing.files.get(path) != text
    ]
    changes += [
        Change(kind="link", says=f"start {_unit(p)} with er.target", path=p, text=target)
        for p, target in links.items()
        if existing.links.get(p) != target
    ]
    gone = [p for p in existing.files if p not in files]
    gone += [p for p in existing.links if p not in links]
    return changes + [Change(kind="remove", says=f"remove /{p}", path=p) for p in gone]


def _gateway_steps(
    old: Config | None,
    new: Config,
    differs: bool,
    moved: bool,
    anew: bool,
    active: Collection[str],
) -> list[Change]:
    """What the gateway needs: nothing, new workers, or a restart."""
    if moved:
        says = "start the gateway at its new addresses"
        ports = [HTTP, *(unit for unit in https.wanted(new) if unit in (HTTPS, HOSTS))]
        return [Change(kind="run", says=says, argv=_systemctl("start", *ports, GATEWAY))]
    if GATEWAY not in active:
        return []
    if anew:
        says = "restart the gateway: its unit changed (its port stays open meanwhile)"
        return [Change(kind="run", says=says, argv=_systemctl("restart", GATEWAY))]
    same = old is not None and all(
        getattr(old, f) == getattr(new, f) for f in old.__struct_fields__ if f not in NOT_WORKERS
    )
    if same or not differs:
        return []
    says = "give the gateway new workers with the new configuration; the old ones finish"
    hup = ("systemctl", "kill", "--kill-who=main", "--signal=HUP", GATEWAY)
    return [Change(kind="run", says=says, argv=hup)]


def _replica_steps(
    old: Config | None,
    new: Config,
    rewritten: Collection[str],
    added: Collection[str],
    active: Collection[str],
) -> list[Change]:
    """Restart replicas that changed; start those that are new, when er.target runs at all.

    One that the operator stopped stays so.
    """
    steps = []
    for replica in new.replicas:
        unit = REPLICA.format(replica.name)
        if replica.url:
            continue
        if unit in active:
            why = _why(old, new, replica.name) or ("its unit changed" if unit in rewritten else "")
            if why:
                argv = _systemctl("restart", "--no-block", unit)
                steps.append(Change(kind="run", says=f"restart {unit}: {why}", argv=argv))
        elif unit in added and TARGET in active:
            argv = _systemctl("start", "--no-block", unit)
            steps.append(Change(kind="run", says=f"start {unit}", argv=argv))
    return steps


def _why(old: Config | None, new: Config, name: str) -> str:
    """In words what of a replica's engine differs between the two, "" when nothing does."""
    before = old.replica(name) if old is not None else None
    after = new.replica(name)
    if old is None or before is None or after is None:
        return ""
    changed = [f for f in after.__struct_fields__ if getattr(before, f) != getattr(after, f)]
    one, two = old.model(before.model), new.model(after.model)
    if one is not None and two is not None:
        changed += [f for f in ENGINE_FIELDS if getattr(one, f) != getattr(two, f)]
    return f"changed: {', '.join(dict.fromkeys(changed))}" if changed else ""


def _systemctl(*words: str) -> tuple[str, ...]:
    return ("systemctl", *words)


def resumed(
    steps: Sequence[Change], left: Sequence[Change], config: Config, active: Collection[str]
) -> list[Change]:
    """`steps`, with what is `left` of an apply that failed or was interrupted.

    Its files were written, so the plan itself finds no difference there any more. What it would
    have stopped the plan finds again; a unit that `config` lacks or that does not run any more is
    left alone.
    """
    known = {REPLICA.format(r.name) for r in config.replicas if not r.url} | {GATEWAY, HTTP}
    known |= set(https.wanted(config))
    planned = {step.argv for step in steps}
    left = [c for c in left if c.argv not in planned and "stop" not in c.argv]
    running = known & set(active)
    left = [
        c
        for c in left
        if {w for w in c.argv if w.startswith("er-")} <= (known if "start" in c.argv else running)
    ]
    first = [c for c in left if "daemon-reload" in c.argv]
    return [*first, *steps, *(c for c in left if c not in first)]


def apply(changes: Sequence[Change], run: Run, root: Path = Path("/")) -> None:
    """Do every change, in order. `run` executes a command and raises when it fails."""
    for change in changes:
        path = root / change.path
        if change.kind == "write":
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, change.text, 0o644, None)
        elif change.kind == "link":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.symlink_to(change.text)
        elif change.kind == "remove":
            path.unlink(missing_ok=True)
            if path.parent.name.endswith(".d") and not any(path.parent.iterdir()):
                path.parent.rmdir()
        elif change.kind == "store":
            kept.store(root, change.text)
            store_applied(change.text)
        elif change.kind == "remember":
            kept.remember(change.text)
        else:
            run(change.argv)


def applied_text() -> str | None:
    """The text of what units run from; None before the first and where the file is damaged."""
    return kept.text_of(applied_path())


def store_applied(text: str) -> None:
    """Make `text` what units run from, whole or not at all, and on disk when this returns.

    The file belongs to user er, whoever writes it. Raises UnitsError.
    """
    path = applied_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    owner = None
    if os.geteuid() == 0:
        with contextlib.suppress(KeyError):
            account = pwd.getpwnam("er")
            owner = (account.pw_uid, account.pw_gid)
    if applied_text() != text:
        write(path, text, 0o640, owner)
