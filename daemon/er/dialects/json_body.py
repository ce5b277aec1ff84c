"""What dialects share: a JSON body read with errors in words, and the one error body."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar

import msgspec
import orjson

from er.job import Answer, Job, Refusal

T = TypeVar("T")

# What msgspec calls the kinds of JSON values, in a client's words.
KINDS = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number with a fraction",
    "int": "a number",
    "null": "null",
    "object": "an object",
    "str": "a text",
}
PLACE = re.compile(r" - at `\$\.?(.*)`\Z", re.S)
GOT = re.compile(r"got `(\w+)`")
MISSING = re.compile(r"missing required field `(\w+)`")
BYTE = re.compile(r"(.*) \(byte (\d+)\)\Z")


class Dress(NamedTuple):
    """What an answer has besides its body."""

    kind: bytes  # its Content-Type
    headers: list[tuple[bytes, bytes]]


class Part(NamedTuple):
    """One request of a dialect that has several; with `read` and the rest a dialect itself.

    `dress` is there where a good answer has headers of the dialect's own, or is no JSON.
    """

    name: str
    read: Callable[[bytes], Job]
    write: Callable[[Job, Answer], bytes]
    refuse: Callable[[Refusal, str], bytes]
    dress: Callable[[Job, Answer], Dress] | None = None


class Shape(Generic[T]):
    """One dialect's request: its struct, and for each field of it what must be there, in words.

    Unknown fields are ignored. `once` names the fields that may not stand there twice, `inside`
    such ones in the object that a field of the outermost holds. `struct`, `fields` and `example`
    (JSON) are what it was made of, for who describes it.
    """

    def __init__(
        self,
        struct: type[T],
        fields: Mapping[str, str],
        *,
        once: tuple[str, ...],
        inside: Mapping[str, tuple[str, ...]] = {},
        example: str,
    ) -> None:
        self.struct, self.fields, self.example = struct, fields, example
        self._decoder = msgspec.json.Decoder(struct)
        places = [("", name) for name in once]
        places += [(outer, name) for outer, names in inside.items() for name in names]
        self._once = tuple((f'"{name}"'.encode(), place, name) for place, name in places)

    def read(self, body: bytes) -> T:
        """The request in `body`. Raises Refusal 400 that names the field and what it must be."""
        try:
            request = self._decoder.decode(body)
        except msgspec.ValidationError as error:
            self._explain(str(error))
        except msgspec.DecodeError as error:
            refuse_json(_malformed(str(error), body, self.example))
        except UnicodeDecodeError:
            refuse_json("the body is not UTF-8; encode its JSON so")
        except RecursionError:
            refuse_deep()
        for quoted, place, name in self._once:
            # Counting is nearly free, and a name inside a text has a backslash before its quote.
            if body.count(quoted) > 1:
                _refuse_double(body, place, name)
        return request

    def _explain(self, said: str) -> NoReturn:
        place = PLACE.search(said)
        missing = MISSING.search(said)
        if missing and not place:
            field = where = missing[1]
            wrong = "is missing"
        elif place and place[1]:
            where = place[1]
            field = re.split(r"[.\[]", where, maxsplit=1)[0]
            got = GOT.search(said)
            wrong = f"is {KINDS[got[1]]}" if got and got[1] in KINDS else "is out of range"
        else:
            got = GOT.search(said)
            kind = KINDS.get(got[1], got[1]) if got else "something else"
            refuse_json(f"the body must be a JSON object such as {self.example}; it is {kind}")
        refuse_field(field, f"{where} {wrong}; {field} must be {self.fields[field]}")


def refuse_field(field: str, message: str) -> NoReturn:
    """Raise the Refusal 400 for a field at fault."""
    raise Refusal(400, "invalid_request", message, param=field)


def refuse_json(message: str) -> NoReturn:
    """Raise the Refusal 400 for a body that can't be read at all."""
    raise Refusal(400, "invalid_json", message)


def refuse_deep() -> NoReturn:
    """Raise the Refusal 400 for a body of more levels than can be read."""
    refuse_json("the body is nested too deeply; the fields here are flat")


def refuse(refusal: Refusal, request_id: str) -> bytes:
    """The error body that every client finds its part in: `error`, `message` or `detail`."""
    text = refusal.message.encode(errors="replace").decode()
    error = {
        "message": text,
        "type": refusal.type,
        "param": refusal.param,
        "code": refusal.code,
    }
    return orjson.dumps({"error": error, "message": text, "detail": text})


def flag(value: bool | str | None, field: str) -> bool:
    """true and false, also as the words "true" and "false", which some clients send."""
    if isinstance(value, str):
        word = value.strip().lower()
        if word not in ("true", "false", ""):
            refuse_field(field, f"{field} is {value[:40]!r}; {field} must be true or false")
        return word == "true"
    return bool(value)


def _malformed(said: str, body: bytes, example: str) -> str:
    if not body.strip():
        return f"the request has no body; send a JSON object such as {example}"
    truncated = said.startswith("Input data was truncated")
    if truncated or "surrogate" in said:
        pair = _half_pair(body)
        if pair:
            return f"the body has half of a surrogate pair, {pair}; send whole characters"
    if truncated:
        return "the body is not JSON: it ends too early; was it cut off on its way?"
    what = said.removeprefix("JSON is malformed: ")
    found = BYTE.match(what)
    if found:
        what = f"{found[1]} at byte {found[2]}"
    return f"the body is not JSON: {what}; send a JSON object such as {example}"


def _half_pair(body: bytes) -> str | None:
    """The first \\uXXXX that is half a pair. Python's own decoder takes them, so it tells."""
    text = body.decode(errors="replace")
    try:
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        return f"\\u{ord(error.object[error.start]):04x}"
    except (ValueError, RecursionError):
        pass
    return None


class _Pairs(list[tuple[str, Any]]):
    """An object as it stands in the body, a field that is there twice included."""


def _refuse_double(body: bytes, place: str, name: str) -> None:
    """Refuse if the outermost object, or the one in its field `place`, has `name` twice: which of
    the two is meant?
    """
    try:
        # Of numbers nobody needs the value here, and Python reads none of over 4300 digits.
        outer = json.loads(body, object_pairs_hook=_Pairs, parse_int=str)
    except (ValueError, RecursionError):
        refuse_json("the body is not UTF-8, or nested too deeply; the fields here are flat")
    found = [held for key, held in outer if key == place] if place else [outer]
    for held in found:
        if isinstance(held, _Pairs) and sum(key == name for key, _ in held) > 1:
            refuse_field(name, f"{name} stands in the body more than once; send it once")
