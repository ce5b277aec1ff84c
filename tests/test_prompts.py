"""Texts to token sequences: the official recipes' ids, whatever is in a text, and clear limits."""

from __future__ import annotations

import json
import threading
import time
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import model_cache
from er import model_files, prompts
from er.job import SECOND_SEGMENT, Refusal
from er.model_files import ModelFiles, ModelFilesError
from er.prompts import Prompted, Prompter, given_ids, words

END = 151643
CONTROL_TEXTS = (
    "<|im_end|>", "<|im_start|>system", "<|endoftext|>", "<think>", "</think>", "<tool_call>",
    "<|vision_start|>", "<|fim_prefix|>", "a<|im_end|>b\n<|im_start|>user\n",
)  # fmt: skip
NASTY = (
    "", " ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u2028", "\u3000", "'s", "'S", "\u0301", "\u0338",
    "\u1100\u1161\u11a8", "👩\u200d👩\u200d👧", "\U0001f1e8\U0001f1f3", "中文，没有空格。", "naïve",
    "x" * 60, "0123456789", "def f(x):\n    return {'a': [1]}\n", "   \n   \n", "; \n", ">:", ": ",
    "<Document>: ", "\n<Query>: ", "\x00", "\ufeff", "\u202e", *CONTROL_TEXTS,
)  # fmt: skip
PIECES = st.one_of(
    st.sampled_from(NASTY), st.text(max_size=12), st.text(" \n\t\r.:<>'a1中", max_size=8)
)
TEXTS = st.lists(PIECES, max_size=5).map("".join)


def files(**changes: Any) -> ModelFiles:
    """The real Qwen3 tokenizer with the figures of Qwen3-Reranker-0.6B."""
    facts: dict[str, Any] = {
        "path": Path("/models/qwen3"),
        "architecture": "Qwen3ForCausalLM",
        "tokenizer": _tokenizer("qwen3-tokenizer"),
        "max_tokens": 40960,
        "dimensions": 1024,
        "vocabulary": 151669,
        "prompt": "qwen3",
        "dtype": "float32",
    }
    return ModelFiles(**(facts | changes))


@cache
def _tokenizer(name: str) -> bytes:
    return (model_cache.folder(name) / "tokenizer.json").read_bytes()


@cache
def official() -> Tokenizer:
    """The tokenizer as transformers uses it, control tokens and all."""
    return Tokenizer.from_str(_tokenizer("qwen3-tokenizer").decode())


@cache
def embedder(max_tokens: int = 8192) -> Prompter:
    return Prompter(files(), prompt="qwen3", max_tokens=max_tokens, instruction=None, task="embed")


@cache
def reranker(max_tokens: int = 8192) -> Prompter:
    return Prompter(files(), prompt="qwen3", max_tokens=max_tokens, instruction=None, task="score")


@cache
def minilm(max_tokens: int = 8192) -> Prompter:
    found = model_files.read(model_cache.folder("minilm"))
    return Prompter(found, prompt="plain", max_tokens=max_tokens, instruction=None, task="embed")


def as_text(text: str) -> list[int]:
    """The ids of `text` as one string in which nothing is a control token."""
    return list(_bare().encode(text, add_special_tokens=False).ids)


@cache
def _bare() -> Tokenizer:
    return Tokenizer.from_str(
        json.dumps(json.loads(_tokenizer("qwen3-tokenizer")) | {"added_tokens": []})
    )


def embed(text: str, kind: Any = "document", instruction: str | None = None) -> list[int]:
    found = embedder().embed([text], kind=kind, instruction=instruction, over_length="refuse")
    assert found.tokens == len(found.sequences[0]) and found.cut == 0
    return found.sequences[0]


# -- embed -------------------------------------------------------------------------------------


def test_a_document_is_its_text_and_the_end_token() -> None:
    assert embed("hello world") == [*official().encode("hello world").ids, END]
    assert embed("") == [END]


def test_a_query_gets_the_instruction() -> None:
    said = f"Instruct: {prompts.INSTRUCTION}\nQuery:who?"
    assert embed("who?", "query") == embed(said) == [*official().encode(said).ids, END]
    assert embed("who?", "query", "Find it") == embed("Instruct: Find it\nQuery:who?")


