"""Being told: what is due and when, in what words and shapes, and that no webhook is ever shown."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import re
import ssl
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

import certificates
from er import config, journal, keys
from er.admin import running_out
from er.admin.alerting import Alerting
from er.alert import Ending, Facts, Message, due, memory, send, shapes, words
from er.alert.send import SendError
from er.cli import check_alert, manual
from er.cli.__main__ import main
from er.config import Alert, Config, ConfigError
from er.config.render import render
from er.units import takeup
from er_console.erfile import Seen, shown
from er_console.language import heard, speak
from er_console.looks import Looks
from er_console.screens.planned import diff_lines, file_lines

TOKEN = "tok-5f1d0c7e9a"  # stands in every address of these tests, and nowhere in what is said
MODEL = '[[model]]\nname = "m"\ntask = "embed"\npath = "/m"\n'
DAY_S = 86400.0


def an_alert(**more: Any) -> Alert:
    return Alert(**{"name": "one", "kind": "json", "webhook": "http://127.0.0.1:9/x", **more})


def parsed(text: str) -> Config:
    return config.parse(MODEL + text, Path("er.toml"))


# -- what is due ---------------------------------------------------------------------------------


class Life:
    """One alert over time: `go` looks every 5 s as the admin process does, and all is delivered."""

    def __init__(self, **settings: Any) -> None:
        self.alert, self.memory = an_alert(**settings), due.Memory()
        self.now = 1_800_000_000.0
        self.delivers = True

    def go(self, status: str, seconds: float, endings: Any = None) -> list[Message]:
        """The messages of that time."""
        found: list[Message] = []
        until = self.now + seconds
        while self.now < until:
            facts = Facts(status=status, reason=f"why {status}", endings=endings)
            for message in due.look(self.memory, self.alert, facts, self.now):
                found.append(message)
                if self.delivers:
                    due.sent(self.memory, message, self.now)
            self.now += 5.0
        return found

    def events(self, status: str, seconds: float) -> list[str]:
        return [m.event for m in self.go(status, seconds)]


def test_what_lasts_is_told_once_then_again_then_that_it_is_over() -> None:
    life = Life()
    assert life.events("ok", 600) == []
    assert life.events("down", 55) == []
    began = life.now - 55
    (first,) = life.go("down", 600)
    assert (first.event, first.status, first.reason) == ("down", "down", "why down")
    assert first.since == began and not first.repeated
    again = life.go("down", 9 * 3600)
    assert [m.event for m in again] == ["down", "down"] and all(m.repeated for m in again)
    assert life.events("ok", 55) == []
    (over,) = life.go("ok", 600)
    assert (over.event, over.before, over.since) == ("recovered", "down", began)
    assert life.events("ok", 9 * 3600) == []
    assert life.memory.since is None


def test_a_blip_is_not_told_and_what_is_not_known_counts_as_nothing() -> None:
    life = Life()
    assert life.events("down", 30) == life.events("ok", 120) == []
    assert life.events("down", 50) == life.events("ok", 120) == []
    assert life.events("unknown", 3600) == []
    assert life.events("down", 120) == ["down"]
    assert life.events("unknown", 3600) == [], "not known is not well"
    assert life.events("ok", 120) == ["recovered"]


def test_worse_and_better_are_told() -> None:
    life = Life()
    assert life.events("degraded", 120) == ["degraded"]
    assert life.events("down", 120) == ["down"]
    (better,) = life.go("degraded", 600)
    assert (better.event, better.before, better.repeated) == ("degraded", "down", False)
    assert life.events("ok", 600) == ["recovered"]


def test_who_asks_for_down_alone_hears_when_that_is_over() -> None:
    life = Life(on=("down", "recovered"))
    assert life.events("degraded", 3600) == []
    assert life.events("down", 120) == ["down"]
    (over,) = life.go("degraded", 600)
    assert (over.event, over.status) == ("recovered", "degraded")


def test_who_does_not_ask_for_recovered_is_told_of_the_next_trouble_all_the_same() -> None:
    life = Life(on=("down",))
    for _ in range(3):
        assert life.events("down", 120) == ["down"]
        assert life.events("ok", 4000) == []


@pytest.mark.parametrize(("bad_s", "good_s"), [(5, 25), (40, 40), (120, 90), (120, 600)])
def test_a_flapping_state_is_told_but_does_not_flood(bad_s: float, good_s: float) -> None:
    """A day of it: some messages, not hundreds; and it is over when it is."""
    life, told = Life(), []
    while life.now < 1_800_000_000.0 + DAY_S:
        told += life.events("down", bad_s) + life.events("ok", good_s)
    assert "down" in told and len(told) <= 60, len(told)
    if life.memory.told:
        assert life.events("ok", 2 * 3600) == ["recovered"]


def test_what_reached_nobody_stays_due() -> None:
    life = Life()
    life.delivers = False
    assert len(life.go("down", 120)) > 5
    life.delivers = True
    assert life.events("down", 120) == ["down"]


def test_a_clock_that_is_set_back_or_a_long_sleep_makes_no_flood() -> None:
    life = Life()
    assert life.events("down", 120) == ["down"]
    life.now -= 30 * DAY_S
    assert life.events("down", 3600) == ["down"]
    assert life.events("ok", 120) == ["recovered"]
    life.now += DAY_S  # asleep, then one bad look: nobody knows how it was meanwhile
    assert life.events("down", 15) == []


def test_certificate_and_keys_are_told_once_a_stage_and_disks_while_they_last() -> None:
    life = Life()

    def told(*endings: Ending, seconds: float = 600.0) -> list[Message]:
        return life.go("ok", seconds, endings)

    def cert(stage: int, mark: str = "certificate 1") -> Ending:
        return Ending(event="certificate", mark=mark, stage=stage, what="HTTPS", until=life.now)

    assert told(cert(0)) == []
    assert [m.event for m in told(cert(1), seconds=5 * DAY_S)] == ["certificate"]
    assert [m.event for m in told(cert(2))] == ["certificate"]
    assert told() == [] and told(cert(2)) == [], "not seen for a while is not forgotten"
    assert told(cert(0, "certificate 2")) == [], "renewed"
    assert [m.event for m in told(cert(1, "certificate 2"))] == ["certificate"]
    many = [Ending(event="key", mark=f"key {i}", stage=1, what=f"k{i}") for i in range(200)]
    (of_keys,) = told(*many)
    assert of_keys.event == "key" and len(of_keys.endings) == 200

    def disk(stage: int) -> Ending:
        return Ending(event="disk", mark="disk /d", stage=stage, what="/d", free=1, lasting=True)

    assert [m.event for m in told(disk(1), seconds=9 * 3600)] == ["disk", "disk", "disk"]
    assert told(disk(-1)) == [], "neither low nor well"
    (over,) = told(disk(0))
    assert over.event == "recovered" and over.endings[0].what == "/d"
    assert told(disk(0)) == []
    assert "certificate 1" in life.memory.endings
    life.now += 401 * DAY_S
    assert told(disk(0)) == [] and not life.memory.endings


# -- what is nearly out --------------------------------------------------------------------------


def test_what_is_nearly_out_is_found_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import UTC, datetime

    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path))
    now = time.time()
    for name, days in (("soon", 3.0), ("later", 30.0), ("never", None)):
        end = None if days is None else datetime.fromtimestamp(now + days * DAY_S, UTC)
        keys.create(keys.path(), name=name, expires=end, now=datetime.now(UTC))
    gone = keys.create(
        keys.path(),
        name="gone",
        expires=datetime.fromtimestamp(now + DAY_S, UTC),
        now=datetime.now(UTC),
    )
    keys.revoke(keys.path(), gone.record.id, now=datetime.now(UTC))
    found = running_out.look(now + 2 * DAY_S, now)
    assert found is not None
    assert [(e.event, e.stage) for e in found if e.event != "disk"] == [
        ("key", 1),
        ("certificate", 2),
    ]
    assert found[0].what.startswith("soon (k")
    disks = [e for e in found if e.event == "disk"]
    assert disks and disks[0].what == str(tmp_path) and disks[0].free
    assert [running_out.look(now + days * DAY_S, now)[1].stage for days in (20, 13, -1)] == [
        0,
        1,
        3,
    ]  # type: ignore[index]


@pytest.mark.parametrize(
    ("free", "size", "stage"),
    [
        (4 << 30, 100 << 30, 1),  # 4 %
        (6 << 30, 100 << 30, -1),
        (8 << 30, 100 << 30, 0),
        (900 << 20, 10 << 30, 1),  # 9 %, but under 1 GiB
        (2 << 30, 10 << 30, 0),
    ],
)
def test_how_little_room_is_too_little(free: int, size: int, stage: int) -> None:
    assert running_out.scarce(free, size) == stage


# -- words and shapes ----------------------------------------------------------------------------


def test_each_message_has_words_in_both_languages() -> None:
    now = 1_800_000_000.0
    one = Ending(event="disk", mark="d", stage=1, what="/d", free=3 << 20, until=now + 5 * DAY_S)
    messages = [
        Message(event="test"),
        Message(event="down", status="down", reason="no replica", since=now - 90, before="ok"),
        Message(event="degraded", status="degraded", before="down", since=now - 7200),
        Message(event="degraded", status="degraded", repeated=True, before="degraded"),
        Message(event="recovered", status="ok", before="down", since=now - 90),
        Message(event="recovered", status="degraded", before="down"),
        *(Message(event=e, endings=(one,) * 7) for e in ("key", "disk", "recovered")),
        Message(event="certificate", endings=(one,)),
        Message(event="certificate", endings=(msgspec.structs.replace(one, until=now - 5),)),
    ]
    for language in ("en", "zh"):
        said = [words.text(m, language, host="h1", name="n", now=now) for m in messages]
        assert all("h1" in text and "{" not in text for text in said)
        assert len(set(said)) == len(said)
    english = words.text(messages[1], "en", host="h1", name="n", now=now)
    assert english.startswith("ER on h1 is down\nsince ") and "1 minute\nno replica" in english
    assert set(words.WORDS["en"]) == set(words.WORDS["zh"])
    assert "2 more" in words.text(messages[6], "en", host="h1", name="n", now=now)


class Receiver(ThreadingHTTPServer):
    """Keeps what is posted, and answers what it is told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Post)
        self.got: list[tuple[str, dict[str, Any]]] = []
        self.answers: list[tuple[int, bytes]] = []  # the last one for ever
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook/{TOKEN}"

    def texts(self) -> list[dict[str, Any]]:
        return [body for _, body in self.got]


