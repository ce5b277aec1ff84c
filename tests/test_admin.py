"""The admin process as its parent starts it: API on the unix socket, reload, metrics, its end."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from fastapi.testclient import TestClient

from er.admin import api, callers
from er.child import ADMIN, Given
from er.config import parse
from er.history.keeper import Keeper
from er.ledger import Ledger
from fakes import EngineProcess, free_port

TOML = """
[gateway]
listen = ["127.0.0.1:{http}"]
metrics = "127.0.0.1:{metrics}"
rate_limit = "100/minute"
[[model]]
name = "m"
task = "embed"
path = "{model}"
aliases = ["a"]
[[replica]]
name = "one"
model = "m"
url = "http://127.0.0.1:{port}"
"""


class Api:
    """HTTP on the admin socket."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("er", timeout=20)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(20)
        connection.sock.connect(str(self.path))
        data = (
            body
            if isinstance(body, bytes)
            else json.dumps(body).encode()
            if body is not None
            else None
        )
        connection.request(method, path, data, {"content-type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        kind = answer.headers.get("content-type", "")
        return answer.status, json.loads(text) if "json" in kind else text.decode()


class Parent:
    """Plays the gateway's parent: hands over the socket and answers SIGHUP with a generation."""

    def __init__(self, folder: Path, engine_port: int, model: Path) -> None:
        self.folder, self.metrics = folder, free_port()
        self.dirs = {
            f"{kind.upper()}_DIRECTORY": str(folder / kind)
            for kind in ("configuration", "state", "runtime", "cache")
        }
        for path in self.dirs.values():
            Path(path).mkdir()
        self.text = TOML.format(
            http=free_port(), metrics=self.metrics, port=engine_port, model=model
        )
        self.edited = folder / "configuration/er.toml"
        self.applied = folder / "state/applied.toml"
        self.edited.write_text(self.text)
        self.applied.write_text(self.text)
        self.answer: dict[str, Any] = {"generation": 2, "state": "ready", "error": None}
        self.socket = folder / "runtime/admin.sock"
        self.log = folder / "log"
        self.api = Api(self.socket)

    def start(self) -> None:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(self.socket))
        listening.listen()
        self.line, theirs = socket.socketpair()
        text = os.memfd_create("config")
        os.write(text, self.text.encode())
        sockets = {"admin": [listening.fileno()]}
        given = Given(ADMIN, 1, str(self.applied), text, theirs.fileno(), sockets)
        metrics = self.folder / "runtime/metrics"
        metrics.mkdir()
        more = {**self.dirs, "PROMETHEUS_MULTIPROC_DIR": str(metrics), "ER_PROCESS": "admin"}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "er.admin"],
                env=given.environment(os.environ, more),
                pass_fds=given.descriptors(),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        theirs.close()
        os.close(text)
        self.line.settimeout(20)
        assert b"R" in self.line.recv(100) + self.line.recv(100), self.log.read_text()
        listening.close()

    def on_hup(self, *_: object) -> None:
        (self.folder / "runtime/generation.json").write_text(json.dumps(self.answer))

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(15)
        self.line.close()


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineProcess]:
    with EngineProcess(dim=64) as running:
        yield running


@contextlib.contextmanager
def running(folder: Path, engine: EngineProcess) -> Iterator[Parent]:
    parent = Parent(folder, engine.port, folder / "no-model")
    before = signal.signal(signal.SIGHUP, parent.on_hup)
    parent.start()
    try:
        yield parent
    finally:
        parent.stop()
        signal.signal(signal.SIGHUP, before)


@pytest.fixture
def parent(tmp_path: Path, engine: EngineProcess) -> Iterator[Parent]:
    with running(tmp_path, engine) as parent:
        yield parent


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory, engine: EngineProcess) -> Iterator[Parent]:
    """One for all tests that change nothing."""
    with running(tmp_path_factory.mktemp("unchanged"), engine) as parent:
        yield parent


