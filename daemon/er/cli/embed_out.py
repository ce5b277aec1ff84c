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


class Parquet:
    """Columns as the rows have fields, and one of lists of float32, all of the same length."""

    def __init__(self, path: Path, name: str, kinds: dict[str, str], dimensions: int) -> None:
        import pyarrow as pa  # only here: it takes a quarter of a second
        from pyarrow import parquet

        types = {
            "int": pa.int64(),
            "float": pa.float64(),
            "bool": pa.bool_(),
            "text": pa.string(),
            "json": pa.string(),
        }
        self._pa: Any = pa
        self._kinds, self._name, self._dimensions = kinds, name, dimensions
        fields = [pa.field(column, types[kind]) for column, kind in kinds.items()]
        vector = pa.list_(pa.float32(), dimensions)
        self._schema = pa.schema([*fields, pa.field(name, vector)])
        self._file = path.open("wb")
        self._writer = parquet.ParquetWriter(
            self._file,
            self._schema,
            # Nothing makes the numbers of vectors smaller, but trying takes time.
            compression={**dict.fromkeys(kinds, "zstd"), f"{name}.list.element": "none"},
            use_dictionary=list(kinds) or False,
            write_statistics=list(kinds) or False,
        )
        self._rows: list[Row] = []
        self._found: list[Vectors] = []
        self._most = max(1, min(ROWS_MAX, GROUP_BYTES // (4 * dimensions)))

    def add(self, rows: Sequence[Row], found: Vectors) -> None:
        self._rows += rows
        self._found.append(found)
        if len(self._rows) >= self._most:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        pa = self._pa
        columns = [
            pa.array([_value(row, name, kind) for row in self._rows], self._schema.field(name).type)
            for name, kind in self._kinds.items()
        ]
        numbers = pa.array(np.concatenate(self._found).ravel())
        columns.append(pa.FixedSizeListArray.from_arrays(numbers, self._dimensions))
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))
        self._rows, self._found = [], []

    def close(self) -> None:
        with self._file as file:
            self._flush()
            self._writer.close()
            file.flush()
            os.fsync(file.fileno())


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