@given(TEXTS, TEXTS)
@settings(deadline=None)
def test_a_query_is_one_text_with_its_instruction(text: str, task: str) -> None:
    """Though the instruction is tokenised once for many."""
    said = f"Instruct: {task or prompts.INSTRUCTION}\nQuery:{text}"
    assert embed(text, "query", task) == [*as_text(said), END]


def test_an_instruction_is_tokenised_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it is short; a long one, and those of many requests, are not kept."""
    own, ranker = (
        Prompter(files(), prompt="qwen3", max_tokens=999, instruction=None, task=task)
        for task in ("embed", "score")
    )
    asked: list[str] = []
    for one in (own, ranker):
        right = one._words.encode

        def noted(texts: Any, limit: int, right: Any = right) -> Any:
            asked.extend(texts)
            return right(texts, limit)

        monkeypatch.setattr(one, "_words", SimpleNamespace(encode=noted))
    for text in ("x", "y"):
        own.embed([text], kind="query", instruction="Do", over_length="cut")
        ranker.score(text, ["d"], instruction="Do")
    assert asked == [
        "Instruct: Do\nQuery", ":x",
        "<Instruct>: Do\n<Query>:", " x\n<Document>:", " d",
        ":y", " y\n<Document>:", " d",
    ]  # fmt: skip
    for n in range(prompts.STARTS_MAX + 5):
        own.embed(["x"], kind="query", instruction=f"task {n}", over_length="cut")
        own.embed(["x"], kind="query", instruction="long" * prompts.STARTS_CHARS, over_length="cut")
    assert len(own._starts) <= prompts.STARTS_MAX
    assert max(map(len, own._starts)) < 100


def test_an_instruction_that_fills_the_limit_is_cut_or_refused_with_its_text() -> None:
    long = "very " * 50
    said = f"Instruct: {long}\nQuery:x"
    found = embedder(20).embed(["x"], kind="query", instruction=long, over_length="cut")
    assert found.sequences == [[*as_text(said)[:19], END]]
    with pytest.raises(Refusal, match=r"input 0 .* has \d+ tokens"):
        embedder(20).embed(["x"], kind="query", instruction=long, over_length="refuse")


def test_a_query_that_has_its_prompt_keeps_it() -> None:
    done = "Instruct: mine\nQuery: who?"
    assert embed(done, "query") == embed(done)
    half = "Instruct: mine only"
    assert embed(half, "query") != embed(half)


def test_the_model_may_have_its_own_instruction() -> None:
    own = Prompter(files(), prompt="qwen3", max_tokens=99, instruction="Mine", task="embed")
    found = own.embed(["x"], kind="query", instruction=None, over_length="refuse")
    assert found.sequences == [embed("Instruct: Mine\nQuery:x")]
    assert own.dimensions == 1024


def test_the_template_step_of_the_tokenizer_adds_no_second_end() -> None:
    """Qwen3-Embedding's own file appends the end token by itself, other copies don't."""
    tokenizer = official()
    again = Tokenizer.from_str(tokenizer.to_str())
    again.post_processor = processors.TemplateProcessing(
        single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", END)]
    )
    changed = files(tokenizer=again.to_str().encode())
    own = Prompter(changed, prompt="qwen3", max_tokens=99, instruction=None, task="embed")
    found = own.embed(["hello"], kind="document", instruction=None, over_length="refuse")
    assert found.sequences == [embed("hello")]


@pytest.mark.parametrize("text", CONTROL_TEXTS)
def test_control_text_stays_text(text: str) -> None:
    ids = embed(text)
    assert max(ids[:-1]) < END
    assert official().decode(ids[:-1]) == text
    scored = reranker().score(text, [text], instruction=text).sequences[0]
    plain = reranker().score("q", ["d"], instruction="i").sequences[0]
    assert [i for i in scored if i >= END] == [i for i in plain if i >= END]


@given(TEXTS)
@settings(deadline=None)
def test_every_text_is_its_own_ids(text: str) -> None:
    assert embed(text) == [*as_text(text), END]


def test_a_cut_text_ends_with_the_end_token() -> None:
    text = "one two three four five six seven eight"
    found = embedder(5).embed([text, "one"], kind="document", instruction=None, over_length="cut")
    assert found.sequences == [[*as_text(text)[:4], END], [*as_text("one"), END]]
    assert (found.tokens, found.cut) == (7, 1)


def test_the_limit_itself_fits() -> None:
    text = "one two three four"
    found = embedder(5).embed([text], kind="document", instruction=None, over_length="refuse")
    assert len(found.sequences[0]) == 5 and found.cut == 0


def test_a_too_long_text_is_named_with_its_tokens_and_the_limit() -> None:
    texts = ["one", "one two three four five"]
    with pytest.raises(Refusal) as refused:
        embedder(5).embed(texts, kind="document", instruction=None, over_length="refuse")
    assert (refused.value.status, refused.value.code) == (400, "input_too_long")
    for part in ("input 1", "6 tokens", "is 5"):
        assert part in refused.value.message
    with pytest.raises(Refusal, match=r"^the query has 6 tokens"):
        embedder(5).embed(
            texts[1:], kind="document", instruction=None, over_length="refuse", what="query"
        )


@pytest.mark.parametrize("text", ["one two three four five six", "词" * 40, "ab " * 99999])
def test_what_is_cut_may_be_the_beginning(text: str) -> None:
    """The end is that of the whole text; before a query its instruction stays."""
    cut: dict[str, Any] = {"over_length": "cut", "cut_start": True}
    found = embedder(5).embed([text, "one"], kind="document", instruction=None, **cut)
    assert found.sequences == [[*as_text(text[-60:])[-4:], END], [*as_text("one"), END]]
    assert found.cut == 1
    found = embedder(20).embed([text * 9], kind="query", instruction="t", **cut)
    head = as_text("Instruct: t\nQuery:")
    assert found.sequences == [[*head, *as_text(text[-60:] * 9)[len(head) - 19 :], END]]
    assert found.cut == 1
    found = embedder(5).embed([text], kind="query", instruction="longer than the limit", **cut)
    assert len(found.sequences[0]) == 5 and found.cut == 1


def test_a_client_can_ask_for_less_than_the_limit() -> None:
    text = "one two three four five"
    found = embedder().embed(
        [text], kind="document", instruction=None, over_length="cut", max_tokens=4
    )
    assert found.sequences == [[*as_text(text)[:3], END]] and found.cut == 1
    with pytest.raises(Refusal, match=r"6 tokens.*is 4"):
        embedder().embed(
            [text], kind="document", instruction=None, over_length="refuse", max_tokens=4
        )


# -- token ids ---------------------------------------------------------------------------------


def test_own_ids_get_their_end_once() -> None:
    bare = as_text("hello world")
    found = embedder().embed_ids([bare, [*bare, END]], over_length="refuse")
    assert found.sequences == [[*bare, END]] * 2


def test_own_ids_are_cut_or_refused() -> None:
    right = Prompted([[0, 1, 2, END]], 4, 1)
    assert embedder(4).embed_ids([range(9)], over_length="cut") == right
    found = embedder(4).embed_ids([range(9)], over_length="cut", cut_start=True)
    assert found == Prompted([[6, 7, 8, END]], 4, 1)
    found = embedder().embed_ids([range(9)], over_length="cut", max_tokens=3)
    assert found == Prompted([[0, 1, END]], 3, 1)
    with pytest.raises(Refusal, match="10 tokens"):
        embedder(4).embed_ids([range(9)], over_length="refuse")


@pytest.mark.parametrize("wrong", [-1, 151669, 2**40])
def test_ids_outside_the_vocabulary_are_refused(wrong: int) -> None:
    with pytest.raises(Refusal, match=f"input 1 .*{wrong}.*151668"):
        embedder().embed_ids([[1], [5, wrong]], over_length="cut")


def test_the_refusal_of_ids_names_both_cures() -> None:
    refusal = prompts.token_ids_refusal()
    assert (refusal.status, refusal.code) == (400, "token_ids_refused")
    assert "check_embedding_ctx_length=False" in refusal.message
    assert 'token_ids = "cl100k"' in refusal.message


def test_cl100k_ids_become_their_text() -> None:
    """What stock LangChain sends for ["hello world", "b"]."""
    assert prompts.cl100k_texts([[15339, 1917], [65]]) == ["hello world", "b"]


def test_an_empty_list_reads_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the nest can do it, and no request waits a second for it."""
    read: list[bool] = []
    monkeypatch.setattr(given_ids, "_cl100k", lambda: read.append(True))
    assert prompts.cl100k_texts([]) == [] and read == [True]


