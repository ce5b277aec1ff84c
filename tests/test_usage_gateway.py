"""`er usage` to the request: a known mix through a real gateway, whose processes are killed."""

from __future__ import annotations

import contextlib
import csv
import http.client
import io
import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from er import keys, usage
from er.cli.__main__ import main
from er.usage import HOUR_S
from er.usage.scribe import Scribe
from launched import until
from running import Gateway, gateway

QUIET_S = 1.2  # two flushes of a busy worker


class Said(NamedTuple):
    """What a command said."""

    returncode: int
    stdout: str
    stderr: str


def er_usage(running: Gateway, *words: str) -> Said:
    """`er usage` as an operator calls it, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, running.environment()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = main(["usage", *words])
    return Said(code, out.getvalue(), err.getvalue())


def table(running: Gateway, *words: str) -> dict[tuple[str, ...], tuple[int, ...]]:
    """By what --by says: requests, refused, texts, tokens."""
    done = er_usage(running, "--json", *words)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return {
        tuple(row[name] for name in found["by"]): tuple(
            row[name] for name in ("requests", "refused", "texts", "tokens")
        )
        for row in found["rows"]
    }


class Sent:
    """Who sends, and what should be counted of it."""

    def __init__(self, running: Gateway) -> None:
        self._running = running
        self.counts: Counter[tuple[str, str, int]] = Counter()
        self.ids: dict[str, str] = {}
        self._secrets: dict[str, str] = {}

    def key(self, name: str) -> str:
        """A new key; its id."""
        path = self._running.state / "er_api_keys.json"
        now = datetime.now(UTC)
        made = keys.create(path, name=name, now=now, team=f"team {name}")
        self.ids[name], self._secrets[name] = made.record.id, made.shown()["secret"]
        return made.record.id

    def teams(self) -> dict[str, str]:
        """Each key's team."""
        return {key: f"team {name}" for name, key in self.ids.items()}

    def send(self, name: str, rounds: int) -> None:
        """So many rounds of good and bad requests of a key."""
        for _ in range(rounds):
            self._one(name, "/v1/embeddings", {"model": "embed", "input": "short"}, "embed", 1)
            many = {"model": "embed", "input": ["a", "bb", "ccc"]}
            self._one(name, "/v1/embeddings", many, "embed", 3)
            ranked = {"model": "bi", "query": "q", "documents": ["one", "two"]}
            self._one(name, "/v1/rerank", ranked, "bi", 2)
            self._one(name, "/v1/embeddings", {"model": "embed", "input": "x" * 2000}, "embed", 0)
            self._one(name, "/v1/embeddings", {"model": "none", "input": "x"}, "-", 0)
            self._one(name, "/v1/embeddings", b"{", "-", 0)

    def _one(self, name: str, path: str, body: Any, model: str, texts: int) -> None:
        reply = self._running.ask("POST", path, body, key=self._secrets[name])
        assert (reply.status == 200) == (texts > 0), reply
        key = self.ids[name]
        self.counts[key, model, 0 if texts else 1] += 1
        if texts:
            usage_ = reply.json.get("usage") or reply.json.get("meta", {}).get("tokens", {})
            self.counts[key, model, 2] += texts
            tokens = usage_.get("total_tokens", usage_.get("input_tokens"))
            self.counts[key, model, 3] += tokens

    def table(self) -> dict[tuple[str, ...], tuple[int, ...]]:
        """As `table` has it by key and model."""
        pairs = {(key, model) for key, model, _ in self.counts}
        return {p: tuple(self.counts[(*p, figure)] for figure in range(4)) for p in pairs}


def kill_one(running: Gateway, kind: str) -> None:
    """kill -9 one of the parent's children, and wait for its successor."""
    before = running.children(kind)
    os.kill(before[0], signal.SIGKILL)
    until(lambda: len(set(running.children(kind)) - {before[0]}) == len(before))


def test_exact_after_kills_of_everything(tmp_path: Path) -> None:
    """A worker, the admin process, the parent with all its children: what was answered before is
    counted, once; also when hours go into the book meanwhile; all of it read with the gateway down.
    """
    with gateway(tmp_path, workers=3) as running:
        sent = Sent(running)
        scribe = Scribe(usage.folder(running.state), sent.teams)
        for name in ("web", "batch"):
            sent.key(name)
        for kind in ("er.worker", "er.admin", "er."):
            senders = [
                threading.Thread(target=sent.send, args=(name, 2)) for name in ("web", "batch")
            ]
            for sender in senders:
                sender.start()
            scribe.settle(time.time() + 2 * HOUR_S)
            for sender in senders:
                sender.join()
            time.sleep(QUIET_S)
            assert table(running, "--by", "key,model") == sent.table()
            if kind == "er.":
                running.kill()
                continue
            kill_one(running, kind)
            scribe.settle(time.time() + 2 * HOUR_S)
        assert table(running, "--by", "key,model") == sent.table()
        running.start()
        sent.send("web", 1)
        time.sleep(QUIET_S)
        assert running.stop() == 0
        assert table(running, "--by", "key,model") == sent.table()
        _every_form(running, sent)
        _wrong_words(running)


