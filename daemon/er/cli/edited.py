"""One change of er.toml made by a command: shown as a diff, checked, asked, written, applied.

er.toml is written anew beside itself and renamed; what it was before stays as er.toml.before, from
which one line brings it back. A file that was changed while the question stood is left alone.
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from er import durable, systemctl, units
from er.chinese import heard, settled
from er.cli import check_fingerprints, check_machine, consent
from er.cli import units as cli_units
from er.cli.audit import note
from er.cli.manual import WRONG_USE
from er.cli.screen import clean
from er.config import Config, ConfigError, applied_path, edited_path, parse
from er.config.edits import EditError, masked
from er.units import Change

BEFORE = ".before"  # behind er.toml's name: its text before the last change by a command
AROUND = 3  # lines of a diff round a change


class ChangeError(Exception):
    """A change that is not made; the text says why and what to do."""


class Will(msgspec.Struct, frozen=True, kw_only=True):
    """How far the change goes, as the command line says."""

    dry_run: bool = False
    yes: bool = False
    apply: bool = True


class Held(msgspec.Struct, frozen=True):
    """er.toml as it was read, and what it means."""

    path: Path
    data: bytes
    config: Config

    @property
    def text(self) -> str:
        return self.data.decode("utf-8")

    def changed(self, text: str) -> Config:
        """What it would mean with that text. Raises ChangeError with each finding."""
        try:
            return parse(text, self.path)
        except ConfigError as error:
            told = "\n".join(map(str, error.findings))
            raise ChangeError(f"{told}\nnothing was changed") from None


def read() -> Held:
    """er.toml, the file itself where it is a link. Raises ChangeError."""
    path = edited_path()
    try:
        data = path.read_bytes()
        return Held(path, data, parse(data.decode("utf-8"), path))
    except PermissionError:
        raise ChangeError(f"{path} is closed to you; put sudo before the command") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ChangeError(f"{path} can't be read: {error}; er check") from None
    except ConfigError as error:
        told = "\n".join(map(str, error.findings))
        raise ChangeError(f"{told}\ncorrect that first; nothing was changed") from None


def run(command: str, change: Callable[[Held], tuple[str, str, list[str]]], will: Will) -> int:
    """Read er.toml, `change` it and carry that out. Returns 0 done, 1 not done, 64 nobody to ask.

    `change` makes of what is held the new text, the change's target, and why it is so.
    """
    try:
        held = read()
        text, target, why = change(held)
        return carry_out(held, text, will, command=command, target=target, why=why)
    except (ChangeError, EditError) as error:
        return refused(command, error)


def carry_out(
    held: Held, text: str, will: Will, *, command: str, target: str, why: Sequence[str]
) -> int:
    """Make er.toml `text` and apply it, each step said. Returns the exit status.

    0 done, 1 not done, 64 nobody to ask. `command` and `target` name the change in messages and in
    the audit, `why` are lines on what was chosen. Raises ChangeError; then nothing has changed.
    """
    if os.geteuid() != 0 and will.apply and not will.dry_run:
        raise ChangeError(f"this changes er.toml and units: sudo er {command} … (or --dry-run)")
    seen = _checked(held, text, will)
    print("".join(f"{clean(line)}\n" for line in why), end="")
    print("".join(_diff(held, text)), end="")
    _tell_plan(held, seen, text, will)
    if will.dry_run:
        return 0
    if not will.yes:
        if not sys.stdin.isatty():
            print(f"er {command}: nothing was changed; to have it done: --yes", file=sys.stderr)
            return WRONG_USE
        if not consent.given("Do this?" if will.apply else "Write this?", sys.stdout):
            raise ChangeError("nothing was changed")
    _write(held, text, command)
    note(command.replace(" ", "."), target)
    print(f"done: {held.path} is changed; as it was before: {_kept(held)}", flush=True)
    if not will.apply:
        print("In force with: sudo er apply")
        print(_back(held))
        return 0
    return _apply(held, text, command)


def _checked(held: Held, text: str, will: Will) -> check_machine.Examined:
    """What `text` means, its findings said. Raises ChangeError for errors that it brings."""
    seen = check_machine.examined_text(text, held.path)
    config, found = seen.config, seen.found
    errors = [item for item in found if item.finding.level == "error"]
    if errors and config is not None:
        # An error that was there before is no reason against a change that leaves it as it is.
        earlier = check_machine.examined_text(held.text, held.path).found
        known = {item.finding.message for item in earlier if not item.blocks}
        errors = [item for item in errors if item.finding.message not in known]
    for item in found:
        print(item.finding, file=sys.stderr)
    # Another model's vectors under an old name are refused, or agreed to, by er apply alone.
    rest = [e for e in errors if not e.finding.message.endswith(check_fingerprints.WAYS)]
    if config is None or rest or (errors and will.apply):
        told = "with this change er.toml would have errors (above); nothing was changed"
        if config is not None and not rest:
            told += ". For er apply --new-vectors er.toml alone is changed with --no-apply"
        raise ChangeError(told)
    new = [m.name for m in config.models if held.config.model(m.name) is None]
    print("".join(_recipes(seen.recipes, new)), end="")
    return seen


def _recipes(lines: Sequence[str], models: Sequence[str]) -> Iterator[str]:
    """Of the lines on each model's recipe those on these models."""
    shown = False
    for line in lines:
        if not line.startswith(" "):
            shown = any(line.startswith(f"{name}: ") for name in models)
        if shown:
            yield f"{line}\n"


