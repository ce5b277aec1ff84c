"""A cross-encoder's sequences: query and document in the frame that its tokenizer puts round two.

`[CLS] query [SEP] document [SEP]` for BERT, `<s> query </s></s> document </s>` for XLM-RoBERTa.
Both texts are tokenised by themselves, as the tokenizer does too; only the document is ever cut.

BERT tells the two apart by a segment besides: what belongs to the document has it 1. A sequence is
one list of ids all the same: those of the second segment have the bit SECOND_SEGMENT set, which
er-vllm's path inside vLLM understands and vLLM's own /pooling refuses, as it is no id of a model.
"""

from __future__ import annotations

from collections.abc import Mapping

from er.job import SECOND_SEGMENT
from er.model_files import ModelFiles, ModelFilesError
from er.prompts import words
from er.prompts.words import Definition, Part, Words


class Pairs:
    """The frame of one model. `shown` is the sequence in words, for people."""

    def __init__(
        self, files: ModelFiles, definition: Definition, text: Words, names: Mapping[int, str]
    ) -> None:
        """`names` are those of the tokenizer's added tokens. Raises ModelFilesError."""
        self._words = text
        self.prefix, self._between, self.suffix, first, second = words.pair_frame(
            definition, files.path
        )
        self.segments = any(second)
        if not self._between or any(first) or (self.segments and not all(second)):
            raise ModelFilesError(
                f"{files.path}/tokenizer.json: does not say how it joins a query and a document, "
                "which a cross-encoder must know; copy the model's own file"
            )
        if self.segments and files.segments < 2:
            raise ModelFilesError(
                f"{files.path}: tokenizer.json gives documents a segment of their own, which "
                "config.json does not have (type_vocab_size); copy both files of one model"
            )
        parts = (names.get(number, str(number)) for number in self.prefix)
        between = (names.get(number, str(number)) for number in self._between)
        suffix = (names.get(number, str(number)) for number in self.suffix)
        self.shown = " ".join((*parts, "query", *between, "document", *suffix))

    def head(self, query: str, limit: int) -> list[int]:
        """The query with what stands between it and a document; a Part beyond `limit`."""
        (ids,) = self._words.encode([query], limit)
        return Part(ids + self._between) if isinstance(ids, Part) else ids + self._between

    def mark(self, sequences: list[list[int]], start: int) -> None:
        """Say of each id from `start` on that it is the document's."""
        if self.segments:
            for ids in sequences:
                ids[start:] = [number | SECOND_SEGMENT for number in ids[start:]]
