"""`er keys`: list, show, create, rotate, revoke and set, on the key file, gateway up or down."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import orjson

from er import keys
from er.cli.audit import note
from er.cli.screen import Name, clean, table
from er.config import ConfigError, active_path, load, read_text
from er.keys import KeysError, Where
from er.keys.bounds import DEFAULT_SCOPES, Fields
from er.moments import expiry, span_s
from er.quantities import rate

STATE = re.compile(r"(?m)^\s*(\[\s*state\s*\]|state\s*[.=])")
BOUNDS = ("scopes", "team", "concurrency", "token_limit", "quota", "networks", "weight")
READING = ("list", "show")
NOTHING = (
    "nothing to change: give --name, --expires, --rate-limit, --models, --scopes, --team, "
    "--concurrency, --token-limit, --quota, --networks or --weight"
)


class KeyWish(msgspec.Struct, kw_only=True):
    """What the command line asked for. None = not said."""

    action: str  # list, show, create, rotate, revoke, set
    ref: str = ""  # an id or a unique name
    name: str | None = None
    expires: str | None = None
    rate_limit: str | None = None  # "default" takes it back to er.toml's
    models: str | None = None  # with commas; "all" lifts the restriction
    scopes: str | None = None  # with commas; "default" is what keys have that are told nothing
    team: str | None = None  # "none" takes it out
    concurrency: str | None = None  # "off" lifts it, as with the two that follow
    token_limit: str | None = None
    quota: str | None = None
    networks: str | None = None  # with commas; "all" lifts the restriction
    weight: str | None = None
    grace: str = "24h"
    as_json: bool = False


def run(wish: KeyWish) -> int:
    """Do it. Returns the exit status: 0 done, 1 not done and said why, 64 wrong use."""
    problem = no_right(wish.action)
    if problem:
        return fail(problem, 1)
    try:
        with noting_version():
            kept = place()
            try:
                return _do(wish, kept, datetime.now(UTC))
            finally:
                tell(getattr(kept, "note", ""))
    except ValueError as error:
        return fail(str(error), 64)
    except KeysError as error:
        return fail(str(error), 64 if error.field in BOUNDS else 1)


@contextlib.contextmanager
def noting_version() -> Iterator[None]:
    """Say it when the key file becomes one that an older ER can't read."""
    path = keys.for_older(keys.path())
    there = os.path.exists(path)  # noqa: PTH110 - Path.exists raises in a closed folder
    yield
    if not there and os.path.exists(path):  # noqa: PTH110
        print(
            f"note: the key file is of version 2 from now on; for an ER that reads version 1 alone "
            f"there is {path}: er help keys",
            file=sys.stderr,
        )


def place() -> Where:
    """Where keys are changed, by what units run from. Raises KeysError."""
    source = active_path()
    try:
        return keys.where(load(source))
    except ConfigError as error:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if STATE.search(read_text(source)):
                told = "no key changed, as hosts may share them, and er.toml does not say how"
                raise KeysError("invalid", f"{told}; {error.findings[0]}") from None
    return keys.path()


def tell(text: str) -> None:
    """A note beside the answer."""
    if text:
        print(f"note: {text}", file=sys.stderr)


def fail(text: str, code: int) -> int:
    """Say what is wrong; the exit status."""
    print(f"er keys: {text}", file=sys.stderr)
    return code


def no_right(action: str) -> str:
    """Why this user can't do that, in one sentence; "" when it can."""
    path = keys.path()
    folder = path.parent
    if not os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir raises where a parent is closed
        return f"there is no folder {folder} (or it is closed to you); run install.sh, or use sudo"
    right = os.R_OK if action in READING else os.R_OK | os.W_OK
    if os.access(folder, right | os.X_OK) and (not path.exists() or os.access(path, os.R_OK)):
        return ""
    if os.statvfs(folder).f_flag & os.ST_RDONLY and right & os.W_OK:
        return f"{folder} lies on a read-only file system; no key changed, remount it (findmnt)"
    verb = "reads" if action in READING else "changes"
    return f"this {verb} {path}, which needs root or user er: sudo er keys {action} …"


