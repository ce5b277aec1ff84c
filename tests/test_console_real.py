"""The console beside a real gateway: what it shows is true, and its keys open the door."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from console_live import PATIENCE_S, beside, until
from er_console.console import Console
from er_console.screens.dialogs import Confirm
from er_console.screens.key_boxes import NewKey, Rotate, Secret
from er_console.screens.keys import KeysPage
from er_console.screens.traffic import TrafficPage
from fakes import EngineProcess
from running import DIMENSIONS, Gateway, gateway

TOP = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with two stand-in engines."""
    with gateway(tmp_path_factory.mktemp("real"), engines=2) as running:
        yield running


def console(real: Gateway, *arguments: str) -> subprocess.CompletedProcess[str]:
    """er-console as a process."""
    return subprocess.run(
        [sys.executable, "-m", "er_console.app", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, **real.environment(), "PYTHONPATH": str(TOP / "tui")},
    )


@asynccontextmanager
async def opened(real: Gateway) -> AsyncIterator[tuple[Console, Pilot[None]]]:
    """The console on the real admin socket, with its pollers."""
    async with beside(real.runtime) as (app, pilot):
        await until(pilot, lambda: app.desk.snapshot.status.value is not None)
        yield app, pilot


def test_once_and_json_tell_the_gateways_truth(real: Gateway) -> None:
    """Both replicas answer: exit code 0; the JSON is the gateway's own, and a verdict."""
    limit = time.monotonic() + PATIENCE_S
    while (done := console(real, "--json")).returncode != 0:
        assert time.monotonic() < limit, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["verdict"]["sentence"] == "2 of 2 replicas answering"
    assert found["status"] == "ok" and found["gateway"]["max_concurrency"] == 500
    done = console(real, "--once")
    assert done.returncode == 0 and "● OK" in done.stdout and "● up" in done.stdout


async def test_a_key_from_making_to_revoking(real: Gateway) -> None:
    """The secret on the screen opens the door; the old one does for its grace; then neither."""
    async with opened(real) as (app, pilot):
        await pilot.press("4", "N")
        await until(pilot, lambda: isinstance(app.screen, NewKey))
        await pilot.press(*"night", "enter")
        await until(pilot, lambda: isinstance(app.screen, Secret))
        assert isinstance(app.screen, Secret)
        first = app.screen._secret
        assert (await asyncio.to_thread(real.embed, key=first)).status == 200
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, KeysPage))
        await stand_on(app, pilot, "night")
        await pilot.press("O")
        await until(pilot, lambda: isinstance(app.screen, Rotate))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Secret))
        assert isinstance(app.screen, Secret)
        second = app.screen._secret
        assert second != first
        for secret in (first, second):
            assert (await asyncio.to_thread(real.embed, key=secret)).status == 200
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, KeysPage))
        await stand_on(app, pilot, "night")
        await pilot.press("X")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        if app.screen.query("#typed"):
            app.screen.query_one("#typed", Input).focus()
            await pilot.press(*"night", "enter")
        else:
            await pilot.press("y")
        await until(pilot, lambda: not (found := keys_named(app, "night")) or found[0] == "revoked")
        for secret in (first, second):
            assert (await asyncio.to_thread(real.embed, key=secret)).status == 401
    assert not {first, second} & set(real.text().split())


async def test_the_past_is_the_gateways_and_outlives_its_restart(tmp_path: Path) -> None:
    """What was asked before a console was opened stands in its plots, also after a restart."""
    with gateway(tmp_path, engines=1) as running:

        def told() -> dict[str, list[float]]:
            past = cast(TrafficPage, app.pages["traffic"]).past.value
            series = past.series if past else {}
            return {name: [v for v in values if v] for name, values in series.items()}

        async with opened(running) as (app, pilot):
            await pilot.press("3")
            await until(pilot, lambda: bool(told().get("replicas_up")))
            for _ in range(20):
                assert (await asyncio.to_thread(running.embed)).status == 200
            await until(pilot, lambda: bool(told().get("requests_per_s")))
            before = told()
            assert before["p95_ms"] and sum(before["requests_per_s"]) <= 2 * 20
        running.stop()
        running.start()
        async with opened(running) as (app, pilot):
            await pilot.press("3")
            await until(pilot, lambda: bool(told().get("requests_per_s")))
            assert max(told()["requests_per_s"]) == max(before["requests_per_s"])


def keys_named(app: Console, name: str) -> list[str]:
    """The state of the keys of this name, as listed."""
    page = app.pages["keys"]
    assert isinstance(page, KeysPage)
    return ["revoked" if key.revoked else "active" for key in page.found if key.name == name]


async def stand_on(app: Console, pilot: Pilot[None], name: str) -> None:
    """Move the cursor to a key."""
    page = app.pages["keys"]
    assert isinstance(page, KeysPage)
    await until(pilot, lambda: bool(keys_named(app, name)))
    await pilot.press("g")
    for _ in page.found:
        if (key := page._selected()) is not None and key.name == name:
            return
        await pilot.press("j")
    raise AssertionError(f"no key {name}")


async def test_drain_resume_and_a_dead_engine_are_seen(tmp_path: Path) -> None:
    """Drained from the console and taken back; an engine that dies is named within seconds."""
    with EngineProcess(dim=DIMENSIONS) as one, EngineProcess(dim=DIMENSIONS) as two:
        running = Gateway(tmp_path, [one, two])
        try:
            running.start()
            async with opened(running) as (app, pilot):
                await until(pilot, lambda: verdict_of(app).startswith("OK"))
                name = app.desk.snapshot.status.value.replicas[0].name  # type: ignore[union-attr]
                await pilot.press("j", "R")
                assert "no unit of systemd runs this replica" in str(list(app._notifications))
                await pilot.press("D")
                await until(pilot, lambda: isinstance(app.screen, Confirm))
                assert isinstance(app.screen, Confirm)
                assert "stays served by 1 other replica" in str(app.screen.question)
                await pilot.press("y")
                await until(pilot, lambda: state_of(app, name) in ("drained", "draining"))
                await pilot.press("D")
                await until(pilot, lambda: state_of(app, name) == "up")
                one.kill()
                await until(pilot, lambda: state_of(app, name) == "down")
                assert verdict_of(app).startswith("DEGRADED")
                assert name in verdict_of(app)
        finally:
            running.kill()


def state_of(app: Console, name: str) -> str:
    """A replica's state on the desk."""
    status = app.desk.snapshot.status.value
    return next((r.state for r in status.replicas if r.name == name), "") if status else ""


def verdict_of(app: Console) -> str:
    """The header's word and sentence."""
    from er_console.judgement import verdict

    found = verdict(app.desk.snapshot, app.desk.wall())
    return f"{found.word} {found.sentence}"
