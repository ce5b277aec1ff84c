"""`er keys`: list, create, rotate, revoke and set, on the key file itself, gateway up or down."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson

from er import keys
from er.cli.audit import note
from er.cli.screen import clean, table
from er.config import ConfigError, active_path, load
from er.keys import KeysError
from er.moments import expiry, span_s
from er.quantities import rate


class KeyWish(msgspec.Struct, kw_only=True):
    """What the command line asked for. None = not said."""

    action: str  # list, create, rotate, revoke, set
    ref: str = ""  # an id or a unique name
    name: str | None = None
    expires: str | None = None
    rate_limit: str | None = None  # "default" takes it back to er.toml's
    models: str | None = None  # with commas; "all" lifts the restriction
    grace: str = "24h"
    as_json: bool = False


def run(wish: KeyWish) -> int:
    """Do it. Returns the exit status: 0 done, 1 not done and said why, 64 wrong use."""
    problem = _no_right(wish.action)
    if problem:
        return _fail(problem, 1)
    try:
        return _do(wish, datetime.now(UTC))
    except ValueError as error:
        return _fail(str(error), 64)
    except KeysError as error:
        return _fail(str(error), 1)


def _fail(text: str, code: int) -> int:
    print(f"er keys: {text}", file=sys.stderr)
    return code


def _no_right(action: str) -> str:
    """Why this user can't do that, in one sentence; "" when it can."""
    path = keys.path()
    folder = path.parent
    if not os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir raises where a parent is closed
        return f"there is no folder {folder} (or it is closed to you); run install.sh, or use sudo"
    right = os.R_OK if action == "list" else os.R_OK | os.W_OK
    if os.access(folder, right | os.X_OK) and (not path.exists() or os.access(path, os.R_OK)):
        return ""
    verb = "reads" if action == "list" else "changes"
    return f"this {verb} {path}, which needs root or user er: sudo er keys {action} …"


def _do(wish: KeyWish, now: datetime) -> int:
    path = keys.path()
    if wish.action == "list":
        return _list(wish.as_json, now)
    if wish.action == "create":
        if not (wish.name or "").strip():
            raise ValueError("a key needs a name: er keys create --name web")
        made = keys.create(
            path,
            name=str(wish.name),
            now=now,
            expires=expiry(wish.expires, now),
            rate_limit=_rate(wish.rate_limit),
            models=_models(wish.models),
        )
        note("keys.create", made.record.id)
        return _secret(made.shown(), wish.as_json, "New key")
    if wish.action == "rotate":
        turned = keys.rotate(path, wish.ref, grace_s=span_s(wish.grace), now=now)
        note("keys.rotate", turned.record.id)
        previous = keys.shown(turned.record)["previous_valid_until"]
        until = f"; the old secret is good until {previous}" if previous else "; the old one is out"
        return _secret(turned.shown(), wish.as_json, "New secret of key", until)
    if wish.action == "revoke":
        record = keys.revoke(path, wish.ref, now=now)
        note("keys.revoke", record.id)
        return _record(keys.shown(record), wish.as_json, "revoked: refused from now on")
    record = keys.change(path, wish.ref, now=now, **_changes(wish, now))
    note("keys.set", record.id)
    return _record(keys.shown(record), wish.as_json, "changed")


def _changes(wish: KeyWish, now: datetime) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if wish.name is not None:
        changes["name"] = wish.name
    if wish.expires is not None:
        changes["expires"] = expiry(wish.expires, now)
    if wish.rate_limit is not None:
        changes["rate_limit"] = _rate(wish.rate_limit)
    if wish.models is not None:
        changes["models"] = _models(wish.models)
    if not changes:
        raise ValueError("nothing to change: give --name, --expires, --rate-limit or --models")
    return changes


def _rate(text: str | None) -> str | None:
    if text is None or text == "default":
        return None
    rate(text)  # raises ValueError with how to write one
    return text


def _models(text: str | None) -> list[str] | None:
    """The names in "a,b"; None (all) for "all". One that er.toml lacks is said, not refused."""
    if text is None or text.strip() == "all":
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ValueError('--models: write names with commas between them, or "all"')
    with contextlib.suppress(ConfigError):
        config = load(active_path())
        for name in names:
            if config.model(name) is None:
                known = ", ".join(m.name for m in config.models)
                print(f"note: er.toml has no model {clean(name)}; it has: {known}", file=sys.stderr)
    return names


def _json(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def _secret(shown: Mapping[str, Any], as_json: bool, what: str, note: str = "") -> int:
    if as_json:
        print(_json(shown))
        return 0
    print(f"{what} {shown['id']} ({clean(shown['name'])}){note}.")
    print("Its secret, shown this once and stored nowhere:\n")
    print(f"    {shown['secret']}\n")
    print("Clients send it as:  Authorization: Bearer SECRET")
    return 0


def _record(shown: Mapping[str, Any], as_json: bool, what: str) -> int:
    if as_json:
        print(_json(shown))
    else:
        print(f"Key {shown['id']} ({clean(shown['name'])}) {what}.")
    return 0


def _list(as_json: bool, now: datetime) -> int:
    found: Sequence[Mapping[str, Any]] = keys.list_keys(keys.path())
    if as_json:
        print(_json({"keys": found}))
        return 0
    if not found:
        print("No keys. Make one: sudo er keys create --name web")
        return 0
    head = ("ID", "NAME", "STATE", "RATE", "MODELS", "EXPIRES", "CREATED", "LAST USED")
    print("\n".join(table([head, *(_row(key, now) for key in found)])))
    return 0


def _row(key: Mapping[str, Any], now: datetime) -> tuple[str, ...]:
    return (
        key["id"],
        key["name"],
        _state(key, now),
        key["rate_limit"] or "default",
        ", ".join(key["models"]) if key["models"] is not None else "all",
        _day(key["expires"]) or "never",
        _day(key["created"]),
        _day(key["last_used"]) or "-",
    )


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
