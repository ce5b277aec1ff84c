"""What ER's source says: every text that people may read, as a template with holes.

A text is a literal or an f-string; {} stands for each value. A value that is one of two literals
(`'s' * (n != 1)`, `"a" if b else "c"`) is written out, so that one place may give several texts.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

HOLE = "{}"


class Said(NamedTuple):
    """One text: where, and what with {} for its values."""

    place: str
    text: str


def said(path: Path, top: Path) -> Iterator[Said]:
    """All texts of a module but its docstrings and annotations, in order, each once."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    reader = _Reader()
    reader.visit(tree)
    name = path.relative_to(top).as_posix()
    for line, text in dict.fromkeys(reader.found):
        yield Said(f"{name}:{line}", text)


class _Reader(ast.NodeVisitor):
    def __init__(self) -> None:
        self.found: list[tuple[int, str]] = []

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        parts = [_choices(value) for value in node.values]
        for chosen in product(*parts):
            self.found.append((node.lineno, "".join(chosen)))
        for value in node.values:
            if isinstance(value, ast.FormattedValue) and len(_choices(value)) == 1:
                self.visit(value.value)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.found.append((node.lineno, node.value))

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring
            self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_arg(self, node: ast.arg) -> None:
        """Annotations are no texts."""


def _choices(value: ast.expr) -> list[str]:
    """What one piece of an f-string may be."""
    if isinstance(value, ast.Constant):
        return [str(value.value)]
    if isinstance(value, ast.FormattedValue):
        inner = value.value
        if isinstance(inner, ast.IfExp):
            both = [_choices(one) for one in (inner.body, inner.orelse)]
            if all(isinstance(one, ast.Constant) for one in (inner.body, inner.orelse)):
                return [text for one in both for text in one]
        if isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.Mult):
            for side in (inner.left, inner.right):
                if isinstance(side, ast.Constant) and isinstance(side.value, str):
                    return ["", side.value]
        if isinstance(inner, ast.BoolOp) and isinstance(inner.values[-1], ast.Constant):
            return [HOLE, str(inner.values[-1].value)]
    return [HOLE]
