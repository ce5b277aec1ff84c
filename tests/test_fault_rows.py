"""er help faults' list is what the tests declare, and each row is what its test judges by."""

from __future__ import annotations

import sys

import fault_rows

sys.path.append(str(fault_rows.TESTS / "whole"))  # whose files import each other by name


def test_the_page_has_the_rows_of_the_tests() -> None:
    page = fault_rows.PAGE.read_text(encoding="utf-8")
    assert page == fault_rows.with_list(page), "run tests/faults_table"
    listed = page.partition(fault_rows.HEAD)[2]
    assert max(map(len, listed.splitlines())) <= fault_rows.WIDTH
    assert listed.count("\n- ") == len(fault_rows.Fault.rows) >= 18


def test_each_row_is_judged_by_its_test() -> None:
    files = fault_rows.files()
    assert len(files) >= 3
    assert {path.name: fault_rows.unused(path) for path in files} == {p.name: [] for p in files}
