"""Logs: the filter's language, following without loss, looking back, one record, the pager."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import psutil
import pytest
from textual.pilot import Pilot

from console_live import until
from er_console import sieve
from er_console.console import Console
from er_console.demo import Demo
from er_console.language import speak
from er_console.looks import Looks
from er_console.screens.logs import LogsPage
from er_console.screens.record import Record
from er_console.sources import journal, lookback, pager, records
from er_console.state import LogLine, Missing
from er_console.widgets.lines import Lines
from er_console.widgets.log import LINES_MAX, LogView
from fake_journalctl import Journal
from running import Gateway, gateway
from test_console_screens import NOW, Play, never, opened, press, text, toasts
from test_console_tmux import CONSOLE, TUI, Tmux, tmux

pytestmark = pytest.mark.slow
__all__ = ["tmux"]  # a fixture

LINE = LogLine(NOW, "gateway", 4, "key kab is over 100/minute: 429", "", "")
ASKED = LogLine(NOW, "audit", 3, "503 overloaded POST /v1/rerank request_id=r-1", "r-1", "kab")


class Beside(Play):
    """A play whose journal is a stand-in's."""

    def __init__(self, there: Journal) -> None:
        super().__init__()
        self.there = there

    async def follow(
        self, unit: str, level: int = 7, key: str = ""
    ) -> AsyncIterator[Sequence[LogLine]]:
        given = {"level": level, "key": key, "roots": self.there.roots}
        source = journal.follow(unit, self.there.command, **given)  # type: ignore[arg-type]
        async with aclosing(source) as batches:
            async for batch in batches:
                yield batch

    async def lines_of(self, request: str) -> Sequence[LogLine]:
        return await lookback.lines_of(request, self.there.command, roots=self.there.roots)

    async def record_of(self, line: LogLine) -> Sequence[tuple[str, str]]:
        return await lookback.record_of(line, self.there.command)


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Journal]:
    """A journal without a line."""
    yield Journal(tmp_path)


@asynccontextmanager
async def at_logs(there: Journal) -> AsyncIterator[tuple[Console, Pilot[None], LogsPage]]:
    """The console's Logs page on that journal."""
    async with opened(Beside(there)) as (app, pilot, _):
        await press(pilot, "5")
        page = app.screen
        assert isinstance(page, LogsPage)
        yield app, pilot, page
        page.leave()  # ends its journalctl before the loop ends


def shown(page: LogsPage) -> list[str]:
    """The texts of the lines in the view."""
    return [line.text for line in page.query_one(LogView).shown]


def state(page: LogsPage) -> str:
    """The row of state, unwrapped."""
    return " ".join(page.query_one("#state", Lines).said.split())


async def settled(pilot: Pilot[None], page: LogsPage, *texts: str) -> None:
    """Until just these lines are shown."""
    await until(pilot, lambda: shown(page) == [*texts])


# -- the filter, pure ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "line", "passes"),
    [
        ("", LINE, True),
        ("over 429", LINE, True),
        ('"over 100"', LINE, True),
        ('"100 over"', LINE, False),
        ("!over", LINE, False),
        ("GATEWAY", LINE, True),
        ("key=kab", LINE, True),
        ("key=ka", LINE, False),
        ("key=KAB", ASKED, True),
        ("key=other", ASKED, False),
        ("rid=r-1", ASKED, True),
        ("rid=r-", ASKED, True),
        ("rid=r-2", ASKED, False),
        ("unit=gate", LINE, True),
        ("unit=rer", LINE, False),
        ("level>=warn", LINE, True),
        ("level>=error", LINE, False),
        ("level>=err key=kab !embeddings rerank", ASKED, True),
        ("level>=err key=kab !rerank", ASKED, False),
        ("key_id=kab", LINE, False),  # no field of the filter: words of a line
        ("request_id=r-1", ASKED, True),
    ],
)
def test_terms_must_all_hold(typed: str, line: LogLine, passes: bool) -> None:
    """Words, phrases, words that must be away, fields, levels; case does not count."""
    assert sieve.read(typed).passes(line) is passes
    assert sieve.read(typed).passes(LogLine(NOW, "", 4, "left out", lost=3))


@pytest.mark.parametrize(
    ("typed", "wrong"),
    [
        ("level>=wran", "the levels are emerg"),
        ("level=warn", "write level>=warn"),
        ("key=", "write key=VALUE"),
        ("rid>=3", "write rid=VALUE"),
        ("status>=500", "the fields are key, rid, unit, level"),
        ("a b level>=err unit=x", ""),
    ],
)
def test_what_is_no_term_is_said(typed: str, wrong: str) -> None:
    """And the rest counts all the same."""
    found = sieve.read(f"{typed} slow")
    assert wrong in found.wrong if wrong else not found.wrong
    assert found.words[-1] == "slow"


