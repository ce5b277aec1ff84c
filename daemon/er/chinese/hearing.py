"""Finds the Chinese of an English text that is filled in already, sentence by sentence.

ER says everything in English, once: the journal, --json and the API keep it. On a terminal whose
locale is Chinese a line is held against the catalogue's templates. Their holes:

    {}   anything within one part (what stands behind "; " is another sentence); heard in its turn
    {t}  one word, which is heard: a state    {w}  one word, as it is: a name
    {v}  anything, as it is    {k}  a setting of er.toml, as it is    {n}  one number
    {s}  nothing, or an s: "{n} replica{s}"

The Chinese has its holes in the same order, or numbered from {0}. A text that no template fits is
looked at in its parts: "cause; cure", "where: what", "what (why)", "One. Two."; what is known of
them is said in Chinese, and the rest stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

HOLE = re.compile(r"\{([wtvkns]?|\d)\}")
FORMS = {
    "w": r"([^\s;:]+)",
    "t": r"([a-z]+)",
    "v": r"(.+?)",
    "k": r"([\w.]+)",
    "n": r"([\d.,]+)",
    "s": "s?",
}
WITHIN, BEYOND = (
    r"((?:(?!; ).)+?)",
    r"(.+?)",
)  # a hole that ends with its part, and one that needn't
# What stands before a line's text: its indent, a mark such as doctor's or a step's, a command that
# is told of, and the one that speaks.
LEAD = re.compile(
    r"\s*(?:(?:ok|x|!|->|\+|-|#|●|○|◐|▲|✖)\s+)*"
    r"(?:(?:sudo )?er \w+(?: \w+)?\s{2,}|er(?:[ -][\w-]+)*: )?"
)
TAIL = re.compile(r"(?:\s|\x1b\[K)+$")
ENDED = re.compile(r"(?<=[.?!]) +(?=[A-Z-])")
ASIDE = re.compile(r"(.+?) ?\(([^()]+)\)")
HAN = re.compile(r"[\u4e00-\u9fff]")
WORD = re.compile(r"(?<![\w./=-])[a-z]{2,}(?![\w/=-]|\.\w)")
LETTERS = re.compile(r"[A-Za-z]{2}")


class Hearing:
    """One catalogue: English templates and their Chinese."""

    def __init__(self, said: Mapping[str, str], words: frozenset[str]) -> None:
        """`words`: what a lone word may be to be heard; any other is somebody's name."""
        self._words = words
        self._exact = {english: said[english] for english in said if not HOLE.search(english)}
        self._by_word: dict[str, list[str]] = {}
        self._said = said
        for english in sorted(said, key=lambda text: -len(HOLE.sub("", text))):
            if HOLE.search(english):
                self._by_word.setdefault(_first_word(english), []).append(english)
        self._pieces = {
            english: [piece for piece in HOLE.split(english)[::2] if piece] for english in said
        }
        self.text = lru_cache(maxsize=4096)(self._text)
        self._pattern = lru_cache(maxsize=2048)(_pattern)

    def block(self, said: str) -> str:
        """Several lines: a text that the catalogue has as a whole, else each line by itself."""
        if not LETTERS.search(said):
            return said
        known = self._exact.get(said)
        return known if known else "\n".join(map(self.line, said.split("\n")))

    def line(self, said: str) -> str:
        """A line with what stands before and behind its text; one of JSON stays as it is."""
        lead = LEAD.match(said)
        assert lead is not None  # it matches nothing at least
        body = said[lead.end() :]
        text = TAIL.sub("", body)
        if text[:1] in ("{", "[") and text[1:2] in ('"', "{", "}", "]"):
            return said
        whole = self._exact.get(lead[0] + text)
        return (whole or lead[0] + self.text(text)) + body[len(text) :]

    def _text(self, said: str) -> str:
        """A sentence or several, or a piece of one."""
        if said in self._exact:
            return self._exact[said]
        if not LETTERS.search(said):
            return said
        if said.endswith(".") and (own := self._exact.get(said[0].lower() + said[1:-1])):
            return own + "。"  # what help says of an option, as a sentence
        if (found := self._fitted(said, WITHIN)) is not None:
            return found
        tried = (
            self._several(said, _parts(said), "；"),
            self._of_something(said),
            self._fitted(said, BEYOND),
            self._several(said, ENDED.split(said), ""),
            self._aside(said),
        )
        if known := [found for found in tried if found is not None]:
            return min(known, key=_left)
        if said.endswith(".") and (bare := self.text(said[:-1])) != said[:-1]:
            return bare + "。"
        return said

    def piece(self, said: str) -> str:
        """A hole's value, or a cell: of lone words only those that are nobody's name."""
        lead = LEAD.match(said)
        assert lead is not None
        word = said[lead.end() :]
        if " " not in word and word not in self._words and not word.isupper():
            return said
        return lead[0] + self.text(word)

    def _fitted(self, said: str, hole: str) -> str | None:
        """By the template with the most fixed text that fits."""
        for english in self._candidates(said):
            if not all(piece in said for piece in self._pieces[english]):
                continue
            if found := self._pattern(english, hole).fullmatch(said):
                kinds = [kind for kind in HOLE.findall(english) if kind != "s"]
                values = [
                    self.piece(value) if kind in ("", "t") else value
                    for kind, value in zip(kinds, found.groups(), strict=True)
                ]
                return _filled(self._said[english], values)
        return None

    def _candidates(self, said: str) -> Iterator[str]:
        fixed = self._by_word.get(_first_word(said), [])
        loose = self._by_word.get("", [])
        if not fixed or not loose:
            yield from fixed or loose
            return
        yield from sorted(fixed + loose, key=lambda text: -sum(map(len, self._pieces[text])))

    def _several(self, said: str, parts: list[str], between: str) -> str | None:
        if len(parts) < 2:
            return None
        heard = [self.text(part) for part in parts]
        return between.join(heard) if heard != parts else None

    def _of_something(self, said: str) -> str | None:
        """ "where: what"; a name before the colon keeps it as it is."""
        where, colon, what = said.partition(": ")
        if not colon or not where or not what:
            return None
        heard = self.piece(where), self.piece(what)
        if heard == (where, what):
            return None
        return f"{heard[0]}：{heard[1]}" if HAN.search(heard[0]) else f"{heard[0]}: {heard[1]}"

    def _aside(self, said: str) -> str | None:
        """ "what (why)"."""
        found = ASIDE.fullmatch(said)
        if found is None:
            return None
        heard = [self.text(found[1]), self.text(found[2])]
        return None if heard == [found[1], found[2]] else f"{heard[0]}（{heard[1]}）"


