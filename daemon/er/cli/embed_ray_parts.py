"""How `er embed --ray` cuts its input into parts, and what it keeps of them; reads one part.

A part is a range of a file: of bytes, where a row belongs to the part in which its line begins; of
row groups for Parquet; a packed file is one part, as nobody can begin to unpack in its middle.
Which rows a part has follows from the file and the range alone, so every run means the same by a
part's number, and a part that is there is never asked again.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import zlib
from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

import msgspec

from er.cli.embed_out import ENDINGS
from er.cli.embed_ray_store import File, Store
from er.cli.embed_rows import BOM, Columns, Damaged, Row, parsed, text_wrong

FORM = 1  # of the plan and of what is kept of each part; readers pass over fields they don't know
BLOCK = 1 << 20
LISTED = 20  # bad rows that a part tells of
INPUTS = (".jsonl", ".ndjson", ".txt", ".parquet", ".jsonl.gz", ".ndjson.gz", ".txt.gz")
PARQUET = ".parquet"


class InputPart(msgspec.Struct, frozen=True, kw_only=True):
    """A range of one file: bytes, or row groups of Parquet."""

    number: int
    file: str
    first: int
    end: int
    line: int = 1  # of its first row, counted from 1; a row of Parquet has its place for that
    rows: int = 0
    digest: str = ""  # of its lines, or of its texts

    @property
    def parquet(self) -> bool:
        return self.file.lower().endswith(PARQUET)

    @property
    def packed(self) -> bool:
        return self.file.lower().endswith(".gz")


class Plan(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """What an output belongs to. Two runs with the same plan make the same vectors."""

    form: int = FORM
    files: list[File]
    parts: list[InputPart]
    kinds: dict[str, str]  # of the columns, where lines become Parquet
    plain: bool
    field: str
    vector: str
    model: str
    vllm: str  # the model's folder, where Ray's own actors compute
    kind: str | None
    instruction: str | None
    dimensions: int | None

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @cached_property  # it is asked for each part, and may be of many
    def id(self) -> str:
        """A word for all of it, which stands in the name of each of its files."""
        return hashlib.blake2b(msgspec.json.encode(self), digest_size=4).hexdigest()

    def differs(self, other: Plan) -> str:
        """What of `other` is not the same, in words; "" if all is. Parts may be cut otherwise."""
        names = {"files": "input", "kind": "--query or --document", "plain": "--plain"}
        for name in ("field", "vector", "model", "vllm", "instruction", "dimensions"):
            names[name] = f"--{name}"
        return ", ".join(
            word for name, word in names.items() if getattr(self, name) != getattr(other, name)
        )

    def stem(self, part: InputPart) -> str:
        """The name of a part's files, without their ending; in the order of the rows."""
        wide = max(6, len(str(len(self.parts))))
        return f"part-{part.number:0{wide}d}-{self.id}"