def until(condition: Callable[[], Any], seconds: float = 15.0) -> Any:
    """The first true value of `condition`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("it never came true")


def audit(parent: Parent) -> list[dict[str, Any]]:
    found = [json.loads(x) for x in parent.log.read_text().splitlines() if x.startswith("{")]
    return [r for r in found if "ACTION" in r]


def test_status_has_the_contracts_shape_and_the_prober_its_say(unchanged: Parent) -> None:
    """The verdict says why: this model's folder is missing."""

    def settled() -> Any:
        code, answer = unchanged.api("GET", "/status")
        assert code == 200
        row = answer["models"][0]["replicas"][0]
        return answer if row["state"] == "down" and answer["machine"] else None

    answer = until(settled)
    assert set(answer) >= {"version", "status", "reason", "gateway", "models", "gpus", "traffic"}
    assert "no such folder" in answer["models"][0]["replicas"][0]["reason"]
    assert answer["gateway"]["config_differs"] is False
    assert answer["gateway"]["pid"] == os.getpid()


def test_keys_from_birth_to_end_and_the_audit_of_it(parent: Parent) -> None:
    """Create, list, rotate, change, revoke; each with the caller's uid in the audit."""
    code, made = parent.api("POST", "/keys", {"name": "web", "expires": "30d"})
    assert code == 201 and made["secret"].startswith(f"sk-er-{made['id']}-") and made["expires"]
    code, listed = parent.api("GET", "/keys")
    assert [k["name"] for k in listed["keys"]] == ["web"] and made["secret"] not in str(listed)
    none: dict[str, int | None] = {"requests_last_minute": 0, "limited_last_minute": 0}
    none |= {"running": None, "tokens": None, "quota": None}
    assert listed["keys"][0]["use"] == {"limit": "100/minute", "used": 0, **none}
    assert parent.api("POST", "/keys", {"name": "web"})[0] == 409
    code, turned = parent.api("POST", f"/keys/{made['id']}/rotate", {"grace": "10m"})
    assert code == 200 and turned["id"] == made["id"] and turned["secret"] != made["secret"]
    assert turned["previous_valid_until"] > made["created"]
    assert parent.api("POST", "/keys/web/rotate")[0] == 200
    code, changed = parent.api("PATCH", "/keys/web", {"rate_limit": "5/minute", "models": ["m"]})
    assert (changed["rate_limit"], changed["models"]) == ("5/minute", ["m"]) and changed["expires"]
    assert parent.api("GET", "/keys")[1]["keys"][0]["use"]["limit"] == "5/minute"
    assert parent.api("PATCH", "/keys/web", {"rate_limit": "off"})[0] == 200
    use = parent.api("GET", "/keys")[1]["keys"][0]["use"]
    assert (use["limit"], use["used"]) == ("off", None)
    assert parent.api("PATCH", "/keys/web", {"expires": None})[1]["expires"] is None
    assert parent.api("DELETE", f"/keys/{made['id']}")[1]["revoked"]
    file = json.loads((parent.folder / "state/er_api_keys.json").read_text())
    assert file["version"] == 1 and made["secret"] not in json.dumps(file)
    records = until(lambda: len(audit(parent)) >= 7 and audit(parent))
    assert [r["ACTION"] for r in records] == [
        *("keys.create", "keys.rotate", "keys.rotate"),
        *("keys.set", "keys.set", "keys.set", "keys.revoke"),
    ]
    assert {str(r["UID"]) for r in records} == {str(os.getuid())}
    assert {r["TARGET"] for r in records} == {made["id"]}


def test_what_bounds_a_key_is_set_and_lifted(parent: Parent) -> None:
    """By POST and PATCH; the list says what of it is used."""
    bounds = {
        "scopes": ["admin-read"],
        "team": "search",
        "concurrency": 3,
        "token_limit": "1000/minute",
        "quota": "5k requests/month",
        "networks": ["fd00::/8"],
        "weight": 3,
    }
    code, made = parent.api("POST", "/keys", {"name": "web", **bounds})
    assert code == 201 and {field: made[field] for field in bounds} == bounds
    row = parent.api("GET", "/keys")[1]["keys"][0]
    assert {field: row[field] for field in bounds} == bounds and row["imported"] is False
    assert {row["use"][field] for field in ("running", "tokens", "quota")} == {0}
    code, changed = parent.api("PATCH", "/keys/web", {"concurrency": 5})
    assert (changed["concurrency"], changed["quota"]) == (5, "5k requests/month")
    code, changed = parent.api("PATCH", "/keys/web", dict.fromkeys(bounds))
    assert changed["scopes"] == ["inference", "metrics"]
    assert {changed[field] for field in bounds if field != "scopes"} == {None}


