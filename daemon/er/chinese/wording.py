"""The command line's help in the language spoken: argparse's own words, and each option's."""

from __future__ import annotations

import argparse
import re
import unicodedata
from typing import TypeVar

from er import chinese

Parser = TypeVar("Parser", bound=argparse.ArgumentParser)
# What a line may end behind: a Chinese sign, a blank, or the end of a word of other letters; not
# within `what is typed`.
PIECES = re.compile(
    r"`[^`]+`[，。；：、）]*\s*|[^\s`\u2e80-\uffef]+[，。；：、）]*\s*"
    r"|[\u2e80-\uffef][，。；：、）]*\s*|\s+|`"
)


class Layout(argparse.HelpFormatter):
    """Breaks lines by cells, which a Chinese sign takes two of, and between any two signs."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return folded(text, width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(indent + line for line in folded(text, width - len(indent)))


def width(text: str) -> int:
    """How many cells of a terminal `text` takes."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def folded(text: str, most: int) -> list[str]:
    """The text in lines of at most `most` cells, where its words are no longer than that."""
    lines, line = [], ""
    for piece in PIECES.findall(" ".join(text.split())):
        if line and width(line + piece.rstrip()) > most:
            lines.append(line.rstrip())
            line = ""
        line += piece
    return [*lines, line.rstrip()] if line.strip() else lines or [""]


def worded(parser: Parser) -> Parser:
    """The parser, and those below it, in the language that is spoken. English: as it is."""
    if not chinese.spoken():
        return parser
    parser.formatter_class = Layout
    if parser.description:
        parser.description = chinese.heard(parser.description)
    for group in parser._action_groups:
        group.title = chinese.heard(group.title or "")
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for row in action._choices_actions:
                row.help = chinese.heard(row.help or "")
            for below in action.choices.values():
                worded(below)
        elif action.help and action.help != argparse.SUPPRESS:
            action.help = chinese.heard(action.help)
    return parser
