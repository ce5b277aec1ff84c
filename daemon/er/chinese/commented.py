"""A TOML file with its comments in Chinese; settings, also those behind a #, stay. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from er.chinese.wording import folded

LONG = 100  # cells in a line of words
BEHIND = re.compile(r"(?P<setting>.*\S)(?P<gap>\s+)# (?P<words>[^\"]*(?:\"[^\"]*\"[^\"]*)*)")
COMMAND = re.compile(r"(?P<command>#     (?:sudo )?er [\w ]*\S {2,})(?P<words>\S.*)")
WORDS = re.compile(r"# (?P<words>(?! )(?!\w+ = )(?!\[).+)")  # a line of nothing but words


def commented(toml: str, hear: Callable[[str], str]) -> str:
    """The file with what `hear` makes of each comment; lines of one sentence are heard as one."""
    out: list[str] = []
    block: list[str] = []
    for line in [*toml.splitlines(), ""]:
        if found := WORDS.fullmatch(line):
            block.append(found["words"])
            continue
        out += _words(block, hear)
        block = []
        out.append(_line(line, hear))
    return "\n".join(out)


def _words(block: list[str], hear: Callable[[str], str]) -> Iterator[str]:
    """Lines of words that stand together, broken anew where they are heard."""
    text = " ".join(block)
    heard = hear(text)
    lines = block if heard == text else folded(heard, LONG - 2)
    return (f"# {line}" for line in lines if line)


def _line(line: str, hear: Callable[[str], str]) -> str:
    """A setting with a comment behind it, or a command with what it does."""
    if found := BEHIND.fullmatch(line):
        return f"{found['setting']}{found['gap']}# {hear(found['words'])}"
    if found := COMMAND.fullmatch(line):
        return found["command"] + hear(found["words"])
    return line