def _left(heard: str) -> int:
    """How many English words are left; names, paths and code are not counted."""
    return len(WORD.findall(heard))


def _first_word(text: str) -> str:
    """What templates are looked up by; "" for one that begins with a hole or within a word."""
    word = text.split(" ", 1)[0]
    return "" if HOLE.search(word) else word


def _pattern(english: str, hole: str) -> re.Pattern[str]:
    parts = HOLE.split(english)  # text and the holes' kinds by turns
    return re.compile(
        "".join(
            FORMS.get(part, hole) if place % 2 else re.escape(part)
            for place, part in enumerate(parts)
        ),
        re.DOTALL,
    )


def _filled(chinese: str, values: list[str]) -> str:
    left = iter(values)
    return HOLE.sub(lambda hole: values[int(hole[1])] if hole[1] else next(left), chinese)


def _parts(said: str) -> list[str]:
    """What stands between "; ", where it isn't within brackets or quotes."""
    found, depth, begin, quoted = [], 0, 0, False
    for place, sign in enumerate(said):
        if sign in "([":
            depth += 1
        elif sign in ")]":
            depth -= 1
        elif sign == '"':
            quoted = not quoted
        elif sign == ";" and depth <= 0 and not quoted and said[place + 1 : place + 2] == " ":
            found.append(said[begin:place])
            begin = place + 2
    return [*found, said[begin:]]
