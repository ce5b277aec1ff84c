"""Which rows of an answer go together to which request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from er.tickets import Item


def runs(handed: Sequence[tuple[int, Item]]) -> Iterator[tuple[int, int, Item]]:
    """Of (row, item): (first row, how many, first item) of what lies side by side on both ends.

    Rows are copied together because numpy lets go of the interpreter for each copy: row by row, a
    loop beside a busy thread waited for it a hundred times an answer.
    """
    at, end = 0, len(handed)
    while at < end:
        first, item = handed[at]
        count, ticket, index = 1, item.ticket, item.index
        at += 1
        while at < end:
            row, other = handed[at]
            if other.ticket is not ticket or row != first + count or other.index != index + count:
                break
            count += 1
            at += 1
        yield first, count, item
