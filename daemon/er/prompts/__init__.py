"""Texts to token sequences: the model's own tokenizer and the official Qwen3 prompts.

Three rules make the answers right:

* Control tokens come from ER alone. A client's text goes through a tokenizer that knows none, so
  `<|im_end|>` or `<think>` in a document stays text, and the pieces of the prompt are put round it
  as ids. A cut therefore never touches them.
* The reranker's body, `<Instruct>: ..\\n<Query>: ..\\n<Document>: ..`, is one string in the
  official recipe, and a token may reach over a seam (" Paris" is one). So the document is
  tokenised together with the blank before it, and everything before that blank by itself, once
  for all documents: the tokenizer's own pattern always ends a token between ":" and " ", whatever
  follows, and nothing combines with a blank when the text is normalised. `Prompter` tries this on
  its tokenizer before it serves.
* Ids of control tokens come from the model's own file.

What stands before every query is tokenised once for all requests, as a token also ends between
"Query" or "<Query>:" and what follows: ":" with the text, or a blank.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NoReturn

import msgspec

from er.job import Ids, Kind, OverLength, Piece, Refusal, Task
from er.model_files import ModelFiles, ModelFilesError, PromptKind
from er.prompts import recipe, words
from er.prompts.given_ids import cl100k_texts, token_ids_refusal
from er.prompts.pairs import Pairs
from er.prompts.quick import Quick, behind, is_query
from er.prompts.words import Part

__all__ = ["INSTRUCTION", "Prompted", "Prompter", "cl100k_texts", "token_ids_refusal"]

INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"

END_OF_TEXT = "<|endoftext|>"
SCORE_PREFIX = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and "
    'the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n"
)
SCORE_SUFFIX = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"

STARTS_MAX, STARTS_CHARS = 64, 2000  # remembered; their instructions' length
CONTROL = re.compile(r"(<\|\w+\|>|</?think>)")
PROBES = (
    "Paris", "  两个 blanks", "\n\nline", "'s", "\u0301accent", "<x>", "7", "👩‍👩‍👧", "", "\t",
)  # fmt: skip


class Prompted(msgspec.Struct, gc=False):
    """What goes to the engine: `tokens` in all, `cut` = how many texts were shortened."""

    sequences: list[list[int]]
    tokens: int
    cut: int


class Prompter:
    """Makes one model's sequences. Threads may share one; heavy calls free the interpreter."""

    def __init__(
        self,
        files: ModelFiles,
        *,
        prompt: PromptKind,
        max_tokens: int,
        instruction: str | None,
        task: Task,
    ) -> None:
        """`max_tokens` counts special tokens; the model's own limit holds where it is lower.

        Raises ModelFilesError when the tokenizer can't be used or the prompt can't do the task.
        """
        self.max_tokens = min(max_tokens, files.max_tokens)
        self.dimensions, self.pooling = files.dimensions, recipe.pooling(files)
        self._files = msgspec.structs.replace(files, tokenizer=b"")  # megabytes, read for good
        self._qwen3 = prompt == "qwen3"
        self.instruction = instruction or INSTRUCTION
        self.pairs: Pairs | None = None  # of a cross-encoder
        self.recipe = ""  # a word for all this (digest), from who needs it
        recipe.demand(files, prompt, task, instruction)
        definition, added = words.read(files)
        self._names = {number: text for text, number in added.items()}
        if self._qwen3:
            self._words = words.shared(words.text_only(definition, False), files.path)
            self._before: list[int] = []
            self._after = [_control_id(files, added, END_OF_TEXT)]
        else:
            self._words = words.shared(words.text_only(definition, True), files.path)
            self._before, self._after = words.frame(definition, files.path)
        self._framing = len(self._before) + len(self._after)
        self._before_document = "" if self._qwen3 else files.document_prefix
        self._starts: dict[str, list[int]] = {}
        self._start = "Instruct: {}\nQuery"
        self._apart = self._qwen3 and self._seam(self._start, ":{}")
        self._prefix: list[int] = []
        self._suffix: list[int] = []
        least = self._framing + 1
        if self._qwen3 and task == "score":
            self._start = "<Instruct>: {}\n<Query>:"
            self._prefix = self._pieces(SCORE_PREFIX, added)
            self._suffix = self._pieces(SCORE_SUFFIX, added)
            self._demand_seams()
            head = self._head("", None)
            least = len(self._prefix) + len(head) + len(self._suffix) + 1
        elif task == "score":
            self.pairs = Pairs(files, definition, self._words, self._names)
            self._prefix, self._suffix = self.pairs.prefix, self.pairs.suffix
            least = len(self._prefix) + len(self._head("", None)) + len(self._suffix) + 1
        if self.max_tokens < least:
            raise ModelFilesError(
                f"{files.path}: the limit of {self.max_tokens} tokens is too low, the prompt alone "
                f"needs {least}; raise max_tokens of this model in er.toml"
            )

    # -- embed -------------------------------------------------------------------------------

    def embed(
        self,
        texts: Sequence[str],
        *,
        kind: Kind,
        instruction: str | None,
        over_length: OverLength,
        what: str = "input",
        max_tokens: int | None = None,
        cut_start: bool = False,
    ) -> Prompted:
        """One sequence for each text, in their order; `instruction` None means the model's own.

        Where `max_tokens` is less than the model's limit, it counts as that. With `cut_start` a
        too long text loses its beginning; an instruction before it stays. Raises Refusal 400
        input_too_long, which names the text as the `what` it is, unless `over_length` is "cut".
        """
        given, limit = texts, self._limit(max_tokens)
        before, room = self._before, limit - self._framing
        if kind == "query":
            start = None
            if self._apart and not any(map(is_query, texts)):
                start = self._started(instruction)
            if start is not None and len(start) < room:
                before, room = before + start, room - len(start)
                texts = [f":{text}" for text in texts]
            else:
                texts = [self._as_query(text, instruction) for text in texts]
        elif self._before_document:
            texts = [self._before_document + text for text in texts]
        bodies = self._words.encode(texts, room)
        if cut_start and over_length == "cut":
            for i, ids in enumerate(bodies):
                if len(ids) > room:
                    bodies[i] = self._without_start(given[i], texts[i], ids, room)
        return self._framed(before, bodies, room, over_length, what, limit)

    def _limit(self, max_tokens: int | None) -> int:
        """The longest sequence: the model's, or what a client asks for where that is less."""
        if max_tokens is None:
            return self.max_tokens
        return min(self.max_tokens, max(self._framing + 1, max_tokens))

    def _without_start(self, text: str, full: str, ids: list[int], room: int) -> list[int]:
        """One id more than `room`: those before `text`, those of its end, and one to be cut."""
        head = self._words.encode([full.removesuffix(text)], room)[0] if full != text else []
        if len(head) >= room:
            return ids
        ended = [*head, *self._words.end(text, room - len(head))]
        return [*ended, ended[-1]] if len(ended) == room else ids

    def quick(self, kind: Kind) -> Quick | None:
        """What `embed` makes of one short text of that kind under the model's own instruction.

        None where it takes more than that: text or ids before, or a tokenizer that only has long
        calls.
        """
        ids, room = self._words.quick, self.max_tokens - len(self._after)
        if ids is None or self._before or (self._before_document and kind == "document"):
            return None
        if kind == "document":
            return Quick(ids, self._after, room)
        start = self._started(None) if self._apart else []
        return Quick(behind(start, ids), self._after, room) if 0 < len(start) < room else None

    def embed_ids(
        self,
        ids: Sequence[Ids],
        *,
        over_length: OverLength,
        what: str = "input",
        max_tokens: int | None = None,
        cut_start: bool = False,
    ) -> Prompted:
        """One sequence for each list of the model's own ids; special tokens added where missing.

        Raises Refusal 400 for an id outside the vocabulary, and as `embed` does.
        """
        limit = self._limit(max_tokens)
        room = limit - self._framing
        vocabulary = self._files.vocabulary
        bodies: list[list[int]] = []
        for i, given in enumerate(ids):
            if given and (min(given) < 0 or max(given) >= vocabulary):
                wrong = next(n for n in given if not 0 <= n < vocabulary)
                raise Refusal(
                    400,
                    "invalid_request",
                    f"{what} {i} (counting from 0) has the token id {wrong}; this model's ids "
                    f"run from 0 to {vocabulary - 1}",
                    param=what,
                )
            body = list(given)
            if self._before and body[: len(self._before)] == self._before:
                del body[: len(self._before)]
            if self._after and body[-len(self._after) :] == self._after:
                del body[-len(self._after) :]
            if cut_start and over_length == "cut" and len(body) > room:
                body = [*body[-room:], body[-1]]  # one too many, which counts as cut
            bodies.append(body)
        return self._framed(self._before, bodies, room, over_length, what, limit)

    def pieces(self, text: str, *, kind: Kind, special: bool) -> list[Piece]:
        """The tokens of a text; with `special` those that are put round it too."""
        if kind == "query":
            text = self._as_query(text, None)
        found = self._words.pieces(text)
        if not special:
            return found
        before, after = (
            [Piece(number, self._names.get(number, ""), True) for number in ids]
            for ids in (self._before, self._after)
        )
        return [*before, *found, *after]

    def _as_query(self, text: str, instruction: str | None) -> str:
        if not self._qwen3:
            if instruction:
                raise recipe.no_instruction()
            return self._files.query_prefix + text
        if is_query(text):
            return text
        return f"Instruct: {instruction or self.instruction}\nQuery:{text}"

    def _started(self, instruction: str | None) -> list[int]:
        """What stands before a query, remembered for short instructions."""
        said = instruction or self.instruction
        found = self._starts.get(said)
        if found is None:
            (found,) = self._words.encode([self._start.format(said)], self.max_tokens)
            if len(said) <= STARTS_CHARS:
                if len(self._starts) >= STARTS_MAX:
                    self._starts.clear()
                self._starts[said] = found
        return found

    def _framed(
        self,
        before: list[int],
        bodies: Iterable[list[int]],
        room: int,
        over_length: OverLength,
        what: str,
        limit: int,
    ) -> Prompted:
        """`bodies` are the caller's to give away: most become the sequence itself."""
        after = self._after
        sequences: list[list[int]] = []
        tokens = cut = 0
        for ids in bodies:
            if len(ids) > room:
                if over_length == "refuse":
                    i, extra = len(sequences), limit - room
                    name = "the query" if what == "query" else f"{what} {i} (counting from 0)"
                    _too_long(name, ids, extra, limit, what)
                cut += 1
                ids = ids[:room]
            if before:
                ids = before + ids
            ids += after
            sequences.append(ids)
            tokens += len(ids)
        return Prompted(sequences, tokens, cut)

    # -- score -------------------------------------------------------------------------------

    def score(
        self,
        query: str,
        documents: Sequence[str],
        *,
        instruction: str | None,
        over_length: OverLength = "cut",
        max_tokens: int | None = None,
        cut_start: bool = False,
    ) -> Prompted:
        """One sequence for each document, in their order. Only documents are ever cut.

        Each is cut to `max_tokens` of its own where it has more, from its beginning with
        `cut_start`. Raises Refusal 400 input_too_long when the query leaves no room for a
        document, or for a too long document with `over_length` "refuse".
        """
        frame = len(self._prefix) + len(self._suffix)
        head = self._head(query, instruction)
        room = self.max_tokens - frame - len(head)
        if room < 1:
            name = "the query, with its instruction and one token of a document,"
            _too_long(name, head, frame + 1, self.max_tokens, "query")
        if max_tokens is not None and max_tokens < room:
            room, over_length = max_tokens, "cut"
        start = self._prefix + head
        blank = " " if self._qwen3 else ""
        sequences: list[list[int]] = []
        cut = 0
        for i, tail in enumerate(self._words.encode([blank + text for text in documents], room)):
            if len(tail) > room:
                if over_length == "refuse":
                    extra = self.max_tokens - room
                    name = f"document {i} (counting from 0)"
                    _too_long(name, tail, extra, self.max_tokens, "documents")
                cut += 1
                if cut_start:
                    tail = self._words.end(documents[i], room)
            sequences.append([*start, *tail[:room], *self._suffix])
        if self.pairs is not None:
            self.pairs.mark(sequences, len(start))
        return Prompted(sequences, sum(map(len, sequences)), cut)

    def _head(self, query: str, instruction: str | None) -> list[int]:
        if self.pairs is not None:
            if instruction:
                raise recipe.no_instruction()
            return self.pairs.head(query, self.max_tokens)
        start = self._started(instruction)
        (rest,) = self._words.encode([f" {query}\n<Document>:"], self.max_tokens)
        partial = isinstance(start, Part) or isinstance(rest, Part)
        return Part(start + rest) if partial else start + rest

    def _pieces(self, template: str, added: dict[str, int]) -> list[int]:
        """A template's ids: control tokens by the tokenizer's own table, the rest as words."""
        ids: list[int] = []
        for i, piece in enumerate(CONTROL.split(template)):
            if i % 2:
                ids.append(_control_id(self._files, added, piece))
            elif piece:
                ids.extend(self._words.encode([piece], len(piece))[0])
        return ids

    def _demand_seams(self) -> None:
        if not self._seam("<Query>: {}\n<Document>:", " {}") or not self._seam(
            self._start, " {}\n<Document>:"
        ):
            raise ModelFilesError(
                f"{self._files.path}/tokenizer.json: joins a document with what stands before it, "
                "so it is not the tokenizer of Qwen3-Reranker; copy that model's own file"
            )

    def _seam(self, before: str, behind: str) -> bool:
        """Whether the two, round whatever text, have the same ids together and one by one."""
        for probe in PROBES:
            head, tail = before.format(probe), behind.format(probe)
            whole, first, second = self._words.encode([head + tail, head, tail], 1000)
            if whole != first + second:
                return False
        return True


def _control_id(files: ModelFiles, added: dict[str, int], text: str) -> int:
    found = added.get(text)
    if found is None or found >= files.vocabulary:
        said = "does not have" if found is None else "numbers outside the model's vocabulary"
        raise ModelFilesError(
            f"{files.path}/tokenizer.json: {said} {text}, which the Qwen3 prompt needs; copy the "
            'model folder again, or set prompt = "plain" if it is no Qwen3 model'
        )
    return found


# -- refusals -----------------------------------------------------------------------------------


def _too_long(name: str, ids: list[int], extra: int, limit: int, param: str) -> NoReturn:
    partial = isinstance(ids, Part)
    count = f"more than {limit} tokens" if partial else f"{len(ids) + extra} tokens"
    cure = "shorten or split it" if param != "query" else "shorten it"
    raise Refusal(
        400,
        "input_too_long",
        f"{name} has {count}, special tokens included; the limit of this model is {limit}: {cure}",
        param=param,
    )
