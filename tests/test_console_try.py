"""Try it: what is asked, what is told of the answer, and its curl lines, by a real gateway too."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, TextArea

from console_live import beside, until
from er_console.console import Console
from er_console.language import speak
from er_console.looks import Looks, plain
from er_console.played import PlayedTrial
from er_console.screens.told import told_lines
from er_console.screens.trying import TryPage
from er_console.sources.admin import Admin
from er_console.sources.trial import Door
from er_console.state import Missing
from er_console.trial import (
    Answered,
    Asked,
    Offered,
    address_of,
    curl_here,
    in_short,
    split,
    timing,
)
from er_console.widgets.lines import Lines
from running import DIMENSIONS, Gateway, gateway
from test_console_screens import Play, never, opened, press, text, toasts

pytestmark = pytest.mark.slow

HARD = 'it\'s "odd" $HOME `id` \\ 你好'


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with one stand-in engine."""
    with gateway(tmp_path_factory.mktemp("try"), engines=1) as running:
        yield running


@asynccontextmanager
async def at_try(runtime: Path) -> AsyncIterator[tuple[Console, Pilot[None], TryPage]]:
    """The console on that gateway's sockets, at its Try page."""
    async with beside(runtime) as (app, pilot):
        await pilot.press("6")
        await until(pilot, lambda: isinstance(app.screen, TryPage))
        page = app.screen
        assert isinstance(page, TryPage)
        yield app, pilot, page


def told(page: TryPage) -> str:
    """What stands in the answer's place."""
    return page.query_one("#answer", Lines).said


# -- pure ----------------------------------------------------------------------------------------


def test_times_are_read_and_the_rest_is_passed_over() -> None:
    """The gateway's own header; a part without a time, or with nonsense, is none."""
    header = 'queue;dur=0.13, tokenise;dur=0.38, cache;desc="3 known", engine;dur=x, total;dur=13.7'
    assert timing(header) == {"queue": 0.13, "tokenise": 0.38, "total": 13.7}
    assert timing("") == {}


def test_vectors_in_short_have_norm_and_nearness() -> None:
    """Norm and the cosine to the first; a zero vector is near to nothing."""
    found = in_short([[3.0, 4.0], [-3.0, -4.0], [0.0, 0.0]])
    assert [v.norm for v in found] == [5.0, 5.0, 0.0]
    assert [round(v.near, 6) for v in found] == [1.0, -1.0, 0.0]


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        (["0.0.0.0:2048"], "http://SERVER:2048"),
        (["[::]:2048"], "http://SERVER:2048"),
        (["127.0.0.1:9"], "http://127.0.0.1:9"),
        ([], "http://SERVER:PORT"),
    ],
)
def test_the_address_of_a_client_elsewhere(listen: list[str], said: str) -> None:
    """What listens everywhere has no name of its own."""
    assert address_of(listen) == said


def test_what_was_left_empty_is_not_sent() -> None:
    """The gateway's own defaults count then; odd dimensions go as they are, to be refused there."""
    assert Asked("m", "embed", ("a",)).body() == {"model": "m", "input": ["a"]}
    full = Asked("m", "embed", ("a",), side="query", instruction="i", dimensions="8")
    assert full.body()["dimensions"] == 8 and full.body()["input_type"] == "query"
    assert Asked("m", "embed", ("a",), dimensions="-1").body()["dimensions"] == "-1"
    assert Asked("m", "score", ("a",), query="q").body() == {
        "model": "m",
        "query": "q",
        "documents": ["a"],
    }


def test_a_refusal_is_told_in_full_with_its_code() -> None:
    """No word of a long message is lost, whatever the width."""
    message = " ".join(f"word{n}" for n in range(80))
    answer = Answered(429, 1.0, code="rate_limit_exceeded", message=message, retry_after="7")
    lines = told_lines(Asked("m", "embed", ("a",)), answer, Looks(ascii_only=True), 60)
    said = " ".join(" ".join(plain(line) for line in lines).split())
    assert f"rate_limit_exceeded: {message}" in said and "again in 7 s" in said
    assert said.startswith("x 429") and "no server-timing" in said
    assert all(len(plain(line)) <= 60 for line in lines)


