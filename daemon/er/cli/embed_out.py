"""What `er embed` writes: the input's rows, each with its vector, as JSON lines or as Parquet.

Written beside the output under another name and renamed when all of it is on the disk, so that a
file with the output's name is always whole.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from er import vectors
from er.cli.embed_rows import Row, cell
from er.job import Vectors

ENDINGS = {".parquet": "parquet", ".jsonl": "lines", ".ndjson": "lines"}
GROUP_BYTES = 64 << 20  # of the vectors in one row group
ROWS_MAX = 1 << 16  # in one row group


class Writer(Protocol):
    """Takes rows in their order."""

    def add(self, rows: Sequence[Row], found: Vectors) -> None:
        """Write `rows` with their vectors, (rows, dimensions). Raises OSError."""

    def close(self) -> None:
        """Write what is left and make sure that it is on the disk. Raises OSError."""


class JsonLines:
    """A line for each row: its object as it stood in the input, with the vector behind."""

    def __init__(self, path: Path, name: str) -> None:
        self._file = path.open("wb")
        self._start = b",%b:" % msgspec.json.encode(name)

    def add(self, rows: Sequence[Row], found: Vectors) -> None:
        lines = []
        for row, vector in zip(rows, vectors.floats_json(found), strict=True):
            lines += [row.raw[:-1], self._start, vector, b"}\n"]
        self._file.write(b"".join(lines))

    def close(self) -> None:
        with self._file as file:
            file.flush()
            os.fsync(file.fileno())


class _Columns:
    """A file of Parquet: columns of some kind, and behind them one of vectors."""

    def __init__(self, path: Path, name: str, fields: Sequence[Any], dimensions: int) -> None:
        import pyarrow as pa  # only here: it takes a quarter of a second
        from pyarrow import parquet

        self._pa: Any = pa
        self._dimensions = dimensions
        self.schema = pa.schema([*fields, pa.field(name, pa.list_(pa.float32(), dimensions))])
        self.file = path.open("wb")
        names = [field.name for field in fields]
        self._writer = parquet.ParquetWriter(
            self.file,
            self.schema,
            # Nothing makes the numbers of vectors smaller, but trying takes time.
            compression={**dict.fromkeys(names, "zstd"), f"{name}.list.element": "none"},
            use_dictionary=names or False,
            write_statistics=names or False,
        )
        self.most = max(1, min(ROWS_MAX, GROUP_BYTES // (4 * dimensions)))

    def write(self, columns: Sequence[Any], found: Sequence[Vectors]) -> None:
        numbers = self._pa.array(np.concatenate(found).ravel())
        vectors = self._pa.FixedSizeListArray.from_arrays(numbers, self._dimensions)
        self._writer.write_table(
            self._pa.Table.from_arrays([*columns, vectors], schema=self.schema)
        )

    def close(self) -> None:
        self._writer.close()
        self.file.flush()
        os.fsync(self.file.fileno())


class Parquet:
    """Columns as the rows have fields, and one of lists of float32, all of the same length."""

    def __init__(self, path: Path, name: str, kinds: dict[str, str], dimensions: int) -> None:
        import pyarrow as pa

        types = {
            "int": pa.int64(),
            "float": pa.float64(),
            "bool": pa.bool_(),
            "text": pa.string(),
            "json": pa.string(),
        }
        self._pa: Any = pa
        self._kinds = kinds
        fields = [pa.field(column, types[kind]) for column, kind in kinds.items()]
        self._out = _Columns(path, name, fields, dimensions)
        self._rows: list[Row] = []
        self._found: list[Vectors] = []

    def add(self, rows: Sequence[Row], found: Vectors) -> None:
        self._rows += rows
        self._found.append(found)
        if len(self._rows) >= self._out.most:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        columns = [
            self._pa.array(
                [_value(row, name, kind) for row in self._rows], self._out.schema.field(name).type
            )
            for name, kind in self._kinds.items()
        ]
        self._out.write(columns, self._found)
        self._rows, self._found = [], []

    def close(self) -> None:
        with self._out.file:
            self._flush()
            self._out.close()


class Table:
    """Parquet of Parquet: record batches as they were read, each with the column of its vectors."""

    def __init__(self, path: Path, name: str, schema: Any, dimensions: int) -> None:
        self._out = _Columns(path, name, list(schema), dimensions)
        self._batches: list[Any] = []
        self._found: list[Vectors] = []

    def add(self, batch: Any, found: Vectors) -> None:
        """Write a batch's rows with their vectors, (rows, dimensions). Raises OSError."""
        self._batches.append(batch)
        self._found.append(found)
        if sum(map(len, self._found)) >= self._out.most:
            self._flush()

    def _flush(self) -> None:
        if not self._batches:
            return
        import pyarrow as pa

        self._out.write(pa.Table.from_batches(self._batches).columns, self._found)
        self._batches, self._found = [], []

    def close(self) -> None:
        """Write what is left and make sure that it is on the disk. Raises OSError."""
        with self._out.file:
            self._flush()
            self._out.close()


def _value(row: Row, name: str, kind: str) -> Any:
    value = cell(row.value.get(name), kind)
    return float(value) if kind == "float" and value is not None else value


def into_place(path: Path, output: Path) -> None:
    """Give what was written its name, for good. Raises OSError."""
    path.replace(output)
    folder = os.open(output.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
