"""Pages of a key's files and batches: of those here, and of several hosts'. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, urlencode

from er.batches import Batch, File
from er.dialects.json_body import refuse_field

LIST_MAX = {"files": 10_000, "batches": 100}
LIST_DEFAULT = {"files": 10_000, "batches": 20}


def _values(query: str) -> dict[str, str]:
    said_of = parse_qs(query, keep_blank_values=True)
    return {name: values[-1] for name, values in said_of.items()}


def page(every: Sequence[File | Batch], kind: str, query: str) -> dict[str, Any]:
    """The part of a list that the query asks for; `every` is the newest first. Raises Refusal."""
    asked = _values(query)
    most = LIST_MAX[kind]
    said = asked.get("limit", str(LIST_DEFAULT[kind]))
    if not (said.isascii() and said.isdigit() and len(said) < 9 and 1 <= int(said) <= most):
        refuse_field("limit", f"limit is {said[:20]!r}; it must be a whole number from 1 to {most}")
    limit = int(said)
    order = asked.get("order", "desc")
    if order not in ("asc", "desc"):
        refuse_field("order", f'order is {order[:20]!r}; it must be "asc" or "desc"')
    purpose = asked.get("purpose") or None
    found = [x for x in every if purpose in (None, getattr(x, "purpose", None))]
    if order == "asc":
        found.reverse()
    after = asked.get("after")
    if after:
        found = [x for x in found if (x.id > after if order == "asc" else x.id < after)]
    page = found[:limit]
    return {
        "object": "list",
        "data": [x.shown() for x in page],
        "first_id": page[0].id if page else None,
        "last_id": page[-1].id if page else None,
        "has_more": len(found) > limit,
    }


def passed_on(query: str) -> str:
    """Of a client's query what another host needs for its part of a list: never a key."""
    said = _values(query)
    names = ("limit", "order", "purpose", "after")
    return urlencode([(name, said[name]) for name in names if name in said])


def merged(
    pages: Sequence[dict[str, Any]], kind: str, query: str, silent: Sequence[str]
) -> dict[str, Any]:
    """One page of what several hosts have, each of which was asked for it by that query.

    Ids begin with their time. Hosts that did not answer are named in `hosts_missing`.
    """
    said = _values(query)
    limit = int(said.get("limit", LIST_DEFAULT[kind]))
    every = {one["id"]: one for page in pages for one in page["data"]}
    names = sorted(every, reverse=said.get("order") != "asc")
    data = [every[name] for name in names[:limit]]
    tree: dict[str, Any] = {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(names) > limit or any(page["has_more"] for page in pages),
    }
    return tree | ({"hosts_missing": list(silent)} if silent else {})
