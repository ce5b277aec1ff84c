"""The console's panel of the machines that serve together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from er.fingerprint import Fingerprint
from er.members import Announced, Own, Roll, exchange, row
from er.members.roll import Serving
from er_console.language import heard, speak
from er_console.looks import Looks, plain
from er_console.panels import host_lines
from er_console.reading import read_status
from test_members import host, offered

GOLDEN = Path(__file__).parent / "golden/status.json"


@pytest.fixture
def chinese() -> Iterator[None]:
    speak("zh")
    yield
    speak("en")


def odd() -> list[str]:
    """All that the gateway says of hosts."""
    roll, said = Roll("a", 0.0), []
    own = Own(id="a", host="gpu1", version="1.1", models={}, address="127.0.0.1:1", room=0)
    known = {"m": Serving("embed", Fingerprint("w", "r", "bf16"))}
    replicas = tuple(
        offered(name, fingerprint=what)
        for name, what in (("d", "x-r-bf16"), ("e", "x-q-bf16"), ("f", "w-q-bf16"), ("g", "w-r-b"))
    )
    hosts = (
        *(host(replicas=(*replicas, offered("h", task="score"))), host("gpu1", id="y")),
        *(host(id="z", started=2), host("gpu3", protocol=0), host("gpu4", version="2")),
        *(host("gpu5", clock_s=99.0), host("gpu6", clock_s=-99.0, address="127.0.0.1:2")),
    )
    ids = frozenset(one.id for one in hosts)
    roll.hear(exchange.Answer(now=1, hosts=hosts, alive=ids), 1.0)
    for models in (known, {"m": Serving("embed", waits=True)}):
        for address in ("127.0.0.1:1", "10.0.0.1:1"):
            fields = {"models": models, "address": address}
            _, words = roll.usable(Own(**{**_fields(own), **fields}))  # type: ignore[arg-type]
            said += [text for _, text in words]
    return list(dict.fromkeys(said))


def _fields(own: Own) -> dict[str, object]:
    return {name: getattr(own, name) for name in own.__struct_fields__}


def shown(one: Announced, state: str, **more: object) -> dict[str, object]:
    given: dict[str, object] = {
        "drained": False,
        "silent_s": 0.0,
        "own": False,
        "used": (),
        "distance_ms": 0.42,
        "odd": [],
    }
    return row(one, state=state, **(given | more))  # type: ignore[arg-type]


def lines(width: int = 100, *, ascii_only: bool = False) -> list[str]:
    replicas = (offered("a", in_flight=1200), offered("b", state="down"))
    told = "host gpu3 runs ER 1.0, and this one ER 1.1"
    hosts = [
        shown(host("gpu1", replicas=replicas), "up", own=True, distance_ms=0.0),
        shown(host("gpu2", replicas=replicas), "drained"),
        shown(host("gpu3"), "silent", silent_s=12.0, odd=[told]),
    ]
    status = read_status({**json.loads(GOLDEN.read_text()), "hosts": hosts})
    found = host_lines(status, Looks(ascii_only=ascii_only), width)
    return [plain(line) for line in found]


def test_a_line_for_each_host() -> None:
    one, two, three, odd_ = lines()
    assert one.startswith("gpu1 ") and "● up" in one
    assert one.endswith("1 of 2 replicas up, 1200 tokens in flight, this machine")
    assert "◇ drained" in two and two.endswith("0.4 ms away")
    assert "✖ silent" in three and three.endswith("not heard for 12 s")
    assert odd_ == "  host gpu3 runs ER 1.0, and this one ER 1.1"
    assert all(len(line) <= 50 for line in lines(50))
    assert "".join(lines(50, ascii_only=True)).isascii()


def test_none_on_a_machine_alone() -> None:
    assert host_lines(read_status(json.loads(GOLDEN.read_text())), Looks(), 80) == []
    assert host_lines(None, Looks(), 80) == []


def test_what_the_gateway_says_of_hosts_is_heard(chinese: None) -> None:
    said = odd()
    assert len(said) >= 12, said
    for text in said:
        assert any("\u4e00" <= sign <= "\u9fff" for sign in heard(text)), text
        assert " is " not in heard(text) and " not " not in heard(text), heard(text)
    assert "失联" in "".join(lines()) and "本机" in lines()[0]
