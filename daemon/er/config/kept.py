"""The tables [cache] and [batches] of an er.toml: what a host keeps, and what hosts share of it."""

from __future__ import annotations

from typing import Any

from er.config.fields import Fields
from er.config.reader import KEEP_MAX_S, Reader
from er.config.structs import Batches, Cache

CACHE_MIN, CACHE_MAX = 16 << 20, 1 << 40  # bytes
SHARED_MIN = 16 << 20
QUOTA_MIN = 1 << 20


def cache(reader: Reader, tree: dict[str, Any]) -> Cache:
    """The table [cache]."""
    table = tree.get("cache", {})
    if not isinstance(table, dict):
        reader.say("", 0, "cache", "cache must be a [cache] table")
        return Cache()
    f = Fields(reader.say, table, "cache", 0)
    size = f.size_or_off("size", Cache().size, CACHE_MIN)
    if size > CACHE_MAX:
        f.wrong("size", f"must be at most {CACHE_MAX >> 30}GiB")
    scope: Any = Cache().scope
    if table.get("scope") == "team":
        f.wrong("scope", 'is "team", which comes with teams; this version has "key" and "all"')
    else:
        scope = f.choice("scope", ("all", "key"), Cache().scope)
    shared = _shared(f, tree)
    if shared and not size:
        f.wrong("shared", "needs a cache of this host's own; give size, too")
    reader.unknown(table, set(Cache.__struct_fields__), "cache", 0)
    return Cache(size=size, scope=scope, shared=shared)


def batches(reader: Reader, tree: dict[str, Any]) -> Batches:
    """The table [batches]."""
    table = tree.get("batches", {})
    if not isinstance(table, dict):
        reader.say("", 0, "batches", "batches must be a [batches] table")
        return Batches()
    f = Fields(reader.say, table, "batches", 0)
    quota = f.size_or_off("quota", Batches().quota, QUOTA_MIN)
    max_file = f.size("max_file", min(Batches().max_file, quota or 1 << 40), 1024) or 0
    if quota and max_file > quota:
        f.wrong("max_file", "is more than quota; a file must fit into it")
    keep_s = f.duration("keep", Batches().keep_s, 60.0, KEEP_MAX_S)
    shared = _shared(f, tree)
    if shared and not quota:
        f.wrong("shared", "needs batches of this host's own; give quota, too")
    reader.unknown(table, {"quota", "keep", "max_file", "shared"}, "batches", 0)
    return Batches(quota=quota, keep_s=keep_s, max_file=max_file, shared=shared)


def _shared(f: Fields, tree: dict[str, Any]) -> int:
    """How much of the shared state a table's things may take; 0: nothing."""
    if "shared" not in f.table:
        return 0
    shared = f.size_or_off("shared", SHARED_MIN, SHARED_MIN)
    if shared > CACHE_MAX:
        f.wrong("shared", f"must be at most {CACHE_MAX >> 30}GiB")
    if shared and "state" not in tree:
        f.wrong("shared", "is what hosts share in their [state], and there is no such table")
        return 0
    return shared
