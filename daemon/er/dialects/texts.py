"""The texts of a request, and the one table of how clients say which side of a search they are on.

Documents are embedded as they are, queries under an instruction. Plain OpenAI has no word for it,
so a text is what er.toml says of the model (a document, if it says nothing) unless the client says
which in one of these ways; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from er.dialects.json_body import flag, refuse_field
from er.job import Kind, OverLength

TOKENIZED_MAX = 1 << 16  # characters in all; an answer has up to a hundred bytes for each
REPEATED_MAX = 32 << 20  # characters of what is put before each text, in all: a body's worth

# Cohere, Voyage, NVIDIA: input_type. DashScope: text_type.
SIDES: Mapping[str, Kind] = {
    "query": "query",
    "search_query": "query",
    "document": "document",
    "passage": "document",
    "search_document": "document",
    "classification": "document",
    "clustering": "document",
}
PROMPTS: Mapping[str, Kind] = {"query": "query", "document": "document"}  # sentence-transformers
# For clients that can send nothing of the kind: the end of the model's name.
ENDINGS: Mapping[str, Kind] = {":query": "query", ":document": "document"}
# What a client says of a text that is too long. None: nothing, so the model's setting holds.
TRUNCATE: Mapping[str, tuple[OverLength | None, bool]] = {
    "": (None, False),
    "NONE": ("refuse", False),
    "FALSE": ("refuse", False),
    "END": ("cut", False),
    "TRUE": ("cut", False),
    "RIGHT": ("cut", False),
    "START": ("cut", True),
    "LEFT": ("cut", True),
}

# What multimodal clients send beside texts, by what stands in the names of their fields.
MEDIA = {"image": "an image", "video": "a video", "audio": "sound", "pdf": "a PDF"}


class Side(NamedTuple):
    """Of which model, on which side, under which instruction the texts are embedded.

    `kind` None: the client did not say.
    """

    model: str
    kind: Kind | None
    instruction: str | None


def side(
    model: str | None,
    *,
    input_type: str | None = None,
    task: str | None = None,
    prompt_name: str | None = None,
    instruction: str | None = None,
    field: str = "input_type",
) -> Side:
    """What the client says, the first of these that it says. Raises Refusal 400.

    `field` is what the dialect calls `input_type`.
    """
    name, kind = split_model(model or "")
    if input_type:
        kind = _known(field, input_type, SIDES)
    elif task and ("." in task or not prompt_name):
        # Jina's: retrieval.query, code.query; all others are documents.
        kind = "query" if task.endswith(".query") else "document"
    elif prompt_name:
        kind = _known("prompt_name", prompt_name, PROMPTS)
    elif kind is None:
        kind = "query" if instruction else None
    return Side(name, kind, instruction or None)


def split_model(model: str) -> tuple[str, Kind | None]:
    """The model's name and the side that its ending names, if any."""
    if ":" in model:
        for ending, kind in ENDINGS.items():
            if model.endswith(ending):
                return model[: -len(ending)], kind
    return model, None


def _known(field: str, value: str, known: Mapping[str, Kind]) -> Kind:
    found = known.get(value.lower())
    if found is None:
        refuse_field(field, f"{field} is {value[:40]!r}; it must be one of: {', '.join(known)}")
    return found


def truncation(value: bool | str | None, field: str) -> tuple[OverLength | None, bool]:
    """What to do with a too long text, and whether it is its beginning that goes. Raises Refusal.

    true or false, or the words NONE, START and END.
    """
    if isinstance(value, bool) or value is None:
        return (None if value is None else "cut" if value else "refuse"), False
    found = TRUNCATE.get(value.strip().upper())
    if found is None:
        refuse_field(
            field, f"{field} is {value[:40]!r}; it must be NONE, START or END, or true or false"
        )
    return found


def left(value: str | None, field: str) -> bool:
    """Whether a text that is cut loses its beginning. Raises Refusal 400 for another word."""
    if value is not None and value.lower() not in ("left", "right"):
        refuse_field(field, f"{field} is {value[:40]!r}; it must be left or right")
    return value is not None and value.lower() == "left"


def sentence(request: Any) -> str | None:
    """The task of a rerank request in a sentence: its own field, or vLLM's words to a template."""
    template = request.chat_template_kwargs or {}
    inside = template.get("instruction") or template.get("instruct")
    found = request.instruct or request.instruction or inside or None
    if found is not None and not isinstance(found, str):
        refuse_field(
            "chat_template_kwargs", "instruction in chat_template_kwargs must be a text, the task"
        )
    return found


def at_least(value: int | None, least: int, field: str) -> int | None:
    """`value`. Raises Refusal 400 below `least`."""
    if value is not None and value < least:
        refuse_field(field, f"{field} must be a whole number of at least {least}")
    return value


