"""The filter of the log: words, !word, key=ID, rid=ID, unit=NAME, level>=warn. Pure.

What is typed is taken apart into terms that must all hold. `understood` says them in words, and
`wrong` what can't be a term and why; the rest of the terms counts all the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from er_console.language import say
from er_console.state import LogLine

LEVELS = ("emerg", "alert", "crit", "err", "warn", "note", "info", "debug")
SAME = {"error": "err", "warning": "warn", "notice": "note"}
ALL = len(LEVELS) - 1
TOKEN = re.compile(r'!?"[^"]*"?|\S+')
FIELD = re.compile(r"(?P<name>[a-z]+)(?P<sign>>=|<=|>|<|=)(?P<value>.*)", re.I | re.S)
NAMES = {"key": "key", "rid": "request", "request": "request", "unit": "unit"}


@dataclass(frozen=True, slots=True)
class Sieve:
    """A filter that was understood; `level` is the least important syslog priority that passes."""

    words: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    key: str = ""
    request: str = ""
    unit: str = ""
    level: int = ALL
    wrong: str = ""

    def passes(self, line: LogLine) -> bool:
        """True when every term holds; a note on lost lines always passes."""
        if line.lost:
            return True
        said = f"{line.unit} {line.text}".lower()
        return (
            line.priority <= self.level
            and all(word in said for word in self.words)
            and not any(word in said for word in self.without)
            and (not self.key or line.key.lower() == self.key or _names(said, self.key))
            and (not self.request or self.request in f"{line.request.lower()} {said}")
            and (not self.unit or self.unit in line.unit.lower())
        )


def _names(said: str, key: str) -> bool:
    """Whether a text has this id as a word of its own."""
    return re.search(rf"(?<![\w-]){re.escape(key)}(?![\w-])", said) is not None


def read(typed: str) -> Sieve:
    """The filter that was typed."""
    words, without = [], []
    found: dict[str, str] = {}
    level, wrong = ALL, ""
    for token in TOKEN.findall(typed):
        match = FIELD.fullmatch(token)
        name = match["name"].lower() if match else ""
        if token.startswith("!"):
            without.append(_plain(token[1:]))
        elif match and name == "level":
            at, said = _level(match["sign"], match["value"].lower())
            level, wrong = (at, wrong) if not said else (level, wrong or said)
        elif match and name in NAMES:
            if match["sign"] != "=" or not match["value"]:
                wrong = wrong or say("{term}: write {name}=VALUE", term=token, name=name)
            else:
                found[NAMES[name]] = _plain(match["value"])
        elif match and match["sign"] != "=":
            known = ", ".join(["key", "rid", "unit", "level"])
            wrong = wrong or say("{term}: the fields are {known}", term=token, known=known)
        else:
            words.append(_plain(token))
    kept = tuple(word for word in words if word)
    return Sieve(kept, tuple(w for w in without if w), **found, level=level, wrong=wrong)


def _plain(word: str) -> str:
    return word.strip('"').lower()


def _level(sign: str, value: str) -> tuple[int, str]:
    """The level, and what is wrong with it, if anything."""
    name = SAME.get(value, value)
    if sign != ">=":
        return ALL, say("write level>={value}: that level and worse", value=value or "warn")
    if name not in LEVELS:
        return ALL, say("level>={value}: the levels are {known}", value=value, known=_known())
    return LEVELS.index(name), ""


def _known() -> str:
    return ", ".join(LEVELS)


def understood(sieve: Sieve) -> str:
    """The terms in words, "" when there is none."""
    terms = [say('with "{word}"', word=word) for word in sieve.words]
    terms += [say('without "{word}"', word=word) for word in sieve.without]
    if sieve.key:
        terms.append(say("client key {key}", key=sieve.key))
    if sieve.request:
        terms.append(say("request {request}", request=sieve.request))
    if sieve.unit:
        terms.append(say("unit {unit}", unit=sieve.unit))
    if sieve.level < ALL:
        terms.append(say("level {level} and worse", level=LEVELS[sieve.level]))
    return ", ".join(terms)