def of_key(sent: Sent, key: str) -> tuple[int, ...]:
    """All that a key was counted for."""
    own = [sums for (one, _), sums in sent.table().items() if one == key]
    return tuple(map(sum, zip(*own, strict=True)))


def _every_form(running: Gateway, sent: Sent) -> None:
    """The same sums by team, month and day, as CSV and for people; of one key, by name; none."""
    web = sent.ids["web"]
    mine = {model: sums for (key, model), sums in sent.table().items() if key == web}
    assert table(running, "--key", "web", "--by", "model") == {(m,): s for m, s in mine.items()}
    whole = tuple(map(sum, zip(*sent.table().values(), strict=True)))
    month = datetime.now(UTC).strftime("%Y-%m")
    by_team = {(f"team {name}", month): of_key(sent, key) for name, key in sent.ids.items()}
    assert table(running, "--by", "team,month") == by_team
    # Another team from now on: hours that are written down stay with the old one.
    Scribe(usage.folder(running.state), sent.teams).settle(time.time() + 2 * HOUR_S)
    path = running.state / "er_api_keys.json"
    keys.change(path, web, now=datetime.now(UTC), team="another")
    assert table(running, "--by", "team,month") == by_team
    assert table(running, "--model", "embed", "--key", web) == {(web,): mine["embed"]}
    assert table(running, "--key", "kaaaaaaaa") == {}
    assert table(running, "--until", "2h", "--since", "3h") == {}
    text = er_usage(running, "--csv", "--by", "day,key").stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert sum(int(row["tokens"]) for row in rows) == whole[3]
    assert {row["name"] for row in rows} == {"web", "batch"}
    shown = er_usage(running).stdout.splitlines()
    assert shown[2].split() == ["KEY", "NAME", "REQUESTS", "REFUSED", "TEXTS", "TOKENS"]
    assert shown[-1].split() == ["TOTAL", *(f"{figure:,}" for figure in whole)]


def _wrong_words(running: Gateway) -> None:
    """Each says what to write; a damaged file is said, and what else there is is shown."""
    for words, told in (
        (("--by", "week"), "hour, day, month"),
        (("--since", "soon"), '"7d"'),
        (("--since", "1h", "--until", "2h"), "is not before"),
    ):
        done = er_usage(running, *words)
        assert done.returncode == 64 and told in done.stderr, done
    month = next(usage.folder(running.state).glob("*.jsonl"))
    before = er_usage(running).stdout
    month.write_bytes(month.read_bytes() + b"nonsense")
    done = er_usage(running)
    assert done.returncode == 1 and f"{month}: 1" in done.stderr
    assert done.stdout.splitlines()[1:] == before.splitlines()[1:]


def test_the_admin_api_and_lines_of_batches(tmp_path: Path) -> None:
    """GET /usage says what `er usage --json` says; an answered line of a batch is a request."""
    with gateway(tmp_path, workers=1) as running:
        lines = [
            {
                "custom_id": f"{n}",
                "method": "POST",
                "url": "/v1/embeddings",
                "body": {"model": "embed", "input": ["one", "two"]},
            }
            for n in range(3)
        ]
        body = (
            b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x\r\n'
            b'Content-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
            + "\n".join(map(json.dumps, lines)).encode()
            + b"\r\n--x--\r\n"
        )
        headers = {"content-type": "multipart/form-data; boundary=x"}
        file = running.ask("POST", "/v1/files", body, headers=headers)
        wish = {
            "input_file_id": file.json["id"],
            "endpoint": "/v1/embeddings",
            "completion_window": "24h",
        }
        batch = running.ask("POST", "/v1/batches", wish).json["id"]
        place = f"/v1/batches/{batch}"
        until(lambda: running.ask("GET", place).json["status"] == "completed", 30.0)
        time.sleep(QUIET_S)
        key = running.key.split("-")[2]
        assert table(running, "--by", "key,model")[key, "embed"] == (3, 0, 6, 3 * 2 * 4)
        link = AdminLink(running.runtime / "admin.sock")
        link.request("GET", "/usage?by=key,model&since=1h")
        found = json.loads(link.getresponse().read())
        told = json.loads(er_usage(running, "--json", "--by", "key,model", "--since", "1h").stdout)
        assert found == told
        link.request("GET", "/usage?by=week")
        answer = link.getresponse()
        assert answer.status == 400 and b"hour, day, month" in answer.read()


class AdminLink(http.client.HTTPConnection):
    """HTTP to the admin socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("er")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))
