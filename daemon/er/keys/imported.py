"""Keys of other servers in plain text: what a file holds, found without being told its form. Pure.

A line is a secret; `name: secret`, `name,secret` or `secret name` in either order; `NAME=secret` as
in an environment file, also with several; or a comment. A file may be JSON instead: a list of
secrets or of objects, or an object of names. Nothing here ever puts a secret into a message: a
place is a line's number or a row's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from er.keys.record import ID, NAME

LEAST, MOST, STRONG = 8, 512, 16  # characters of a secret; shorter ones than STRONG are weak
SECRET = re.compile(rf"[!-~]{{{LEAST},{MOST}}}\Z")
LOOKS_SECRET = re.compile(r"(?i)(sk|pk|key|token|rk|ak|hf|gsk|jina|pa|xai|nvapi)[-_]\S{8,}\Z")
COMMENT = re.compile(r"(?:#|//|;|--\s)")
NOTED = re.compile(r"(\S+)\s+(?:#|//)\s*(.*)\Z")  # a secret and a comment
ENVIRONMENT = re.compile(r"(?:export\s+|set\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*=\s*(\S.*)\Z")
HEADER = frozenset(("name", "key", "keys", "token", "secret", "api_key", "api-key", "user", "id"))
SECRETS = ("key", "api_key", "apikey", "token", "secret", "value")  # of an object, the first counts
NAMES = ("name", "key_alias", "alias", "label", "user", "key_name", "title", "id")
LISTS = ("keys", "data", "api_keys", "tokens", "virtual_keys")  # what holds a list of keys


class Found(NamedTuple):
    """One key; `name` is "" where the file gives it none."""

    place: str  # "line 7", "row 7"
    name: str
    secret: str


class Wrong(NamedTuple):
    """What could not be read as a key; `why` holds nothing of it."""

    place: str
    why: str


def read(data: bytes) -> list[Found | Wrong]:
    """What the file's bytes hold, in its order."""
    text = data.decode("utf-8-sig", "replace")
    if text.lstrip()[:1] in ("[", "{"):
        try:
            rows = _rows(json.loads(text))
        except (ValueError, RecursionError):
            return [Wrong("the file", "it begins as JSON does, and is none")]
        return [_checked(f"row {n}", name, secret) for n, (name, secret) in enumerate(rows, 1)]
    found: list[Found | Wrong] = []
    for n, line in enumerate(text.splitlines(), 1):
        for name, secret in _line(line):
            found.append(_checked(f"line {n}", name, secret))
    return found


def _checked(place: str, name: str, secret: str) -> Found | Wrong:
    if not SECRET.match(secret):
        length = len(secret)
        if LEAST <= length <= MOST:
            return Wrong(place, "its key has blanks or characters beyond ASCII")
        return Wrong(place, f"a key has {LEAST} to {MOST} characters; this has {length}")
    return Found(place, _name(name, secret), secret)


def _name(name: str, secret: str) -> str:
    """`name` where it can be one. What may be a secret itself is never shown as a name."""
    name = " ".join(name.split())
    if secret in name or LOOKS_SECRET.match(name) or ID.match(name) or not NAME.match(name):
        return ""
    return "" if " " not in name and len(name) >= STRONG and _mixed(name) else name


def _mixed(text: str) -> bool:
    return any(c.isdigit() for c in text) and any(c.isalpha() for c in text)


# -- lines -------------------------------------------------------------------------------------


def _line(line: str) -> Iterator[tuple[str, str]]:
    """Names and secrets of one line."""
    line = line.strip().removeprefix("- ").strip()
    if not line or COMMENT.match(line):
        return
    found = ENVIRONMENT.match(line)
    if found and len(value := found[2].strip()) >= LEAST:
        parts = [_bare(part) for part in re.split(r"[,;\s]+", _bare(value)) if part]
        for i, part in enumerate(parts, 1):
            if part.startswith("#"):
                return
            yield (found[1] if len(parts) == 1 else f"{found[1]} {i}"), part
        return
    parts = [_bare(part.rstrip(",;")) for part in _parts(line) if part.strip()]
    if len(parts) == 1:
        yield "", parts[0]
    elif parts and not {part.lower() for part in parts} <= HEADER:
        yield _which(parts[0], parts[1])


def _parts(line: str) -> list[str]:
    """A line's one or two parts."""
    if (noted := NOTED.match(line)) is not None:
        return [noted[1], noted[2]]
    for between in (r"\s*\t\s*", r":\s+", r"\s*,\s*"):
        parts = re.split(between, line, maxsplit=1)
        if len(parts) == 2:
            return parts
    words = line.split()
    if len(words) > 1:  # a name may have blanks, a secret has none
        secret = _which(words[0], words[-1])[1]
        rest = words[1:] if secret == words[0] else words[:-1]
        return [" ".join(rest), secret]
    return [line] if LOOKS_SECRET.match(line) else line.split(":", 1)


def _bare(text: str) -> str:
    text = text.strip()
    return text[1:-1].strip() if len(text) > 1 and text[0] == text[-1] in "\"'`" else text


def _which(one: str, other: str) -> tuple[str, str]:
    """(name, secret) of two, in whichever order: what looks like a secret, else the longer one."""
    likely = [bool(LOOKS_SECRET.match(text)) for text in (one, other)]
    if likely[0] != likely[1]:
        return (other, one) if likely[0] else (one, other)
    fit = [bool(SECRET.match(text)) for text in (one, other)]
    if fit[0] != fit[1]:
        return (other, one) if fit[0] else (one, other)
    return (other, one) if len(one) > len(other) else (one, other)


# -- JSON --------------------------------------------------------------------------------------


def _rows(tree: Any) -> list[tuple[str, str]]:
    """Names and secrets. What is neither a secret nor holds one is a row whose secret is empty."""
    if isinstance(tree, list):
        return [_row(item) for item in tree]
    for field in LISTS:
        if isinstance(tree.get(field), list | dict):
            return _rows(tree[field])
    rows = []
    for name, value in tree.items():
        if isinstance(value, dict):
            inner, secret = _row(value)
            # The secret is a field's value, or it is what the object is found by.
            rows.append((inner or name, secret) if secret else (inner, name))
        else:
            rows.append(_which(name, value) if isinstance(value, str) else ("", ""))
    return rows


def _row(item: Any) -> tuple[str, str]:
    if isinstance(item, str):
        return "", item.strip()
    if not isinstance(item, dict):
        return "", ""
    texts = {str(k).lower(): v.strip() for k, v in item.items() if isinstance(v, str)}
    secret = next((texts[field] for field in SECRETS if texts.get(field)), "")
    name = next((texts[f] for f in NAMES if texts.get(f) and texts[f] != secret), "")
    return name, secret