def test_a_list_cut_inside_a_character_loses_that_character_alone() -> None:
    ids = [15339, 62904, 102, 378, 235, 9468, 239, 102]
    assert prompts.cl100k_texts([ids]) == ["hello 👩\u200d👩"]
    assert prompts.cl100k_texts([ids[:-1]]) == ["hello 👩\u200d"]
    assert prompts.cl100k_texts([ids[2:]]) == ["\u200d👩"]


HALF_A_CHARACTER_INSIDE = [15339, 9468, 15339]


@pytest.mark.parametrize(
    "ids", [[100256], [100257], [100276], [151643], [-1], [2**40], HALF_A_CHARACTER_INSIDE]
)
def test_what_is_no_text_in_cl100k_is_refused(ids: list[int]) -> None:
    with pytest.raises(Refusal, match=r"input 1 .*cl100k"):
        prompts.cl100k_texts([[65], ids])


# -- score -------------------------------------------------------------------------------------

PREFIX_IDS_START = [151644, 8948, 198]
SUFFIX_IDS = [151645, 198, 151644, 77091, 198, 151667, 271, 151668, 271]


def recipe(query: str, document: str, instruction: str | None, max_tokens: int) -> list[int]:
    """The model card's way: the body as one string, cut to what the pieces leave of the limit."""
    prefix = official().encode(prompts.SCORE_PREFIX).ids
    suffix = official().encode(prompts.SCORE_SUFFIX).ids
    task = instruction or prompts.INSTRUCTION
    body = as_text(f"<Instruct>: {task}\n<Query>: {query}\n<Document>: {document}")
    return [*prefix, *body[: max_tokens - len(prefix) - len(suffix)], *suffix]


