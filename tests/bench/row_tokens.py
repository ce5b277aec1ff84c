"""Tokenising: microseconds a token on one core, ER's own way and the tokenizers library's.

ER's is all that a request of one short text has: its form, its ids, the limit, the end token. The
library's is its quickest call for one text, no more.
"""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

from measure import CACHE, BenchError, texts, vocabulary
from result import SHOWN, Options, Report, at_most
from tokenizers import Tokenizer

from er import model_files
from er.model_files import ModelFiles
from er.prompts import Prompter
from er.prompts.words import text_only

TOKENS = (16, 128)  # of a text, the end token included
GOAL_US = 0.45
PART = 20  # texts timed together
POOL = 2000  # texts of each kind: more than a processor's caches remember


def english(pick: random.Random) -> Iterator[str]:
    """Plain words without end."""
    yield from texts(pick.randrange(1 << 30), each=200)


def chinese(pick: random.Random) -> Iterator[str]:
    """Words of Chinese characters, the frequent ones often, a comma or a stop after some."""
    known = [t for t in map(decoded, vocabulary()) if t and all("一" <= c <= "鿿" for c in t)]
    often = list(itertools.accumulate(1 / (rank + 10) for rank in range(len(known))))
    while True:
        phrases = [pick.choices(known, cum_weights=often, k=pick.randint(2, 10)) for _ in range(40)]
        yield "".join("".join(phrase) + pick.choice("，，，。、：") for phrase in phrases)


def code(pick: random.Random) -> Iterator[str]:
    """Runs of lines from the standard library's sources."""
    lines = [
        line
        for module in (json, random)
        for line in open(module.__file__, encoding="utf-8").read().splitlines()  # noqa: SIM115
    ]
    while True:
        at = pick.randrange(len(lines) - 60)
        yield "\n".join(lines[at : at + 60])


KINDS: dict[str, Callable[[random.Random], Iterator[str]]] = {
    "English": english,
    "Chinese": chinese,
    "code": code,
}


def decoded(token: str) -> str:
    """A token's text; "" if it is no whole one."""
    from er.prompts.ranked import _BYTES

    try:
        return token.translate(_BYTES).encode("latin-1").decode()
    except UnicodeError:
        return ""


def of_length(library: Tokenizer, source: Iterator[str], tokens: int) -> list[str]:
    """Texts from `source`, cut so that they have about `tokens` with the end token."""
    made: list[str] = []
    while len(made) < POOL:
        ids = library.encode(next(source), add_special_tokens=False).ids
        made.append(library.decode(ids[: tokens - 1]).replace("\ufffd", ""))
    return made


class Side:
    """One way to tokenise, and the least CPU time that each part of the pool has taken so far."""

    def __init__(self, work: Callable[[str], Any], pool: list[str]) -> None:
        self._work = work
        self._parts = [pool[at : at + PART] for at in range(0, len(pool), PART)]
        self._least = [1 << 60] * len(self._parts)

    def turn(self) -> None:
        """Once through the whole pool."""
        for place, part in enumerate(self._parts):
            began = time.process_time_ns()
            for text in part:
                self._work(text)
            self._least[place] = min(self._least[place], time.process_time_ns() - began)

    def us(self) -> float:
        """Microseconds for the pool without what neighbours on the machine cost."""
        return sum(self._least) / 1000


def sides(files: ModelFiles) -> tuple[Callable[[str], Any], Tokenizer]:
    """ER's way for one short text, as `straight` takes it, and the library."""
    prompter = Prompter(files, prompt="qwen3", max_tokens=8192, instruction=None, task="embed")
    given = prompter.quick("document")
    if given is None:
        raise BenchError("the quick encoder does not take this tokenizer")
    ids, after, room = given

    def er(text: str) -> list[int]:
        found = ids(text)
        if len(found) > room:
            raise BenchError("a text is too long")
        found += after
        return found

    library = Tokenizer.from_str(json.dumps(text_only(json.loads(files.tokenizer), False)))
    return er, library


def tokens(options: Options) -> Report:
    """In turns through one pool, for as long as a measurement may take."""
    report = Report()
    er, library = sides(model_files.read(CACHE / "tiny-embed"))

    def peer(text: str) -> Any:
        return library.encode_batch_fast([text], add_special_tokens=False)[0].ids

    for kind, source in KINDS.items():
        for length in TOKENS:
            pool = of_length(library, source(random.Random(length)), length)
            count = sum(len(er(text)) for text in pool)
            ours, theirs = [], []
            for _ in range(options.runs):
                until = time.monotonic() + options.seconds / 2
                both = Side(er, pool), Side(peer, pool)
                while time.monotonic() < until:
                    for side in both:
                        side.turn()
                ours.append(both[0].us() / count)
                theirs.append(both[1].us() / count)
            report.raw.append(
                {"text": kind, "tokens": count / POOL, "er_us": ours, "tokenizers_us": theirs}
            )
            what = f"{kind}, {length} tokens: us a token"
            report.line(what, ours, at_most(GOAL_US))
            ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
            report.line(f"{kind}, {length} tokens: times quicker than tokenizers", ratios, SHOWN)
    return report