# -- the page, on a play -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "ascii_only"),
    [((80, 24), False), ((80, 24), True), ((120, 40), False), ((200, 60), True)],
)
async def test_an_embedding_at_every_size(size: tuple[int, int], ascii_only: bool) -> None:
    """Typed digits and letters are text, not keys; the answer and the footer are in view."""
    async with opened(size=size, looks=Looks(ascii_only=ascii_only)) as (app, pilot, _):
        await press(pilot, "6")
        assert "type a text" in text(app) and "enter (send)" in text(app)
        await press(pilot, "e", *"q1", "enter", *"two")
        assert "esc leave" in text(app).split("\n")[-1] and "q quit" in text(app).split("\n")[-1]
        await press(pilot, "escape", "d", "enter")
        await pilot.pause()
        seen = text(app)
        for word in ("200 in", "engine 9.40", "2 vectors of 1024 numbers", "1.0000", "side query"):
            assert word in seen, word
        assert "gateway.sock" in seen and "enter send" in seen.split("\n")[-1]
        assert all(len(row) <= size[0] for row in seen.split("\n"))
        assert seen.isascii() or not ascii_only


async def test_a_rerank_wants_query_and_documents() -> None:
    """Enter in a field sends; what is missing is asked for; the best document stands first."""
    async with opened(size=(80, 24)) as (app, pilot, _):
        await press(pilot, "6", "m", "enter")
        assert "a rerank needs a query" in toasts(app)
        await press(pilot, "e", *"which", "enter")
        assert "type the documents" in toasts(app)
        page = app.screen
        assert isinstance(page, TryPage)
        page.query_one("#texts", TextArea).text = "one\n\ntwo\nthree"
        await press(pilot, "enter")
        await pilot.pause()
        assert page.sent is not None and page.sent.texts == ("one", "two", "three")
        assert page.answer is not None and len(page.answer.ranked) == 3
        rows = [
            row
            for row in told(page).split("\n")
            if row.strip()[:1].isdigit() and "tokens" not in row
        ]
        best = page.sent.texts[page.answer.ranked[0].index]
        assert rows[0].split()[0] == "1" and rows[0].endswith(best)


async def test_the_curl_lines_go_to_the_clipboard_without_a_secret() -> None:
    """y the one for here, Y the one with a variable for the key."""
    async with opened() as (app, pilot, _):
        copied: list[str] = []
        app.copy_to_clipboard = copied.append  # type: ignore[method-assign, assignment]
        await press(pilot, "6", "y", "e", *"hello", "escape", "enter")
        await pilot.pause()
        await press(pilot, "y", "Y")
        here, there = copied
        assert here.startswith("curl -s --unix-socket /run/er/gateway.sock http://er/v1/embedd")
        assert there.startswith("curl -s http://SERVER:2048/v1/embeddings")
        assert '"authorization: Bearer $ER_API_KEY"' in there


async def test_waiting_holds_nothing_up_and_can_be_given_up() -> None:
    """While nothing comes the pages go on; esc gives up, esc again leaves."""

    class Slow(PlayedTrial):
        async def ask(self, asked: Asked) -> Answered:
            await never(0)
            raise AssertionError

    play = Play()
    play.trial = Slow("a", "b")
    async with opened(play) as (app, pilot, _):
        await press(pilot, "6", "e", "x", "escape", "enter")
        assert "asking" in text(app)
        await press(pilot, "3")
        assert "refused/s" in text(app)
        await press(pilot, "6")
        assert "asking" in text(app)
        await press(pilot, "escape")
        assert "enter sends it" in text(app)
        await press(pilot, "escape")
        assert "6 Try" in text(app) and not isinstance(app.screen, TryPage)


async def test_a_missing_right_is_said_with_its_cure() -> None:
    """And --readonly sends nothing."""

    class Closed(PlayedTrial):
        async def models(self) -> tuple[Offered, ...]:
            raise Missing("rights", "no right to use it", "sudo usermod -aG er $USER")

    play = Play()
    play.trial = Closed("a", "b")
    async with opened(play, (80, 24)) as (app, pilot, _):
        await press(pilot, "6", "enter")
        assert "sudo usermod -aG er $USER" in text(app) and "enter (send)" in text(app)
        assert "sudo usermod" in toasts(app)
    async with opened(readonly=True) as (app, pilot, _):
        await press(pilot, "6", "e", "x", "escape", "enter")
        assert "open it again without --readonly" in text(app)
        assert isinstance(app.screen, TryPage) and app.screen.sent is None


# -- a real gateway ------------------------------------------------------------------------------