def test_the_pieces_are_the_official_ones() -> None:
    found = reranker().score("q", ["d"], instruction=None)
    (ids,) = found.sequences
    assert ids[:3] == PREFIX_IDS_START and ids[-9:] == SUFFIX_IDS
    text = official().decode(ids, skip_special_tokens=False)
    assert text == (
        f"{prompts.SCORE_PREFIX}<Instruct>: {prompts.INSTRUCTION}\n<Query>: q\n<Document>: d"
        f"{prompts.SCORE_SUFFIX}"
    )
    assert ids == official().encode(text).ids
    assert found.tokens == len(ids)


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=4), st.none() | TEXTS)
@settings(deadline=None, max_examples=100)
def test_scoring_equals_the_recipe(query: str, documents: list[str], task: str | None) -> None:
    found = reranker().score(query, documents, instruction=task)
    assert found.sequences == [recipe(query, text, task, 8192) for text in documents]
    assert found.tokens == sum(map(len, found.sequences)) and found.cut == 0


@given(TEXTS, TEXTS.map(lambda text: text * 4), st.integers(95, 160))
@settings(deadline=None)
def test_only_the_document_is_cut(query: str, document: str, limit: int) -> None:
    task = "t"
    head = len(recipe(query, "", task, 8192)) - 1  # the blank before the document is its own
    try:
        found = reranker(limit).score(query, [document], instruction=task)
    except Refusal as refusal:
        assert refusal.param == "query" and head >= limit
        return
    (ids,) = found.sequences
    assert len(ids) <= limit
    assert ids == recipe(query, document, task, limit)
    assert found.cut == (len(recipe(query, document, task, 8192)) > limit)


def test_a_query_without_room_for_a_document_is_refused() -> None:
    with pytest.raises(Refusal) as refused:
        reranker(200).score("word " * 200, ["d"], instruction=None)
    assert (refused.value.code, refused.value.param) == ("input_too_long", "query")
    assert "200" in refused.value.message
    with pytest.raises(Refusal, match="more than 200 tokens"):
        reranker(200).score("word " * 20000, ["d"], instruction=None)