def _do(wish: KeyWish, kept: Where, now: datetime) -> int:
    if wish.action in READING:
        tell("" if isinstance(kept, Path) else kept.freshened())
        if wish.action == "list":
            return _list(wish.as_json, now)
        return _show(wish.ref, wish.as_json, now)
    if wish.action == "create":
        if not (wish.name or "").strip():
            raise ValueError("a key needs a name: er keys create --name web")
        made = keys.create(
            kept,
            name=str(wish.name),
            now=now,
            expires=expiry(wish.expires, now),
            **fields(wish),
        )
        note("keys.create", made.record.id)
        return _secret(made.shown(), wish.as_json, "New key")
    if wish.action == "rotate":
        turned = keys.rotate(kept, wish.ref, grace_s=span_s(wish.grace), now=now)
        note("keys.rotate", turned.record.id)
        previous = keys.shown(turned.record)["previous_valid_until"]
        until = f"; the old secret is good until {previous}" if previous else "; the old one is out"
        return _secret(turned.shown(), wish.as_json, "New secret of key", until)
    if wish.action == "revoke":
        record = keys.revoke(kept, wish.ref, now=now)
        note("keys.revoke", record.id)
        return _record(keys.shown(record), wish.as_json, "revoked: refused from now on")
    record = keys.change(kept, wish.ref, now=now, **_changes(wish, now))
    note("keys.set", record.id)
    return _record(keys.shown(record), wish.as_json, "changed")


def _changes(wish: KeyWish, now: datetime) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if wish.name is not None:
        changes["name"] = wish.name
    if wish.expires is not None:
        changes["expires"] = expiry(wish.expires, now)
    changes.update(fields(wish))
    if not changes:
        raise ValueError(NOTHING)
    return changes


def fields(wish: KeyWish) -> Fields:
    """What was said of what a key may; what was not is not in it. Raises ValueError."""
    found: Fields = {}
    if wish.rate_limit is not None:
        found["rate_limit"] = _rate(wish.rate_limit)
    if wish.models is not None:
        found["models"] = _models(wish.models)
    if wish.scopes is not None:
        found["scopes"] = _names(wish.scopes, "default")
    if wish.team is not None:
        found["team"] = None if wish.team == "none" else wish.team
    if wish.concurrency is not None:
        found["concurrency"] = None if wish.concurrency == "off" else _count(wish.concurrency)
    if wish.weight is not None:
        found["weight"] = _count(wish.weight)
    if wish.token_limit is not None:
        found["token_limit"] = wish.token_limit
    if wish.quota is not None:
        found["quota"] = wish.quota
    if wish.networks is not None:
        found["networks"] = _names(wish.networks, "all")
    return found


def _names(text: str, none: str) -> list[str] | None:
    """The names in "a,b"; None for the word that takes the bound away."""
    return None if text.strip() == none else [n.strip() for n in text.split(",") if n.strip()]


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError('--concurrency and --weight: write a whole number, as in 8 (or "off")')
    return int(text)


def _rate(text: str | None) -> str | None:
    if text is None or text == "default":
        return None
    rate(text)  # raises ValueError with how to write one
    return text


def _models(text: str | None) -> list[str] | None:
    """The names in "a,b"; None (all) for "all". One that er.toml lacks is said, not refused."""
    if text is None or text.strip() == "all":
        return None
    names = _names(text, "all")
    if not names:
        raise ValueError('--models: write names with commas between them, or "all"')
    with contextlib.suppress(ConfigError):
        config = load(active_path())
        for name in names:
            if config.model(name) is None:
                known = ", ".join(m.name for m in config.models)
                print(f"note: er.toml has no model {clean(name)}; it has: {known}", file=sys.stderr)
    return names