class PartDone(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a part whose rows lie in the output."""

    form: int = FORM
    rows: int
    missing: int
    tokens: int
    cut: int
    dimensions: int  # 0 where no row has a vector; then it has no file either
    model: str
    bytes: int  # of its file


# -- cutting -------------------------------------------------------------------------------------


def cut(store: Store, files: list[File], most: int, field: str, vector: str) -> list[InputPart]:
    """The parts, of about `most` bytes each. Raises StoreError, Damaged."""
    from concurrent.futures import ThreadPoolExecutor

    def ranges(file: File) -> list[tuple[int, int]]:
        if file.path.lower().endswith(PARQUET):
            return _row_groups(store, file, most, field, vector)
        if file.path.lower().endswith(".gz"):
            return [(0, file.size)]
        return even(file.size, most)

    with ThreadPoolExecutor(16) as threads:  # a footer of Parquet is a round trip or two
        found = list(threads.map(ranges, files))
    flat = [(f, first, end) for f, each in zip(files, found, strict=True) for first, end in each]
    return [
        InputPart(number=i, file=file.path, first=first, end=end)
        for i, (file, first, end) in enumerate(flat)
    ]


def even(size: int, most: int) -> list[tuple[int, int]]:
    """Ranges of about one length, none over `most`, that are `size` bytes together."""
    count = max(1, -(-size // most))
    ends = [size * i // count for i in range(count + 1)]
    return list(itertools.pairwise(ends))


def _row_groups(
    store: Store, file: File, most: int, field: str, vector: str
) -> list[tuple[int, int]]:
    with parquet_file(store, file.path) as opened:
        demand_column(opened.schema_arrow, store.name(file.path), field, vector)
        sizes = [opened.metadata.row_group(i).total_byte_size for i in range(opened.num_row_groups)]
    found, first, size = [], 0, 0
    for i, one in enumerate(sizes):
        if i > first and size + one > most:
            found.append((first, i))
            first, size = i, 0
        size += one
    return [*found, (first, len(sizes))] if sizes else []


def parquet_file(store: Store, path: str) -> Any:
    """A pyarrow ParquetFile, to be closed. Raises StoreError, Damaged."""
    import pyarrow as pa
    from pyarrow import parquet

    file = store.open(path)
    try:
        return parquet.ParquetFile(file, pre_buffer=False)
    except (pa.ArrowInvalid, OSError) as error:
        file.close()
        raise Damaged(f"{store.name(path)} is no Parquet file: {error}") from None


def demand_column(schema: Any, name: str, field: str, vector: str) -> None:
    """The text's column is there and of texts, and that of the vectors is not. Raises Damaged."""
    import pyarrow as pa

    at = schema.get_field_index(field)
    if at < 0:
        has = ", ".join(schema.names[:20])
        raise Damaged(f"{name} has no column {field}; name one by --field: {has}")
    kind = schema.field(at).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise Damaged(f"{name}: the column {field} is of {kind}, not of texts; see --field")
    if vector in schema.names:
        why = f"has a column {vector}, as the vectors' would be; choose --vector NAME"
        raise Damaged(f"{name} {why}")


# -- reading -------------------------------------------------------------------------------------


class Chunk(NamedTuple):
    """Rows that follow each other; of Parquet with all their columns, as a record batch."""

    rows: list[Row]
    batch: Any = None


class PartReading:
    """One reading of a part; what it counts is true once it is at the end."""

    def __init__(self, store: Store, part: InputPart, *, field: str, plain: bool) -> None:
        name = part.file.lower().removesuffix(".gz")
        self._store, self._part, self._field = store, part, field
        self._plain = plain or name.endswith(".txt")
        self._seen = hashlib.blake2b(digest_size=8)
        self.lines = 0

    @property
    def digest(self) -> str:
        return self._seen.hexdigest()

    def rows(self) -> Iterator[Row]:
        """The rows of lines. Raises StoreError, Damaged."""
        part, field = self._part, self._field
        for line in self._all_lines():
            self._seen.update(line + b"\n")
            at, self.lines = part.line + self.lines, self.lines + 1
            if not part.first and self.lines == 1:
                line = line.removeprefix(BOM)
            if self._plain or line.strip():  # between objects a blank line means nothing
                yield parsed(at, line, field, plain=self._plain)

    def _all_lines(self) -> Iterator[bytes]:
        part, name = self._part, self._store.name(self._part.file)
        with self._store.open(part.file) as file:
            if not part.packed:
                yield from lines_of(file, part.first, part.end)
                return
            try:
                with gzip.GzipFile(fileobj=file) as unpacked:
                    for line in unpacked:
                        yield line.removesuffix(b"\n")
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise Damaged(f"{name} can't be unpacked: {error}") from None

    def batches(self, most: int, *, all_columns: bool) -> Iterator[Chunk]:
        """The rows of Parquet, `most` at a time; with `all_columns` each has its values, too."""
        import pyarrow as pa

        part, field = self._part, self._field
        name = self._store.name(part.file)
        with parquet_file(self._store, part.file) as opened:
            groups = list(range(part.first, part.end))
            before = sum(opened.metadata.row_group(i).num_rows for i in range(part.first))
            columns = None if all_columns else [field]
            try:
                for batch in opened.iter_batches(most, groups, columns=columns):
                    texts = batch.column(field).cast(pa.large_string()).to_pylist()
                    first = before + self.lines + 1
                    self.lines += len(texts)
                    rows = [self._row(first + i, text) for i, text in enumerate(texts)]
                    yield Chunk(rows, batch)
            except (pa.ArrowInvalid, OSError) as error:
                raise Damaged(f"{name} can't be read: {error}") from None

    def _row(self, at: int, text: str | None) -> Row:
        data = b"" if text is None else text.encode()
        self._seen.update(b"%d:" % len(data) + data)
        wrong = text_wrong({self._field: text}, self._field)
        return Row(at, b"", {}, "" if wrong else text or "", wrong)


def lines_of(file: Any, first: int, end: int) -> Iterator[bytes]:
    """The lines that begin in bytes `first` to `end` of a file, without their line feeds."""
    at = max(0, first - 1)  # the byte before tells whether a line begins at `first`
    file.seek(at)
    others, rest = first > 0, b""  # up to the first line feed it is the part's before
    while block := file.read(BLOCK):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            start, at = at, at + len(line) + 1
            if others:
                others = False
            elif start >= end:
                return
            else:
                yield line
        if at >= end and not others:
            return
    if rest and not others and at < end:
        yield rest


# -- a first look --------------------------------------------------------------------------------


class Scanned(msgspec.Struct, kw_only=True):
    """What a first look at a part told."""

    number: int
    rows: int = 0
    lines: int = 0
    digest: str = ""
    wrong: int = 0
    listed: list[tuple[int, str]] = []  # of the first of these, the line within the part and why
    columns: Columns | None = None
    clash: int = 0  # the line of the first row with a field of the vectors' name; 0: none
    error: str = ""


def scan(
    store: Store, part: InputPart, *, field: str, plain: bool, vector: str, kinds: bool
) -> Scanned:
    """Read a part once: how much it is, what can't be embedded; with `kinds`, of which columns."""
    found = Scanned(number=part.number, columns=Columns() if kinds else None)
    reading = PartReading(store, part, field=field, plain=plain)
    chunks = reading.batches(1024, all_columns=False) if part.parquet else _ones(reading)
    for chunk in chunks:
        for row in chunk.rows:
            found.rows += 1
            if vector in row.value and not found.clash:
                found.clash = row.line
            if row.wrong:
                found.wrong += 1
                if len(found.listed) < LISTED:
                    found.listed.append((row.line, row.wrong))
            elif found.columns is not None:
                found.columns.add(row.value)
    found.lines, found.digest = reading.lines, reading.digest
    return found


def _ones(reading: PartReading) -> Iterator[Chunk]:
    for row in reading.rows():
        yield Chunk([row])


def kind_of(output: str) -> str | None:
    """parquet or lines, by an output's name; None for another ending."""
    return next((kind for end, kind in ENDINGS.items() if output.rstrip("/").endswith(end)), None)