def test_a_refused_change_names_the_field(parent: Parent) -> None:
    """So that a form can say it beside the field; nothing is changed."""
    for name in ("web", "other"):
        assert parent.api("POST", "/keys", {"name": name})[0] == 201
    before = (parent.folder / "state/er_api_keys.json").read_text()
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"name": None}, "name"),
        ({"name": "k2222abcd"}, "name"),
        ({"name": "other"}, "name"),
        ({"name": ["web"]}, "name"),
        ({"rate_limit": "5/fortnight"}, "rate_limit"),
        ({"expires": "soon"}, "expires"),
        ({"expires": "2001-01-01"}, "expires"),
        ({"models": []}, "models"),
        ({"colour": "red"}, "colour"),
        ({"scopes": ["everything"]}, "scopes"),
        ({"scopes": []}, "scopes"),
        ({"team": "a\nb"}, "team"),
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": "many"}, "concurrency"),
        ({"token_limit": "fast"}, "token_limit"),
        ({"quota": "50M tokens/day"}, "quota"),
        ({"networks": ["10.0.0.1/8"]}, "networks"),
        ({"networks": []}, "networks"),
        ({"weight": 101}, "weight"),
    ]
    for fields, field in wrong:
        code, answer = parent.api("PATCH", "/keys/web", fields)
        assert code in (400, 409) and answer["error"]["field"] == field, answer
    assert (parent.folder / "state/er_api_keys.json").read_text() == before


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "words"),
    [
        ("POST", "/keys", {}, 400, "name"),
        ("POST", "/keys", {"name": "x", "rate_limit": "fast"}, 400, "rate"),
        ("POST", "/keys", {"name": "x", "expires": "yesterday"}, 400, "expires"),
        ("POST", "/keys", {"name": "x", "expires": "2001-01-01"}, 400, "over"),
        ("POST", "/keys", {"name": "x", "color": "red"}, 400, "color"),
        ("POST", "/keys", {"name": 5}, 400, "name"),
        ("POST", "/keys", b"{", 400, "JSON"),
        ("POST", "/keys/knobody22/rotate", None, 404, "knobody22"),
        ("POST", "/keys/knobody22/rotate", {"grace": "soon"}, 400, "grace"),
        ("PATCH", "/keys/nobody", {"name": "y"}, 404, "nobody"),
        ("DELETE", "/keys/nobody", None, 404, "nobody"),
        ("POST", "/replicas/two/drain", None, 404, "there are: one"),
        ("POST", "/replicas/one/drain?by=me", None, 400, "by"),
        ("GET", "/history?seconds=60", None, 400, "300, 3600, 86400"),
        ("GET", "/history?seconds=hour", None, 400, "seconds"),
        ("GET", "/traffic?seconds=3600", None, 400, "60, 300"),
        ("GET", "/traffic?seconds=minute", None, 400, "seconds"),
        ("GET", "/nothing", None, 404, "/docs"),
        ("GET", "/reload", None, 405, "/docs"),
    ],
)
def test_bad_requests_say_what_is_wrong(
    unchanged: Parent, method: str, path: str, body: Any, code: int, words: str
) -> None:
    """One shape, the field's name in it, nothing changed."""
    got, answer = unchanged.api(method, path, body)
    assert got == code and words in answer["error"]["message"], answer
    assert not (unchanged.folder / "state/er_api_keys.json").exists()


def test_drain_and_resume_reach_the_ledger(parent: Parent) -> None:
    """The operator's drain stands in the ledger and in the status at once."""
    code, answer = parent.api("POST", "/replicas/one/drain")
    assert (code, answer["state"], answer["drained_by"]) == (200, "drained", "operator")
    row = parent.api("GET", "/status")[1]["models"][0]["replicas"][0]
    assert row["state"] == "drained" and "er resume one" in row["reason"]
    ledger = Ledger.open(parent.folder / "runtime/ledger", ["one"])
    assert ledger.verdict("one").drained_by == ("operator",)
    ledger.close()
    assert parent.api("POST", "/replicas/one/resume")[1]["drained_by"] is None
    actions = until(lambda: len(audit(parent)) == 2 and [r["ACTION"] for r in audit(parent)])
    assert actions == ["replicas.drain", "replicas.resume"]