def test_what_was_understood_is_said_in_words() -> None:
    """All terms in one sentence, in either language."""
    found = sieve.read('slow !"out of" key=kab rid=r-1 unit=gateway level>=warning')
    assert sieve.understood(found) == (
        'with "slow", without "out of", client key kab, request r-1, unit gateway, '
        "level warn and worse"
    )
    speak("zh")
    try:
        assert "客户端密钥 kab" in sieve.understood(found)
    finally:
        speak("en")


# -- following -----------------------------------------------------------------------------------


async def test_a_journalctl_that_ends_goes_on_where_it_was(there: Journal) -> None:
    """No line twice, none missing, also of those that came while there was none."""
    for n in range(3):
        there.line(f"line {n}")
    got: list[str] = []

    async def read() -> None:
        async with aclosing(journal.follow("gateway", there.command)) as batches:
            async for batch in batches:
                got.extend(line.text for line in batch)

    async def has(count: int) -> None:
        limit = time.monotonic() + 20
        while len(got) < count:
            assert time.monotonic() < limit, got
            await asyncio.sleep(0.02)

    task = asyncio.create_task(read())
    await has(3)
    await asyncio.to_thread(there.end)
    there.line("line 3")
    await has(4)
    there.line("line 4")
    await has(5)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert got == [f"line {n}" for n in range(5)]
    first, second = there.asked()
    assert "-n 500" in first and "--no-tail --cursor=s=1;i=3;x=main.jsonl" in second


async def test_one_that_ends_at_once_is_not_started_for_ever(there: Journal) -> None:
    """Three times without a line and without a word is a reason."""
    Path(there.command).write_text(f"#!/bin/sh\necho x >> {there.folder}/asked\n")
    with pytest.raises(Missing, match="ends again and again"):
        async for _ in journal.follow("", there.command):
            pass
    assert len(there.asked()) == journal.ENDS_MAX


