"""The pure parts of `er embed`: rows, groups, columns, and a work file cut at any byte."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from er.cli.embed_part import Done, Part, PartError, Plan
from er.cli.embed_rows import (
    COLUMNS_MAX,
    GROUP_BYTES,
    Columns,
    Reading,
    Row,
    Source,
    TooManyColumns,
    cell,
    groups,
)
from running import Gateway, gateway
from test_embed import read, rows, write
from test_full_disk import on_a_small_disk

PLAN = Plan(
    digest="d",
    rows=9,
    plain=False,
    field="text",
    model="m",
    kind=None,
    instruction=None,
    dimensions=None,
    overwrite=False,
)


def row(text: str = "x", wrong: str = "") -> Row:
    return Row(1, b"{}", {}, "" if wrong else text, wrong)


def done(first: int, count: int, missing: list[int], dimensions: int = 2) -> Done:
    return Done(
        first=first,
        count=count,
        missing=missing,
        tokens=count,
        cut=0,
        dimensions=dimensions,
        model="m",
    )


# -- rows and groups -----------------------------------------------------------------------------


def test_a_second_reading_passes_over_rows_and_sees_all_bytes(tmp_path: Path) -> None:
    """The same rows by the same numbers, the lines as an editor counts them, one digest."""
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "a"}\n\n{"text": ""}\n  \n{"text": "b"}')
    source = Source(path=path)
    first, second = Reading(source), Reading(source, skip=2)
    assert [(r.line, r.text, bool(r.wrong)) for r in first] == [
        (1, "a", False),
        (3, "", True),
        (5, "b", False),
    ]
    assert [(r.line, r.text) for r in second] == [(5, "b")]
    assert first.digest == second.digest
    path.write_text(path.read_text() + " ")
    third = Reading(source)
    assert len(list(third)) == 3 and third.digest != first.digest


@settings(deadline=None)  # machines are slow at times
@given(st.lists(st.sampled_from(["", "x", "y" * 1000, "z" * GROUP_BYTES])), st.integers(1, 9))
def test_groups_hold_every_row_once(texts: list[str], most: int) -> None:
    """In order, none larger than it may be unless one row alone is."""
    given_rows = [row(text, "" if text else "is empty") for text in texts]
    found = list(groups(given_rows, 7, most))
    assert [r for group in found for r in group.rows] == given_rows
    at = 7
    for group in found:
        assert group.first == at and 1 <= len(group.rows) <= most
        size = sum(len(r.text) for r in group.rows)
        assert size <= GROUP_BYTES or len(group.rows) == 1
        assert group.good == [i for i, r in enumerate(group.rows) if r.text]
        at += len(group.rows)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, None, -3], "int"),
        ([1, 2.5], "float"),
        ([2.5, None, 1], "float"),
        ([(1 << 53) + 1, 0.5], "json"),  # a float would be another number
        ([0.5, (1 << 53) + 1], "json"),
        ([(1 << 63) - 1], "int"),
        ([1 << 63], "json"),
        ([True, False], "bool"),
        ([True, 1], "json"),
        (["a", None], "text"),
        (["a", 1], "json"),
        ([1, "a", 1], "json"),
        ([[1]], "json"),
        ([{}, None], "json"),
        ([None], "text"),
    ],
)
def test_a_column_is_what_all_its_values_are(values: list[Any], kind: str) -> None:
    columns = Columns()
    for value in values:
        columns.add({"x": value})
    assert columns.kinds() == {"x": kind}
    assert cell(None, kind) is None
    assert cell(values[0], "json") in (None, str(values[0]).lower(), f'"{values[0]}"')


def test_more_columns_than_a_table_should_have() -> None:
    columns = Columns()
    columns.add({str(i): 1 for i in range(COLUMNS_MAX)})
    with pytest.raises(TooManyColumns):
        columns.add({"one more": None})


# -- the work file -------------------------------------------------------------------------------


def test_a_work_file_cut_at_any_byte_is_one_of_fewer_rows(tmp_path: Path) -> None:
    """Whole records stay, with their numbers; half a one is cut off, and work goes on behind."""
    path = tmp_path / "part"
    part = Part(path, anew=False)
    part.begin(PLAN)
    steps = [(0, 4, [1]), (4, 3, []), (7, 2, [0, 1])]
    ends = [part._end]
    numbers = np.arange(20, dtype=np.float32).reshape(-1, 2)
    for first, count, missing in steps:
        part.append(done(first, count, missing), numbers[first : first + count - len(missing)])
        ends.append(part._end)
    part.close()
    bytes_ = path.read_bytes()
    assert len(bytes_) == ends[-1]
    for size in range(len(bytes_) + 1):
        path.write_bytes(bytes_[:size])
        part = Part(path, anew=False)
        whole = sum(end <= size for end in ends)
        assert (part.plan is not None) == (whole > 0)
        assert part.rows == sum(count for _, count, _ in steps[: max(0, whole - 1)])
        assert path.stat().st_size == (ends[whole - 1] if whole else 0)
        for (d, found), (first, count, missing) in zip(part.results(), steps, strict=False):
            assert (d.first, d.count, d.missing) == (first, count, missing)
            assert np.array_equal(found, numbers[first : first + count - len(missing)])
        part.close()


@settings(deadline=None)  # machines are slow at times
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_byte_that_is_not_as_it_was_is_seen(
    tmp_path_factory: pytest.TempPathFactory, at: int, change: int
) -> None:
    """After a crash of the machine a disk may hold anything: no wrong number is taken."""
    path = tmp_path_factory.getbasetemp() / "flipped"
    path.unlink(missing_ok=True)
    part = Part(path, anew=True)
    part.begin(PLAN)
    numbers = np.ones((9, 2), np.float32)
    part.append(done(0, 9, []), numbers)
    part.close()
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= change
    path.write_bytes(data)
    try:
        part = Part(path, anew=False)
    except PartError as error:
        assert "is no work file" in str(error)
        return
    assert part.plan in (None, PLAN)
    assert all(np.array_equal(found, numbers) for _, found in part.results())
    assert part.rows in (0, 9)
    part.close()


def test_what_differs_is_named() -> None:
    other = {"digest": "e", "kind": "query", "instruction": "x", "rows": 8, "overwrite": True}
    changed = Plan(**{f: getattr(PLAN, f) for f in PLAN.__struct_fields__} | other)
    assert PLAN.differs(changed) == "input, --query or --document, --instruction"
    assert PLAN.differs(PLAN) == ""


# -- a full disk ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "size"), [("jsonl", "64k"), ("parquet", "256k")])
def test_a_full_disk_is_said_and_nothing_is_lost(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, ending: str, size: str
) -> None:
    """In the work file or in the output; with more room the same command goes on."""
    source, disk, kept = write(tmp_path / "in.jsonl", rows()), tmp_path / "disk", tmp_path / "kept"
    output = disk / f"out.{ending}"
    command = f"{sys.executable} -m er.cli embed {source} -o {output} --inputs 20"
    script = (
        f"{command}; echo code $?; ls {disk}; mount -o remount,size=16m {disk}; "
        f"{command}; echo code $?; ls {disk}; mkdir {kept}; cp {output} {kept}"
    )
    with gateway(tmp_path_factory.mktemp("gw")) as running:
        ran = subprocess.run(
            on_a_small_disk(disk, size, ["sh", "-c", script]),
            env=running.environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        check_full(ran, running, kept / output.name)


def check_full(ran: subprocess.CompletedProcess[str], running: Gateway, output: Path) -> None:
    """First the disk was full, then all was written."""
    said = ran.stdout.split()
    assert said[:3] == ["code", "1", f"{output.name}.part"], ran
    assert "no space is left on the disk of" in ran.stderr and "To go on" in ran.stderr
    assert "note: about" in ran.stderr
    assert said[-3:] == ["code", "0", output.name]
    values, found = read(output)
    assert [v["id"] for v in values] == list(range(len(rows()))) and len(found) == len(values)
    assert running.embed("text 0").json["data"][0]["embedding"] == pytest.approx(found[0].tolist())