def test_reload_takes_what_needs_no_restart(parent: Parent) -> None:
    """A new rate and alias are stored as applied; an address waits, and both are said."""
    text = parent.text.replace('"100/minute"', '"5/minute"').replace('["a"]', '["a", "b"]')
    parent.edited.write_text("# mine\n" + text)
    code, answer = parent.api("POST", "/reload")
    assert (code, answer["generation"], answer["held"]) == (200, 2, [])
    assert any("5/minute" in line for line in answer["taken"])
    assert parent.applied.read_text() == "# mine\n" + text
    parent.answer = {"generation": 3, "state": "ready", "error": None}
    moved = text.replace('listen = ["127.0.0.1:', 'listen = ["127.0.0.2:')
    parent.edited.write_text(moved.replace('"5/minute"', '"7/minute"'))
    code, answer = parent.api("POST", "/reload")
    assert code == 200 and any("listen" in line for line in answer["held"])
    stored = parent.applied.read_text()
    assert '"7/minute"' in stored and "127.0.0.2" not in stored


def test_a_bad_file_is_refused_with_its_findings(parent: Parent) -> None:
    """Nothing is stored and no worker is replaced."""
    parent.edited.write_text(parent.text + "\ncolour = 3\n")
    code, answer = parent.api("POST", "/reload")
    assert code == 409 and "colour" in answer["error"]["findings"][0]
    assert parent.applied.read_text() == parent.text
    assert not (parent.folder / "runtime/generation.json").exists()
    assert parent.api("GET", "/status")[1]["gateway"]["config_differs"] is True