async def test_no_journal_is_found_out_though_journalctl_waits(
    there: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """-f is silent about it; the audit's may be missing alone."""
    monkeypatch.setattr(journal, "QUIET_S", 0.2)
    roots = [tmp_path / "roots"]
    for unit, said in (("", "no journal on this machine"), ("audit", "no journal on this machine")):
        with pytest.raises(Missing, match=said):
            async for _ in journal.follow(unit, there.command, roots=roots):
                pass
    (roots[0] / "0a1b").mkdir(parents=True)
    (roots[0] / "0a1b/system.journal").touch()
    with pytest.raises(Missing, match=r"er-audit.*no request was recorded"):
        async for _ in journal.follow("audit", there.command, roots=roots):
            pass


def test_a_flood_is_cut_and_counted() -> None:
    """The newest are kept; a record beyond all size is passed over; halves are put together."""
    waiting = journal._Waiting()
    rows = [
        json.dumps({"__REALTIME_TIMESTAMP": str(n), "MESSAGE": str(n)}).encode() + b"\n"
        for n in range(journal.BATCH_LINES_MAX + 7)
    ]
    data = b"".join(rows)
    for at in range(0, len(data), 1000):
        waiting.take(data[at : at + 1000])
    lost, *lines = waiting.batch(False)
    assert lost.lost == 7 and "7 lines came too fast" in lost.text
    assert len(lines) == journal.BATCH_LINES_MAX and lines[0].text == "7"
    for _ in range(5):
        waiting.take(b"x" * (journal.RECORD_BYTES_MAX // 3))
    waiting.take(b"x\n" + rows[1])
    assert [line.text for line in waiting.batch(False)] == ["1"]


def test_the_level_is_asked_of_the_journal() -> None:
    """Priorities of the units; of the audit, where all have one, the status."""
    assert "-p 4" in " ".join(journal.command("gateway", level=4))
    assert "-p" not in journal.command("gateway")
    audit = journal.command("audit", level=3, key="kab")
    assert "STATUS=503" in audit and "STATUS=429" not in audit and audit[-1] == "KEY_ID=kab"
    assert "STATUS=429" in journal.command("audit", level=4)
    assert not any(word.startswith("STATUS") for word in journal.command("audit"))
    refused = {"__REALTIME_TIMESTAMP": "1", "STATUS": "429", "REQUEST_ID": "r", "KEY_ID": "k"}
    line = records.line_of(refused)
    assert (line.unit, line.priority, line.request, line.key) == ("audit", 4, "r", "k")


async def test_ten_thousand_lines_a_second_cost_a_bounded_part(there: Journal) -> None:
    """Keys answer meanwhile, nothing grows, what is not shown is counted."""
    row = {"__REALTIME_TIMESTAMP": "1795449000000000", "MESSAGE": "x" * 200, "PRIORITY": "6"}
    row |= {"_SYSTEMD_UNIT": "er-gateway.service", "__CURSOR": "s=1;i=1", "_BOOT_ID": "1" * 32}
    (there.folder / "rows").write_text((json.dumps(row) + "\n") * 1000)
    Path(there.command).write_text(
        f"#!/bin/sh\nwhile :; do cat {there.folder}/rows; sleep 0.1; done\n"
    )
    async with at_logs(there) as (_, pilot, page):
        view = page.query_one(LogView)
        await until(pilot, lambda: len(view.shown) == LINES_MAX)
        own, began, wall = psutil.Process(), time.process_time(), time.monotonic()
        before_it = own.memory_info().rss  # with what other tests have left in this process
        slowest = 0.0
        while time.monotonic() < wall + 2.0:
            before = time.monotonic()
            await pilot.press("j")
            slowest = max(slowest, time.monotonic() - before)
            await asyncio.sleep(0.02)
        took = (time.process_time() - began) / (time.monotonic() - wall)
        assert own.memory_info().rss < before_it + (256 << 20) and len(view._all) == LINES_MAX
        assert view.dropped > 0 and "lines lost" in state(page)
        assert took < 0.8, f"{took:.2f} of a core"
        assert slowest < 1.0


# -- looking back --------------------------------------------------------------------------------


async def test_all_lines_of_a_request_are_found(there: Journal) -> None:
    """By the audit's field far back, by text around its time; a longer id is another."""
    there.audited(REQUEST_ID="r-7", STATUS=500, TOTAL_MS="30.0", KEY_ID="kab")
    there.line("unexpected KeyError while answering (request r-7)", priority=3)
    there.line("unexpected KeyError while answering (request r-77)", priority=3)
    there.line("item 3 of request r-7 gets no right numbers", "er-vllm@e.service")
    for n in range(600):
        there.line(f"other {n}")
    there.line("much later: r-7")
    found = await lookback.lines_of("r-7", there.command)
    assert [line.unit for line in found] == ["audit", "gateway", "e"]
    assert "--namespace=+er-audit REQUEST_ID=r-7" in there.asked()[0]
    assert await lookback.lines_of("r-8", there.command, roots=there.roots) == ()
    with pytest.raises(Missing, match="no journal on this machine"):
        await lookback.lines_of("r-8", there.command, roots=[there.folder / "none"])


async def test_an_id_that_is_none_is_not_asked_for(there: Journal) -> None:
    """Nothing that journalctl could take for something else reaches it."""
    for bad in ("", "a b", "x=y", "é", "a" * 200):
        with pytest.raises(Missing, match="is no request id"):
            await lookback.lines_of(bad, there.command)
    assert not there.asked()


async def test_a_record_has_all_its_fields(there: Journal) -> None:
    """What was said first, journald's own last; one that is gone is none."""
    there.line("first")
    there.write(MESSAGE="two\nlines\x1b[2J", PRIORITY=3, _SYSTEMD_UNIT="er-gateway.service", Z="1")
    async with aclosing(journal.follow("gateway", there.command)) as batches:
        lines = await anext(batches)
    fields = await lookback.record_of(lines[-1], there.command)
    assert [name for name, _ in fields] == ["MESSAGE", "PRIORITY", "Z", "_SYSTEMD_UNIT"]
    assert dict(fields)["MESSAGE"] == "two\nlines [2J"
    gone = LogLine(NOW, "gateway", 6, "x", cursor="s=9;i=9")
    assert await lookback.record_of(gone, there.command) == ()


# -- the page ------------------------------------------------------------------------------------


async def test_from_a_failed_request_to_its_lines_in_one_key(there: Journal) -> None:
    """The audit, only what failed, enter; once more enter is the record; esc goes back."""
    there.audited(REQUEST_ID="r-1", STATUS=200, METHOD="POST", KEY_ID="kab")
    there.line("engine e0 gave nonsense to request r-2", priority=4)
    there.audited(REQUEST_ID="r-2", STATUS=500, CODE="internal_error", METHOD="POST", TOTAL_MS="4")
    async with at_logs(there) as (app, pilot, page):
        await press(pilot, "h")
        await until(pilot, lambda: len(shown(page)) == 2)
        await press(pilot, "L")
        await until(pilot, lambda: len(shown(page)) == 1)
        assert "only refused and failed requests" in state(page)
        await press(pilot, "enter")
        await until(pilot, lambda: len(shown(page)) == 2)
        assert "request r-2: 2 lines" in state(page)
        assert shown(page)[0].startswith("engine e0 gave nonsense")
        await press(pilot, "j", "enter")
        await until(pilot, lambda: isinstance(app.screen, Record))
        assert "internal_error" in app.screen.query_one("#fields", Lines).said
        await press(pilot, "escape", "escape")
        await until(pilot, lambda: len(shown(page)) == 1)
        assert page.request == "" and "following" in state(page)


async def test_a_typed_id_is_looked_up_and_a_key_asked_of_the_journal(there: Journal) -> None:
    """rid= beyond what was followed; key= in the audit; what was understood is said."""
    there.audited(REQUEST_ID="r-Old", STATUS=429, KEY_ID="kab", METHOD="POST")
    for n in range(journal.LINES_AT_FIRST):
        there.audited(REQUEST_ID=f"r-{n}", STATUS=200, KEY_ID="kq7", METHOD="POST")
    async with at_logs(there) as (app, pilot, page):
        await press(pilot, "h")
        await until(pilot, lambda: len(shown(page)) == journal.LINES_AT_FIRST)
        await press(pilot, "/", *"key=kab", "enter")
        await until(pilot, lambda: len(shown(page)) == 1)
        assert "client key kab" in state(page) and there.asked()[-1].endswith("KEY_ID=kab")
        await press(pilot, "escape")
        await until(pilot, lambda: len(shown(page)) == journal.LINES_AT_FIRST)
        await press(pilot, "/", *"rid=r-Old", "enter")
        await until(pilot, lambda: page.found == 1)
        assert "429" in shown(page)[0] and "request r-Old: 1 line" in state(page)
        await press(pilot, "escape", "escape", "/", *"level>=wran")
        assert "the levels are emerg" in state(page) and "level>=wran" in text(app)


async def test_a_page_elsewhere_hands_a_request_over(there: Journal) -> None:
    """As the Traffic page does from its slowest and failed requests."""
    there.audited(REQUEST_ID="r-9", STATUS=503, METHOD="POST")
    async with opened(Beside(there)) as (app, pilot, _):
        app.pages["overview"].selected_request = lambda: "r-9"  # type: ignore[method-assign]
        await press(pilot, "l")
        page = app.pages["logs"]
        assert isinstance(page, LogsPage)
        await until(pilot, lambda: page.found == 1)
        assert "request r-9" in state(page)
        await press(pilot, "1")
        app.pages["overview"].selected_request = lambda: ""  # type: ignore[method-assign]
        await press(pilot, "l")
        await until(pilot, lambda: page.request == "")
        page.leave()


async def test_an_unknown_request_is_said(there: Journal) -> None:
    """With the way back; the journal is there, the line is not."""
    there.line("something else")
    async with at_logs(there) as (_, pilot, page):
        await settled(pilot, page, "something else")
        page.request = "r-404"
        page.enter()
        await until(pilot, lambda: page.found == 0)
        assert "no line of request r-404" in state(page) and "esc goes back" in state(page)


async def test_a_real_refusal_of_a_real_gateway(there: Journal, tmp_path: Path) -> None:
    """Its audit's records as journald would keep them: from the refusal to its lines."""
    (tmp_path / "er").mkdir()
    with gateway(tmp_path / "er", engines=1) as running:
        await asyncio.to_thread(_refused, running)
        running.wait_for("model_not_found")
        record = next(r for r in running.audit() if r["STATUS"] == 404)
    assert record["CODE"] == "model_not_found"
    there.audited(**record)
    async with at_logs(there) as (app, pilot, page):
        await press(pilot, "h")
        await until(pilot, lambda: len(shown(page)) == 1)
        assert "404 model_not_found POST /v1/embeddings" in text(app) and "WARN" in text(app)
        await press(pilot, "enter")
        await until(pilot, lambda: page.found == 1)
        assert page.request == record["REQUEST_ID"]


def _refused(running: Gateway) -> None:
    assert running.ask("POST", "/v1/embeddings", {"model": "none", "input": "x"}).status == 404


async def test_the_cursor_stays_on_its_line() -> None:
    """Held, filtered, wrapped, clicked; the newest is opened while it follows."""
    async with opened() as (app, pilot, _):
        await press(pilot, "5", "k")
        view = app.screen.query_one(LogView)
        there = view.selected()
        assert there is not None and there.text == "out of memory"
        await press(pilot, "w")
        assert view.selected() == there
        await press(pilot, "L", "L")
        assert view.selected() == there or view.following
        await press(pilot, "g", "G")
        assert view.following and view.selected() is not None
        await press(pilot, "enter")
        await until(pilot, lambda: isinstance(app.screen, Record))


# -- the pager -----------------------------------------------------------------------------------


def test_the_pager_is_the_operators_own(tmp_path: Path) -> None:
    """$PAGER with its options, else less, else more, else a reason."""
    for name in ("mine", "more"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    path = str(tmp_path)
    assert pager.pager({"PATH": path, "PAGER": "mine -x 'a b'"}) == ["mine", "-x", "a b"]
    assert pager.pager({"PATH": path, "PAGER": "gone"}) == ["more"]
    assert pager.pager({"PATH": path, "PAGER": "'"}) == ["more"]
    with pytest.raises(Missing, match="no pager here"):
        pager.pager({"PATH": str(tmp_path / "none")})


def test_the_pager_gets_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it; ctrl-c is its own meanwhile."""
    script = tmp_path / "pg"
    script.write_text(f"#!/bin/sh\ncat > {tmp_path}/got\nkill -INT $PPID\n")
    script.chmod(0o755)
    monkeypatch.setenv("PAGER", str(script))
    pager.show("one\n二\n")
    assert (tmp_path / "got").read_text() == "one\n二\n"


async def test_the_pager_is_not_offered_where_it_can_not_be() -> None:
    """Read-only: not in the footer, and the key says why; a terminal that can't be given away."""
    async with opened(readonly=True) as (app, pilot, _):
        await press(pilot, "5")
        assert "e pager" not in text(app)
        await press(pilot, "e")
        assert "without --readonly" in toasts(app)
    async with opened(looks=Looks()) as (app, pilot, _):
        await press(pilot, "5", "e")
        assert "can't be given to a pager" in toasts(app)
        assert "e pager" in text(app)


def test_the_terminal_is_the_pagers_and_then_the_consoles_again(tmux: Tmux) -> None:
    """The same lines in less; ctrl-c there ends nothing; the console goes on and leaves clean."""
    given = {"PYTHONPATH": str(TUI), "PAGER": "less", "LESS": "-c"}
    tmux.open((100, 30), f"{CONSOLE} --demo", **given)
    tmux.until(lambda s: "q quit" in s)
    tmux.keys("5")
    tmux.until(lambda s: "following" in s and "requests/s" in s)
    tmux.keys("/")
    tmux.keys("-l", "unit=gateway level>=warn")
    tmux.until(lambda s: "level warn and worse" in s)
    tmux.keys("Enter")
    tmux.until(lambda s: "e pager" in s)
    tmux.keys("e")
    shown = tmux.until(lambda s: "(END)" in s)
    assert "gateway      WARN  key kq7m2xw5a is over" in shown
    assert "following" not in shown and "requests/s" not in shown
    tmux.keys("C-c")
    tmux.keys("q")
    shown = tmux.until(lambda s: "following" in s and "q quit" in s)
    assert "1 Overview" in shown and "level warn and worse" in shown
    tmux.keys("q")
    assert "Traceback" not in tmux.until(lambda s: "ended with 0" in s)


async def test_the_plays_own_journal_has_requests() -> None:
    """What --demo shows can be looked up and opened like the real one."""
    play = Demo(wall=lambda: NOW, pause=never)
    async with aclosing(play.follow("audit", 4)) as batches:  # type: ignore[type-var]
        refused = await anext(batches)
    assert refused and all("429" in line.text and line.priority == 4 for line in refused)
    last = refused[-1]
    assert await play.lines_of(last.request) == [last]
    assert ("REQUEST_ID", last.request) in await play.record_of(last)
    async with aclosing(play.follow("audit", 7, last.key)) as batches:  # type: ignore[type-var]
        assert {line.key for line in await anext(batches)} == {last.key}


class Once(Play):
    """A journal that says a line of all, then of another unit a whole screen and more, once."""

    async def follow(
        self, unit: str, level: int = 7, key: str = ""
    ) -> AsyncIterator[Sequence[LogLine]]:
        few = [LINE]
        yield [LogLine(NOW + n, unit, 6, f"line {n}") for n in range(200)] if unit else few
        await never(0)


async def test_the_newest_line_is_in_view_when_no_further_one_comes() -> None:
    """The screen that was there before was too short for a scroll bar."""
    async with opened(Once()) as (app, pilot, _):
        await press(pilot, "5")
        await until(pilot, lambda: "key kab is over" in text(app))
        await press(pilot, "l")
        await until(pilot, lambda: "line 199" in text(app))
        assert "following" in text(app)