class _Post(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        assert self.headers["content-type"].startswith("application/json")
        self.server.got.append((self.path, json.loads(body)))
        many = self.server.answers
        status, answer = (many.pop(0) if len(many) > 1 else many[0]) if many else (200, b"{}")
        self.send_response(status)
        if status == 302:
            self.send_header("location", f"http://127.0.0.1:{self.server.server_address[1]}/else")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as found:
        yield found
        found.shutdown()


MESSAGE = {"event": "down", "text": "ER on h1 is down\nwhy: 磁盘", "host": "h1"}
TEXT = MESSAGE["text"]
TAKEN = {
    "feishu": b'{"code":0,"msg":"success","data":{}}',
    "dingtalk": b'{"errcode":0,"errmsg":"ok"}',
    "wecom": b'{"errcode":0,"errmsg":"ok"}',
    "slack": b"ok",
    "json": b"",
}
BODIES: dict[str, Any] = {
    "feishu": {"msg_type": "text", "content": {"text": TEXT}},
    "dingtalk": {"msgtype": "text", "text": {"content": TEXT}},
    "wecom": {"msgtype": "text", "text": {"content": TEXT}},
    "slack": {"text": TEXT},
    "json": MESSAGE,
}


@pytest.mark.parametrize("kind", list(BODIES))
def test_each_kind_gets_its_own_shape(kind: Any, receiver: Receiver) -> None:
    receiver.answers = [(200, TAKEN[kind])]
    said = send.once(an_alert(kind=kind, webhook=receiver.url), MESSAGE, time.time())
    assert said == "127.0.0.1 took it (HTTP 200)"
    assert receiver.got == [(f"/hook/{TOKEN}", BODIES[kind])]


def test_signatures_are_what_their_makers_ask_for(receiver: Receiver, tmp_path: Path) -> None:
    """DingTalk: in the address, milliseconds; Feishu: in the body, key and text swapped."""
    file = tmp_path / "secret"
    file.write_text("SECabc\n")
    now = 1_800_000_000.25
    receiver.answers = [(200, b'{"errcode":0}'), (200, b'{"StatusCode":0}')]
    ding = an_alert(kind="dingtalk", webhook=receiver.url + "?access_token=t", secret_file=file)
    send.once(ding, MESSAGE, now)
    query = parse_qs(urlsplit(receiver.got[0][0]).query)
    wanted = hmac.new(b"SECabc", b"1800000000250\nSECabc", hashlib.sha256).digest()
    assert query == {
        "access_token": ["t"],
        "timestamp": ["1800000000250"],
        "sign": [base64.b64encode(wanted).decode()],
    }
    send.once(an_alert(kind="feishu", webhook=receiver.url, secret_file=file), MESSAGE, now)
    body = receiver.got[1][1]
    wanted = hmac.new(b"1800000000\nSECabc", b"", hashlib.sha256).digest()
    assert body["timestamp"] == "1800000000" and body["sign"] == base64.b64encode(wanted).decode()
    assert body["content"] == {"text": TEXT}


@pytest.mark.parametrize(
    ("kind", "status", "answer", "part"),
    [
        ("dingtalk", 200, b'{"errcode":310000,"errmsg":"sign not match"}', "sign not match"),
        ("wecom", 200, b'{"errcode":93000,"errmsg":"invalid webhook url"}', "93000"),
        ("feishu", 200, b'{"code":19021,"msg":"sign match fail"}', "sign match fail"),
        ("feishu", 200, b'{"StatusCode":9499}', "9499"),
        ("feishu", 200, b"{}", "refused"),
        ("wecom", 200, b"<html>log in</html>", "log in"),
        ("slack", 404, b"no_service", "HTTP 404: no_service"),
        ("json", 500, b"", "HTTP 500"),
        ("json", 302, b"", "HTTP 302"),
        ("json", 200 + 300, TOKEN.encode(), "HTTP 500"),
    ],
)
def test_what_a_receiver_refuses_is_told_without_the_address(
    kind: Any, status: int, answer: bytes, part: str, receiver: Receiver
) -> None:
    receiver.answers = [(status, answer)]
    with pytest.raises(SendError) as caught:
        send.once(an_alert(kind=kind, webhook=receiver.url), MESSAGE, time.time())
    assert part in str(caught.value) and str(caught.value).startswith("127.0.0.1: ")
    assert TOKEN not in str(caught.value)
    assert [path for path, _ in receiver.got] == [f"/hook/{TOKEN}"], "nothing went elsewhere"


def test_two_more_tries_with_a_pause_and_none_where_it_is_of_no_use(
    receiver: Receiver, tmp_path: Path
) -> None:
    pauses: list[float] = []
    receiver.answers = [(503, b""), (503, b""), (200, b"")]
    send.send(an_alert(webhook=receiver.url), MESSAGE, pause=pauses.append)
    assert len(receiver.got) == 3 and pauses == list(send.PAUSES_S)
    missing = an_alert(webhook=None, webhook_file=tmp_path / "none")
    with pytest.raises(SendError, match="No such file"):
        send.send(missing, MESSAGE, pause=pauses.append)
    assert len(pauses) == 2


def test_nobody_listens_or_nobody_answers(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SendError, match=r"127\.0\.0\.1: Connection refused"):
        send.once(an_alert(webhook=f"http://127.0.0.1:1/{TOKEN}"), MESSAGE, 0.0)
    monkeypatch.setattr(send, "TIMEOUT_S", 0.2)
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/{TOKEN}"
        with pytest.raises(SendError, match=r"127\.0\.0\.1: no answer within"):
            send.once(an_alert(webhook=address), MESSAGE, 0.0)


def test_a_receiver_whose_certificate_nobody_vouches_for_gets_nothing(
    receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = certificates.Authority()
    certificates.put(tmp_path, authority.issue("localhost"), ca=authority.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    receiver.socket = context.wrap_socket(receiver.socket, server_side=True)
    receiver.handle_error = lambda *_: None  # type: ignore[method-assign]
    alert = an_alert(webhook=receiver.url.replace("http://127.0.0.1", "https://localhost"))
    with pytest.raises(SendError, match="localhost: its certificate is not trusted"):
        send.once(alert, MESSAGE, 0.0)
    assert receiver.got == []
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    assert send.once(alert, MESSAGE, 0.0) == "localhost took it (HTTP 200)"


def test_a_long_text_is_cut_for_who_takes_no_more() -> None:
    _, body = shapes.posted("wecom", "http://h/", None, {"text": "磁盘" * 2000}, 0.0)
    content = json.loads(body)["text"]["content"]
    assert len(content.encode()) <= 2000 and content[-2] in "磁盘" and content[-1] == "…"


# -- commands ------------------------------------------------------------------------------------


def script(path: Path, text: str) -> tuple[str, ...]:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return (str(path), "an argument")


def test_a_command_gets_the_message_and_its_failure_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/x")
    good = script(
        tmp_path / "good", f'cat >{tmp_path}/got; echo "$1 $NOTIFY_SOCKET" >>{tmp_path}/got'
    )
    command = Alert(name="page", command=good)
    assert send.once(command, MESSAGE, 0.0) == f"{good[0]} ended with 0"
    text = (tmp_path / "got").read_text()
    assert json.loads(text.removesuffix("an argument \n")) == MESSAGE
    bad = Alert(name="page", command=script(tmp_path / "bad", "echo no line >&2; exit 3"))
    with pytest.raises(SendError, match="bad ended with 3: no line"):
        send.once(bad, MESSAGE, 0.0)
    with pytest.raises(SendError, match="can't be run: No such file"):
        send.once(Alert(name="page", command=("/nowhere/x",)), MESSAGE, 0.0)
    monkeypatch.setattr(send, "COMMAND_S", 0.3)
    slow = Alert(name="page", command=script(tmp_path / "slow", "sleep 600"))
    began = time.monotonic()
    with pytest.raises(SendError, match="not done within"):
        send.once(slow, MESSAGE, 0.0)
    assert time.monotonic() - began < 5


# -- er.toml -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "part"),
    [
        ('kind = "feishuu"', "must be one of: feishu"),
        ('webhook = "https://h/x"', "kind is missing"),
        ('kind = "slack"', "write webhook or webhook_file"),
        ('kind = "slack"\nwebhook = "https://h/x"\nwebhook_file = "/x"', "webhook or webhook_file"),
        (f'kind = "slack"\nwebhook = "ftp://h/{TOKEN}"', "is no address"),
        (f'kind = "slack"\nwebhook = "https://u:{TOKEN}@h/"', "user or password"),
        (f'kind = "slack"\nwebhook = "https://h:{TOKEN}/"', "is no address"),
        ('kind = "slack"\nwebhook = "https://h/x"\nsecret_file = "/x"', "secret_file is for"),
        (f'kind = "https://h/{TOKEN}"', "must be one of"),
        (f'kind = "slack"\nwebhook_file = "https://h/{TOKEN}"', "webhook_file is no absolute path"),
        (f'kind = "feishu"\nwebhook_file = "/x"\nsecret_file = "{TOKEN}"', "secret_file is no abs"),
        (f'name = "https://h/{TOKEN}"\ncommand = ["/x"]', "name is 'https://…'"),
        ('command = ["page-me"]', "absolute path"),
        ("command = []", "absolute path"),
        ('command = ["/x"]\nkind = "slack"\nwebhook = "https://h/x"', "beside a webhook"),
        ('command = ["/x"]\nafter = "0s"', "after is"),
        ('command = ["/x"]\non = ["up"]', "it takes: down"),
        ('command = ["/x"]\non = ["recovered"]', "nothing to be told of"),
        ('command = ["/x"]\nlanguage = "fr"', "en, zh"),
        ('command = ["/x"]\nname = "Pager 1"', "small letters"),
        ('command = ["/x"]\nwebhok = "1"', "did you mean webhook"),
        ('command = ["/x"]\n[[alert]]\ncommand = ["/y"]', "already names another alert"),
    ],
)
def test_what_is_wrong_is_said_at_its_line_and_never_shows_the_address(
    table: str, part: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(f"[[alert]]\n{table}\n")
    said = "\n".join(map(str, caught.value.findings))
    assert part in said and TOKEN not in said
    assert all(f.line >= 5 for f in caught.value.findings)


def test_the_tables_come_back_whole_and_a_reload_takes_them_up(tmp_path: Path) -> None:
    text = (
        f'[[alert]]\nkind = "feishu"\nwebhook = "https://h/{TOKEN}"\nsecret_file = "/etc/er/s"\n'
        'language = "zh"\nafter = "90s"\nagain = "1h"\non = ["down", "recovered"]\n'
        '[[alert]]\nname = "page"\ncommand = ["/usr/local/bin/page-me", "-x"]\n'
    )
    found = parsed(text)
    assert [a.name for a in found.alerts] == ["feishu", "page"]
    assert found.alerts[1].on == config.structs.ALERT_EVENTS and found.alerts[1].after_s == 60.0
    again = config.parse(render(found), Path("er.toml"))
    assert again.alerts == found.alerts
    merged = takeup.merge(parsed(""), found)
    assert merged.config.alerts == found.alerts and merged.held == ()
    assert merged.taken == ("[[alert]]: changed",)
    assert TOKEN not in repr(found) and TOKEN not in f"{merged}"


# -- the console -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ('webhook = "https://h/tok"', 'webhook = "…"'),
        ("  webhook='https://h/tok' # a robot", "  webhook='…' # a robot"),
        ('# webhook = "https://h/tok', '# webhook = "…"'),
        ('webhook = """https://h/tok"""', 'webhook = """…"""'),
        (
            'alert = [{ kind = "json", webhook = "https://h/tok" }]',
            'alert = [{ kind = "json", webhook = "…" }]',
        ),
        ('webhook_file = "/etc/er/robot"', 'webhook_file = "/etc/er/robot"'),
    ],
)
def test_the_address_of_a_webhook_is_on_no_screen(line: str, wanted: str) -> None:
    assert shown(line) == wanted
    looks, other = Looks(), "[[alert]]"
    seen = Seen(path="er.toml", lines=(other, line), applied=(other, "x = 1"))
    for lines in (file_lines(seen, looks, 100), diff_lines(seen, looks, 100)):
        assert "tok" not in str(lines) and "alert" in str(lines)


# -- er check ------------------------------------------------------------------------------------


def test_er_check_looks_at_files_commands_and_their_rights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_alert, "HIDDEN", ("/home/",))
    hook = tmp_path / "hook"
    hook.write_text(f"https://h/{TOKEN}\n")
    hook.chmod(0o644)
    source = tmp_path / "er.toml"
    text = (
        f'[[alert]]\nkind = "slack"\nname = "a"\nwebhook_file = "{hook}"\n'
        f'[[alert]]\nkind = "slack"\nname = "b"\nwebhook_file = "{tmp_path}/none"\n'
        f'[[alert]]\nkind = "slack"\nname = "c"\nwebhook = "http://h.example/{TOKEN}"\n'
        '[[alert]]\nname = "d"\ncommand = ["/home/me/page"]\n'
        f'[[alert]]\nname = "e"\ncommand = ["{hook}"]\n'
        '[[alert]]\nname = "f"\ncommand = ["/bin/true"]\n'
    )
    source.write_text(MODEL + text)
    source.chmod(0o644)
    found = check_alert.findings(config.load(source))
    assert [(f.number, f.key, f.level) for f in found] == [
        (0, "webhook_file", "warning"),
        (1, "webhook_file", "error"),
        (2, "webhook", "warning"),
        (2, "webhook", "warning"),
        (3, "command", "error"),
        (4, "command", "error"),
    ]
    assert "chmod 0640" in found[0].message and "No such file" in found[1].message
    assert "without HTTPS" in found[3].message and "does not see /home/" in found[4].message
    assert TOKEN not in repr(found)
    hook.chmod(0o640)
    hook.write_text(f"{TOKEN}\n")
    (bad, *_) = check_alert.findings(config.load(source))
    assert "is no address" in bad.message and TOKEN not in bad.message


