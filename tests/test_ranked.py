"""The quick encoder gives the ids of the tokenizers library, or is not used at all."""

from __future__ import annotations

import copy
import random
import sys
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

import model_cache
from er.prompts import ranked, words
from er.prompts.ranked import Encoder

SURROGATES = range(0xD800, 0xE000)
CHARACTERS = [c for c in range(sys.maxunicode + 1) if c not in SURROGATES]
# Around each character: letters, digits, blanks, breaks, quotes, and marks of a high, a low and a
# middle class before and behind it, so that a different class or order of it shows.
AROUND = (
    "a{0}b {0}{0}! '{0}x\n{0}\n .{0}1  {0}e\u0301{0}\u0301 b\u0301{0} b\u0345{0} b\u0334{0}\u0334"
)
SCRIPTS = (
    (0x20, 0x7E), (0x09, 0x0D), (0x00, 0x1F), (0xA0, 0xFF), (0x100, 0x24F), (0x300, 0x36F),
    (0x370, 0x3FF), (0x400, 0x4FF), (0x590, 0x6FF), (0x900, 0x9FF), (0xE00, 0xE7F),
    (0x1100, 0x11FF), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x2000, 0x206F), (0x20D0, 0x20F0),
    (0x3000, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xFB00, 0xFFFD), (0x1D400, 0x1D7FF),
    (0x1F300, 0x1FAFF), (0x20000, 0x2A6DF), (0xE0000, 0xE01EF),
)  # fmt: skip
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
    right = library().encode_batch_fast(texts, add_special_tokens=False)
    return [t for t, e in zip(texts, right, strict=True) if quick().ids(t) != e.ids]


def varied(count: int, seed: int) -> Iterator[str]:
    """Texts of one or two scripts, of words, of random bytes, in all lengths up to 120."""
    pick = random.Random(seed)
    for n in range(count):
        length = pick.choice((1, 2, 3, 5, 8, 13, 30, 60, 120))
        if n % 10 == 0:
            yield pick.randbytes(length).decode("utf-8", "replace")
            continue
        parts: list[str] = []
        scripts = pick.sample(SCRIPTS, pick.choice((1, 2, 2, 3)))
        while len(parts) < length:
            if pick.random() < 0.15:
                parts.append(pick.choice(WORDS))
            else:
                low, high = pick.choice(scripts)
                parts.append(chr(pick.randint(low, high)))
        yield "".join(parts)


def in_thousands(texts: Iterator[str]) -> Iterator[list[str]]:
    group: list[str] = []
    for text in texts:
        group.append(text)
        if len(group) == 1000:
            yield group
            group = []
    if group:
        yield group


def check(texts: Iterator[str]) -> None:
    for group in in_thousands(texts):
        wrong = differing(group)
        assert not wrong, [ascii(t) for t in wrong[:5]]


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
    check(AROUND.format(chr(c)) for c in CHARACTERS)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_million_texts() -> None:
    check(varied(1_000_000, seed=2))


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
    (encoded,) = found.encode([text], 10**6)
    assert encoded.ids == library().encode(text).ids
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
