"""A model's tokenizer with its control tokens taken away: texts to ids, and never to commands.

A text much longer than the limit is read only as far as the limit needs, so that time and memory
stay in proportion to what is kept, and so that the pattern of Qwen's tokenizer, which gives up on
ten million blanks in a row, never sees as many.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import orjson
from tokenizers import Tokenizer

from er.job import Piece
from er.model_files import ModelFiles, ModelFilesError
from er.prompts import ranked

CHARS_PER_TOKEN = 16  # more than any ordinary text has; texts of longer tokens are read on
SPARE_TOKENS = 256  # how far the end of a text read in part stays from what is kept of it
SEAM_CHARS = 4096  # how far back a good place to stop reading is looked for
GROUP_CHARS = 1 << 20  # texts tokenised in one call: bounds memory, about 100 bytes a token


# What a special token is called where a text must not find it; no text can guess it.
HIDDEN = secrets.token_hex(16)

Definition = dict[str, Any]  # a tokenizer.json


class Part(list[int]):
    """The ids of a text that goes on: these are more than the limit asked for."""


class Words:
    """A tokenizer for text alone. Threads may share one; heavy calls free the interpreter."""

    def __init__(self, definition: Definition, path: Path) -> None:
        """`definition` is what `text_only` made. Raises ModelFilesError, naming `path`."""
        self._path = path
        self._definition = zlib.compress(orjson.dumps(definition), 1)  # 2 MB of 5
        self._encoder = ranked.encoder(definition)
        self._tokenizer: Tokenizer | None = None
        self._loading = threading.Lock()
        if self._encoder is None:
            self._load()

    @property
    def quick(self) -> Callable[[str], list[int]] | None:
        """The ids of a text of at most 4096 characters, at once; None where that takes longer."""
        return None if self._encoder is None else self._encoder.ids

    def _load(self) -> Tokenizer:
        """The tokenizer in full; beside a proven encoder its 60 MB wait for the first long text."""
        with self._loading:
            if self._tokenizer is None:
                self._tokenizer = _load(zlib.decompress(self._definition), self._path)
                self._definition = b""
        return self._tokenizer

    def encode(self, texts: Sequence[str], limit: int) -> list[list[int]]:
        """Each text's ids, in lists of the caller's own: all of them up to `limit`, of a longer
        text at least `limit` + 1, which may be a Part.

        A text of more than 16 characters a token is read in part, up to the last blank between
        words, so that the ids kept are those of the whole text.
        """
        window = (limit + SPARE_TOKENS) * CHARS_PER_TOKEN
        if self._encoder is not None:
            quick = window if window < ranked.CHARS_MAX else ranked.CHARS_MAX
            ids, found = self._encoder.ids, []
            for text in texts:
                if len(text) > quick:
                    break
                found.append(ids(text))
            else:
                return found
        heads = [text if len(text) <= window else _head(text, window) for text in texts]
        found = [
            ids if len(head) == len(text) else Part(ids)
            for ids, head, text in zip(self._ids(heads), heads, texts, strict=True)
        ]
        for i, one in enumerate(found):
            if isinstance(one, Part) and len(one) < limit + SPARE_TOKENS:
                found[i] = self._read_on(texts[i], window, limit)
        return found

    def pieces(self, text: str) -> list[Piece]:
        """Every token of a text, with the characters (of its form NFC) that it covers."""
        if self._encoder is None or len(text) > ranked.CHARS_MAX:
            found = (self._tokenizer or self._load()).encode(text, add_special_tokens=False)
            return [
                Piece(number, text[start:stop], False, start, stop)
                for number, (start, stop) in zip(found.ids, found.offsets, strict=True)
            ]
        made: list[Piece] = []
        at = 0
        for number in self._encoder.ids(text):
            part = self._encoder.bytes_of(number)
            # A token may begin or end inside a character, which both its neighbours cover then.
            start = at - (part[0] & 0xC0 == 0x80)
            at += sum(byte & 0xC0 != 0x80 for byte in part)
            made.append(Piece(number, part.decode(errors="replace"), False, start, at))
        return made

    def end(self, text: str, limit: int) -> list[int]:
        """The last `limit` ids of a text that has more; of a very long one only its end is read."""
        window = (limit + SPARE_TOKENS) * CHARS_PER_TOKEN
        while True:
            tail = text if len(text) <= window else _tail(text, window)
            (ids,) = self._ids([tail])
            if len(tail) == len(text) or len(ids) >= limit + SPARE_TOKENS:
                return ids[-limit:]
            window *= 2

    def _read_on(self, text: str, window: int, limit: int) -> list[int]:
        """For long tokens (a token can be 128 blanks): twice as far until it is enough."""
        while True:
            window *= 2
            head = text if len(text) <= window else _head(text, window)
            (ids,) = self._ids([head])
            if len(head) == len(text) or len(ids) >= limit + SPARE_TOKENS:
                return ids if len(head) == len(text) else Part(ids)

    def _ids(self, texts: Sequence[str]) -> Iterator[list[int]]:
        encoder = self._encoder
        if encoder is not None and all(len(text) <= ranked.CHARS_MAX for text in texts):
            yield from map(encoder.ids, texts)
            return
        tokenizer = self._tokenizer or self._load()
        for group in _groups(texts):
            # The interpreter's lock is free while this runs; the offsets are never computed.
            for encoding in tokenizer.encode_batch_fast(group, add_special_tokens=False):
                yield encoding.ids


def read(files: ModelFiles) -> tuple[Definition, dict[str, int]]:
    """tokenizer.json without its own cutting and filling up, and the ids of its added tokens.

    Raises ModelFilesError when it is no tokenizer's file.
    """
    try:
        definition = orjson.loads(files.tokenizer)
        added = {str(t["content"]): int(t["id"]) for t in definition.get("added_tokens") or []}
        definition["model"]["vocab"]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ModelFilesError(
            f"{files.path}/tokenizer.json: not a tokenizer's file; copy it again"
        ) from None
    return {**definition, "truncation": None, "padding": None}, added


def text_only(definition: Definition, keep_words: bool) -> Definition:
    """The same tokenizer with its added tokens out of reach of any text.

    With `keep_words` those that are not special stay: some models write plain words so. Special
    ones may also stand in the vocabulary, where a whole word would find them: they are renamed
    there, but for the unknown token. Merges reach only what is made of other tokens.
    """
    added = definition.get("added_tokens") or []
    special = {token["content"] for token in added if token.get("special")}
    model = dict(definition["model"])
    special.discard(model.get("unk_token"))
    if isinstance(model["vocab"], list):
        unknown = model.get("unk_id")
        model["vocab"] = [
            [HIDDEN + text if text in special and i != unknown else text, score]
            for i, (text, score) in enumerate(model["vocab"])
        ]
    elif special & model["vocab"].keys() and ("merges" not in model or model.get("ignore_merges")):
        model["vocab"] = {HIDDEN + t if t in special else t: n for t, n in model["vocab"].items()}
    words = [token for token in added if keep_words and not token.get("special")]
    return {**definition, "added_tokens": words, "post_processor": None, "model": model}


# Embedding model and reranker mostly have the same words, which cost much memory and a second.
_shared: WeakValueDictionary[bytes, Words] = WeakValueDictionary()


def shared(definition: Definition, path: Path) -> Words:
    """Words of `definition`; the same object for the same definition, as long as one is in use."""
    key = hashlib.sha256(orjson.dumps(definition)).digest()
    words = _shared.get(key)
    if words is None:
        words = _shared[key] = Words(definition, path)
    return words


def frame(definition: Definition, path: Path) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer's own post-processor puts before and after a text."""
    full = _load(orjson.dumps(definition), path)
    bare = full.encode("a", add_special_tokens=False).ids
    framed = full.encode("a").ids
    start = next(i for i in range(len(framed) + 1) if framed[i : i + len(bare)] == bare)
    return framed[:start], framed[start + len(bare) :]


