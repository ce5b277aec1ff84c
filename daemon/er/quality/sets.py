"""Canary sets: queries with graded documents, a line of JSON each; the shipped and own ones."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from er.small_file import DAMAGED, read

SHIPPED = ("canary.en.jsonl", "canary.zh.jsonl")
RELEVANT = 2  # grades from here on answer the query
MOST_QUERIES, MOST_DOCUMENTS, MOST_CHARACTERS = 2000, 100, 20_000
FORM = (
    'write {"id": "q1", "language": "en", "query": "...", "documents": '
    '[{"text": "...", "grade": 3}, {"text": "...", "grade": 0}]}'
)

Language = Annotated[str, msgspec.Meta(pattern=r"^[a-z]{2,3}$")]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_CHARACTERS)]


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A text and how well it answers: 3 wholly, 2 in part, 1 is about the subject only, 0 not."""

    text: Text
    grade: Literal[0, 1, 2, 3]


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question and the documents that were judged for it."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    language: Language
    query: Text
    documents: Annotated[
        tuple[Document, ...], msgspec.Meta(min_length=2, max_length=MOST_DOCUMENTS)
    ]

    @property
    def grades(self) -> tuple[int, ...]:
        """The documents' grades, in their order."""
        return tuple(document.grade for document in self.documents)


class CanarySet(msgspec.Struct, frozen=True, dict=True):
    """A set as it was read. `name` is "shipped" or the file's."""

    name: str
    queries: tuple[Query, ...]

    @cached_property
    def sha256(self) -> str:
        """Of what the set says: the same for the same queries in the same order."""
        return hashlib.sha256(msgspec.json.encode(self.queries)).hexdigest()

    @property
    def pairs(self) -> int:
        """How many documents were judged, all queries together."""
        return sum(len(query.documents) for query in self.queries)

    @property
    def languages(self) -> dict[str, int]:
        """Queries of each language."""
        return dict(Counter(query.language for query in self.queries))


class SetError(ValueError):
    """A set that can't be used: file, line (0: the file as a whole), what, and the cure."""

    def __init__(self, file: str, line: int, what: str) -> None:
        super().__init__(f"{file}:{line}: {what}" if line else f"{file}: {what}")
        self.file, self.line, self.what = file, line, what


def load(path: Path | None = None) -> CanarySet:
    """The set in a file; None: the one that ships with ER. Raises SetError, at the first fault."""
    if path is None:
        folder = resources.files("er.quality")
        parts = [parse((folder / name).read_bytes(), name).queries for name in SHIPPED]
        return CanarySet("shipped", tuple(query for part in parts for query in part))
    try:
        data = read(path)
    except OSError as error:
        raise SetError(str(path), 0, f"can't be read: {error.strerror or error}") from None
    return parse(data, str(path))


def own_files(folder: Path) -> list[Path]:
    """The operators' sets: every .jsonl of the folder, by name; none where it is not there."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".jsonl")
    except FileNotFoundError:
        return []


def parse(data: bytes, file: str) -> CanarySet:
    """A set from JSON lines; empty lines and lines that begin with # are passed over.

    Raises SetError at the first fault, and for a set without a query.
    """
    queries: list[Query] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip() or line.lstrip().startswith(b"#"):
            continue
        try:
            query = msgspec.json.decode(line, type=Query)
            _check(query)
            if query.id in lines:
                raise ValueError(
                    f"the id {query.id!r} stands in line {lines[query.id]} already; give it its own"
                )
        except DAMAGED as error:
            raise SetError(file, number, f"{error}; {FORM}") from None
        except ValueError as error:  # of _check, or bytes that are no UTF-8
            raise SetError(file, number, str(error)) from None
        lines[query.id] = number
        queries.append(query)
        if len(queries) > MOST_QUERIES:
            raise SetError(file, number, f"over {MOST_QUERIES} queries; keep the most telling ones")
    if not queries:
        raise SetError(file, 0, f"has no query; {FORM}")
    return CanarySet(file, tuple(queries))


def _check(query: Query) -> None:
    """Raises ValueError where the measures would mean nothing for the query."""
    blank = [query.query, *(document.text for document in query.documents)]
    if not all(text.strip() for text in blank):
        raise ValueError("a text is blank; every query and document must say something")
    if max(query.grades) < RELEVANT:
        raise ValueError(
            "no document answers the query (grade 2 or 3), so there is no right order; grade one "
            "2 or 3 (where you only know yes and no, write 3 and 0)"
        )
    if min(query.grades) >= RELEVANT:
        raise ValueError("every document answers the query, so any order is right; add others")
    twice = [text for text, n in Counter(_texts(query.documents)).items() if n > 1]
    if twice:
        raise ValueError(f"the document {twice[0][:40]!r} stands twice; leave one of them")


def _texts(documents: Iterable[Document]) -> list[str]:
    return [document.text for document in documents]
