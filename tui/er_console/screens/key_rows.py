"""The Keys page in words: a key's state, use against limit, who still uses an old secret. Pure."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

from er_console.judgement import lasted
from er_console.language import count, noted, say
from er_console.looks import Looks, Piece, figure
from er_console.reading import moment
from er_console.state import Key, Use
from er_console.tables import Column, Row

SOON_S = 7 * 86400.0
MUCH = 0.8  # of a limit in use
BAR = 6
USERS_SHOWN = 4
DIGITS = re.compile(r"(\d+)")
BOUNDS = {
    "scopes": noted("for {value} alone"),
    "networks": noted("from {value}"),
    "concurrency": noted("{value} requests at once"),
    "token_limit": noted("{value} tokens"),
    "quota": noted("quota {value}"),
    "weight": noted("weight {value}"),
}
LIVING = ("active", "rotating", "expires soon")

KEY_COLUMNS = (
    Column(noted("name"), 10, 24),
    Column(noted("id"), 9, 9),
    Column(noted("state"), 14, 14),
    Column(noted("limit"), 11, 11, from_width=76),
    Column(noted("used now"), 11, 11, right=True),
    Column("", BAR, BAR, from_width=105),
    Column(noted("per min"), 7, 7, right=True, from_width=66),
    Column(noted("refused"), 7, 8, right=True, from_width=105),
    Column(noted("last used"), 9, 14),
    Column(noted("old secret till"), 15, 16, from_width=130),
    Column(noted("expires"), 10, 16, from_width=145),
    Column(noted("models"), 8, 400, from_width=100),
)


def key_state(key: Key, now: float) -> str:
    """active, expires soon, rotating (the old secret still works), expired or revoked."""
    if key.revoked:
        return "revoked"
    expires = moment(key.expires)
    if expires is not None and expires <= now:
        return "expired"
    if expires is not None and expires <= now + SOON_S:
        return "expires soon"
    return "rotating" if old_until(key, now) is not None else "active"


def old_until(key: Key, now: float) -> float | None:
    """Until when the old secret works, None when none does."""
    until = moment(key.previous_valid_until)
    return until if until is not None and until > now and not key.revoked else None


def in_order(keys: Iterable[Key], now: float) -> list[Key]:
    """Those that open the door first; by name then, so that no row moves as it is used."""
    ranks = {"expired": 1, "revoked": 2}

    def place(key: Key) -> tuple[int, list[str | int], str]:
        parts = enumerate(DIGITS.split(key.name.casefold()))  # every second one is a number
        named = [int(part) if place % 2 else part for place, part in parts]
        return ranks.get(key_state(key, now), 0), named, key.id

    return sorted(keys, key=place)


def when(at: float, now: float) -> str:
    """Local time: of day when it is today's, else with its date."""
    then = time.localtime(at)
    today = then[:3] == time.localtime(now)[:3]
    return time.strftime("%H:%M" if today else "%Y-%m-%d %H:%M", then)


def limit_of(use: Use) -> float | None:
    """The number in the limit; None without one."""
    digits = use.limit.partition("/")[0]
    return float(digits) if digits.isascii() and digits.isdigit() else None


def _short(limit: str) -> str:
    """The limit in at most 11 cells: 20k/minute; the line below the table has it in full."""
    number, period = limit_of(Use(limit)), limit.partition("/")[2]
    return f"{figure(number)}/{period}" if number is not None and period else limit


def _used(use: Use, looks: Looks) -> tuple[Piece, Piece]:
    """37/100 and a bar; with a sign where little or nothing is left."""
    most = limit_of(use)
    if use.used is None or not most:
        return ("-", "dim"), ("", "")
    said, part = f"{figure(use.used)}/{figure(most)}", use.used / most
    bar = (looks.bar(part, BAR), "plot")
    if part < MUCH:
        return (said, ""), bar
    full = part >= 1
    return (f"{looks.glyph('down' if full else 'slow')} {said}", "bad" if full else "warn"), bar