async def test_a_real_gateway_answers_and_refuses(real: Gateway) -> None:
    """Vectors as the TCP port gives them, with the gateway's times; a refusal in its own words."""
    async with at_try(real.runtime) as (_, pilot, page):
        await until(pilot, lambda: bool(page.offered))
        assert page.offered[0] == Offered("embed", "embed", DIMENSIONS)
        await pilot.press("e", *"hello")
        await pilot.press("escape", "enter")
        await until(pilot, lambda: page.answer is not None)
        assert page.answer is not None
        assert set(page.answer.parts) == {"queue", "tokenise", "engine", "total"}
        assert page.answer.took_ms >= page.answer.parts["total"] > 0
        body = {"model": "embed", "input": ["hello"]}
        reply = await asyncio.to_thread(real.ask, "POST", "/v1/embeddings", body)
        (vector,) = page.answer.vectors
        assert vector.first == tuple(reply.json["data"][0]["embedding"][:8])
        assert vector.dimensions == DIMENSIONS and vector.norm == pytest.approx(1.0, abs=1e-5)
        assert page.answer.request_id in told(page)
        await pilot.press("e", "tab", "tab", *"9999", "enter")
        await until(pilot, lambda: page.answer is not None and page.answer.status == 400)
        assert "invalid_request: dimensions is 9999" in " ".join(told(page).split())


async def test_a_real_rerank_is_in_the_gateways_order(real: Gateway) -> None:
    """Scores and order as another client gets them."""
    async with at_try(real.runtime) as (_, pilot, page):
        await until(pilot, lambda: len(page.offered) == 2)
        page.query_one("#texts", TextArea).text = "x\nyy\nzzz"
        await pilot.press("m", "e", "a", "enter")
        await until(pilot, lambda: page.answer is not None)
        body = {"model": "bi", "query": "a", "documents": ["x", "yy", "zzz"]}
        reply = await asyncio.to_thread(real.ask, "POST", "/v1/rerank", body)
        wanted = [(row["index"], row["relevance_score"]) for row in reply.json["results"]]
        assert page.answer is not None
        assert [(r.index, r.score) for r in page.answer.ranked] == wanted


async def test_the_curl_lines_work_as_they_are(real: Gateway) -> None:
    """Pasted into a shell, quotes, dollars and Chinese included: the same request, both ways."""
    async with at_try(real.runtime) as (app, pilot, page):
        await until(pilot, lambda: bool(page.offered) and app.desk.snapshot.status.at is not None)
        page.query_one("#texts", TextArea).text = HARD
        await pilot.press("enter")
        await until(pilot, lambda: page.answer is not None)
        assert page.sent is not None and page.answer is not None
        for line in page._curls(page.sent):
            done = await asyncio.to_thread(
                subprocess.run,
                ["sh", "-c", line],
                capture_output=True,
                timeout=20,
                env={**os.environ, "ER_API_KEY": real.key},
            )
            found = json.loads(done.stdout)["data"][0]["embedding"]
            assert tuple(found[:8]) == page.answer.vectors[0].first, line
        assert real.key not in "".join(page._curls(page.sent))


async def test_no_socket_a_deaf_one_and_a_closed_one_are_told_apart(tmp_path: Path) -> None:
    """Each with its cure; when the gateway comes, the page finds it by itself."""
    door = Door(tmp_path / "gateway.sock", Admin(tmp_path / "admin.sock", by_systemd=False))
    with pytest.raises(Missing, match=r"does not run here\. start er-gateway"):
        await door.models()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(mute, door.socket)
    quick = Door(Path(door.socket), Admin(tmp_path / "a", by_systemd=False), timeout_s=0.2)
    with pytest.raises(Missing, match="did not answer within") as late:
        await quick.ask(Asked("m", "embed", ("a",)))
    assert late.value.kind == "late"
    server.close()
    if not Path(door.socket).exists():
        Path(door.socket).touch()
    with pytest.raises(Missing, match="nobody listens at"):
        await door.models()
    denied = door._unreachable(PermissionError(13, "denied"))
    assert denied.kind == "rights" and "usermod -aG er" in denied.remedy


async def test_the_page_finds_a_gateway_that_comes_later(real: Gateway, tmp_path: Path) -> None:
    """It looks again while there is none."""
    async with at_try(tmp_path) as (_, pilot, page):
        await until(pilot, lambda: "does not run here" in " ".join(told(page).split()))
        (tmp_path / "gateway.sock").symlink_to(real.runtime / "gateway.sock")
        page._look_again()
        await until(pilot, lambda: bool(page.offered))
        assert "type a text" in told(page)
        assert curl_here(Asked("m", "embed", ("a",)), "/a b").split("'")[1] == "/a b"


# -- dialects and refusals -----------------------------------------------------------------------


