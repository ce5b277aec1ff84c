"""The quick encoder gives the ids of the tokenizers library, or is not used at all."""

from __future__ import annotations

import copy
import hashlib
import json
import platform
import random
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

import model_cache
from er.prompts import ranked, words
from er.prompts.ranked import Encoder

REPORT = Path(__file__).parent / "reports/tokenizer.json"
SURROGATES = range(0xD800, 0xE000)
CHARACTERS = [c for c in range(sys.maxunicode + 1) if c not in SURROGATES]
# Around each character: letters, digits, blanks, breaks, quotes, and marks of a high, a low and a
# middle class before and behind it, so that a different class or order of it shows.
AROUND = (
    "a{0}b {0}{0}! '{0}x\n{0}\n .{0}1  {0}e\u0301{0}\u0301 b\u0301{0} b\u0345{0} b\u0334{0}\u0334"
)
WORDS = ("'s", "'LL", "'ſ", " the", "\r\n", "  ", " \n ", "中文", "123", "<|im_end|>", "e\u0301")


@cache
def definition() -> dict[str, Any]:
    text = (model_cache.folder("qwen3-tokenizer") / "tokenizer.json").read_bytes()
    return words.text_only({**orjson.loads(text), "truncation": None, "padding": None}, False)


@cache
def quick() -> Encoder:
    found = ranked.encoder(definition())
    assert found is not None
    return found


@cache
def library() -> Tokenizer:
    return Tokenizer.from_str(orjson.dumps(definition()).decode())


def differing(texts: list[str]) -> list[str]:
    """Those of `texts` that the two encode differently."""
    return compared(texts)[0]


def compared(texts: list[str]) -> tuple[list[str], int]:
    """Those of `texts` that the two encode differently, and how many tokens all have."""
    right = library().encode_batch_fast(texts, add_special_tokens=False)
    found = [e.ids for e in right]
    wrong = [t for t, ids in zip(texts, found, strict=True) if quick().ids(t) != ids]
    return wrong, sum(map(len, found))


@cache
def scripts() -> list[str]:
    """The characters of each script and kind of symbol, by the first word of their names."""
    found: dict[str, list[str]] = {}
    for c in map(chr, CHARACTERS):
        found.setdefault(unicodedata.name(c, "").partition(" ")[0], []).append(c)
    large = ["".join(characters) for characters in found.values() if len(characters) >= 10]
    return [*large, "".join(c for some in found.values() if len(some) < 10 for c in some)]


@cache
def of_categories(*categories: str) -> str:
    return "".join(c for c in map(chr, CHARACTERS) if unicodedata.category(c)[:1] in categories)


def _of_scripts(pick: random.Random, length: int) -> str:
    some = pick.sample(scripts(), pick.choice((1, 2, 2, 3)))
    return "".join(
        pick.choice(WORDS) if pick.random() < 0.15 else pick.choice(pick.choice(some))
        for _ in range(length)
    )


def _of_marks(pick: random.Random, length: int) -> str:
    """Combining marks alone, and behind what they combine with or do not."""
    marks, scattered = of_categories("M"), ("", "", "", "e", "A", "ㅏ", "가", " ", "\n", "1", "中")
    return "".join(pick.choice(scattered) + pick.choice(marks) for _ in range(length))


def _of_blanks(pick: random.Random, length: int) -> str:
    """Blanks, breaks, controls, format characters; now and then something visible."""
    blanks, common = of_categories("Z", "C"), " \t\n\r\x0b\x0c\x85\xa0\u2028\u3000\u200b\x00"
    seldom = (blanks, *WORDS)
    return "".join(
        pick.choice(pick.choice(seldom)) if pick.random() < 0.2 else pick.choice(common)
        for _ in range(length)
    )


def _of_bytes(pick: random.Random, length: int) -> str:
    return pick.randbytes(length).decode("utf-8", "replace")


def _of_any(pick: random.Random, length: int) -> str:
    return "".join(map(chr, pick.choices(CHARACTERS, k=length)))


KINDS = {
    "scripts": _of_scripts,
    "marks": _of_marks,
    "blanks": _of_blanks,
    "bytes": _of_bytes,
    "any": _of_any,
}
TURNS = ("scripts",) * 6 + ("marks", "blanks", "bytes", "any")


def varied(count: int, seed: int) -> Iterator[str]:
    """Texts of some scripts and words, of marks, blanks, random bytes, anything; up to 120 long."""
    pick = random.Random(seed)
    for n in range(count):
        length = pick.choice((1, 2, 3, 5, 8, 13, 30, 60, 120))
        yield KINDS[TURNS[n % len(TURNS)]](pick, length)


def in_thousands(texts: Iterator[str]) -> Iterator[list[str]]:
    group: list[str] = []
    for text in texts:
        group.append(text)
        if len(group) == 1000:
            yield group
            group = []
    if group:
        yield group


def check(texts: Iterator[str]) -> dict[str, int]:
    """How many texts and tokens were compared."""
    done = {"texts": 0, "tokens": 0}
    for group in in_thousands(texts):
        wrong, tokens = compared(group)
        assert not wrong, [ascii(t) for t in wrong[:5]]
        done["texts"] += len(group)
        done["tokens"] += tokens
    return done