def _diff(held: Held, text: str) -> Iterator[str]:
    """What changes of er.toml, without the secrets in it."""
    old, new = (masked(one).splitlines() for one in (held.text, text))
    names = (str(held.path), f"{held.path} ({heard('as it would be')})")
    lines = difflib.unified_diff(old, new, *names, n=AROUND, lineterm="")
    for at, line in enumerate(lines):
        yield f"{_shown(line) if at < 2 else settled(_shown(line))}\n"  # the names come first


def _shown(line: str) -> str:
    """A line with its blanks as they are, without what a terminal would obey."""
    head = line[: len(line) - len(line.lstrip(" "))]
    return head + "".join(c if c == "\t" or c.isprintable() else "?" for c in line[len(head) :])


def _tell_plan(held: Held, seen: check_machine.Examined, text: str, will: Will) -> None:
    """What er apply would do then, and what it means for clients. Raises ChangeError."""
    if not will.apply:
        return
    plain = text.replace("\r\n", "\n")
    config = seen.config
    assert config is not None  # it was checked
    try:
        changes, notes = cli_units.proposed(seen, plain, dry_run=will.dry_run)
    except cli_units.NoPlanError as refused:
        if will.dry_run:
            print(f"note: {refused}", file=sys.stderr)
            return
        raise ChangeError(f"{refused}. er.toml alone is changed with --no-apply") from None
    now = units.applied_text()
    if now is not None and now != held.text.replace("\r\n", "\n"):
        print("note: er.toml has other changes that are not applied yet; they come with it")
    print("er apply then does:")
    for change in changes:
        print(f"  {change.says}")
    gaps = [said for name, said in _gaps(config, changes) if not _spoken_of(name, notes)]
    for said in (*notes, *gaps):
        print(f"note: {said}")


def _spoken_of(name: str, notes: Sequence[str]) -> bool:
    return any(said.startswith(f"{name}: ") for said in notes)


def _gaps(config: Config, changes: Sequence[Change]) -> Iterator[tuple[str, str]]:
    """(replica, what is said of it) where nobody else serves its model during its restart."""
    for change in changes:
        name = systemctl.replica_of(change.argv[-1]) if change.argv else ""
        replica = config.replica(name) if "restart" in change.argv else None
        if replica is not None and len(config.replicas_of(replica.model)) == 1:
            yield (
                name,
                f"{name} is the only replica of {replica.model}: its clients get 503 until it is "
                "up again",
            )


def _write(held: Held, text: str, command: str) -> None:
    """Put `text` in the place of er.toml. Raises ChangeError; then it is as it was."""
    path = Path(os.path.realpath(held.path))
    try:
        there = path.stat()
        if not stat.S_ISREG(there.st_mode):
            raise ChangeError(f"{path} is no plain file, so it is not written; change it by hand")

        def owned(file: int) -> None:
            os.fchmod(file, stat.S_IMODE(there.st_mode))
            if (there.st_uid, there.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(file, there.st_uid, there.st_gid)

        with _alone(path) as alone:
            # First: what another command has kept is its way back.
            if not alone or path.read_bytes() != held.data:
                told = f"{path} was changed meanwhile, by somebody else; nothing was changed"
                raise ChangeError(f"{told}: er {command} … again")
            durable.put(_kept(held), held.data, 0o600, owned)
            durable.put(path, text.encode("utf-8"), 0o600, owned)
            durable.sync_folder(path.parent)
    except OSError as error:
        told = f"{error.filename or path}: {error.strerror or error}"
        cure = f": sudo er {command} …" if isinstance(error, PermissionError) else ""
        raise ChangeError(f"{told}; er.toml is as it was, nothing was applied{cure}") from None


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Hold the lock on er.toml as it is now; False where another command is writing it.

    Who may read the file could hold it too, so nobody waits for it.
    """
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _kept(held: Held) -> Path:
    """Where er.toml is kept as it was: beside the file itself where that is a link."""
    return Path(f"{os.path.realpath(held.path)}{BEFORE}")


def _back(held: Held) -> str:
    path = held.path
    return f"Back to what it was: sudo cp {_kept(held)} {path} && sudo er apply"


def _apply(held: Held, text: str, command: str) -> int:
    """Apply it; says where er.toml and units stand when that does not come to its end."""
    code = 1
    try:
        code = cli_units.run_apply("edited", dry_run=False)
    finally:
        if code != 0:
            taken = False
            with contextlib.suppress(OSError):
                taken = units.applied_text() == text.replace("\r\n", "\n")
            where = "the new configuration, but not all was done" if taken else "the former one"
            lines = (
                f"er {command}: {held.path} has the change, and it is not applied whole",
                f"  units run from {where} ({applied_path()})",
                "  go on: sudo er apply",
                f"  {_back(held)}",
            )
            print("\n".join(lines), file=sys.stderr)
    if code == 0:
        print(_back(held))
    return code


def refused(command: str, error: ChangeError | EditError) -> int:
    """Say it. Returns 1."""
    if isinstance(error, EditError):
        print(f"er {command}: {edited_path()}: {error}", file=sys.stderr)
    else:
        print(f"er {command}: {error}", file=sys.stderr)
    return 1
