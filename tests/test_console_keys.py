"""The console's Keys page beside a real gateway, and under all that may happen to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from console_live import beside, until
from er_console.console import Console
from er_console.language import speak
from er_console.looks import Looks, width_of
from er_console.reading import read_key
from er_console.screens.dialogs import Box, Confirm, Form
from er_console.screens.key_boxes import BoundKey, EditKey, NewKey, Rotate, Secret
from er_console.screens.key_rows import details, in_order, key_row, key_state
from er_console.screens.keys import KeysPage
from er_console.sources.admin import Admin
from er_console.state import Key, Missing, Use, User
from er_console.widgets.lines import Lines
from running import Gateway, gateway
from test_console_screens import NOW, Play, opened, press, text, toasts
from test_console_sources import answering, http

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with a stand-in engine."""
    with gateway(tmp_path_factory.mktemp("real"), engines=1) as running:
        yield running


@pytest.fixture(autouse=True)
def english_again() -> Iterator[None]:
    """The language is the process's."""
    yield
    speak("en")


@asynccontextmanager
async def keys_page(real: Gateway) -> AsyncIterator[tuple[Console, Pilot[None], KeysPage]]:
    """The page, its list read."""
    async with beside(real.runtime) as (app, pilot):
        await until(pilot, lambda: app.desk.snapshot.status.value is not None)
        await pilot.press("4")
        page = app.pages["keys"]
        assert isinstance(page, KeysPage)
        await until(pilot, lambda: app.screen is page and page.found_at is not None)
        yield app, pilot, page


def words(app: Console) -> str:
    """The sentences on the page or in the box, not wrapped."""
    found = [str(static.content) for static in app.screen.query(Static) if static.display]
    found += [line.strip() for lines in app.screen.query(Lines) for line in lines.said.split("\n")]
    return " ".join(found)


async def stand_on(page: KeysPage, pilot: Pilot[None], name: str) -> Key:
    """Put the cursor on the key of that name."""
    await page.read()
    key = next(key for key in page.found if key.name == name)
    page.query_one("#main").stand_on(key.id)  # type: ignore[attr-defined]
    await pilot.pause()
    return key


async def fill(app: Console, pilot: Pilot[None], **fields: str) -> None:
    """Type into the form's fields, and press enter."""
    for name, said in fields.items():
        box = app.screen.query_one(f"#{name}", Input)
        box.focus()
        box.value = said
    await pilot.press("enter")


async def secret_of(app: Console, pilot: Pilot[None]) -> str:
    """The secret in the box that is shown; then the box is closed."""
    await until(pilot, lambda: isinstance(app.screen, Secret))
    assert isinstance(app.screen, Secret)
    secret = app.screen._secret
    assert secret in "".join(text(app).replace("│", "").split())
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(app.screen, KeysPage))
    return secret


async def make(app: Console, pilot: Pilot[None], **fields: str) -> str:
    """A new key by the form; its secret."""
    await pilot.press("N")
    await until(pilot, lambda: isinstance(app.screen, NewKey))
    await fill(app, pilot, **fields)
    return await secret_of(app, pilot)


async def asked(real: Gateway, secret: str) -> int:
    """The status of a request with that secret."""
    return (await asyncio.to_thread(real.embed, key=secret)).status


async def shows(page: KeysPage, pilot: Pilot[None], *words: str) -> None:
    """Until the page, its list read anew, has these words."""
    limit = time.monotonic() + 15
    while missing := [word for word in words if word not in text(page.app)]:  # type: ignore[arg-type]
        assert time.monotonic() < limit, f"no {missing} in\n{text(page.app)}"  # type: ignore[arg-type]
        await page.read()
        await pilot.pause(0.1)


