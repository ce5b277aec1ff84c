"""A batch's lines: one request each of the input file, one result each of the output. Pure."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

import msgspec
import orjson

from er.batches.records import Problem

LINES_MAX = 50_000  # as OpenAI has it
CUSTOM_ID_MAX = 512  # characters
PROBLEMS_MAX = 100  # told of one file
MARK = b"\xef\xbb\xbf"  # with which some editors begin a file
ID = re.compile(rb'\{"id":"batch_req_[0-9a-f]{1,32}-(\d{1,9})",')
EXAMPLE = '{"custom_id": "1", "method": "POST", "url": "%s", "body": {…}}'


class _Shape(msgspec.Struct):
    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


_decode = msgspec.json.Decoder(_Shape).decode
WHAT = re.compile(r" - at `\$\.?(.*)`\Z", re.S)
MISSING = re.compile(r"missing required field `(\w+)`")


class Line(NamedTuple):
    """One request of a batch."""

    number: int  # of the input file's lines, from 1
    custom_id: str
    body: bytes


class Wrong(Exception):  # noqa: N818 - a Problem's carrier
    """A line that is no request."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def bare(raw: bytes, number: int) -> bytes:
    """A line of a file without what is not its own; empty: there is no request in it."""
    return (raw.removeprefix(MARK) if number == 1 else raw).strip(b" \t\r\n")


def read(bare: bytes, number: int, endpoint: str) -> Line:
    """The request in a line's bytes. Raises Wrong."""

    def wrong(code: str, message: str, param: str | None = None) -> Wrong:
        return Wrong(Problem(code=code, message=message, param=param, line=number))

    try:
        shape = _decode(bare)
    except msgspec.ValidationError as error:
        said = str(error)
        at, missing = WHAT.search(said), MISSING.search(said)
        if missing:
            field, what = missing[1], "is missing"
        elif at and at[1]:
            field, what = at[1], "is not a text"
        else:
            raise wrong(
                "invalid_line", f"the line is no object; a line is {EXAMPLE % endpoint}"
            ) from None
        raise wrong(
            "invalid_line", f"{field} {what}; a line is {EXAMPLE % endpoint}", field
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise wrong(
            "invalid_json_line", f"the line is not JSON; a line is {EXAMPLE % endpoint}"
        ) from None
    if not 0 < len(shape.custom_id) <= CUSTOM_ID_MAX:
        raise wrong(
            "invalid_custom_id", f"custom_id must have 1 to {CUSTOM_ID_MAX} characters", "custom_id"
        )
    if shape.method != "POST":
        raise wrong(
            "invalid_method", f'method is {shape.method[:20]!r}; it must be "POST"', "method"
        )
    if shape.url != endpoint:
        raise wrong(
            "mismatched_url",
            f"url is {shape.url[:100]!r}, but the batch is for {endpoint}; all lines of a batch "
            "have its endpoint",
            "url",
        )
    body = bytes(shape.body)
    if not body.startswith(b"{"):
        raise wrong("invalid_line", "body must be a JSON object", "body")
    return Line(number, shape.custom_id, body)


class Check:
    """Looks at the lines of one file, in their order, and remembers what is wrong with them."""

    def __init__(self, endpoint: str, body_max: int) -> None:
        """`body_max`: bytes of a line's body."""
        self._endpoint, self._body_max = endpoint, body_max
        self._seen: dict[bytes, int] = {}
        self.requests = 0
        self.last = 0  # number of the last line that is a request
        self.problems: list[Problem] = []

    @property
    def hopeless(self) -> bool:
        """Whether more need not be looked at."""
        return len(self.problems) >= PROBLEMS_MAX or self.requests > LINES_MAX

    def look(self, raw: bytes, number: int) -> None:
        """Look at line `number`."""
        text = bare(raw, number)
        if not text or self.hopeless:
            return
        self.requests += 1
        self.last = number
        if self.requests > LINES_MAX:
            self._say(
                "too_many_lines",
                f"the file has more than {LINES_MAX} requests; send several files",
                number,
            )
            return
        try:
            line = read(text, number, self._endpoint)
        except Wrong as wrong:
            self.problems.append(wrong.problem)
            return
        if len(line.body) > self._body_max:
            what = (
                f"body has {len(line.body)} bytes; at most {self._body_max} (max_body in er.toml)"
            )
            self._say("body_too_large", what, number, "body")
        digest = hashlib.blake2b(line.custom_id.encode(), digest_size=16).digest()
        before = self._seen.setdefault(digest, number)
        if before != number:
            what = f"custom_id {line.custom_id[:100]!r} is that of line {before} too"
            self._say("duplicate_custom_id", what, number, "custom_id")

    def end(self) -> None:
        """The file is at its end."""
        if not self.requests and not self.problems:
            self.problems.append(Problem(code="empty_file", message="the file has no requests"))

    def too_long(self, number: int) -> None:
        """Line `number` is longer than any body may be."""
        what = f"the line is longer than the {self._body_max} bytes that a body may have"
        self._say("body_too_large", f"{what} (max_body in er.toml)", number)

    def _say(self, code: str, message: str, number: int, param: str | None = None) -> None:
        self.problems.append(Problem(code=code, message=message, param=param, line=number))


def answered(batch: str, line: Line, status: int, request_id: str, body: bytes) -> bytes:
    """The result of a line that was answered: a line too. `body` is JSON without line breaks."""
    return (
        b'{"id":"%b","custom_id":%b,"response":{"status_code":%d,"request_id":%b,"body":%b},'
        b'"error":null}\n'
    ) % (_id(batch, line), _text(line.custom_id), status, orjson.dumps(request_id), body)


def unanswered(batch: str, line: Line, code: str, message: str) -> bytes:
    """The result of a line that nobody answered."""
    error = orjson.dumps({"code": code, "message": message})
    parts = (_id(batch, line), _text(line.custom_id), error)
    return b'{"id":"%b","custom_id":%b,"response":null,"error":%b}\n' % parts


def number_of(result: bytes) -> int | None:
    """The number of the line whose result this is; None: it is no whole result."""
    found = ID.match(result)
    # After a lost power there may be pages that were never written.
    whole = result.endswith(b"}\n") and b"\0" not in result
    return int(found[1]) if found and whole else None


def _id(batch: str, line: Line) -> bytes:
    return b"batch_req_%b-%d" % (batch.rpartition("_")[2].encode(), line.number)


def _text(text: str) -> bytes:
    return orjson.dumps(text)
