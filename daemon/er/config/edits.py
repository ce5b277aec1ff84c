"""Edits of er.toml's text that keep all else as it was: comments, order, blank lines, line ends.

Pure. A file is cut into its tables by TOML's own reader: where a line begins with a bracket, a new
table begins if all since the last one is a whole document by itself. What an edit made of the text
is read again: it must mean exactly what was meant, with every comment that was there. Else, and
for shapes that are not told apart with certainty, EditError says what to write by hand.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import tomlkit
from tomlkit.exceptions import TOMLKitError

Kind = Literal["replica", "model"]
LINE = re.compile(r"[^\n]*\n|[^\n]+")
STATEMENT = re.compile(r"(\s*)([\w-]+)(\s*)=(\s*)")
MARK = "\ufeff"  # some editors begin a file with it; TOML has none
# A webhook's address is a secret, in a comment too.
SECRET = re.compile(
    r"""(\bwebhook["']?\s*=\s*)"""
    r"""(?:(\"{3}|'{3}).*?\2|"(?:\\[^\n]|[^"\\\n])*"?|'[^'\n]*'?)""",
    re.DOTALL,
)


class EditError(Exception):
    """An edit that can't be made with certainty; the text says why, and what to write by hand."""


class _Block(NamedTuple):
    """A header and all up to the next one; `path` () is what stands before the first."""

    path: tuple[str, ...]
    lines: list[str]  # with their ends


class _Table(NamedTuple):
    """One [[kind]] table: its blocks' numbers, `last` that of its last subtable."""

    first: int
    last: int


def add(text: str, kind: Kind, values: Mapping[str, Any]) -> str:
    """`text` with one more [[kind]] table behind the last one, written as that one is.

    Without one of its kind it goes behind the models. Raises EditError.
    """
    mark, bare = _bare(text)
    by_hand = f"add to it:\n{written(kind, values)}"
    blocks, tree = _read(bare, by_hand)
    tables = _tables(blocks, tree, kind, by_hand) or _tables(blocks, tree, "model", by_hand)
    if not tables:
        raise _refusal("no table is there that it could follow", by_hand)
    like, end = blocks[tables[-1].first], _end_of_line(bare)
    before = [line for block in blocks[: tables[-1].last] for line in block.lines]
    block = blocks[tables[-1].last].lines
    body = _body_end(block)
    at = body + _attached(block[body:], end=tables[-1].last == len(blocks) - 1)
    after = [line for rest in blocks[tables[-1].last + 1 :] for line in rest.lines]
    gap = [end] if _apart(blocks, tables[-1]) else []
    new = [f"{line}{end}" for line in _lines(kind, values, like if like.path == (kind,) else None)]
    head, rest = [*before, *block[:at]], [*block[at:], *after]
    if not head[-1].endswith("\n"):
        head[-1] += end
        new[-1] = new[-1].removesuffix(end)
    between = gap if rest and not _blank(rest[0]) else []
    wanted = {**tree, kind: [*tree.get(kind, ()), _plain(values)]}
    return mark + _proven(bare, "".join([*head, *gap, *new, *between, *rest]), wanted, (), by_hand)


def remove(text: str, kind: Kind, name: str) -> str:
    """`text` without the [[kind]] table `name`, with the comments that are clearly its own.

    Those are what stands inside, directly above (behind a blank line) and directly below (before
    one). Raises EditError.
    """
    mark, bare = _bare(text)
    by_hand = f'remove the [[{kind}]] table with name = "{name}"'
    blocks, tree = _read(bare, by_hand)
    number, table = _find(blocks, tree, kind, name, by_hand)
    before = [line for block in blocks[: table.first] for line in block.lines]
    own = [line for block in blocks[table.first : table.last] for line in block.lines]
    last = blocks[table.last].lines
    body = _body_end(last)
    cut = body + _attached(last[body:], end=table.last == len(blocks) - 1)
    rest = [*last[cut:], *(line for block in blocks[table.last + 1 :] for line in block.lines)]
    above = _comments_above(before)
    gone = [*before[len(before) - above :], *own, *last[:cut]]
    before = before[: len(before) - above]
    if not before or _blank(before[-1]):
        while rest and _blank(rest[0]):
            del rest[0]
        while not rest and before and _blank(before[-1]):
            del before[-1]
    if not rest and before and not bare.endswith("\n"):
        before[-1] = before[-1].removesuffix("\n").removesuffix("\r")
    tables = [one for i, one in enumerate(tree[kind]) if i != number]
    wanted = {**tree, kind: tables} if tables else {k: v for k, v in tree.items() if k != kind}
    return mark + _proven(bare, "".join([*before, *rest]), wanted, gone, by_hand)


def change(text: str, kind: Kind, name: str, values: Mapping[str, Any]) -> str:
    """`text` with other values in the [[kind]] table `name`; None takes a key out.

    A line that goes and has a comment stays as a comment. Raises EditError.
    """
    mark, bare = _bare(text)
    told = [f"{k} = {_value(v)}" if v is not None else f"no {k}" for k, v in values.items()]
    by_hand = f'in the [[{kind}]] table with name = "{name}" write: {", ".join(told)}'
    blocks, tree = _read(bare, by_hand)
    number, table = _find(blocks, tree, kind, name, by_hand)
    block = blocks[table.first]
    lines = block.lines
    for key, value in values.items():
        there = key in tree[kind][number]
        if value is None:
            lines = _without(lines, key) if there else lines
        elif there:
            lines = _replaced(lines, kind, key, value, by_hand)
        else:
            lines = _with(lines, f"{_lines(kind, {key: value}, block)[1]}", _end_of_line(bare))
    blocks[table.first] = _Block(block.path, lines)
    one = {**tree[kind][number], **{k: _plain(v) for k, v in values.items()}}
    tables = [*tree[kind]]
    tables[number] = {key: value for key, value in one.items() if value is not None}
    after = "".join(line for found in blocks for line in found.lines)
    return mark + _proven(bare, after, {**tree, kind: tables}, (), by_hand)


def written(kind: Kind, values: Mapping[str, Any]) -> str:
    """A table as it may be written by hand."""
    return "".join(f"    {line}\n" for line in _lines(kind, values, None))


def masked(text: str) -> str:
    """The text of an er.toml as it may stand on a screen: without the addresses of webhooks."""
    return SECRET.sub(lambda found: found[1] + '"…"' + "\n" * found[0].count("\n"), text)


# -- how a file is cut -------------------------------------------------------------------------


def _bare(text: str) -> tuple[str, str]:
    """(the mark that it begins with or "", the rest)."""
    return (MARK, text[1:]) if text.startswith(MARK) else ("", text)


def _end_of_line(text: str) -> str:
    """What most of its lines end with."""
    return "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"


def _refusal(why: str, by_hand: str) -> EditError:
    return EditError(f"{why}, so it is left as it is; {by_hand}")


def _loaded(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return None


def _read(text: str, by_hand: str) -> tuple[list[_Block], dict[str, Any]]:
    """Its blocks and what it means. Raises EditError."""
    tree = _loaded(text)
    if tree is None:
        raise _refusal("it is not TOML as it stands (er check says where)", by_hand)
    blocks = [_Block((), [])]
    for line in LINE.findall(text):
        path = _header(line)
        if path and _loaded("".join(blocks[-1].lines)) is not None:
            blocks.append(_Block(path, []))
        blocks[-1].lines.append(line)
    return blocks, tree


def _header(line: str) -> tuple[str, ...]:
    """Which table a line begins, if it stands where one can begin; () for other lines."""
    if not line.lstrip().startswith("["):
        return ()
    found: Any = _loaded(line)
    path = []
    while isinstance(found, dict) and len(found) == 1:
        ((name, found),) = found.items()
        path.append(name)
        found = found[0] if isinstance(found, list) and found else found
    return tuple(path)


def _tables(blocks: list[_Block], tree: dict[str, Any], kind: Kind, by_hand: str) -> list[_Table]:
    """The [[kind]] tables in order, each with its subtables. Raises EditError for other forms."""
    found = []
    for number, block in enumerate(blocks):
        if block.path == (kind,):
            found.append(_Table(number, number))
        elif block.path[:1] == (kind,):
            if not found or found[-1].last != number - 1:
                raise _refusal(f"parts of a [[{kind}]] table stand far from it", by_hand)
            found[-1] = found[-1]._replace(last=number)
    if len(found) != len(tree.get(kind, ())):
        raise _refusal(f"its {kind}s are not all [[{kind}]] tables", by_hand)
    return found


def _find(
    blocks: list[_Block], tree: dict[str, Any], kind: Kind, name: str, by_hand: str
) -> tuple[int, _Table]:
    tables = _tables(blocks, tree, kind, by_hand)
    numbers = [i for i, one in enumerate(tree.get(kind, ())) if one.get("name") == name]
    if len(numbers) != 1:
        raise _refusal(f"it has {len(numbers)} [[{kind}]] tables of that name", by_hand)
    return numbers[0], tables[numbers[0]]


def _blank(line: str) -> bool:
    return not line.strip()


def _comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _body_end(lines: Sequence[str]) -> int:
    """How many of a block's lines there are up to its last statement."""
    meaning = _loaded("".join(lines))
    end = len(lines)
    # A line that looks like a comment may be the last of a text over several lines.
    while end > 1 and (_blank(lines[end - 1]) or _comment(lines[end - 1])):
        if _loaded("".join(lines[: end - 1])) != meaning:
            break
        end -= 1
    return end


def _attached(tail: Sequence[str], *, end: bool) -> int:
    """How many comments stand directly below a table and not directly above the next one.

    `end`: behind `tail` the file ends.
    """
    count = next((i for i, line in enumerate(tail) if not _comment(line)), len(tail))
    return count if end or (count < len(tail) and _blank(tail[count])) else 0


def _comments_above(before: Sequence[str]) -> int:
    """How many comments stand directly above a table and not directly below the one before it."""
    count = next((i for i, line in enumerate(reversed(before)) if not _comment(line)), 0)
    return count if count and _blank(before[-count - 1]) else 0


def _apart(blocks: list[_Block], table: _Table) -> bool:
    """Whether a blank line stands before that table and its comments, or nothing at all."""
    before = [line for block in blocks[: table.first] for line in block.lines]
    while before and _comment(before[-1]):
        before.pop()
    return not before or _blank(before[-1])


# -- how lines are written ---------------------------------------------------------------------


class _Style(NamedTuple):
    """How a table is written."""

    header: str = ""  # blanks before it
    indent: str = ""
    before: str = " "  # the equals sign
    behind: str = " "
    column: int = 0  # of the equals signs, where they stand below each other; 0: they don't
    literal: bool = False  # 'text' in place of "text"


def _style(like: _Block | None) -> _Style:
    if like is None:
        return _Style()
    header = like.lines[0][: len(like.lines[0]) - len(like.lines[0].lstrip())]
    found = [m for line in like.lines[1:] if (m := STATEMENT.match(line))]
    if not found:
        return _Style(header=header)
    columns = {len(m[2]) + len(m[3]) for m in found}
    aligned = len(columns) == 1 and len({len(m[2]) for m in found}) > 1
    values = [line[m.end() :] for line in like.lines[1:] if (m := STATEMENT.match(line))]
    single, double = (sum(v.startswith(q) for v in values) for q in ("'", '"'))
    return _Style(
        header,
        found[0][1],
        found[0][3] if not aligned else " ",
        found[0][4],
        columns.pop() if aligned else 0,
        single > double,
    )


def _lines(kind: Kind, values: Mapping[str, Any], like: _Block | None) -> list[str]:
    """The lines of a table without their ends, as `like` is written."""
    style = _style(like)
    lines = [f"{style.header}[[{kind}]]"]
    for key, value in values.items():
        before = " " * max(style.column - len(key), 1) if style.column else style.before
        said = _value(value, literal=style.literal)
        lines.append(f"{style.indent}{key}{before}={style.behind}{said}")
    return lines


def _value(value: Any, *, literal: bool = False) -> str:
    if literal and isinstance(value, str) and value.isprintable() and "'" not in value:
        return tomlkit.string(value, literal=True).as_string()
    if isinstance(value, dict):
        table = tomlkit.inline_table()
        table.update(value)
        return table.as_string()
    return str(tomlkit.item(_plain(value)).as_string())


def _plain(value: Any) -> Any:
    """As TOML's reader gives it back."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [*value] if isinstance(value, tuple) else value


def _place(lines: Sequence[str], key: str) -> int | None:
    """The one line that gives `key` its value, None where there is no such line."""
    found = [i for i, line in enumerate(lines) if (m := STATEMENT.match(line)) and m[2] == key]
    return found[0] if len(found) == 1 else None


def _replaced(lines: list[str], kind: Kind, key: str, value: Any, by_hand: str) -> list[str]:
    chunk = "".join(lines)
    try:
        document: Any = tomlkit.parse(chunk)
        if tomlkit.dumps(document) != chunk:
            raise _refusal("that table is not understood to the letter", by_hand)
        single = (place := _place(lines, key)) is not None and STATEMENT.sub(
            "", lines[place], count=1
        ).startswith("'")
        new = _plain(value)
        if single and isinstance(new, str) and new.isprintable() and "'" not in new:
            new = tomlkit.string(new, literal=True)
        document[kind][0][key] = new
        return LINE.findall(tomlkit.dumps(document))
    except (TOMLKitError, KeyError, TypeError, ValueError) as error:
        raise _refusal(f"that table can't be taken apart ({error})", by_hand) from None


def _without(lines: list[str], key: str) -> list[str]:
    place = _place(lines, key)
    if place is None:
        return lines  # which is found out: it means what it meant before
    try:
        told = tomlkit.parse(lines[place])[key].trivia.comment
    except (TOMLKitError, KeyError, AttributeError):
        told = ""
    comment = [re.sub(r"^(\s*)", r"\1# ", lines[place], count=1)] if told else []
    return [*lines[:place], *comment, *lines[place + 1 :]]


def _with(lines: list[str], line: str, end: str) -> list[str]:
    """One more statement behind the last one."""
    body = _body_end(lines)
    head = [*lines[:body]]
    if head[-1].endswith("\n"):
        line += end
    else:
        head[-1] += end
    return [*head, line, *lines[body:]]


def _proven(
    before: str, after: str, wanted: dict[str, Any], gone: Sequence[str], by_hand: str
) -> str:
    """`after`, if it means `wanted` and no comment is lost but those `gone`. Raises EditError."""

    def comments(lines: Sequence[str]) -> Counter[str]:
        return Counter(line.strip() for line in lines if _comment(line))

    if _loaded(after) != wanted:
        raise _refusal("the edit would mean something else", by_hand)
    lost = comments(LINE.findall(before)) - comments(gone) - comments(LINE.findall(after))
    if lost:
        raise _refusal(f"the edit would lose a comment ({next(iter(lost))})", by_hand)
    return after