def key_row(key: Key, now: float, looks: Looks) -> Row:
    """A key's row."""
    used, until = moment(key.last_used), old_until(key, now)
    expires = moment(key.expires)
    refused = key.use.limited
    own = bool(key.rate_limit)
    cells = (
        (looks.words(key.name) or "-", "strong"),
        (key.id, ""),
        looks.state(key_state(key, now)),
        (_short(key.use.limit or key.rate_limit) or say("default"), "" if own else "dim"),
        *_used(key.use, looks),
        (figure(key.use.minute), ""),
        (f"{looks.glyph('slow')} {figure(refused)}", "warn")
        if refused
        else ("-" if refused is None else "0", "dim"),
        (_ago(used, now) if used is not None else say("never"), ""),
        (when(until, now) if until is not None else "-", "dim"),
        (when(expires, now) if expires is not None else say("never"), "dim"),
        (looks.words(", ".join(key.models)) or say("all"), "dim"),
    )
    return Row(key.id, cells)


def _ago(at: float, now: float) -> str:
    return say("{span} ago", span=lasted(max(0.0, now - at)))


def details(key: Key, now: float, looks: Looks) -> list[Piece]:
    """Sentences about the key under the cursor, what the columns have no room for."""
    name = looks.words(key.name)
    title = f"{name} ({key.id})" if name else key.id
    said: list[Piece] = [(f"{title}: {in_use(key)}", "")]
    if old := old_secret(key, now):
        said.append((old, "warn" if key.old_users else ""))
    expires, made = moment(key.expires), moment(key.created)
    ends = say("it never expires")
    if expires is not None:
        ends = say("it expires {time}", time=when(expires, now))
        if expires <= now:
            ends = say("it expired {time}", time=when(expires, now))
    models = say("it opens all models")
    if key.models:
        models = say("it opens {models}", models=looks.words(", ".join(key.models)))
    parts = [say("made {time}", time=when(made, now))] if made is not None else []
    said.append((say("; ").join([*parts, ends, models]), "dim"))
    more = [say("team {team}", team=looks.words(key.team))] if key.team else []
    for name, value in key.bounds:
        more.append(say(BOUNDS[name], value=looks.words(value)))
    if more:
        said.append((say("; ").join(more), "dim"))
    return said


def in_use(key: Key) -> str:
    """How much of its limit is used, and what was asked in the last minute."""
    use = key.use
    if not use.limit:
        return say("what it uses now is not known (the gateway is older than this console)")
    parts = [say("no limit")]
    if limit_of(use) is not None:
        used = say("unknown") if use.used is None else f"{use.used:.0f}"
        parts = [say("{used} of {limit} used now", used=used, limit=use.limit)]
    if use.minute is not None:
        parts.append(
            count(use.minute, "{n} request in the last minute", "{n} requests in the last minute")
        )
    if use.limited:
        parts.append(say("{n} of them refused by the limit", n=f"{use.limited:.0f}"))
    return say("; ").join(parts)


def old_secret(key: Key, now: float) -> str:
    """Until when the old secret works and who still uses it; "" when none does."""
    until = old_until(key, now)
    if until is None:
        return ""
    still = say("the old secret is valid until {time}", time=when(until, now))
    return say("; ").join([still, who_still(key, now)])


def who_still(key: Key, now: float) -> str:
    """Who used the old secret since it was replaced."""
    if key.old_users is None:
        return say("who still uses it is not known")
    if not key.old_users:
        return say("nobody has used it since")
    shown = [
        f"{user.client} ({_ago(user.last, now)})" if user.last is not None else user.client
        for user in key.old_users[:USERS_SHOWN]
    ]
    more = len(key.old_users) - len(shown)
    who = say(", ").join(shown)
    if more:
        return say("still used by {who} and {n} more", who=who, n=more)
    return say("still used by {who}", who=who)