def check_repeated(said: str, count: int, field: str) -> None:
    """Raise Refusal 400 where `said`, put before each of `count` texts, is too much in all.

    A body of some hundred KB could fill the memory with it.
    """
    size = len(said) * count
    if size > REPEATED_MAX:
        refuse_field(
            field,
            f"{field} has {len(said)} characters and stands before each of {count} texts, {size} "
            f"in all; at most {REPEATED_MAX} are taken: send fewer texts at once, or a shorter "
            f"{field}",
        )


def demand_unit_length(value: bool | str | None, field: str) -> None:
    """Raise Refusal 400 for a client that wants vectors of another length than 1."""
    if value is not None and value != "" and not flag(value, field):
        refuse_field(
            field,
            f"{field} is false, but all vectors here have length 1; leave the field out",
        )


def one(text: str, field: str) -> str:
    """`text`. Raises Refusal 400 where it is empty."""
    if not text:
        refuse_field(field, f"{field} is empty; send a text of at least one character")
    return text


def some(given: Sequence[str], field: str) -> tuple[str, ...]:
    """Documents, which may be empty texts. Raises Refusal 400 for none."""
    if not given:
        refuse_field(field, f"{field} is an empty list; send at least one text")
    return tuple(given)


def tokenized(given: str | list[str], field: str, must: str) -> tuple[str, ...]:
    """Texts whose tokens are asked for. Raises Refusal 400."""
    found = texts(given, field, must)
    size = sum(map(len, found))
    if size > TOKENIZED_MAX:
        refuse_field(
            field,
            f"{field} has {size} characters; at most {TOKENIZED_MAX} are tokenised in one request",
        )
    return found


def texts(given: str | list[Any], field: str, must: str) -> tuple[str, ...]:
    """One text or several as a tuple; each may be an object {"text": ...}. Raises Refusal 400."""
    found, ids = inputs(given, field, must)
    if ids:
        refuse_field(field, f"{field} holds numbers; it must be {must}")
    return found


def inputs(
    given: str | list[Any], field: str, must: str
) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """Texts or lists of token ids, one of the two. Raises Refusal 400, which names `field`."""
    if isinstance(given, str) and given:
        return (given,), ()
    items: list[Any] = [given] if isinstance(given, str) else list(given)
    kinds = set(map(type, items))
    if not items:
        refuse_field(field, f"{field} is an empty list; send at least one text")
    if dict in kinds:
        items = [text_of(item, i, field, must) for i, item in enumerate(items)]
        kinds = set(map(type, items))
    if len(kinds) > 1:
        refuse_field(field, f"{field} mixes kinds; it must be {must}")
    if kinds == {int}:
        items = [items]
    for i, item in enumerate(items):
        if not item:
            name = field if isinstance(given, str) else f"{field}[{i}]"
            refuse_field(field, f"{name} is empty; send texts of at least one character")
    if kinds == {str}:
        return tuple(items), ()
    return (), tuple(map(tuple, items))


def text_of(item: Any, index: int | None, field: str, must: str) -> Any:
    """The text of an object {"text": ...} or {"content": ...}; anything else as it is.

    `index` is its place in a list, if it is in one. Raises Refusal 400.
    """
    if not isinstance(item, dict):
        return item
    where = field if index is None else f"{field}[{index}]"
    text = item.get("text")
    if text is None and "content" in item:
        parts = item["content"]
        parts = parts if isinstance(parts, list) else [parts]
        found = [part if isinstance(part, str) else _part(part, where, field) for part in parts]
        if not found:
            refuse_field(field, f"{where} has an empty list as its content; {field} must be {must}")
        return "\n".join(found)
    if not isinstance(text, str):
        _refuse_media(item, where, field)
        wrong = "has no field text" if text is None else "has a field text that is no text"
        refuse_field(field, f"{where} {wrong}; {field} must be {must}")
    return text


def _part(part: Any, where: str, field: str) -> str:
    """The text of one part of a content, {"type": "text", "text": ...}."""
    text = part.get("text") if isinstance(part, dict) else None
    if not isinstance(text, str):
        _refuse_media(part, where, field)
        refuse_field(field, f"{where} has a part that is no text; {field} must hold texts")
    return text


def _refuse_media(item: Any, where: str, field: str) -> None:
    """Refuse in words what is there in place of a text, if it is one of these."""
    said = [item.get("type"), *item] if isinstance(item, dict) else []
    for word in said:
        found = next((medium for medium in MEDIA if medium in str(word)[:40].lower()), None)
        if found is not None:
            refuse_field(field, f"{where} holds {MEDIA[found]}, but the models here read texts")
