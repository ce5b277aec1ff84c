"""What JSON Schema is told of requests beyond the types of their fields: words, limits, pairs.

The structs of the dialects say a field's type; what their readers refuse besides stands here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from er.dialects import cohere, numbers, pooling, texts, vllm

Schema = dict[str, Any]

NULL: Schema = {"type": "null"}
WORDS: Schema = {"type": "string"}
TEXT: Schema = {"type": "string", "minLength": 1}
TEXTS: Schema = {"type": "array", "items": TEXT, "minItems": 1}
TOKEN: Schema = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
TOKENS: Schema = {"type": "array", "items": TOKEN, "minItems": 1}
LIST_OF_TOKENS: Schema = {"type": "array", "items": TOKENS, "minItems": 1}
DOCUMENTS: Schema = {"type": "array", "items": WORDS, "minItems": 1}
TOKENIZED: Schema = {**TEXT, "maxLength": texts.TOKENIZED_MAX}


def either(*schemas: Schema) -> Schema:
    """One of them."""
    return {"anyOf": list(schemas)}


def word(*words: str) -> Schema:
    """One of the words, or nothing."""
    return either({"type": "string", "enum": list(words)}, NULL)


def _left_out(*schemas: Schema) -> Schema:
    return either(*schemas, NULL)


def _object(text: Schema) -> Schema:
    """An object that holds a text, as `text` or as `content`, whose parts become lines."""
    part: Schema = {"type": "object", "properties": {"text": text}, "required": ["text"]}
    parts: Schema = {"type": "array", "items": either(text, part), "minItems": 1}
    return {
        "type": "object",
        "anyOf": [
            {"properties": {"text": text}, "required": ["text"]},
            {
                "properties": {"text": NULL, "content": either(text, parts)},
                "required": ["content"],
            },
        ],
    }


def _many(text: Schema) -> Schema:
    """One text or several, each may be an object."""
    one = (text, _object(text))
    return either(*one, {"type": "array", "items": either(*one), "minItems": 1})


FLAG = _left_out({"type": "boolean"}, {"type": "string", "enum": ["true", "false", ""]})
YES = _left_out({"const": True}, {"type": "string", "enum": ["true", ""]})
NO = _left_out({"const": False}, {"type": "string", "enum": ["false", ""]})
QUERY = either(TEXT, _object(TEXT))
COUNT = _left_out({"type": "integer", "minimum": 1})
ALL_OR_COUNT = _left_out({"type": "integer", "minimum": 0})
TOKEN_LIMIT = _left_out({"type": "integer", "minimum": 1}, {"const": -1})
TRUNCATION = _left_out({"type": "boolean"}, {"type": "string", "enum": sorted(texts.TRUNCATE)})
SIDE = word("", *texts.SIDES)
TYPES = ("", "base64", *numbers.DTYPES)

# By the name of a field, or of a struct and its field where that differs. Upper and lower case are
# the same in most of these words, which is not said.
FIELDS: dict[str, Schema] = {
    "add_special_tokens": FLAG,
    "dimension": COUNT,
    "dimensions": COUNT,
    "embedding_type": _left_out(
        {"type": "string", "enum": list(TYPES)},
        {"type": "array", "items": {"type": "string", "enum": list(TYPES)}, "maxItems": 1},
    ),
    "embedding_types": _left_out(
        {"type": "array", "items": {"type": "string", "enum": list(cohere.TYPES)}}
    ),
    "encoding_format": word("float", "base64"),
    "images": _left_out({"type": "array", "maxItems": 0}),
    "input_type": SIDE,
    "late_chunking": NO,
    "max_tokens": COUNT,
    "max_tokens_per_doc": ALL_OR_COUNT,
    "messages": NULL,
    "modality": word("", "text"),
    "normalize": YES,
    "normalized": YES,
    "output_dimension": COUNT,
    "output_dtype": word("", *numbers.DTYPES),
    "output_type": word("", "dense"),
    "prompt": _left_out(WORDS),
    "prompt_name": word("", *texts.PROMPTS),
    "query": QUERY,
    "raw_scores": FLAG,
    "return_documents": FLAG,
    "return_multivector": NO,
    "return_text": FLAG,
    "return_token_strs": FLAG,
    "sentences": TEXTS,
    "source_sentence": TEXT,
    "text": TOKENIZED,
    "text_type": SIDE,
    "texts": either(TEXT, TEXTS),
    "top_k": ALL_OR_COUNT,
    "top_n": ALL_OR_COUNT,
    "truncate": TRUNCATION,
    "truncate_prompt_tokens": TOKEN_LIMIT,
    "truncation": TRUNCATION,
    "truncation_direction": word("left", "right"),
    "truncation_side": word("left", "right"),
    "use_activation": FLAG,
    "Batches.Wish.completion_window": {"type": "string", "pattern": r"^[0-9]+(s|m|h|d)$"},
    "Batches.Wish.endpoint": {"type": "string", "enum": ["/v1/embeddings", "/v1/rerank"]},
    "Batches.Wish.input_file_id": WORDS,
    "Batches.Wish.metadata": _left_out(
        {
            "type": "object",
            "maxProperties": 16,
            "propertyNames": {"maxLength": 64},
            "additionalProperties": {"type": "string", "maxLength": 512},
        }
    ),
    "Cohere.Request.inputs": {"type": "array", "items": _object(TEXT), "minItems": 1},
    "DashScope.Query.documents": {**DOCUMENTS, "items": either(WORDS, _object(WORDS))},
    "Feedback.Wish.comment": _left_out({"type": "string", "maxLength": 2000}),
    "Feedback.Wish.document": _left_out({"type": "integer", "minimum": 0}),
    "Feedback.Wish.rating": _left_out(
        {"type": "number", "minimum": 0, "maximum": 1}, {"type": "string", "enum": ["up", "down"]}
    ),
    "Feedback.Wish.request_id": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
    "Ollama.Embed.input": either(TEXT, TEXTS),
    "Ollama.Embed.truncate": FLAG,
    "Ollama.Embeddings.prompt": TEXT,
    "OpenAI.Request.dimensions": ALL_OR_COUNT,
    "OpenAI.Request.embed_dtype": word("float32"),
    "OpenAI.Request.endianness": word("native", "little"),
    "OpenAI.Request.input": either(
        TEXT, {**TEXTS, "items": either(TEXT, _object(TEXT))}, TOKENS, LIST_OF_TOKENS
    ),
    "OpenAI.Request.output_dimension": ALL_OR_COUNT,
    "Rerank.Request.documents": either(
        # Objects without a text are fine where `rank_fields` names others of their fields.
        WORDS,
        {"type": "object"},
        {**DOCUMENTS, "items": either(WORDS, {"type": "object"})},
    ),
    "TEI.Embed.inputs": either(TEXT, TEXTS, TOKENS, LIST_OF_TOKENS),
    "TEI.Rerank.query": TEXT,
    "TEI.Rerank.texts": DOCUMENTS,
    "TEI.Tokenize.inputs": either(TOKENIZED, {**TEXTS, "items": TOKENIZED}),
    "vLLM.Pooling.add_special_tokens": _left_out({"const": True}, {"const": "true"}),
    "vLLM.Pooling.dimensions": NULL,
    "vLLM.Pooling.embed_dtype": word("", *numbers.VLLM_DTYPES),
    "vLLM.Pooling.encoding_format": word("", *pooling.ENCODINGS),
    "vLLM.Pooling.endianness": word("", *pooling.ENDS),
    "vLLM.Pooling.input": either(TEXT, TEXTS, TOKENS, LIST_OF_TOKENS),
    "vLLM.Pooling.normalize": NULL,
    "vLLM.Pooling.task": word("embed"),
    "vLLM.Score.activation": FLAG,
    "vLLM.Tokenize.prompt": TOKENIZED,
    **{f"vLLM.Score.{name}": _many(TEXT) for name in vllm.LEFT},
    **{f"vLLM.Score.{name}": _many(WORDS) for name in vllm.RIGHT},
}

# What there is to say of fields for which no dialect has words: those of objects inside.
SAYS: dict[str, str] = {
    "DashScope.Texts.texts": "a text or a list of texts",
    "DashScope.How.text_type": "a text, query or document",
    "DashScope.How.dimension": "a whole number of at least 1",
    "DashScope.How.output_type": "the text dense",
    "DashScope.How.instruct": "a text, the task in a sentence",
    "DashScope.Query.query": "a text",
    "DashScope.Query.documents": 'a list of texts or of objects such as {"text": "..."}',
    "DashScope.Ranking.top_n": "a whole number; 0 or nothing means all",
    "DashScope.Ranking.return_documents": "true or false",
    "DashScope.Ranking.instruct": "a text, the task in a sentence",
    "TEI.Sentences.source_sentence": "a text",
    "TEI.Sentences.sentences": "a list of texts",
    "TEI.Parameters.truncate": "true or false, or one of the texts NONE, START and END",
    "TEI.Parameters.truncation_direction": 'one of the texts "left" and "right"',
    "TEI.Parameters.prompt_name": 'the text "query" or "document"',
}


def _just_one(names: Iterable[str]) -> Schema:
    return {"oneOf": [{"required": [name], "properties": {name: {"not": NULL}}} for name in names]}


# Which fields must be there where a struct's own list of them does not say it all.
NEEDS: dict[str, Schema] = {
    "Cohere.Request": _just_one(("texts", "inputs")),
    "DashScope.Query": {"required": ["query", "documents"]},
    "DashScope.Texts": {"required": ["texts"]},
    "Feedback.Wish": {
        "required": ["request_id"],
        "anyOf": [
            {"required": [name], "properties": {name: {"not": NULL}}}
            for name in ("rating", "document")
        ],
    },
    "Ollama.Show": {
        "anyOf": [{"required": [name], "properties": {name: TEXT}} for name in ("model", "name")]
    },
    "TEI.Sentences": {"required": ["source_sentence", "sentences"]},
    "vLLM.Score": {
        "allOf": [
            _just_one(vllm.LEFT),
            _just_one(vllm.RIGHT),
        ]
    },
    "vLLM.Tokenize": {"required": ["prompt"]},
}