def printed(value: object) -> None:
    """Print it as JSON."""
    print(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def _secret(shown: Mapping[str, Any], as_json: bool, what: str, note: str = "") -> int:
    if as_json:
        printed(shown)
        return 0
    print(f"{what} {shown['id']} ({clean(shown['name'])}){note}.")
    print("Its secret, shown this once and stored nowhere:\n")
    print(f"    {shown['secret']}\n")
    print("Clients send it as:  Authorization: Bearer SECRET")
    return 0


def _record(shown: Mapping[str, Any], as_json: bool, what: str) -> int:
    if as_json:
        printed(shown)
    else:
        print(f"Key {shown['id']} ({clean(shown['name'])}) {what}.")
    return 0


def _list(as_json: bool, now: datetime) -> int:
    found: Sequence[Mapping[str, Any]] = keys.list_keys(keys.path())
    if as_json:
        printed({"keys": found})
        return 0
    if not found:
        print("No keys. Make one: sudo er keys create --name web")
        return 0
    head = ["ID", "NAME", "STATE", "RATE", "MODELS", "EXPIRES", "CREATED", "LAST USED"]
    rows = [_row(key, now) for key in found]
    if any(key["team"] for key in found):  # after the name
        head.insert(2, "TEAM")
        for key, row in zip(found, rows, strict=True):
            row.insert(2, key["team"] or "-")
    print("\n".join(table([head, *rows])))
    if any(_bounded(key) for key in found):
        print("\n* more bounds: er keys show KEY")
    return 0


def _bounded(key: Mapping[str, Any]) -> bool:
    usual = set(key["scopes"]) == DEFAULT_SCOPES
    return not usual or any(key[f] for f in BOUNDS if f not in ("scopes", "team"))


def _show(ref: str, as_json: bool, now: datetime) -> int:
    found = keys.list_keys(keys.path())
    key_id = keys.find(keys.path(), ref).id
    key = next(key for key in found if key["id"] == key_id)
    if as_json:
        printed(key)
        return 0
    of = key["previous_used_by"]
    rows = [
        ("id", key["id"] + (" (its secret was another server's)" if key["imported"] else "")),
        ("name", Name(key["name"])),
        ("state", _state(key, now)),
        ("team", Name(key["team"] or "-")),
        ("scopes", ", ".join(key["scopes"])),
        ("models", Name(", ".join(key["models"])) if key["models"] else "all"),
        ("networks", ", ".join(key["networks"] or ("all",))),
        ("rate limit", key["rate_limit"] or "default"),
        ("concurrency", str(key["concurrency"] or "off")),
        ("token limit", key["token_limit"] or "off"),
        ("quota", key["quota"] or "off"),
        ("weight", str(key["weight"] or 1)),
        ("created", _day(key["created"])),
        ("expires", _day(key["expires"]) or "never"),
        ("last used", _day(key["last_used"]) or "-"),
    ]
    if of is not None:
        clients = ", ".join(one["client"] for one in of) or "nobody"
        rows.append(("its old secret is still used by", clients))
    print("\n".join(table(rows, named=False)))
    return 0


def _row(key: Mapping[str, Any], now: datetime) -> list[str]:
    return [
        key["id"],
        Name(key["name"] + (" *" if _bounded(key) else "")),
        _state(key, now),
        key["rate_limit"] or "default",
        Name(", ".join(key["models"])) if key["models"] is not None else "all",
        _day(key["expires"]) or "never",
        _day(key["created"]),
        _day(key["last_used"]) or "-",
    ]


def _state(key: Mapping[str, Any], now: datetime) -> str:
    if key.get("revoked"):
        return "revoked"
    if _over(key["expires"], now):
        return "expired"
    if key["previous_valid_until"] and not _over(key["previous_valid_until"], now):
        return f"rotating until {_day(key['previous_valid_until'])}"
    return "active"


def _over(moment: str | None, now: datetime) -> bool:
    return moment is not None and datetime.fromisoformat(moment) <= now


def _day(moment: str | None) -> str:
    """A moment of the JSON as people read it, in UTC to the minute."""
    if not moment:
        return ""
    return f"{datetime.fromisoformat(moment).astimezone(UTC):%Y-%m-%d %H:%M}"