def test_where_the_time_went_is_drawn() -> None:
    """Queue, tokenise, engine, and the rest of the total; each with its sign in the bar."""
    parts = {"queue": 1.0, "tokenise": 2.0, "engine": 10.0, "total": 16.0}
    assert split(parts) == (("queue", 1.0), ("tokenise", 2.0), ("engine", 10.0), ("encode", 3.0))
    assert split({"queue": 1.0, "total": 2.0}) == () == split({})
    lines = told_lines(
        Asked("m", "embed", ("a",)), Answered(200, 17.0, parts), Looks(ascii_only=True), 80
    )
    said = [plain(line) for line in lines]
    assert said[1] == "   . queue 1.00  : tokenise 2.00  # engine 10.00  = encode, rest 3.00 ms"
    bar = said[2].strip()
    assert bar.count("#") > bar.count("=") > bar.count(":") > bar.count(".") >= 1


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (429, "rate_limit_exceeded", "Asked too often"),
        (503, "no_healthy_replica", "No replica of this model answers now"),
        (503, "overloaded", "More is asked than can be computed"),
        (504, "timeout", "within the time that er.toml gives"),
        (500, "internal_error", "page 5 has the lines"),
    ],
)
def test_a_refusal_is_told_with_its_meaning(status: int, code: str, said: str) -> None:
    """Beside the gateway's own words."""
    answer = Answered(status, 1.0, code=code, message="own words", retry_after="3")
    lines = told_lines(Asked("m", "embed", ("a",)), answer, Looks(), 100)
    told_all = " ".join(" ".join(plain(line) for line in lines).split())
    assert said in told_all and "own words" in told_all and "again in 3 s" in told_all


async def test_both_dialects_of_both_tasks_give_the_same_numbers(real: Gateway) -> None:
    """o changes address, body and answer; a refusal is read in each dialect's own shape."""
    async with at_try(real.runtime) as (app, pilot, page):
        await until(pilot, lambda: len(page.offered) == 2)

        async def ask(*keys: str) -> Answered:
            page.answer = None
            await pilot.press(*keys, "enter")
            await until(pilot, lambda: page.answer is not None)
            assert page.answer is not None
            return page.answer

        page.query_one("#texts", TextArea).text = "x\nyy\nzzz"
        usual = await ask("d")
        other = await ask("o")
        assert page.sent is not None and page.sent.path == "/embed"
        assert page.sent.body()["prompt_name"] == "query" and "written as" in text(app)
        assert [v.first for v in other.vectors] == [v.first for v in usual.vectors]
        assert len(other.vectors) == 3 and other.tokens == usual.tokens
        page.query_one("#dimensions", Input).value = "9999"
        wrong = await ask()
        assert wrong.status in (400, 413, 422) and "dimensions is 9999" in wrong.message
        page.query_one("#query", Input).value = "a"
        tei = await ask("m")
        assert page.sent is not None and page.sent.path == "/rerank"
        cohere = await ask("o")
        assert page.sent is not None and page.sent.path == "/v1/rerank"
        assert [r.index for r in tei.ranked] == [r.index for r in cohere.ranked]
        assert [r.score for r in tei.ranked] == pytest.approx([r.score for r in cohere.ranked])
        line = page._curls(page.sent)[0]
        assert "http://er/v1/rerank" in line


async def test_a_gateway_without_an_engine_says_what_its_refusal_means(tmp_path: Path) -> None:
    """A real 503, and the gateway going down under the page."""
    with gateway(tmp_path, engines=1) as running:
        async with at_try(running.runtime) as (_, pilot, page):
            await until(pilot, lambda: bool(page.offered))
            await asyncio.to_thread(running.engines[0].kill)
            page.query_one("#texts", TextArea).text = "x"
            await pilot.press("enter")
            await until(pilot, lambda: page.answer is not None or page.failed is not None)
            assert page.answer is not None and page.answer.status == 503
            page.show()
            await pilot.pause()
            assert "No replica of this model answers now" in " ".join(told(page).split())
            assert page.answer.retry_after
            await asyncio.to_thread(running.stop)
            await pilot.press("enter")
            await until(pilot, lambda: page.failed is not None)
            assert "start er-gateway" in " ".join(told(page).split())


async def test_it_speaks_chinese() -> None:
    """Fields, figures, what is missing."""
    speak("zh")
    try:
        async with opened(size=(80, 24)) as (app, pilot, _):
            await press(pilot, "6")
            assert "请输入文本" in text(app) and "指令" in text(app)
            await press(pilot, "e", "x", "escape", "enter")
            await pilot.pause()
            seen = text(app)
            assert "引擎 9.40" in seen and "1 个向量，每个 1024 个数" in seen
    finally:
        speak("en")