def test_a_full_disk_changes_nothing(parent: Parent) -> None:
    """507 for a key, 409 for a reload, each with the cure. The limit is on the size of one file."""
    _, hard = resource.prlimit(parent.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(parent.process.pid, resource.RLIMIT_FSIZE, (50_000, hard))
    code, answer = parent.api("POST", "/keys", {"name": "large", "models": ["m" * 1000] * 100})
    assert (code, answer["error"]["code"]) == (507, "disk")
    assert "no key changed; make room in" in answer["error"]["message"]
    parent.edited.write_text(parent.text.replace("100/minute", "5/minute") + "#" * 100_000)
    code, answer = parent.api("POST", "/reload")
    assert (code, answer["error"]["code"]) == (409, "not_reloaded")
    assert "nothing was changed" in answer["error"]["message"]
    assert "make room there" in answer["error"]["message"]
    assert parent.applied.read_text() == parent.text
    assert not (parent.folder / "runtime/generation.json").exists()


def test_a_failed_generation_is_taken_back(parent: Parent) -> None:
    """New workers that do not come up leave the old configuration applied."""
    parent.answer = {"generation": 2, "state": "failed", "error": "worker 0 ended with 1"}
    parent.edited.write_text(parent.text.replace('"100/minute"', '"5/minute"'))
    code, answer = parent.api("POST", "/reload")
    assert code == 409 and "worker 0 ended with 1" in answer["error"]["message"]
    assert parent.applied.read_text() == parent.text
    # Its number stays behind; the next reload must not take it for its own.
    parent.answer = {"generation": 3, "state": "ready", "error": None}
    assert parent.api("POST", "/reload")[1]["generation"] == 3
    # Somebody else's reload has begun by the time this one is looked for.
    parent.answer = {"generation": 5, "state": "starting", "error": None, "served": 4}
    assert parent.api("POST", "/reload")[1]["generation"] == 4


def test_damaged_files_of_its_own_do_not_break_a_reload(parent: Parent) -> None:
    """generation.json and applied.toml: the first counts as missing, the second is replaced."""
    parent.edited.write_text(parent.text.replace('"100/minute"', '"5/minute"'))
    path = parent.folder / "runtime/generation.json"
    path.write_text('{"generation": "x", "state": 7}')
    parent.applied.write_bytes(b"\xff\xfe")
    parent.answer = {"generation": 2, "state": "failed", "error": "worker 0 ended with 1"}
    code, answer = parent.api("POST", "/reload")
    assert code == 409 and "worker 0 ended with 1" in answer["error"]["message"]
    back = parent.applied.read_text()
    assert '"5/minute"' not in back and parse(back, parent.applied).models
    parent.answer = {"generation": 3, "state": "ready", "error": None}
    assert parent.api("POST", "/reload")[0] == 200
    assert '"5/minute"' in parent.applied.read_text()


def test_metrics_on_their_port_and_on_the_socket(unchanged: Parent) -> None:
    """Prometheus' text; anything else there is refused."""

    def get(path: str, method: str = "GET") -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", unchanged.metrics, timeout=10)
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def filled() -> Any:
        code, text = get("/metrics")
        assert code == 200
        return text if "er_machine_memory_total_bytes" in text else None

    text = until(filled)
    assert 'er_replica_up{model="m",replica="one"} 0.0' in text and "er_build_info" in text
    assert get("/")[0] == 200 and get("/other")[0] == 404 and get("/metrics", "POST")[0] == 405
    assert "er_machine_load1" in unchanged.api("GET", "/metrics")[1]
    with socket.create_connection(("127.0.0.1", unchanged.metrics)) as rude:
        rude.sendall(b"x" * 20000)
    assert get("/metrics")[0] == 200


@pytest.mark.parametrize(("seconds", "points"), [(300, 150), (3600, 240), (86400, 720)])
def test_history_has_a_figure_for_each_step(unchanged: Parent, seconds: int, points: int) -> None:
    """Arrays of one length; what was before its time is null, what it saw is not."""

    def seen() -> Any:
        code, answer = unchanged.api("GET", f"/history?seconds={seconds}")
        assert code == 200
        return answer if 0.0 in answer["requests_per_s"] else None

    got = until(seen)
    assert len(got["requests_per_s"]) == len(got["p95_ms"]) == points == seconds / got["step_s"]
    assert got["requests_per_s"][0] is None and got["p95_ms"][-1] is None
    assert 0.0 in got["replicas"]["one"]["up"]  # its model's files are not there
    assert abs(got["from"] + seconds - time.time()) < 2 * got["step_s"] + 5


def test_history_is_kept_over_an_end(parent: Parent) -> None:
    """What the process knew when it was told to end is in the file that the next one reads."""
    until(lambda: 0.0 in parent.api("GET", "/history")[1]["requests_per_s"])
    parent.stop()
    kept = Keeper(parent.folder / "state/history").answer(300)
    assert 0.0 in kept["requests_per_s"] and 0.0 in kept["replicas"]["one"]["up"]
    assert "begins anew" not in parent.log.read_text()


def test_docs_need_no_other_host(unchanged: Parent) -> None:
    """The page is whole in itself and lists every endpoint."""
    code, page = unchanged.api("GET", "/docs")
    assert code == 200 and "https://" not in page and "//cdn" not in page
    for path in (
        "/status",
        "/keys/{ref}/rotate",
        "/replicas/{name}/drain",
        "/reload",
        "/history",
        "/traffic",
    ):
        assert path in page
    assert unchanged.api("GET", "/openapi.json")[1]["paths"]


def test_it_ends_with_its_parent(parent: Parent) -> None:
    """A line that breaks is a parent that died."""
    parent.line.close()
    assert parent.process.wait(10) == 0
    assert "parent process is gone" in parent.log.read_text()


def test_a_taken_metrics_port_is_a_warning(tmp_path: Path, engine: EngineProcess) -> None:
    """The API serves all the same, and the line names the holder and the setting."""
    parent = Parent(tmp_path, engine.port, tmp_path)
    with socket.create_server(("127.0.0.1", parent.metrics)):
        parent.start()
        try:
            assert parent.api("GET", "/status")[0] == 200
            said = parent.log.read_text()
        finally:
            parent.stop()
    assert "WARNING" in said and str(os.getpid()) in said and "[gateway] metrics" in said


def test_user_er_itself_changes_nothing_under_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replicas run as user er: whoever breaks into a vLLM reaches the socket, and may only read."""
    unit = {"INVOCATION_ID": "f00"}
    monkeypatch.setattr(os, "geteuid", lambda: 998)
    monkeypatch.setattr(callers, "_name", lambda uid: "er" if uid == 998 else "op")
    assert "only reads here" in callers.why_not("POST", "/keys", "uid:998", unit)
    assert callers.why_not("DELETE", "/keys/k", "uid:998", unit)
    assert callers.why_not("POST", "/tls", "uid:998", unit)
    for method, path, host, environment in (
        ("GET", "/status", "uid:998", unit),
        ("POST", "/reload", "uid:998", unit),
        ("POST", "/keys", "uid:0", unit),
        ("POST", "/keys", "uid:1000", unit),
        ("POST", "/keys", "uid:998", {}),
    ):
        assert callers.why_not(method, path, host, environment) == ""


def test_who_may_not_change_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each changing address asks who it is."""
    app = api.build(Mock())
    monkeypatch.setattr(callers, "why_not", lambda *_: "no")
    with TestClient(app) as client:
        for method, path in (("POST", "/keys"), ("DELETE", "/keys/k"), ("POST", "/tls")):
            answer = client.request(method, path, json={"name": "x"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_allowed")
