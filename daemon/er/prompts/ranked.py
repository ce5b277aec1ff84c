"""Qwen's tokenizer as tiktoken's encoder runs it: the same ids in a fifth of the time.

A byte-level BPE in a tokenizer.json and one of tiktoken's mean the same when all of this holds, and
`encoder` makes one only then:

* The text is cut into pieces by the one pattern below, and only brought into form NFC before. The
  two libraries agree on every character's class in that pattern, and the form is made by the same
  code as ever; tests try each character there is, and a million texts.
* The vocabulary is the 256 bytes and what the merges make, in the order of the merges. tiktoken
  joins the pair that makes the lowest id, a tokenizer.json the pair of the earliest merge.

Every other tokenizer stays with the library it is written for.
"""

from __future__ import annotations

import unicodedata
from typing import Any

from tiktoken import Encoding
from tokenizers.normalizers import NFC

# What Qwen2, Qwen2.5 and Qwen3 cut a text with.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Its matcher gives up on about a million blanks in a row; longer texts go another way.
CHARS_MAX = 1 << 18
# Python and the tokenizers library have marks' order from different versions of Unicode, and this
# is the one character that they place differently.
MOVED = "\u1df6"

# What a vocabulary's letters stand for: GPT-2 gave every byte that is no visible character of its
# own a letter from 256 on.
_VISIBLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_HIDDEN = [byte for byte in range(256) if byte not in _VISIBLE]
_BYTES = {letter: letter for letter in _VISIBLE} | {256 + i: b for i, b in enumerate(_HIDDEN)}

_nfc = NFC()


class Encoder:
    """Texts to ids. Threads may share one; it lets go of the interpreter while it works."""

    def __init__(self, ranks: dict[bytes, int]) -> None:
        whole = Encoding(
            "tokenizer.json", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={}
        )
        # Its inner part alone: the rest of it keeps `ranks`, which take 20 MB.
        self._encode = whole._core_bpe.encode_ordinary
        self.bytes_of = whole._core_bpe.decode_single_token_bytes  # of one id

    def ids(self, text: str) -> list[int]:
        """The ids of a text of at most CHARS_MAX characters. Raises UnicodeEncodeError for half a
        surrogate pair, which no client's text has.
        """
        found: list[int] = self._encode(text if text.isascii() else normal(text))
        return found


def normal(text: str) -> str:
    """The text in form NFC, as the tokenizers library makes it."""
    if text.isascii() or (unicodedata.is_normalized("NFC", text) and MOVED not in text):
        return text
    return _nfc.normalize_str(text)


def encoder(definition: dict[str, Any]) -> Encoder | None:
    """The encoder for a tokenizer.json, or None where it is not proven to give the same ids."""
    model = definition["model"]
    plain = (
        definition.get("normalizer") == {"type": "NFC"}
        and not definition.get("added_tokens")
        and _cuts_as_qwen(definition.get("pre_tokenizer"))
        and model.get("type") == "BPE"
        and not any(
            model.get(name)
            for name in (
                "dropout",
                "unk_token",
                "continuing_subword_prefix",
                "end_of_word_suffix",
                "fuse_unk",
                "byte_fallback",
                "ignore_merges",
            )
        )
    )
    ranks = _ranks(model) if plain else None
    return None if ranks is None else Encoder(ranks)


def _cuts_as_qwen(given: Any) -> bool:
    steps = given.get("pretokenizers") if isinstance(given, dict) else None
    if not isinstance(steps, list) or len(steps) != 2 or given.get("type") != "Sequence":
        return False
    cut, letters = steps
    return (
        cut.get("type") == "Split"
        and cut.get("pattern") == {"Regex": PATTERN}
        and cut.get("behavior") == "Isolated"
        and not cut.get("invert")
        and letters.get("type") == "ByteLevel"
        and letters.get("add_prefix_space") is False
        and letters.get("use_regex") is False
    )


def _ranks(model: dict[str, Any]) -> dict[bytes, int] | None:
    """Each token's bytes and id, if the ids stand in the order of the merges."""
    vocabulary: dict[str, int] = model["vocab"]
    merges = [m if isinstance(m, list) else m.split(" ") for m in model["merges"]]
    made = [vocabulary.get("".join(pair), -1) for pair in merges]
    if made != list(range(256, 256 + len(merges))) or len(vocabulary) != 256 + len(merges):
        return None
    try:
        ranks = {t.translate(_BYTES).encode("latin-1"): n for t, n in vocabulary.items()}
    except UnicodeEncodeError:
        return None
    single = {token[0] for token, n in ranks.items() if n < 256 and len(token) == 1}
    return ranks if len(single) == 256 and len(ranks) == len(vocabulary) else None