async def test_a_keys_life_and_its_limit(
    real: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made, used up, raised, rotated twice, revoked; its secrets stay nowhere."""
    monkeypatch.setenv("HOME", str(tmp_path))
    async with keys_page(real) as (app, pilot, page):
        first = await make(app, pilot, name="night", rate_limit="5/minute")
        assert "key night is made" in toasts(app)
        await stand_on(page, pilot, "night")
        assert [await asked(real, first) for _ in range(3)] == [200] * 3
        await shows(page, pilot, "3/5", "3 of 5/minute used now; 3 requests in the last minute")
        assert [await asked(real, first) for _ in range(3)] == [200, 200, 429]
        await shows(page, pilot, "✖ 5/5", "1 of them refused by the limit")

        await pilot.press("E")
        await fill(app, pilot, rate_limit="fast")
        await until(pilot, lambda: "✖ rate limit 'fast': write a rate as" in text(app))
        assert isinstance(app.screen, EditKey) and app.screen.focused is not None
        assert app.screen.focused.id == "rate_limit" and app.screen.typed("rate_limit") == "fast"
        await fill(app, pilot, rate_limit="8/minute")
        await until(pilot, lambda: app.screen is page)
        assert "night is changed: limit 8/minute" in toasts(app)
        assert await asked(real, first) == 200
        await shows(page, pilot, "6/8")

        await pilot.press("O")
        await until(pilot, lambda: isinstance(app.screen, Rotate))
        await pilot.press("enter")
        second = await secret_of(app, pilot)
        assert "night has a new secret; the old one is valid until" in toasts(app)
        await shows(page, pilot, "◐ rotating", "nobody has used it since")
        assert [await asked(real, secret) for secret in (second, first)] == [200, 200]
        await shows(page, pilot, "still used by 127.0.0.1")

        await pilot.press("O")
        await until(pilot, lambda: isinstance(app.screen, Rotate))
        assert "it ends at once; still used by 127.0.0.1" in words(app)
        await pilot.press("right", "right", "right", "enter")
        await until(pilot, lambda: "Choose 0 once more to do it" in words(app))
        await pilot.pause(0.3)  # a button that was just pressed takes no second press
        await pilot.press("enter")
        third = await secret_of(app, pilot)
        assert [await asked(real, secret) for secret in (first, second)] == [401, 401]
        assert await asked(real, third) in (200, 429)

        await pilot.press("X")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await fill(app, pilot, typed="night")
        await shows(page, pilot, "✖ revoked")
        assert await asked(real, third) == 401
        assert "night is revoked" in toasts(app)
        await pilot.press("O")
        assert "is revoked; N makes a new one" in toasts(app)
        kept = app.export_screenshot() + app.clipboard + toasts(app)
    assert not [secret for secret in (first, second, third) if secret in kept + traces(real)]


def traces(real: Gateway) -> str:
    """All that a secret might be left in: logs, the gateway's files, command lines, variables."""
    found = [real.text()]
    for path in [*real.state.rglob("*"), *real.runtime.rglob("*")]:
        if path.is_file():
            found.append(path.read_bytes().decode("latin-1"))
    assert real.process is not None
    for pid in (*real.children(), real.process.pid, "self"):
        for file in ("cmdline", "environ"):
            found.append((Path("/proc") / str(pid) / file).read_bytes().decode("latin-1"))
    return "\n".join(found)


async def test_a_key_expires_and_is_given_more_time(real: Gateway) -> None:
    """Refused from that second on; a later end lets it in again, its secret is the same."""
    async with keys_page(real) as (app, pilot, page):
        secret = await make(app, pilot, name="short", expires="2s")
        assert await asked(real, secret) == 200
        await stand_on(page, pilot, "short")
        await shows(page, pilot, "▲ expires soon")
        await shows(page, pilot, "✖ expired", "it expired")
        assert await asked(real, secret) == 401
        await pilot.press("E")
        await fill(app, pilot, expires="30d", models="embed, other")
        await until(pilot, lambda: app.screen is page)
        assert await asked(real, secret) == 200
        await shows(page, pilot, "it opens embed, other")


async def test_two_consoles_edit_one_key(real: Gateway) -> None:
    """Other fields are left as the other console set them; the same field is asked about."""
    other = Admin(real.runtime / "admin.sock", by_systemd=False)
    async with keys_page(real) as (app, pilot, page):
        await make(app, pilot, name="shared", rate_limit="10/minute")
        key = await stand_on(page, pilot, "shared")
        await pilot.press("E")
        await other.change_key(key.id, {"rate_limit": "20/minute"})
        await fill(app, pilot, name="common")
        await until(pilot, lambda: app.screen is page)
        assert (await stand_on(page, pilot, "common")).rate_limit == "20/minute"
        await pilot.press("E")
        await other.change_key(key.id, {"rate_limit": "30/minute"})
        await fill(app, pilot, rate_limit="40/minute")
        await until(pilot, lambda: "meanwhile it was changed to 30/minute" in text(app))
        assert isinstance(app.screen, EditKey) and app.screen.typed("rate_limit") == "40/minute"
        await pilot.press("enter")
        await until(pilot, lambda: app.screen is page)
        assert (await stand_on(page, pilot, "common")).rate_limit == "40/minute"
        await pilot.press("E")
        await other.revoke_key(key.id)
        await fill(app, pilot, name="late")
        await until(pilot, lambda: "revoked since" in text(app))
        await pilot.press("escape")
        assert app.screen is page


async def test_what_bounds_a_key_is_set_and_taken_away(real: Gateway) -> None:
    """Each field by the words that er keys takes; a mistake is said beside its field."""
    wanted = {
        "team": "search",
        "scopes": "inference, admin-read",
        "networks": "127.0.0.0/8, 10.0.0.0/8",
        "concurrency": "8",
        "token_limit": "1000000/minute",
        "quota": "50M tokens/month",
        "weight": "3",
    }
    async with keys_page(real) as (app, pilot, page):
        secret = await make(app, pilot, name="bounded")
        await stand_on(page, pilot, "bounded")
        await pilot.press("B")
        await fill(app, pilot, **wanted)
        await until(pilot, lambda: app.screen is page)
        assert "weight 3" in toasts(app)
        key = await stand_on(page, pilot, "bounded")
        assert {"team": key.team, **dict(key.bounds)} == wanted
        await shows(page, pilot, "team search; for inference, admin-read alone")
        assert await asked(real, secret) == 200
        await pilot.press("B")
        assert isinstance(app.screen, BoundKey)
        assert {name: app.screen.typed(name) for name in wanted} == wanted
        wrong = {"networks": "here", "concurrency": "many", "quota": "much", "weight": "0"}
        for name, said in wrong.items():
            await fill(app, pilot, **{name: said})
            await until(pilot, lambda name=name: app.screen.query_one(f"#wrong-{name}").display)
            await fill(app, pilot, **{name: wanted[name]})
            await until(pilot, lambda: "Nothing was changed." in words(app))
        await fill(app, pilot, networks="10.0.0.0/8")
        await until(pilot, lambda: app.screen is page)
        assert await asked(real, secret) == 403
        await pilot.press("B")
        none = {"team": "none", "scopes": "default", "networks": "all", "concurrency": "off"}
        await fill(app, pilot, **none, token_limit="off", quota="", weight="")
        await until(pilot, lambda: app.screen is page)
        key = await stand_on(page, pilot, "bounded")
        assert (key.team, key.bounds) == ("", ())
        assert await asked(real, secret) == 200


NAMES = ("密" * 40, "[/]", "[@click=app.quit]x[/]", "\\[x \"'` %s {x} $1")


async def test_names_that_are_hard_to_show(real: Gateway) -> None:
    """They stand as they are in list, boxes and toasts, and end nothing."""
    other = Admin(real.runtime / "admin.sock", by_systemd=False)
    for name in NAMES[1:]:
        await other.create_key({"name": name})
    async with keys_page(real) as (app, pilot, page):
        await make(app, pilot, name=NAMES[0])
        assert NAMES[0][:18] in toasts(app)
        for name, key in zip(NAMES, "EOXX", strict=True):
            await stand_on(page, pilot, name)
            assert text(app).count(name[:8]) >= 2  # in its row and below the table
            await pilot.press(key)
            await until(pilot, lambda: isinstance(app.screen, Box))
            assert name[:8] in str(app.screen.query_one("#box").border_title)
            await pilot.press("y" if name == NAMES[-1] else "escape")
        await until(pilot, lambda: f"{NAMES[-1]} is revoked" in toasts(app))


def test_states_and_what_they_depend_on() -> None:
    """Revoked before expired before expiring before rotating."""

    def stamp(seconds: float) -> str:
        return datetime.fromtimestamp(NOW + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    rotating = Key("k1", "a", previous_valid_until=stamp(60))
    assert key_state(Key("k1", "a"), NOW) == "active"
    assert key_state(rotating, NOW) == "rotating" and key_state(rotating, NOW + 61) == "active"
    assert key_state(Key("k1", "a", expires=stamp(8 * 86400)), NOW) == "active"
    assert key_state(Key("k1", "a", expires=stamp(6 * 86400)), NOW) == "expires soon"
    assert key_state(Key("k1", "a", expires=stamp(-1)), NOW) == "expired"
    assert key_state(Key("k1", "a", expires=stamp(-1), revoked=stamp(-9)), NOW) == "revoked"


def test_a_limit_that_is_no_number_is_shown_as_it_is() -> None:
    """Whatever a gateway of another version says."""
    for limit, said in (("20000/minute", "20k/minute"), ("²/day", "²/day"), ("off", "off")):
        assert key_row(Key("k1", "a", use=Use(limit)), NOW, Looks()).cells[3][0] == said


def test_what_bounds_a_key_beside_its_rate_is_said() -> None:
    """Of a key that has some; one of an older gateway, or without, has no such line."""
    told = {
        "id": "kab2cd3ef",
        "name": "web",
        "team": "search",
        "scopes": ["inference", "admin-read"],
        "networks": ["10.0.0.0/8"],
        "concurrency": 8,
        "token_limit": "1000000/minute",
        "quota": "50M tokens/month",
        "weight": 3,
    }
    plain = read_key({"id": "kab2cd3ef", "name": "web", "scopes": ["metrics", "inference"]})
    assert len(details(plain, 0.0, Looks())) == 2
    words, role = details(read_key(told), 0.0, Looks())[-1]
    assert role == "dim"
    assert words == (
        "team search; for inference, admin-read alone; from 10.0.0.0/8; 8 requests at once; "
        "1000000/minute tokens; quota 50M tokens/month; weight 3"
    )


def test_the_order_is_that_of_people() -> None:
    """By name, numbers by their value; what opens nothing comes last."""
    names = ["web", "Key-10", "key-9", "key-9b", "", "9", "搜索2"]
    keys = [Key(f"k{n}", name) for n, name in enumerate(names)]
    keys.append(Key("k8", "a", revoked="2026-11-01T00:00:00Z"))
    ordered = [key.name for key in in_order(keys, NOW)]
    assert ordered == ["", "9", "key-9", "key-9b", "Key-10", "web", "搜索2", "a"]


class Many(Play):
    """A thousand keys, some with figures that nobody knows."""

    async def keys(self) -> tuple[Key, ...]:
        users = tuple(User(f"10.0.0.{n}", NOW - n) for n in range(9))
        until = datetime.fromtimestamp(NOW + 600, UTC).isoformat()
        rotating = Key("kzzzzzzzz", "0 first", previous_valid_until=until, old_users=users)
        return (
            *(
                Key(f"k{n:08d}", f"team {n:04d} 搜索", use=Use("100/minute", n % 101.0, n, 0.0))
                for n in range(999)
            ),
            rotating,
        )


async def test_a_thousand_keys_stay_quick() -> None:
    """A key press costs no more than a frame or two, wherever the cursor is."""
    async with opened(Many()) as (app, pilot, _):
        await press(pilot, "4")
        assert "10.0.0.3 (3s ago) and 5 more" in words(app)
        assert "what it uses now is not known" in text(app)
        began = time.process_time()
        await press(pilot, *"jjjjjjjjjj")
        assert (time.process_time() - began) / 10 < 0.4
        await press(pilot, "G")
        assert "team 0998" in text(app)
        await press(pilot, "slash", *"0500", "enter")
        assert "team 0500" in text(app) and "team 0501" not in text(app)


@pytest.mark.parametrize(("size", "language"), [((80, 24), "en"), ((60, 16), "zh")])
async def test_boxes_by_keyboard_alone_at_small_sizes(size: tuple[int, int], language: str) -> None:
    """What has the focus is in view; all can be reached by tab; rows keep within the frame."""
    speak(language)
    async with opened(size=size) as (app, pilot, play):
        await press(pilot, "4")
        for key, kind in (
            ("N", NewKey),
            ("E", EditKey),
            ("B", BoundKey),
            ("O", Rotate),
            ("X", Confirm),
        ):
            await press(pilot, key)
            box = app.screen
            assert isinstance(box, kind)
            start = box.focused
            for _ in range(len(box.focus_chain)):
                seen = box.focused
                assert seen is not None
                assert box.query_one("#box").content_region.contains_region(seen.region), seen
                await press(pilot, "tab")
            assert box.focused is start
            assert all(width_of(row) <= size[0] for row in text(app).splitlines())
            await press(pilot, "escape")
            assert isinstance(app.screen, KeysPage)
        assert play.asked == []
        await press(pilot, "O", "enter")
        assert isinstance(app.screen, Secret)
        shown = "".join(
            row.partition("│")[2].partition("│")[0].strip() for row in text(app).splitlines()
        )
        assert app.screen._secret in shown
        await press(pilot, "pagedown")
        assert isinstance(app.screen, Secret)


class Dying(Play):
    """A gateway that goes away before it has answered."""

    async def create_key(self, options: Mapping[str, Any]) -> tuple[Key, str]:
        await super().create_key(options)
        raise Missing("late", "the gateway went away before it answered", "look again")


async def test_a_gateway_that_dies_in_between() -> None:
    """It may have been done: the form stays, the list is read again; pressing again is refused."""
    async with opened(Dying()) as (app, pilot, _):
        await press(pilot, "4", "N", *"lost", "enter")
        assert isinstance(app.screen, NewKey)
        assert "✖ the gateway went away before it answered. look again" in text(app)
        await press(pilot, "enter")
        assert "is already named 'lost'" in text(app)
        await press(pilot, "escape")
        assert "lost" in text(app)


class Slow(Play):
    """A gateway whose answer does not come."""

    async def rotate_key(self, key_id: str, grace: str) -> tuple[Key, str]:
        self.asked.append(("rotate", key_id, grace))
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_box_waits_for_its_answer() -> None:
    """Its answer may hold a secret: esc does not throw it away; enter asks no second time."""
    async with opened(Slow()) as (app, pilot, play):
        await press(pilot, "4", "O", "enter", "escape", "enter")
        assert isinstance(app.screen, Form) and len(play.asked) == 1
        assert "wait: the gateway was asked" in text(app)


@pytest.mark.parametrize(
    ("key", "command"),
    [
        ("N", "sudo er keys create --name NAME"),
        ("E", "sudo er keys set KEY --rate-limit 1000/minute"),
        ("B", "sudo er keys set KEY --quota '50M tokens/month'"),
        ("O", "sudo er keys rotate KEY"),
        ("X", "sudo er keys revoke KEY"),
    ],
)
async def test_without_rights_the_command_is_told(key: str, command: str) -> None:
    """Greyed, with the reason and what would do it."""
    lack = Missing("rights", "no right to use admin.sock", "sudo usermod -aG er joe")
    async with opened(Play(status=lack)) as (app, pilot, play):
        await press(pilot, "4")
        assert "N (new)" in text(app) and "no right to use admin.sock" in text(app)
        await press(pilot, key)
        assert isinstance(app.screen, KeysPage) and play.asked == []
        assert "no right to use admin.sock" in toasts(app) and command in toasts(app)


async def test_readonly_names_the_key_in_the_command() -> None:
    """The list is there, nothing can be done with it from here."""
    async with opened(readonly=True) as (app, pilot, play):
        await press(pilot, "4", "O")
        assert isinstance(app.screen, KeysPage) and play.asked == []
        assert "opened with --readonly" in toasts(app)
        assert "sudo er keys rotate kq7m2xw5a" in toasts(app)


async def test_an_old_list_says_how_old() -> None:
    """The gateway went down: the rows stay, with the time that they are of."""
    async with opened() as (app, pilot, play):
        await press(pilot, "4")
        play.lacks["status"] = Missing("refused", "nobody listens at admin.sock", "start it")
        page = app.pages["keys"]
        assert isinstance(page, KeysPage)
        await page.read()
        await pilot.pause()
        assert "nobody listens at admin.sock. start it" in text(app)
        assert "etl" in text(app) and "the list is of" in text(app)


async def test_ascii_terminals_get_ascii_boxes() -> None:
    """Signs of errors too; a name that can't be shown is left as it is by an edit."""
    async with opened(looks=Looks(ascii_only=True)) as (app, pilot, play):
        key_id = "kab2cd3ef"
        await play.change_key(key_id, {"name": "网页"})
        await press(pilot, "4", "G", "k")
        for key in "EOX":
            await press(pilot, key)
            assert isinstance(app.screen, Box) and text(app).isascii()
            await press(pilot, "escape")
        await press(pilot, "E")
        app.screen.query_one("#rate_limit", Input).value = "x"
        app.screen.query_one("#rate_limit").focus()
        await press(pilot, "enter")
        assert "x rate limit 'x'" in text(app) and text(app).isascii()
        app.screen.query_one("#rate_limit", Input).value = "7/hour"
        await press(pilot, "enter")
        found = {key.id: key for key in await play.keys()}[key_id]
        assert (found.name, found.rate_limit) == ("网页", "7/hour")


async def test_the_admin_api_is_asked_as_it_wants_to_be(tmp_path: Path) -> None:
    """PATCH with what was changed; a refusal's field; an answer that broke off may be a deed."""
    at = tmp_path / "admin.sock"
    admin = Admin(at, by_systemd=False)
    told = b'{"error": {"message": "rate limit: no", "code": "invalid", "field": "rate_limit"}}'
    async with answering(at, http(told, "400 Bad Request")) as sent:
        with pytest.raises(Missing, match="rate limit: no") as refused:
            await admin.change_key("k1", {"rate_limit": None})
    assert refused.value.about == "rate_limit"
    assert sent[0].startswith(b"PATCH /keys/k1 HTTP/1.1") and b'{"rate_limit": null}' in sent[0]
    async with answering(at, b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{"):
        with pytest.raises(Missing, match="may have been done") as broken:
            await admin.rotate_key("k1", "24h")
        with pytest.raises(Missing, match="can't be read"):
            await admin.keys()
    assert broken.value.kind == "late"