def report(name: str, began: float, found: dict[str, Any]) -> None:
    """Write what a long test found into its report, beside what the other one did."""
    before = json.loads(REPORT.read_text()) if REPORT.exists() else {}
    packages = ("tiktoken", "tokenizers")
    versions = {"python": platform.python_version(), "unicode": unicodedata.unidata_version}
    file = model_cache.folder("qwen3-tokenizer") / "tokenizer.json"
    before[name] = {
        **found,
        "mismatches": 0,  # else the test had failed
        "seconds": round(time.monotonic() - began, 1),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions | {p: metadata.version(p) for p in packages},
        "tokenizer_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    REPORT.write_text(json.dumps(before, indent=1) + "\n")


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=40))
def test_any_text(text: str) -> None:
    assert differing([text]) == []


def test_varied_texts() -> None:
    check(varied(10_000, seed=1))


def test_a_sample_of_all_characters() -> None:
    """All of the first 0x600, then every 97th; `tests/run long` tries each."""
    some = [*CHARACTERS[:0x600], ord(ranked.MOVED), *CHARACTERS[0x600::97]]
    check(AROUND.format(chr(c)) for c in some)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_every_character() -> None:
    began = time.monotonic()
    found = check(AROUND.format(chr(c)) for c in CHARACTERS)
    report("every character, in 11 places of a text", began, found)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_million_texts() -> None:
    began, seed = time.monotonic(), 2
    found: dict[str, Any] = check(varied(1_000_000, seed))
    kinds = {kind: TURNS.count(kind) * 1_000_000 // len(TURNS) for kind in KINDS}
    facts = {"seed": seed, "scripts": len(scripts()), "texts_of": kinds}
    report("a million varied texts", began, found | facts)


def test_characters_that_python_does_not_know_are_left_alone_by_the_library_too() -> None:
    """Else a text could be in form NFC for Python and not for the library."""
    unknown = [c for c in CHARACTERS if unicodedata.category(chr(c)) == "Cn"]
    for c in unknown[:: max(1, len(unknown) // 5_000)]:
        for text in (f"b\u0301{chr(c)}\u0334", f"b\u0345{chr(c)}\u0301", f"a{chr(c)}"):
            assert ranked._nfc.normalize_str(text) == text, hex(c)


def test_the_longest_texts_it_is_given() -> None:
    most = ranked.CHARS_MAX
    check(iter([" " * most, " " * (most - 1) + "a", "\n" * (most // 2) + " " * (most // 2)]))


def test_longer_ones_go_through_the_library() -> None:
    found = words.Words(definition(), model_cache.folder("qwen3-tokenizer"))
    assert found._tokenizer is None
    text = "word " * (ranked.CHARS_MAX // 5 + 10)
    (ids,) = found.encode([text], 10**6)
    assert ids == library().encode(text).ids
    assert found._tokenizer is not None


def _ignoring_merges(d: dict[str, Any]) -> None:
    d["model"]["ignore_merges"] = True


def _other_form(d: dict[str, Any]) -> None:
    d["normalizer"] = {"type": "NFKC"}


def _no_form(d: dict[str, Any]) -> None:
    d["normalizer"] = None


def _other_pattern(d: dict[str, Any]) -> None:
    d["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": r"\s+|\S+"}


def _blank_before(d: dict[str, Any]) -> None:
    d["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = True


def _one_step_more(d: dict[str, Any]) -> None:
    d["pre_tokenizer"]["pretokenizers"].insert(0, {"type": "Digits", "individual_digits": True})


def _words_of_its_own(d: dict[str, Any]) -> None:
    d["added_tokens"] = [{"id": 151643, "content": "[X]", "special": False}]


def _merges_in_another_order(d: dict[str, Any]) -> None:
    merges = d["model"]["merges"]
    merges[1000], merges[2000] = merges[2000], merges[1000]


def _a_token_no_merge_makes(d: dict[str, Any]) -> None:
    d["model"]["vocab"]["zzzzzzzzzzzz"] = len(d["model"]["vocab"])


def _a_letter_of_no_byte(d: dict[str, Any]) -> None:
    vocabulary = d["model"]["vocab"]
    vocabulary["中"] = vocabulary.pop("!")


def _another_kind(d: dict[str, Any]) -> None:
    d["model"]["type"] = "WordPiece"


@pytest.mark.parametrize(
    "change",
    [
        _ignoring_merges,
        _other_form,
        _no_form,
        _other_pattern,
        _blank_before,
        _one_step_more,
        _words_of_its_own,
        _merges_in_another_order,
        _a_token_no_merge_makes,
        _a_letter_of_no_byte,
        _another_kind,
    ],
)
def test_what_is_not_proven_is_not_used(change: Callable[[dict[str, Any]], None]) -> None:
    model = definition()["model"]
    other = copy.deepcopy({**definition(), "model": None})
    other["model"] = {**model, "vocab": dict(model["vocab"]), "merges": list(model["merges"])}
    change(other)
    assert ranked.encoder(other) is None
