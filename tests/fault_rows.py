"""The rows of `er help faults`' list of faults, each declared beside the test that acts one out.

    STOPPED = fault_rows.Fault(
        "a replica is stopped by SIGSTOP, another serves its model",
        client="200",                    # or "503 no_healthy_replica", all that it may see
        heals="it gets no more until it answers again",
        within_s=20,                     # from the fault's end, or from its cure, to all well
    )

    def test_… :
        STOPPED.saw(reply)               # fails for what the row does not say
        until(…, STOPPED.within_s)

`tests/faults_table` runs these tests and, if all pass, writes the list into the page;
tests/test_fault_rows.py fails where the page differs from what is declared, and where a test does
not use its row.
"""

from __future__ import annotations

import ast
import importlib
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent
PAGE = TESTS.parent / "daemon/er/help/faults.md"
WIDTH = 100  # columns
HEAD = "## Each fault acted out by a test\n"
TOLD = """
Made by tests/faults_table from the tests that break these things on purpose. "Client" is all
that a client may see; what is answered stays right. The time is what the test allows, from the
fault's end, until all is well.

"""


class Fault:
    """One row. `client` has each answer that may be seen, as "STATUS" or "STATUS code"."""

    rows: dict[str, Fault] = {}  # noqa: RUF012 - all that the imported test files declare

    def __init__(
        self, what: str, *, client: str | Iterable[str], heals: str, within_s: int
    ) -> None:
        self.what, self.heals, self.within_s = what, heals, within_s
        self.client = (client,) if isinstance(client, str) else tuple(client)
        self.rows[what] = self

    def saw(self, status: int, code: str | None = None) -> None:
        """A client got this answer, with this error's code. Raises AssertionError."""
        got = f"{status} {code}" if code else str(status)
        assert got in self.client, f"{got}, and the row says {self.client}"

    def text(self) -> str:
        """Its row: a list's entry that a terminal shows whole."""
        minutes = self.within_s // 60
        time = f"{minutes} min" if minutes and not self.within_s % 60 else f"{self.within_s} s"
        parts = (f"client: {', '.join(self.client)}", f"heals: {self.heals}", f"within: {time}")
        lines = [*textwrap.wrap(self.what, WIDTH - 2)]
        for part in parts:
            lines += textwrap.wrap(part, WIDTH - 2, subsequent_indent="  ")
        return "- " + "\n  ".join(lines) + "\n"


def files() -> list[Path]:
    """The test files that declare rows."""
    found = [*TESTS.glob("test_*.py"), *(TESTS / "whole").glob("test_*.py")]
    return sorted(p for p in found if "fault_rows.Fault(" in p.read_text(encoding="utf-8"))


def unused(path: Path) -> list[str]:
    """Names of rows that no test of the file judges a client's answer and a time by."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    made = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func) == "fault_rows.Fault"
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    used: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used.setdefault(node.value.id, set()).add(node.attr)
        elif isinstance(node, ast.Call):  # handed to what judges by it, for several tests
            for given in node.args:
                if isinstance(given, ast.Name):
                    used.setdefault(given.id, set()).update(("saw", "within_s"))
    return sorted(name for name in made if not {"saw", "within_s"} <= used.get(name, set()))


def listed() -> str:
    """The whole part of the page, from its heading on."""
    rows: dict[str, Any] = {}
    for path in files():
        module = importlib.import_module(path.stem)
        rows |= {one.what: one for one in vars(module).values() if isinstance(one, Fault)}
    return HEAD + TOLD + "".join(rows[what].text() for what in sorted(rows))


def with_list(page: str) -> str:
    """The page with the list as it is declared now."""
    return page.partition(HEAD)[0].rstrip("\n") + "\n\n" + listed()
