"""`er check`, `er apply` and `er reload`: from er.toml to what runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import orjson

from er import systemctl, units
from er.cli import as_data, check_fingerprints, check_machine, coming_up, generations, surge
from er.cli.admin_client import NoAdmin, call, told
from er.cli.audit import note
from er.cli.check import Found
from er.cli.command import run as _run
from er.config import Config, ConfigError, applied_path, directory, edited_path, load, read_text
from er.fingerprint import applied
from er.gpus import Gpus
from er.model_files import HIDDEN
from er.units import Change, UnitsError, adoption, kept, turns, vectors

ROOT = Path("/")  # where systemd's folders are
PROC = Path("/proc")
HUP = "--signal=HUP"
Which = Literal["edited", "previous", "applied"]
_REST = "what was said as done before this stays done; the rest: er apply again"


def _fail(command: str, text: str) -> int:
    print(f"er {command}: {text}", file=sys.stderr)
    return 1


def _print_json(data: dict[str, Any]) -> None:
    print(orjson.dumps(data, option=orjson.OPT_INDENT_2).decode())


def run_check(path: Path | None, *, as_json: bool = False) -> int:
    """`er check`. Returns 1 when there is an error among the findings."""
    path = path or edited_path()
    config, found, recipes, _ = check_machine.examined(path)
    if as_json:
        _print_json(as_data.checked(path, config, found, recipes))
        return 1 if any(item.finding.level == "error" for item in found) else 0
    for line in recipes:
        print(line)
    for item in found:
        print(item.finding)
    errors = sum(item.finding.level == "error" for item in found)
    if config is None:
        print(f"{path} can't be used: {_count(errors, 'error')}")
    elif found:
        warnings = len(found) - errors
        print(f"{path}: {_count(errors, 'error')}, {_count(warnings, 'warning')}")
    else:
        what = f"{_count(len(config.models), 'model')}, {_count(len(config.replicas), 'replica')}"
        print(f"{path} is good: {what}")
    return 1 if errors else 0


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


# -- apply ---------------------------------------------------------------------------------------


class NoPlanError(Exception):
    """There is no plan; the text says why and what to do."""


def run_apply(which: Which = "edited", *, dry_run: bool, new_vectors: bool = False) -> int:
    """`er apply`: say what is to be done, do it, say that it is done.

    `new_vectors`: names may give other vectors than they did when it was run last.

    `which` configuration: er.toml as it is edited, the one applied before the present one, or the
    present one again, which another version of ER may tell systemd in other words. One at a time:
    another one, or an `er reload`, is waited for.
    """
    try:
        _check_place(dry_run)
        if dry_run:
            return _run_apply(which, dry_run, new_vectors)
        with turns.alone(lambda: print("Another change is under way; this one waits.", flush=True)):
            return _run_apply(which, dry_run, new_vectors)
    except NoPlanError as refused:
        return _fail("apply", f"{refused}")
    except OSError as error:
        return _fail("apply", f"{error}; {_REST}")


def _run_apply(which: Which, dry_run: bool, new_vectors: bool) -> int:
    """Plan and do it. Raises NoPlanError, OSError."""
    path = _source(which, dry_run)
    seen = check_machine.examined(path, new_vectors=new_vectors)
    config = seen.config
    for item in seen.found:
        print(item.finding, file=sys.stderr)
    changes, notes = _planned(which, path, seen)
    assert config is not None  # there is a plan
    others = check_fingerprints.others(config, seen.fingerprints, _remembered())
    for said in notes:
        print(f"note: {said}", file=sys.stderr)
    try:
        if dry_run:
            return _apply(changes, dry_run) if changes else _nothing(path)
        with coming_up.alone():
            surge.clean_up(config, _run)
            if changes:
                return _apply(changes, dry_run, others)
            kept.keep_unfinished(ROOT, [])
            return _nothing(path)
    except coming_up.BusyError as busy:
        return _fail("apply", f"{busy}; nothing was changed")
    except UnitsError as error:
        return _fail("apply", f"{error}; {_REST}")


def _nothing(path: Path) -> int:
    print(f"Nothing to do: systemd matches {path.name}.")
    return 0


def run_plan(which: Which = "edited", *, new_vectors: bool = False) -> int:
    """`er apply --dry-run --json`: the same plan as data. 1 when there is none."""
    path: Path | None = None
    found: list[Found] = []
    try:
        _check_place(dry_run=True)
        path = _source(which, dry_run=True)
        seen = check_machine.examined(path, new_vectors=new_vectors)
        found = seen.found
        changes, notes = _planned(which, path, seen)
    except NoPlanError as refused:
        _print_json(as_data.planned(path, found, [], [], f"{refused}"))
        return 1
    _print_json(as_data.planned(path, found, changes, notes))
    return 0


def _check_place(dry_run: bool) -> None:
    """Raises NoPlanError where nothing can be applied, or not by this user."""
    if not systemctl.booted():
        raise NoPlanError(
            "systemd does not run this machine, so there are no units to change; er-gateway and "
            f"er-vllm NAME read {edited_path()} themselves when they are started"
        )
    if os.geteuid() != 0 and not dry_run:
        raise NoPlanError("this changes systemd's files and needs root: sudo er apply")


def _source(which: Which, dry_run: bool) -> Path:
    """The file to apply. Raises NoPlanError where there is none."""
    if not os.access(ROOT / kept.FOLDER, os.X_OK) and os.geteuid() != 0 and which != "edited":
        raise NoPlanError(f"{ROOT / kept.FOLDER} is closed to you: sudo er apply")
    if which == "applied":
        try:
            return adoption.again(ROOT, dry_run=dry_run)
        except (UnitsError, ConfigError) as error:
            raise NoPlanError(f"{error}") from None
    if which == "edited":
        return edited_path()
    path = kept.before(ROOT, units.applied_text())
    if not os.access(path, os.R_OK):
        raise NoPlanError(f"there is no configuration before this one ({path} is missing)")
    return path


def _planned(
    which: Which, path: Path, seen: check_machine.Examined
) -> tuple[list[Change], list[str]]:
    """The steps, and notes on them. Raises NoPlanError where there is no plan."""
    if seen.config is None or _blocked(seen.found):
        raise NoPlanError(f"{path} can't be applied; correct it. Nothing was changed.")
    notes: list[str] = []
    try:
        return _plan(which == "applied", seen, read_text(path), notes), notes
    except (UnitsError, OSError) as error:
        raise NoPlanError(f"{error}; nothing was changed") from None


def proposed(
    seen: check_machine.Examined, text: str, *, dry_run: bool
) -> tuple[list[Change], list[str]]:
    """What `er apply` would do with `text`, as it was `seen`, as er.toml. Raises NoPlanError."""
    _check_place(dry_run)
    notes: list[str] = []
    try:
        return _plan(False, seen, text, notes), notes
    except (UnitsError, OSError) as error:
        raise NoPlanError(f"{error}; nothing was changed") from None


def _blocked(found: Sequence[Found]) -> bool:
    return any(item.blocks for item in found)


def _applied_now(
    again: bool, config: Config, text: str, notes: list[str]
) -> tuple[str | None, Config | None]:
    """What units run from: text and meaning, None where there is none or it can't be used.

    Of what is applied again it is no part: units go on with what a reload has made of it.
    """
    if not os.access(directory("state"), os.X_OK):
        closed = "is closed to you, so all of it counts as new; sudo shows what really changes"
        notes.append(f"{directory('state')} {closed}")
    if not os.access(applied_path(), os.R_OK):
        return None, None
    try:
        now, old = units.applied_text(), load(applied_path())
    except ConfigError as error:  # of an older version of ER, say
        notes.append(f"{error.findings[0]}; it is replaced whole")
        return units.applied_text(), None
    return (text, config) if again else (now, old)


def _plan(again: bool, seen: check_machine.Examined, text: str, notes: list[str]) -> list[Change]:
    """The steps from the applied configuration to that one; what they rest on goes to `notes`."""
    config = seen.config
    assert config is not None
    applied_text, old = _applied_now(again, config, text, notes)
    active = units.active_units(_run)
    steps = units.plan(
        old,
        config,
        text,
        applied_text=applied_text,
        kept_text=kept.text_of(kept.applied(ROOT)),
        existing=units.read_existing(ROOT),
        gpus=Gpus().read(),
        active=active,
        weights=units.weights_here(config),
    )
    steps = units.resumed(steps, kept.unfinished(ROOT), config, active)
    steps = vectors.steps(
        steps,
        config,
        applied=_remembered(),
        now=check_fingerprints.given(config, seen.fingerprints),
        active=active,
    )
    notes += _out(steps, config)
    if left := surge.there():
        notes.append(f"a successor of {left} was left by er restart --surge; er apply ends it")
    return _seen_anew(steps, config) if systemctl.GATEWAY in active else steps


def _seen_anew(steps: list[Change], config: Config) -> list[Change]:
    """`steps`, with a restart of the gateway when it does not see a model's folder that is there.

    A unit is shown folders below /home and the like as they were when it was started.
    """
    shown = systemctl.show([systemctl.GATEWAY]) or {}
    pid = shown[systemctl.GATEWAY].pid if systemctl.GATEWAY in shown else 0
    restarts = ({"restart", systemctl.GATEWAY}, {"start", systemctl.GATEWAY})
    if not pid or any(words <= {*step.argv} for step in steps for words in restarts):
        return steps
    new = next((m.path for m in config.models if m.path and _unseen(m.path, pid)), None)
    if new is None:
        return steps
    restart = Change(
        kind="run",
        says=f"restart the gateway: {new} came after its start (its port stays open meanwhile)",
        argv=("systemctl", "restart", systemctl.GATEWAY),
    )
    return [*(step for step in steps if HUP not in step.argv), restart]


def _unseen(path: Path, pid: int) -> bool:
    """Whether that process sees something else than we at a `path` that units see bound in."""
    if not f"{path}/".startswith(HIDDEN):
        return False
    try:
        here = path.stat()
    except OSError:
        return False
    try:
        there = (PROC / str(pid) / "root" / path.relative_to("/")).stat()
    except FileNotFoundError:
        return True
    except OSError:  # somebody who may not look there
        return False
    return not os.path.samestat(here, there)


def _remembered() -> applied.Applied:
    """What names gave vectors of at the last apply."""
    return applied.read(kept.fingerprints())


def _apply(changes: Sequence[Change], dry_run: bool, others: Sequence[str] = ()) -> int:
    """Say the changes and do them; `others` are names that give other vectors from now on."""
    print("Would be done:" if dry_run else "To be done:")
    for change in changes:
        print(f"  {change.says}")
        if dry_run and change.kind == "write":
            print("".join(f"      {line}\n" for line in change.text.splitlines()), end="")
    if dry_run:
        return 0
    before = generations.current()
    left = [change for change in changes if change.kind == "run"]
    kept.keep_unfinished(ROOT, left)
    for change in changes:
        if change.rolls:
            _roll(change)
        else:
            units.apply([change], _run, ROOT)
        print(f"done: {change.says}", flush=True)
        if change in left:
            left.remove(change)
            kept.keep_unfinished(ROOT, left)
    note("apply", f"{len(changes)} changes")
    if others:
        note("apply --new-vectors", ", ".join(others))
    if any(HUP in change.argv for change in changes):
        if why := generations.failure(before):
            return _fail("apply", why)
        print("done: the new workers answer")
    return 0


def _roll(change: Change) -> None:
    """Restart a replica and wait for it. Raises UnitsError where it does not come up."""
    name = systemctl.replica_of(change.argv[-1])
    try:
        coming_up.restart(name, _run, lambda _: None)
    except coming_up.NotUpError as error:
        others = "so the other replicas of its model were left as they are"
        raise UnitsError(f"{name} did not come up: {error}; {others}") from None


def _out(steps: Sequence[Change], config: Config) -> Iterator[str]:
    """What the restarts of lone replicas mean for clients, where it is known how long they take."""
    for change in steps:
        name = systemctl.replica_of(change.argv[-1]) if change.argv else ""
        replica = config.replica(name) if "restart" in change.argv and not change.rolls else None
        if replica is not None:
            took = coming_up.start_s(name)
            if took is not None:
                yield f"{name}: its clients get 503 for about {took + coming_up.STOP_S:.0f} s"


# -- while everything runs -----------------------------------------------------------------------


def run_reload() -> int:
    """`er reload`: returns when what needs no restart is in force; 1 and nothing changed if not."""
    if os.access(edited_path(), os.R_OK):
        try:
            load(edited_path())
        except ConfigError as error:
            print(error, file=sys.stderr)
            return _fail("reload", "nothing was changed; correct er.toml and try again")
    try:
        code, answer = call("POST", "/reload", timeout_s=generations.RELOAD_S)
    except NoAdmin as error:
        return _fail("reload", f"{error}")
    if code != 200:
        error_ = answer.get("error")
        for line in error_.get("findings", []) if isinstance(error_, dict) else []:
            print(line, file=sys.stderr)
        return _fail("reload", told(answer))
    taken, held = answer["taken"], answer["held"]
    print("In force:" if taken else "Nothing had changed that a reload takes up.")
    print("".join(f"  {line}\n" for line in taken), end="")
    if held:
        print("Waits for sudo er apply, which restarts what it must:")
        print("".join(f"  {line}\n" for line in held), end="")
    return 0