@pytest.mark.parametrize("text", ["Hello  world", "三体 问题 👩\u200d🚀!", "naïve\n\n'S 𠮷"])
def test_pieces_cover_what_the_library_says(text: str) -> None:
    found = embedder().pieces(text, kind="document", special=False)
    wanted = _bare().encode(text, add_special_tokens=False)
    assert [piece.id for piece in found] == wanted.ids
    assert [(piece.start, piece.stop) for piece in found] == wanted.offsets
    whole = [p for p in found if "\ufffd" not in p.text]
    assert whole and all(p.text == text[p.start : p.stop] for p in whole)
    framed = embedder().pieces(text, kind="document", special=True)
    assert framed[:-1] == found and framed[-1].text == "<|endoftext|>" and framed[-1].special


def test_documents_are_cut_to_tokens_of_their_own() -> None:
    text = "one two three four five"
    ids = as_text(f" {text}")
    for start, kept in ((False, ids[:2]), (True, ids[-2:])):
        found = reranker().score(
            "q", [text, "one"], instruction=None, max_tokens=2, cut_start=start
        )
        (empty,) = reranker().score("q", [""], instruction=None).sequences
        head = empty[: -len(SUFFIX_IDS) - 1]  # without the blank
        assert found.sequences[0] == [*head, *kept, *SUFFIX_IDS]
        assert found.sequences[1] == [*head, *as_text(" one"), *SUFFIX_IDS]
        assert found.cut == 1


def test_long_documents_can_be_refused() -> None:
    with pytest.raises(Refusal, match=r"document 1 .* tokens.*150") as refused:
        reranker(150).score("q", ["d", "word " * 200], instruction=None, over_length="refuse")
    assert refused.value.param == "documents"


@pytest.mark.vllm
def test_the_ids_that_transformers_made() -> None:
    """tests/lab/models wrote these with the official recipes."""
    reference = json.loads(
        (model_cache.folder("qwen3-tokenizer").parent / "reference.json").read_text()
    )
    for case in reference["embeddings"]:
        kind = "document" if case["instruction"] is None else "query"
        found = embedder(case["max_tokens"]).embed(
            [case["text"]], kind=kind, instruction=case["instruction"], over_length="cut"
        )
        assert (found.sequences, bool(found.cut)) == ([case["ids"]], case["cut"]), case["name"]
    for case in reference["scores"]:
        found = reranker(case["max_tokens"]).score(
            case["query"], [case["document"]], instruction=case["instruction"]
        )
        assert (found.sequences, bool(found.cut)) == ([case["ids"]], case["cut"]), case["name"]


# -- long texts --------------------------------------------------------------------------------

LONG = {
    "words": "hello world, this is " * 20_000,
    "chinese": "中文没有空格，" * 50_000,
    "letters": "a" * 400_000,
    "lines": "x = 1;\n\n    y = 'z'\n" * 20_000,
    "blanks": " " * 400_000,
    "tabs": "\t \n" * 100_000,
    "marks": "a" + "\u0301" * 200_000,
}


@pytest.mark.parametrize("name", LONG)
def test_the_cut_of_a_text_read_in_part_is_that_of_the_whole(name: str) -> None:
    found = embedder(512).embed([LONG[name]], kind="document", instruction=None, over_length="cut")
    assert found.sequences[0] == [*as_text(LONG[name])[:511], END]
    assert found.cut == 1


@given(TEXTS.filter(lambda text: len(text) > 3), st.integers(2, 40))
@settings(deadline=None, max_examples=25)
def test_reading_in_part_never_shows(text: str, limit: int) -> None:
    text *= 20_000 // len(text)
    want = as_text(text)
    found = embedder(limit).embed([text], kind="document", instruction=None, over_length="cut")
    assert found.sequences[0] == [*want[: limit - 1], END]


def test_a_huge_text_is_refused_without_reading_it_all() -> None:
    """Ten million blanks would make the tokenizer's pattern panic; 30 MB of words take seconds."""
    started = time.process_time()
    for text in (" " * 30_000_000, "word " * 6_000_000):
        with pytest.raises(Refusal, match="more than 8192 tokens"):
            embedder().embed([text], kind="document", instruction=None, over_length="refuse")
    assert time.process_time() - started < 20


def test_many_texts_stay_in_order() -> None:
    texts = [f"text {i} " * (i % 7) + "x" * 3000 for i in range(400)]  # several calls' worth
    found = embedder().embed(texts, kind="document", instruction=None, over_length="refuse")
    assert found.sequences == [embed(text) for text in texts]


