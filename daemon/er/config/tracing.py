"""The table [tracing] of an er.toml: where traces go, and of how many requests."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from er.config.fields import Fields
from er.config.reader import Reader
from er.config.structs import Tracing

ENDPOINT = "http://127.0.0.1:4318"  # where collectors listen for OTLP over HTTP


def tracing(reader: Reader, tree: dict[str, Any]) -> Tracing | None:
    """What the table says; None where there is none, or where it can't be used."""
    table = tree.get("tracing")
    if table is None:
        return None
    if not isinstance(table, dict):
        reader.say("", 0, "tracing", "tracing must be a [tracing] table")
        return None
    f = Fields(reader.say, table, "tracing", 0)
    reader.unknown(table, {"endpoint", "sample"}, "tracing", 0)
    sample = f.number("sample", 0.0, 1.0)
    if "endpoint" not in table:
        f.wrong("endpoint", f'is missing from [tracing]; as in endpoint = "{ENDPOINT}"')
        return None
    endpoint = f.text("endpoint")
    if endpoint is None or not _usable(f, endpoint):
        return None
    found = Tracing(endpoint=endpoint.rstrip("/"))
    return found if sample is None else Tracing(endpoint=found.endpoint, sample=sample)


def _usable(f: Fields, endpoint: str) -> bool:
    try:
        parts = urlsplit(endpoint)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets or a port that are none
        good = False
        parts = urlsplit("")
    if "@" in parts.netloc:
        # Not said as it stands: a finding goes to terminals and logs.
        f.wrong("endpoint", "has a user or password in it; leave it out: er help tracing")
        return False
    if not good or parts.query or parts.fragment or not endpoint.isprintable() or " " in endpoint:
        f.wrong("endpoint", f'is {endpoint!r}; write http://HOST:PORT, as in "{ENDPOINT}"')
        return False
    if parts.path.rstrip("/").endswith("/v1/traces"):
        f.wrong("endpoint", f"is {endpoint!r}; leave out /v1/traces, which ER puts there itself")
        return False
    if parts.port == 4317:
        f.wrong("endpoint", "has port 4317, where collectors take gRPC; OTLP over HTTP is on 4318")
        return False
    return True
