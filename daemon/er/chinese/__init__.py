"""What ER says on a terminal, in Chinese where the locale is; the source says it in English.

Everything that is printed passes a Voice (`speaking`), which holds it against the catalogue: one
dict of templates for each group of commands, in the files beside this one. Journal, --json and API
stay English. tests/test_chinese.py finds what has no Chinese.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal, cast

from er.chinese.hearing import Hearing
from er.chinese.voice import Voice

ROOMS = (
    *("apply", "between", "bulk", "cards", "changes", "check", "clients", "config"),
    *("disk", "engine", "hosts", "keys", "load", "machine", "members", "models"),
    *("quality", "starts", "state", "status", "usage", "vectors", "vllms"),
)  # the files with templates; where two have the same one, the later counts
_spoken = False
_settled: set[str] = set()  # lines that are not heard: a file's, a table's


def wanted(environment: Mapping[str, str], asked: str | None = None) -> Literal["en", "zh"]:
    """The language: `asked` (--lang), else as LC_ALL, LC_MESSAGES, LANG name it."""
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    found = asked or next((environment[name] for name in names if environment.get(name)), "en")
    return "zh" if found.lower().startswith("zh") else "en"


def shows(environment: Mapping[str, str], encoding: str | None) -> bool:
    """Whether what reads the output, in that encoding, can show Chinese."""
    utf8 = (encoding or "").lower().replace("-", "") == "utf8"
    return utf8 and environment.get("TERM") != "linux"


@cache
def catalogue() -> dict[str, str]:
    """Every template with its Chinese. Imported when it is wanted: English needs none of it."""
    rooms = (importlib.import_module(f"{__name__}.{name}") for name in ROOMS)
    return {english: chinese for room in rooms for english, chinese in room.SAID.items()}


@cache
def ear() -> Hearing:
    """What holds texts against the catalogue."""
    from er.chinese.status import LONE

    return Hearing(catalogue(), LONE)


def in_chinese(text: str) -> str:
    """An English text of ER, one or more lines, in Chinese as far as the catalogue has it."""
    return ear().block(text)


def cell(text: str) -> str:
    """A table's cell, in the language that is spoken; a name stays as it is."""
    return ear().piece(text) if _spoken else text


def comment(text: str) -> str:
    """A comment of er.toml. What is printed does not hear these: a diff shows a file as it is."""
    from er.chinese.comments import SAID

    return SAID.get(text) or in_chinese(text)


def heard(text: str) -> str:
    """The text in the language that is spoken now; where that is English, as it is."""
    return in_chinese(text) if _spoken else text


def settled(line: str) -> str:
    """The same line; where it is printed it stays as it is: a file's own, or one heard by parts."""
    if _spoken:
        _settled.add(line)
    return line


def aloud(text: str) -> str:
    """What is printed, in Chinese but for its settled lines."""
    lines = text.split("\n")
    if _settled.isdisjoint(lines):
        return in_chinese(text)
    return "\n".join(line if line in _settled else in_chinese(line) for line in lines)


def spoken() -> bool:
    """Whether Chinese is spoken now."""
    return _spoken


def here(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether who reads this process's output reads Chinese, and can be shown it."""
    encoding = getattr(sys.stdout, "encoding", "")
    return wanted(environment) == "zh" and shows(environment, encoding)


def at_terminal(text: str) -> str:
    """What a daemon says before it begins or gives up: in Chinese to a person who started it."""
    return in_chinese(text) if here() and sys.stdout.isatty() else text


@contextlib.contextmanager
def speaking(
    environment: Mapping[str, str] = os.environ, *, only_to_people: bool = False
) -> Iterator[None]:
    """Within it stdout and stderr say in Chinese what is printed, where the locale is Chinese.

    A journal keeps English, whatever the machine's locale. `only_to_people`: so do files and pipes.
    """
    global _spoken
    out, err = sys.stdout, sys.stderr
    if (
        not here(environment)
        or _spoken
        or _to_journal(environment)
        or (only_to_people and not err.isatty())
    ):
        yield
        return
    voices = Voice(out, aloud), Voice(err, aloud)
    sys.stdout, sys.stderr = cast("tuple[Any, Any]", voices)
    _spoken = True
    try:
        yield
    finally:
        _spoken = False
        sys.stdout, sys.stderr = out, err
        for voice in voices:
            with contextlib.suppress(OSError, ValueError):  # its reader may be gone
                voice.flush()
        _settled.clear()


def as_it_is() -> None:
    """What goes to stdout from now on is no talk: data, records, a page of its own language."""
    if isinstance(sys.stdout, Voice):
        sys.stdout.flush()
        sys.stdout = sys.stdout.stream


def _to_journal(environment: Mapping[str, str]) -> bool:
    """Whether stderr is the journal's; shells inherit the variable alone."""
    with contextlib.suppress(OSError, ValueError):
        there = os.fstat(sys.stderr.fileno())
        return environment.get("JOURNAL_STREAM") == f"{there.st_dev}:{there.st_ino}"
    return False
