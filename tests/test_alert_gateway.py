"""A real gateway whose engine is killed tells a receiver so, and again when it is back."""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes import EngineProcess, free_port
from running import DIMENSIONS, Gateway
from test_alert_messages import TOKEN, Receiver, receiver, script

__all__ = ["receiver"]


@pytest.fixture
def engine() -> Iterator[EngineProcess]:
    with EngineProcess(dim=DIMENSIONS) as found:
        yield found


def until(receiver: Receiver, event: str, seconds: float = 40.0) -> dict[str, Any]:
    """The first message of that kind."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for body in receiver.texts():
            if body["event"] == event:
                return body
        time.sleep(0.1)
    raise AssertionError(f"no {event!r} among {receiver.texts()}")


def metrics_of(gateway: Gateway) -> str:
    """Its page of metrics."""
    with urllib.request.urlopen(f"http://{gateway.settings['metrics']}/metrics") as answer:
        return str(answer.read().decode())


def test_down_and_recovered_arrive_and_the_address_is_nowhere(
    tmp_path: Path, engine: EngineProcess, receiver: Receiver
) -> None:
    gateway = Gateway(tmp_path, [engine], metrics=f"127.0.0.1:{free_port()}")
    pages = tmp_path / "pages"
    command = script(tmp_path / "page-me", f"cat >>{pages}; echo >>{pages}")
    gateway.alerts = [
        {"kind": "json", "webhook": receiver.url, "after": "1s"},
        {"command": list(command), "after": "1s", "on": ["down"]},
    ]
    try:
        gateway.start()
        assert gateway.embed().status == 200
        engine.kill()
        down = until(receiver, "down")
        assert down["status"] == "down" and "e0" in down["reason"] and not down["repeated"]
        assert down["text"].startswith(f"ER on {down['host']} is down\n")
        children = [Path(f"/proc/{p}/cmdline").read_bytes() for p in gateway.children()]
        assert children and all(TOKEN.encode() not in line for line in children)
        (admin,) = gateway.children("er.admin")
        assert gateway.process is not None
        gateway.wait_for("alert json: told", count=1)
        gateway.wait_for("alert command: told")  # one under way is told again, rather than lost
        gateway.process.send_signal(signal.SIGHUP)  # the next generation's admin takes over
        end = time.monotonic() + 20
        while gateway.children("er.admin") in ([admin], []) or admin in gateway.children():
            assert time.monotonic() < end
            time.sleep(0.1)
        with EngineProcess(dim=DIMENSIONS, port=engine.port):
            assert until(receiver, "recovered")["before"] == "down"
            assert gateway.embed().status == 200
        assert gateway.children("er.admin") != [admin]
        gateway.wait_for("alert json: told", count=2)
        end = time.monotonic() + 10
        while 'er_alerts_total{alert="json",outcome="sent"} 2' not in metrics_of(gateway):
            assert time.monotonic() < end, metrics_of(gateway)[-2000:]
            time.sleep(0.1)
        gateway.stop()
    finally:
        gateway.kill()
    assert [b["event"] for b in receiver.texts()] == ["down", "recovered"]
    assert TOKEN not in gateway.text() and not gateway.mishaps()
    (page,) = map(json.loads, pages.read_text().splitlines())
    assert (page["event"], page["alert"]) == ("down", "command") and "e0" in page["reason"]
    kept = json.loads((gateway.state / "alerts.json").read_text())
    assert set(kept["alerts"]) == {"json", "command"} and TOKEN not in json.dumps(kept)
