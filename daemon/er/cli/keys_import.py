"""`er keys import`: the keys of another server, so that its clients need no new ones."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from er import keys
from er.cli.audit import note
from er.cli.keys import KeyWish, fail, fields, no_right, noting_version, place, printed, tell
from er.cli.screen import clean
from er.keys import KeysError, imported
from er.moments import expiry

BYTES_MAX = 16 << 20


def run(wish: KeyWish, files: Sequence[str], *, dry_run: bool, allow_weak: bool) -> int:
    """Do it. Returns 0 when every key of the files is in, 1 when some are not, 64 for wrong use."""
    if (problem := no_right("list" if dry_run else "import")) != "":
        return fail(problem, 1)
    now = datetime.now(UTC)
    found: list[imported.Found | imported.Wrong] = []
    try:
        said, end = fields(wish), expiry(wish.expires, now)
        for name in files:
            where = "standard input" if name == "-" else Path(name).name
            stem = "imported" if name == "-" else Path(name).stem
            found += [_placed(one, where, stem) for one in imported.read(_data(name))]
        kept = place()
        with noting_version():
            done = keys.import_keys(
                kept,
                found,
                now=now,
                expires=end,
                fields=said,
                allow_weak=allow_weak,
                dry_run=dry_run,
            )
    except ValueError as error:
        return fail(str(error), 64)
    except KeysError as error:
        return fail(str(error), 64 if error.field else 1)
    except OSError as error:
        return fail(f"{error.filename}: {error.strerror}", 1)
    tell(getattr(kept, "note", ""))
    if not dry_run:
        for one in done:
            if one.outcome == "new":
                note("keys.import", one.id)
    _tell(done, files, wish.as_json, dry_run)
    return 0 if all(one.outcome in ("new", "known") for one in done) else 1


def _data(name: str) -> bytes:
    """The file's bytes. Raises OSError, ValueError."""
    if name == "-":
        data = sys.stdin.buffer.read(BYTES_MAX + 1)
    else:
        with Path(name).open("rb") as file:
            data = file.read(BYTES_MAX + 1)
    if len(data) > BYTES_MAX:
        raise ValueError(f"{name} is larger than {BYTES_MAX >> 20} MiB; is it a file of keys?")
    return data


def _placed(
    one: imported.Found | imported.Wrong, where: str, stem: str
) -> imported.Found | imported.Wrong:
    """The same with the file's name; a key without a name is called after its file."""
    if isinstance(one, imported.Wrong):
        return imported.Wrong(f"{where}, {one.place}", one.why)
    number = one.place.rpartition(" ")[2]
    name = one.name or clean(f"{stem[:40]} {number}")
    return imported.Found(f"{where}, {one.place}", name, one.secret)


def _tell(
    done: Sequence[keys.Imported], files: Sequence[str], as_json: bool, dry_run: bool
) -> None:
    new = [one for one in done if one.outcome == "new"]
    known = [one for one in done if one.outcome == "known"]
    wrong = [one for one in done if one.outcome not in ("new", "known")]
    if as_json:
        rows = [{"place": o.place, "outcome": o.outcome, "id": o.id, "name": o.name} for o in done]
        printed({"dry_run": dry_run, "imported": len(new), "keys": rows})
        return
    for one in new:
        print(f"  {one.id if not dry_run else 'new':9}  {clean(one.name)}  ({one.place})")
    for one in wrong:
        print(f"  not in     {one.place}: {one.why}")
    would = "would come in" if dry_run else "came in"
    print(f"{len(new)} {'key' if len(new) == 1 else 'keys'} {would}", end="")
    print(f", {len(known)} were in already" if known else "", end="")
    print(f", {len(wrong)} did not" if wrong else "", end=".\n")
    if new and not dry_run:
        named = " ".join(name for name in files if name != "-")
        if named:
            print(f"{named} still holds the secrets in plain text, as it was; when all is well:")
            print(f"    shred -u {named}")