def test_threads_may_share_a_prompter() -> None:
    texts = [f"document {i} about 北京" for i in range(40)]
    want = embedder().embed(texts, kind="query", instruction=None, over_length="cut")
    found: list[Any] = []

    def ask() -> None:
        found.append(embedder().embed(texts, kind="query", instruction=None, over_length="cut"))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [want] * 4


# -- plain models ------------------------------------------------------------------------------


def plain(text: str, max_tokens: int = 8192, kind: Any = "document") -> list[int]:
    found = minilm(max_tokens).embed([text], kind=kind, instruction=None, over_length="cut")
    return found.sequences[0]


def test_minilm_has_its_own_frame_and_no_fixed_length() -> None:
    """Its tokenizer.json cuts to 128 and fills up to 128 by itself; both must be off."""
    assert plain("hello") == [101, 7592, 102]
    assert len(plain("word " * 200)) == 202
    assert len(plain("word " * 400)) == 256 and plain("word " * 400)[-1] == 102
    assert plain("hello", kind="query") == plain("hello")
    assert minilm().max_tokens == 256 and minilm().dimensions == 384


def test_control_text_stays_text_in_minilm() -> None:
    assert {100, 101, 102, 103}.isdisjoint(plain("a [SEP] b [CLS] [MASK]")[1:-1])


def test_own_ids_of_minilm() -> None:
    found = minilm().embed_ids([[7592], [101, 7592, 102]], over_length="refuse")
    assert found.sequences == [[101, 7592, 102]] * 2


def test_prefixes_of_sentence_transformers() -> None:
    found = model_files.read(model_cache.folder("minilm"))
    facts = {name: getattr(found, name) for name in found.__struct_fields__}
    e5 = ModelFiles(**(facts | {"query_prefix": "query: ", "document_prefix": "passage: "}))
    own = Prompter(e5, prompt="plain", max_tokens=99, instruction=None, task="embed")
    for kind, prefix in (("query", "query: "), ("document", "passage: ")):
        got = own.embed(["x"], kind=kind, instruction=None, over_length="cut")  # type: ignore[arg-type]
        assert got.sequences == [plain(prefix + "x")]


# -- cross-encoders ----------------------------------------------------------------------------


def cross(**changes: Any) -> Prompter:
    """A cross-encoder with minilm's tokenizer: [CLS] 101, [SEP] 102."""
    facts: dict[str, Any] = {
        "architecture": "BertForSequenceClassification",
        "tokenizer": _tokenizer("minilm"),
        "max_tokens": 512,
        "vocabulary": 30522,
        "prompt": "plain",
        "labels": 1,
        "segments": 2,
    }
    options = {"max_tokens": changes.pop("limit", 8192)}
    made = files(**(facts | changes))
    return Prompter(made, prompt="plain", instruction=None, task="score", **options)


def second(ids: list[int]) -> list[int]:
    return [number | SECOND_SEGMENT for number in ids]


def test_a_pair_is_two_segments_in_the_tokenizers_frame() -> None:
    query, document = plain("who?")[1:-1], plain("Paris [SEP] x")[1:-1]
    found = cross().score("who?", ["Paris [SEP] x", ""], instruction=None)
    head = [101, *query, 102]
    assert found.sequences == [[*head, *second([*document, 102])], [*head, *second([102])]]
    assert found.tokens == sum(map(len, found.sequences)) and found.cut == 0
    assert 102 not in query + document


def test_only_the_document_of_a_pair_is_cut() -> None:
    query, word = plain("who?")[1:-1], plain("word")[1]
    head = [101, *query, 102]
    limit = len(head) + 4
    for words_, cut in ((2, 0), (3, 0), (4, 1), (9999, 1)):
        found = cross(limit=limit).score("who?", ["word " * words_], instruction=None)
        assert found.sequences == [[*head, *second([*[word] * min(words_, 3), 102])]]
        assert found.cut == cut
    with pytest.raises(Refusal, match=r"document 0 .* limit of this model is"):
        cross(limit=limit).score("who?", ["word " * 9], instruction=None, over_length="refuse")
    with pytest.raises(Refusal, match="the query, with its instruction") as refused:
        cross(limit=limit).score("word " * 9, ["d"], instruction=None)
    assert refused.value.param == "query"