def test_a_file_made_as_the_manual_says_is_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line of er help alerts, with this folder and this group."""
    (line,) = re.findall(r"sudo (sh -c '.*feishu.*')", manual.pages()["alerts"])
    line = line.replace("/etc/er", str(tmp_path)).replace("chgrp er", f"chgrp {os.getegid()}")
    subprocess.run(line, shell=True, check=True, input=f"https://h/{TOKEN}\n".encode())
    hook = tmp_path / "feishu"
    assert stat.S_IMODE(hook.stat().st_mode) == 0o640
    found = parsed(f'[[alert]]\nkind = "feishu"\nwebhook_file = "{hook}"\n')
    assert send.address(found.alerts[0]) == f"https://h/{TOKEN}"
    monkeypatch.setattr(check_alert.as_user, "ask", lambda question: question())
    assert check_alert.findings(found) == []


@pytest.mark.parametrize(
    "said",
    [
        "/x: user er may not run it; chmod 0755 /x",
        "/home/me/x: the gateway's unit does not see /home/; put it into /usr/local/bin, say",
        "/x: no such file that user er could see",
        "webhook_file /x: No such file or directory",
        "every user of this machine can read /x; chmod 0640 /x",
        "is sent to h.example without HTTPS, for all on the way to read",
        "the address is a secret, and every user can read this file; chmod 0640 /etc/er/er.toml",
        "webhook is no address; write https://HOST/…, as its maker shows it",
    ],
)
def test_the_findings_are_understood_in_chinese(said: str) -> None:
    speak("zh")
    try:
        parts = heard(said).split("；")
        assert re.search("[\u4e00-\u9fff]", parts[0]), heard(said)
    finally:
        speak("en")


# -- er alert test -------------------------------------------------------------------------------


def test_er_alert_test_says_what_the_receiver_answered(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    receiver: Receiver,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CONFIGURATION_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    file = tmp_path / "er.toml"
    file.write_text(MODEL)
    assert main(["alert", "test"]) == 1
    assert "none there; name one with an [[alert]]" in capfd.readouterr().err
    table = f'[[alert]]\nkind = "wecom"\nlanguage = "zh"\nwebhook = "{receiver.url}"\n'
    file.write_text(MODEL + table + '[[alert]]\nname = "off"\ncommand = ["/bin/false"]\n')
    receiver.answers = [(200, TAKEN["wecom"])]
    assert main(["alert", "test", "--name", "wecom"]) == 0
    said = capfd.readouterr()
    assert "wecom: sent to wecom at 127.0.0.1: 127.0.0.1 took it (HTTP 200)" in said.out
    assert "测试" in receiver.got[0][1]["text"]["content"]
    receiver.answers = [(200, b'{"errcode":93000,"errmsg":"invalid webhook url"}')]
    assert main(["alert", "test"]) == 1
    told = capfd.readouterr()
    assert "wecom: not sent" in told.err and "invalid webhook url" in told.err
    assert "off: not sent to /bin/false: /bin/false ended with 1" in told.err
    assert main(["alert", "test", "--name", "nobody"]) == 1
    assert "there are: wecom, off" in capfd.readouterr().err
    assert TOKEN not in said.out + said.err + told.out + told.err
    applied = tmp_path / "state/applied.toml"
    applied.parent.mkdir()
    applied.write_text(MODEL + '[[alert]]\ncommand = ["/bin/true"]\n')
    assert main(["alert", "test", "--applied"]) == 0
    assert "/bin/true ended with 0" in capfd.readouterr().out


# -- the admin process's part --------------------------------------------------------------------


class Admin:
    """An Alerting with a status, a clock and receivers of the test's own, over one state folder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, state: Path, *alerts: Alert) -> None:
        monkeypatch.setenv("STATE_DIRECTORY", str(state))
        monkeypatch.setenv("CACHE_DIRECTORY", str(state))
        monkeypatch.setattr(running_out, "look", lambda *_: ())
        self.status, self.now = "ok", 1_800_000_000.0
        self.told: list[tuple[str, str]] = []
        self.fails = ""
        found = parsed("")
        self.config = msgspec.structs.replace(found, alerts=alerts or (an_alert(),))

    def make(self) -> Alerting:
        async def status() -> dict[str, Any]:
            return {"status": self.status, "reason": "because"}

        def tell(alert: Alert, message: dict[str, Any]) -> str:
            if self.fails:
                raise SendError(self.fails)
            self.told.append((alert.name, message["event"]))
            return "took it"

        return Alerting(self.config, status, lambda: None, tell=tell, clock=lambda: self.now)

    async def go(self, alerting: Alerting, seconds: float) -> None:
        for _ in range(int(seconds // 5)):
            await alerting.tick()
            await asyncio.gather(*alerting._sending.values())
            self.now += 5.0


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What goes to the journal."""
    found: list[str] = []
    from er.admin import alerting

    monkeypatch.setattr(alerting, "log", lambda level, text: found.append(f"{level}: {text}"))
    return found


def test_a_restart_neither_loses_nor_repeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    admin = Admin(monkeypatch, tmp_path)

    async def act() -> None:
        def started() -> Alerting:
            found = admin.make()
            found._remember()
            return found

        admin.status = "down"
        await admin.go(started(), 40)
        await admin.go(started(), 40)  # the time before the restart counts
        assert admin.told == [("one", "down")]
        await admin.go(started(), 600)
        assert admin.told == [("one", "down")]
        admin.status = "ok"
        await admin.go(started(), 120)
        assert admin.told == [("one", "down"), ("one", "recovered")]
        await admin.go(started(), 120)
        assert len(admin.told) == 2
        (tmp_path / memory.NAME).write_text("{")
        admin.status = "down"
        await admin.go(started(), 120)
        assert admin.told[2:] == [("one", "down")]

    asyncio.run(act())
    assert [line for line in lines if "what was told is not known" in line]
    assert stat.S_IMODE((tmp_path / memory.NAME).stat().st_mode) & 0o007 == 0


def test_a_receiver_that_fails_is_told_of_once_and_again_when_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    admin = Admin(monkeypatch, tmp_path, an_alert(), an_alert(name="two"))
    admin.status, admin.fails = "down", "h.example: Connection refused"

    async def act() -> None:
        alerting = admin.make()
        alerting._remember()
        for _ in range(5):
            await admin.go(alerting, 80)
            alerting._wait_until.clear()  # a minute later
        said = [line for line in lines if "nobody was told: h.example" in line]
        assert len(said) == 2 and said[0].startswith("err: alert one")
        admin.fails = ""
        await admin.go(alerting, 10)

    asyncio.run(act())
    assert sorted(admin.told) == [("one", "down"), ("two", "down")]
    assert "notice: alert one: messages arrive again" in lines


def test_a_slow_receiver_holds_up_neither_the_others_nor_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    admin = Admin(monkeypatch, tmp_path, an_alert(name="slow"), an_alert(name="quick"))
    held, told = threading.Event(), []

    def tell(alert: Alert, message: dict[str, Any]) -> str:
        if alert.name == "slow":
            held.wait(20)
        told.append(alert.name)
        return ""

    async def act() -> None:
        alerting = admin.make()
        alerting._tell = tell
        alerting._remember()
        admin.status = "down"
        for _ in range(20):
            await alerting.tick()
            await asyncio.sleep(0.005)
            admin.now += 5.0
        assert told == ["quick"]

    began = time.monotonic()
    asyncio.run(act())
    assert time.monotonic() - began < 10
    held.set()


def test_two_processes_never_tell_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    """The one that came second waits until the first is gone."""
    admin = Admin(monkeypatch, tmp_path)

    async def act() -> None:
        first = await admin.make()._turn()
        second = asyncio.create_task(admin.make()._turn())
        await asyncio.sleep(0.05)
        assert not second.done()
        os.close(first)
        os.close(await asyncio.wait_for(second, 5))

    asyncio.run(act())


def test_a_real_receiver_s_address_is_in_no_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    receiver: Receiver,
    capfd: pytest.CaptureFixture[str],
) -> None:
    admin = Admin(monkeypatch, tmp_path, an_alert(webhook=receiver.url, after_s=1.0))
    receiver.answers = [(500, TOKEN.encode()), (200, b"")]

    async def act(tell: Callable[..., str]) -> None:
        alerting = admin.make()
        alerting._tell = tell
        alerting._remember()
        admin.status = "down"
        await admin.go(alerting, 30)
        alerting._wait_until.clear()
        await admin.go(alerting, 10)

    asyncio.run(act(lambda alert, message: send.once(alert, message, time.time())))
    said = capfd.readouterr().out
    assert "HTTP 500: …" in said and "told json at 127.0.0.1 of: down" in said
    assert TOKEN not in said and [b["event"] for b in receiver.texts()] == ["down", "down"]
    assert TOKEN not in (tmp_path / memory.NAME).read_text()
    assert journal.blotted("x") == "x"
