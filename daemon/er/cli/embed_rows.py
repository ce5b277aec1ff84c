"""The rows of `er embed`'s input: lines to texts, what is wrong with a line, groups for a request.

A row is a line of JSON (an object that has the text) or, in plain files, the text itself. Rows are
counted from 0, those that can't be embedded too, so a row's number means the same in every run.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import msgspec

from er.small_file import DAMAGED

# A token is a byte at least, so a group has far fewer tokens than a request may have by default.
GROUP_BYTES = 256 << 10
BOM = b"\xef\xbb\xbf"
KINDS = {bool: "true or false", int: "a number", float: "a number", type(None): "null"}
KINDS |= {list: "a list", dict: "an object"}


class Damaged(Exception):  # noqa: N818 - it says what is wrong with the input
    """A packed input that can't be unpacked."""


class Row(NamedTuple):
    """One row: its line (from 1), its JSON object as it stands in the file, the object's value."""

    line: int
    raw: bytes
    value: dict[str, Any]
    text: str  # "" where it can't be embedded
    wrong: str  # why not; "" for a good row


class Group(NamedTuple):
    """Rows that follow each other, for one request."""

    first: int  # the number of its first row
    rows: list[Row]

    @property
    def good(self) -> list[int]:
        """The places within the group of the rows that have a text."""
        return [i for i, row in enumerate(self.rows) if not row.wrong]


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """The input: `path`, or standard input that was put into `spool`."""

    path: Path | None = None
    spool: Any = None  # a binary file, read from its begin
    plain: bool = False  # each line is a text
    field: str = "text"  # which one of a JSON object's

    @property
    def name(self) -> str:
        """What people call it."""
        return str(self.path) if self.path is not None else "standard input"

    def open(self) -> IO[bytes]:
        """Its bytes from the first on, unpacked. Raises OSError."""
        if self.path is None:
            self.spool.seek(0)
            file: IO[bytes] = self.spool
            return file
        if self.path.suffix == ".gz":
            return cast("IO[bytes]", gzip.open(self.path, "rb"))
        return self.path.open("rb")


class Reading:
    """One reading of a source; `digest` is that of all its bytes once it is at the end."""

    def __init__(self, source: Source, *, skip: int = 0) -> None:
        """The first `skip` rows are passed over."""
        self._source, self._skip = source, skip
        self._seen = hashlib.blake2b(digest_size=16)

    @property
    def digest(self) -> str:
        return self._seen.hexdigest()

    def __iter__(self) -> Iterator[Row]:
        """The rows. Raises OSError, Damaged."""
        source, seen, skip = self._source, self._seen, self._skip
        file = source.open()
        try:
            number = 0
            for at, line in enumerate(file, 1):
                seen.update(line)
                if at == 1:
                    line = line.removeprefix(BOM)
                if not source.plain and not line.strip():
                    continue  # between objects a blank line means nothing; as a text it is empty
                number += 1
                if number > skip:
                    yield parsed(at, line, source.field, plain=source.plain)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise Damaged(f"{source.name} can't be unpacked: {error}") from None
        finally:
            if file is not source.spool:
                file.close()


def parsed(at: int, line: bytes, field: str, *, plain: bool) -> Row:
    """The row that a line is, the `at`th of its file, counted from 1."""
    return _plain(at, line, field) if plain else _row(at, line, field)


def text_wrong(value: dict[str, Any], field: str) -> str:
    """Why the row's text can't be embedded; "" where it can."""
    text = value.get(field)
    if not isinstance(text, str):
        kind = KINDS.get(type(text), "something else")
        wrong = f"is {kind} in its field {field}" if field in value else f"has no field {field}"
        return f"{wrong}, which must be a text"
    return "" if text else f"is empty in its field {field}"


def _plain(at: int, line: bytes, field: str) -> Row:
    try:
        text = line.removesuffix(b"\n").removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        return Row(at, b"", {}, "", "is not UTF-8")
    if not text:
        return Row(at, b"", {}, "", "is empty")
    value = {field: text}
    return Row(at, msgspec.json.encode(value), value, text, "")


def _row(at: int, line: bytes, field: str) -> Row:
    raw = line.strip()
    try:
        value = msgspec.json.decode(raw)
    except DAMAGED as error:
        why = str(error).removeprefix("JSON is malformed: ")
        return Row(at, raw, {}, "", f"is not JSON: {why}")
    if not isinstance(value, dict):
        kind = KINDS.get(type(value), "a text")
        return Row(at, raw, {}, "", f'is {kind}, not an object such as {{"{field}": "a text"}}')
    if wrong := text_wrong(value, field):
        return Row(at, raw, value, "", wrong)
    return Row(at, raw, value, value[field], "")


def groups(rows: Iterable[Row], first: int, most: int) -> Iterator[Group]:
    """The rows, of which the first has the number `first`, in groups of at most `most`."""
    group: list[Row] = []
    size = 0
    for row in rows:
        length = len(row.text.encode())
        if group and (len(group) >= most or size + length > GROUP_BYTES):
            yield Group(first, group)
            first, group, size = first + len(group), [], 0
        group.append(row)
        size += length
    if group:
        yield Group(first, group)


# -- columns of a table --------------------------------------------------------------------------

COLUMNS_MAX = 1000
EXACT = 1 << 53  # up to here a float64 holds every whole number


class TooManyColumns(Exception):  # noqa: N818 - it says what it is
    """The rows have more different fields than a table should."""


class Columns:
    """Which columns a table of these rows has, and of which kind.

    A column is of numbers, texts or true and false where all its values are; null fits everywhere.
    Everything else (lists, objects, mixed kinds, whole numbers that no column holds) is JSON text.
    """

    def __init__(self) -> None:
        self._kinds: dict[str, str] = {}  # "" while only null was seen
        self._large: set[str] = set()  # with whole numbers that a float would round

    def add(self, value: dict[str, Any]) -> None:
        """Take note of one row. Raises TooManyColumns."""
        for name, one in value.items():
            before = self._kinds.get(name)
            kind = self._kind(name, one)
            if kind != before:
                self._kinds[name] = _both(before, kind)
        if len(self._kinds) > COLUMNS_MAX:
            raise TooManyColumns

    def merge(self, other: Columns) -> None:
        """Take note of the rows that `other` saw, which come behind. Raises TooManyColumns."""
        self._large |= other._large
        for name, kind in other._kinds.items():
            self._kinds[name] = _both(self._kinds.get(name), kind)
        if len(self._kinds) > COLUMNS_MAX:
            raise TooManyColumns

    def _kind(self, name: str, value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, bool):
            return "bool"
        if isinstance(value, int):
            if not -(1 << 63) <= value < 1 << 63:
                return "json"
            if abs(value) > EXACT:
                self._large.add(name)
            return "int"
        if isinstance(value, float):
            return "float"
        return "text" if isinstance(value, str) else "json"

    def kinds(self) -> dict[str, str]:
        """Name -> int, float, bool, text or json, in the order they were met."""
        return {
            name: "json" if kind == "float" and name in self._large else kind or "text"
            for name, kind in self._kinds.items()
        }


def _both(before: str | None, kind: str) -> str:
    """The kind of a column whose values so far are of the one kind, and others of the other."""
    if not before or not kind or before == kind:
        return before or kind
    return "float" if {kind, before} == {"int", "float"} else "json"


def cell(value: Any, kind: str) -> Any:
    """A value as its column takes it."""
    if value is None or kind != "json":
        return value
    return msgspec.json.encode(value).decode()