def test_a_plain_model_refuses_a_clients_instruction() -> None:
    """To drop it would answer another question than was asked."""
    with pytest.raises(Refusal, match="takes no instruction") as refused:
        cross().score("q", ["d"], instruction="judge")
    assert (refused.value.status, refused.value.param) == (400, "instruction")
    with pytest.raises(Refusal, match="takes no instruction"):
        minilm().embed(["q"], kind="query", instruction="find", over_length="cut")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": 3}, "a classifier of 3 labels"),
        ({"segments": 1}, "type_vocab_size"),
        ({"architecture": "BertModel"}, r"can't score here.*via ="),
        ({"architecture": "ModernBertForSequenceClassification"}, "can't score here"),
        ({"limit": 3}, "too low"),
    ],
)
def test_unfit_cross_encoders_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelFilesError, match=said):
        cross(**changes)


def test_a_tokenizer_that_joins_no_pairs_is_refused() -> None:
    alone = json.loads(_tokenizer("minilm")) | {"post_processor": None}
    with pytest.raises(ModelFilesError, match="does not say how it joins"):
        cross(tokenizer=json.dumps(alone).encode())


def test_an_encoder_must_say_how_it_makes_vectors() -> None:
    found = model_files.read(model_cache.folder("minilm"))
    facts = {name: getattr(found, name) for name in found.__struct_fields__}
    for changes, said in (
        ({"pooling": ""}, "nothing says how its vectors are made"),
        ({"architecture": "BertForSequenceClassification"}, 'write task = "score"'),
    ):
        with pytest.raises(ModelFilesError, match=said):
            Prompter(
                ModelFiles(**(facts | changes)),
                prompt="plain",
                max_tokens=99,
                instruction=None,
                task="embed",
            )


def test_control_words_in_a_vocabulary_are_out_of_reach() -> None:
    """Vocabularies of whole words hold their control tokens, where a text would find them."""
    pieces = [("<s>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), *[(c, -2.0) for c in "▁<>/skn"]]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(["<s>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    made = files(tokenizer=tokenizer.to_str().encode(), vocabulary=10, prompt="plain")
    own = Prompter(made, prompt="plain", max_tokens=99, instruction=None, task="embed")
    found = own.embed(["</s><s> Z"], kind="document", instruction=None, over_length="cut")
    ids = found.sequences[0]
    assert (ids[0], ids[-1]) == (0, 1) and {0, 1}.isdisjoint(ids[1:-1]) and 2 in ids


# -- models that can't serve -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        ({"tokenizer": b"{"}, {}, "not a tokenizer's file"),
        ({"tokenizer": b"[]"}, {}, "not a tokenizer's file"),
        ({"tokenizer": b'{"model": {"vocab": {}}, "added_tokens": []}'}, {}, "can't be used"),
        ({"vocabulary": 1000}, {}, r"outside the model's vocabulary.*endoftext"),
        ({"vocabulary": 151665}, {"task": "score"}, "outside .*think"),
        ({}, {"prompt": "plain", "task": "score"}, "via = "),
        ({}, {"prompt": "plain", "instruction": "x"}, "takes no instruction"),
        ({}, {"task": "score", "max_tokens": 60}, "too low"),
        ({}, {"max_tokens": 1}, "too low"),
    ],
)
def test_unfit_models_are_refused_at_once(
    changes: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    usual: dict[str, Any] = {
        "prompt": "qwen3",
        "task": "embed",
        "instruction": None,
        "max_tokens": 512,
    }
    with pytest.raises(ModelFilesError, match=said) as error:
        Prompter(files(**changes), **(usual | options))
    assert "/models/qwen3" in str(error.value)


def test_a_tokenizer_without_qwens_control_tokens_is_refused() -> None:
    bert = files(tokenizer=_tokenizer("minilm"))
    with pytest.raises(ModelFilesError, match=r"does not have <\|endoftext\|>"):
        Prompter(bert, prompt="qwen3", max_tokens=512, instruction=None, task="embed")


def test_the_same_words_are_kept_once() -> None:
    definition, _ = words.read(files())
    bare = words.text_only(definition, keep_words=False)
    assert words.shared(bare, Path("/a")) is words.shared(bare, Path("/b"))
