"""`er audit`: the records of requests and changes, out of the audit's own journal, line by line."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson

from er import keys
from er.cli import audit_journal
from er.cli.screen import clean
from er.keys import KeysError
from er.moments import past

LAST = 50  # records that are shown where nothing says since when
FOLLOWED = 10
STATUS = re.compile(r"([1-5])xx|[1-5][0-9][0-9]")
FIELDS = "REQUEST_ID KEY_ID CLIENT METHOD PATH DIALECT MODEL REPLICA STATUS CODE ITEMS TOKENS"
TIMES = "QUEUE_MS ENGINE_MS TOTAL_MS"
TRACE = "TRACE_ID"  # where there is one
CHANGES = "ACTION TARGET UID"


class Wish(msgspec.Struct, kw_only=True):
    """What the command line asked for. None = not said."""

    key: list[str] | None = None  # ids or names
    status: str | None = None  # "4xx,503"
    model: list[str] | None = None
    path: list[str] | None = None
    request_id: list[str] | None = None
    since: str | None = None
    until: str | None = None
    follow: bool = False
    as_json: bool = False
    n: int | None = None


def run(wish: Wish) -> int:
    """Print it. Returns the exit status: 0 done, 1 not done and said why, 64 wrong use."""
    try:
        command = journalctl(wish, datetime.now(UTC))
    except ValueError as error:
        return _fail(str(error), 64)
    shown = 0
    # journalctl counts from the beginning where a span is given, and we from its end.
    last = deque[bytes](maxlen=wish.n) if wish.n is not None and _spans(wish) else None
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said)
        except OSError:
            return _fail(
                "there is no journalctl here. Without systemd the records are the lines that begin "
                "with { on er-gateway's standard output",
                1,
            )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if last is None:
                    shown += _show(line, wish.as_json)
                elif _record(line) is not None:
                    last.append(line)
            shown += sum(_show(line, wish.as_json) for line in last or ())
            code = process.wait()
        finally:
            process.kill()
            process.wait()
        said.seek(0)
        told = clean(said.read(2000).decode(errors="replace"))
    if not shown and (why := audit_journal.why_nothing()):
        return _fail(why, 1)
    if code:
        return _fail(f"journalctl ended with {code}: {told}", 1)
    if not shown:
        print("er audit: no such record", file=sys.stderr)
    return 0


def _spans(wish: Wish) -> bool:
    return wish.since is not None or wish.until is not None


def _fail(text: str, code: int) -> int:
    print(f"er audit: {text}", file=sys.stderr)
    return code


def journalctl(wish: Wish, now: datetime) -> list[str]:
    """The command that gives the records. Raises ValueError with what to write."""
    command = ["journalctl", "--namespace=er-audit", "-q", "--no-pager", "-o", "json"]
    for name in ("since", "until"):
        if (text := getattr(wish, name)) is not None:
            try:
                command.append(f"--{name}=@{past(text, now).timestamp():.0f}")
            except ValueError as error:
                raise ValueError(f"--{name}: {error}") from None
    if wish.n is not None and wish.n < 0:
        raise ValueError(f"-n {wish.n}: write how many of the last records, as in -n 20")
    last = None if _spans(wish) else wish.n
    if last is None and not _spans(wish):
        last = FOLLOWED if wish.follow else None if wish.request_id else LAST
    if last is not None:
        command += ["-n", str(last)]
    if wish.follow:
        if wish.until is not None:
            raise ValueError("--follow and --until don't go together")
        if wish.since is not None and wish.n is not None:
            raise ValueError("--follow goes on from --since or from the last -n, not from both")
        command += ["-f", *(["--no-tail"] if last is None else [])]
    command += [f"STATUS={status}" for status in _statuses(wish.status)]
    command += [f"KEY_ID={key}" for key in _keys(wish.key or [])]
    for field, values in (
        ("MODEL", wish.model),
        ("PATH", wish.path),
        ("REQUEST_ID", wish.request_id),
    ):
        command += [f"{field}={value}" for value in values or ()]
    return command


def _statuses(text: str | None) -> Iterator[int]:
    for word in text.split(",") if text is not None else ():
        found = STATUS.fullmatch(word.strip().lower())
        if found is None:
            raise ValueError(
                f'--status {word!r}: write statuses or their hundreds, as in "4xx,503"'
            )
        if found[1]:
            yield from range(100 * int(found[1]), 100 * int(found[1]) + 100)
        else:
            yield int(found[0])


def _keys(refs: list[str]) -> list[str]:
    """Ids for names, where the key file can be read; what is no name stands for itself."""
    names: dict[str, list[str]] = {}
    if refs:
        with contextlib.suppress(KeysError, OSError):
            for key in keys.list_keys(keys.path()):
                names.setdefault(key["name"], []).append(key["id"])
    return [key_id for ref in refs for key_id in names.get(ref, [ref])]


def _record(line: bytes) -> dict[str, Any] | None:
    """The line's record with its time as `at`, in Unix seconds; None for what is none of ER's."""
    try:
        record: dict[str, Any] = orjson.loads(line)
        record["at"] = int(record["__REALTIME_TIMESTAMP"]) / 1e6
    except (orjson.JSONDecodeError, KeyError, ValueError):
        return None
    return record if "ACTION" in record or "REQUEST_ID" in record else None


def _show(line: bytes, as_json: bool) -> int:
    """Print one record; 0 for what is none of ER's."""
    record = _record(line)
    if record is None:
        return 0
    moment = datetime.fromtimestamp(record["at"], UTC)
    if as_json:
        names = [n for n in f"{CHANGES} {FIELDS} {TIMES} {TRACE}".split() if n in record]
        print(orjson.dumps({"time": moment.isoformat(), **{n: record[n] for n in names}}).decode())
    else:
        print(f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03}Z  {_line(record)}")
    sys.stdout.flush()
    return 1


def _line(record: dict[str, Any]) -> str:
    """A record as one readable line."""

    def field(name: str) -> str:
        return clean(record.get(name) or "")

    if "ACTION" in record:
        return f"{field('ACTION')} {field('TARGET')} by uid {field('UID') or 'unknown'}"
    parts = [
        field("STATUS"),
        field("CODE"),
        field("METHOD"),
        field("PATH"),
        f"key={field('KEY_ID')}" if field("KEY_ID") else "",
        field("CLIENT"),
        field("MODEL"),
    ]
    if field("ITEMS") not in ("", "0"):
        parts.append(f"texts={field('ITEMS')} tokens={field('TOKENS')}")
    if field("REPLICA"):
        parts.append(f"on {field('REPLICA')}")
    parts.append(f"{field('TOTAL_MS')} ms")
    if field("ENGINE_MS") not in ("", "0", "0.0"):
        parts.append(f"(queue {field('QUEUE_MS')}, engine {field('ENGINE_MS')})")
    parts.append(f"id={field('REQUEST_ID')}")
    parts.append(f"trace={field(TRACE)}" if field(TRACE) else "")
    return " ".join(part for part in parts if part)
