"""The language of the screens: English sentences are the keys, a catalogue has the other one.

One language holds for the whole process, as the terminal has one reader: it is chosen at the start
(`speak`). Sentences are written as `say("{name} is stopped", name=...)` with a literal in English;
`noted` marks a literal that is said later (a table's title). tests/test_console_language.py finds
all of them and wants each in every catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

LANGUAGES = ("en", "zh")
FIELD = re.compile(r"\{(\w+)\}")

_now = "en"
_words: Mapping[str, str] = {}
_heard: Mapping[str, str] = {}


def wanted(environment: Mapping[str, str], asked: str | None, *, ascii_only: bool) -> str:
    """The language to speak: `asked` (--lang), else LC_ALL, LC_MESSAGES, LANG as locales name it.

    A terminal that can't show it (`ascii_only`) gets English.
    """
    if ascii_only:
        return "en"
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    found = asked or next((environment[name] for name in names if environment.get(name)), "en")
    return "zh" if found.lower().startswith("zh") else "en"


def speak(language: str) -> None:
    """Speak this language from now on; one of LANGUAGES."""
    global _now, _words, _heard
    if language not in LANGUAGES:
        raise ValueError(language)
    _now, _words, _heard = language, {}, {}
    if language == "zh":
        from er_console.chinese import HEARD, WORDS

        _words, _heard = WORDS, HEARD
    _templates.cache_clear()
    _understood.cache_clear()


def spoken() -> str:
    """The language that is spoken now."""
    return _now


def noted(english: str) -> str:
    """The text as it is; marks it as one that `say` is given later."""
    return english


def say(english: str, **values: object) -> str:
    """The sentence in the language spoken, with its {fields} filled in."""
    said = _words.get(english, english)
    return FIELD.sub(lambda found: str(values.get(found[1], found[0])), said) if values else said


def count(number: float, one: str, more: str, **values: object) -> str:
    """`one` or `more`, by the number, which is their field {n}: "{n} replica", "{n} replicas"."""
    return say(one if number == 1 else more, n=f"{number:.0f}", **values)


def heard(said: str) -> str:
    """What ER's other processes say, in the language spoken where that is known, else as it is.

    They say it in English, filled in; the catalogue has it with {fields}. "cause; cure" is heard
    as a whole, else part by part.
    """
    return _understood(said) if _heard and said else said


@lru_cache(maxsize=1024)  # the same few sentences, each second
def _understood(said: str) -> str:
    for pattern, meant in _templates():
        if found := pattern.fullmatch(said):
            fields = {name: heard(value) for name, value in found.groupdict().items()}
            return FIELD.sub(lambda field: fields[field[1]], meant)  # noqa: B023 - used at once
    parts = said.split("; ")
    known = [heard(part) for part in parts] if len(parts) > 1 else parts
    return said if known == parts else "；".join(known)


@lru_cache(maxsize=1)
def _templates() -> list[tuple[re.Pattern[str], str]]:
    """The catalogue's templates as patterns; the ones with most fixed text are tried first."""
    ordered = sorted(_heard, key=lambda english: -len(FIELD.sub("", english)))
    return [(_pattern(english), _heard[english]) for english in ordered]


def _pattern(english: str) -> re.Pattern[str]:
    """A field holds anything within one part: what comes behind "; " is another sentence."""
    parts = FIELD.split(english)  # text and field names by turns
    return re.compile(
        "".join(
            f"(?P<{part}>(?:(?!; ).)+?)" if place % 2 else re.escape(part)
            for place, part in enumerate(parts)
        ),
        re.S,
    )