def pair_frame(
    definition: Definition, path: Path
) -> tuple[list[int], list[int], list[int], list[int], list[int]]:
    """What the post-processor puts before, between and after two texts, and the segments.

    Those are of all up to the second text, and of the rest. No text between gives empty lists.
    """
    full = _load(orjson.dumps(definition), path)
    bare = full.encode("a", add_special_tokens=False).ids
    both = full.encode("a", "a")
    size, starts = (
        len(bare),
        [i for i in range(len(both.ids)) if both.ids[i : i + len(bare)] == bare],
    )
    if len(starts) != 2 or not bare:
        return [], [], [], [], []
    first, second = starts
    between = both.ids[first + size : second]
    kinds = both.type_ids
    return both.ids[:first], between, both.ids[second + size :], kinds[:second], kinds[second:]


def _load(definition: bytes, path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_str(definition.decode())
    except Exception as error:  # the library raises nothing more precise
        raise ModelFilesError(
            f"{path}/tokenizer.json: can't be used ({error}); copy the file again"
        ) from None


def _head(text: str, window: int) -> str:
    """About the first `window` characters, ended before a blank between words if there is one."""
    at = window
    while (at := text.rfind(" ", max(1, window - SEAM_CHARS), at)) > 0:
        if not text[at - 1].isspace():
            return text[:at]
    return text[:window]


def _tail(text: str, window: int) -> str:
    """About the last `window` characters, begun at a blank between words if there is one."""
    start = at = len(text) - window
    while (at := text.find(" ", at, start + SEAM_CHARS)) > 0:
        if not text[at - 1].isspace():
            return text[at:]
        at += 1
    return text[start:]


def _groups(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in runs of about GROUP_CHARS characters."""
    group: list[str] = []
    chars = 0
    for text in texts:
        if group and chars + len(text) > GROUP_CHARS:
            yield group
            group, chars = [], 0
        group.append(text)
        chars += len(text)
    if group:
        yield group
