"""`er report`: its totals are usage's and the audit's; it escapes, loads nothing, and says what it
does not know; English and Chinese; also with the gateway down."""

from __future__ import annotations

import contextlib
import html as escaping
import io
import json
import os
import re
import string
import time
from collections import Counter
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from er import keys
from er.capacity import result
from er.capacity import words as capacity_words
from er.capacity.result import Advice, Capacity, OfModel, Row
from er.chinese import wanted
from er.cli.__main__ import main
from er.history.hourly import Event, Hour, OfReplica, Times
from er.history.hourly import OfModel as HourOfModel
from er.report import html, markdown
from er.report.facts import Facts, Summary, summary
from er.report.plots import INK
from er.report.scales import decades, linear, short
from er.report.words import STATES, TEXTS, Words, percent
from launched import until
from running import Gateway, gateway

HOUR = 498_700  # some hour since 1970
NASTY = '<script>alert(1)</script>|`x`[a](http://evil.example)\x1b[31m"&'


class Said(NamedTuple):
    """What a command said."""

    code: int
    out: str
    err: str


def called(environment: dict[str, str], *words: str) -> Said:
    """`er` as an operator calls it, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, environment),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = main(words)
    return Said(code, out.getvalue(), err.getvalue())


class Reader(HTMLParser):
    """What a browser would make of a page: its text, its tags, and what it would load."""

    LOADS = ("src", "href", "action", "data", "poster", "srcset", "background", "xlink:href")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.loads += [value or "" for name, value in attrs if name in self.LOADS]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag not in ("meta", "br"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if self._open[-1:] != ["style"] else ""


def used(hour: int, key: str, *figures: int, team: str = "", name: str = "") -> dict[str, Any]:
    """A row as usage gives it."""
    at = datetime.fromtimestamp(hour * 3600, UTC).strftime("%Y-%m-%dT%H:00Z")
    named = {"hour": at, "key": key, "name": name, "team": team, "model": "m"}
    return named | dict(zip(("requests", "refused", "texts", "tokens"), figures, strict=True))


def row(**more: Any) -> Row:
    """A measured row."""
    figures = dict.fromkeys(("p50_ms", "p95_ms", "p99_low_ms", "p99_high_ms"), 5.0)
    whole = {"inputs": 1, "tokens": 128, "mean_tokens": 130.0, "goal_ms": 50.0, "rate": 20.0}
    whole |= {"texts_per_s": 20.0, "tokens_per_s": 2600.0, "p99_ms": 40.0, "open_end": False}
    return Row(**{**figures, **whole, "parts_ms": {}, "tried": [], **more})


def facts(name: str = "web", **more: Any) -> Facts:
    """Two hours, of which one was watched, with a bit of everything in it."""
    times = Times()
    times.add({0.01: 90.0, 0.1: 9.0, 1.0: 1.0})
    hour = Hour(
        1,
        HOUR + 1,
        known_s=3600.0,
        requests=110.0,
        ok=100.0,
        texts=300.0,
        tokens=3000.0,
        refusals={"overloaded": 8.0, NASTY if name == NASTY else "invalid_api_key": 2.0},
        times=times,
        models={"m": HourOfModel(100.0, 300.0, 10.0, times)},
        replicas={name: OfReplica(3240.0, 3600.0)},
        peaks={"in_flight": 7.0, "requests": 4.0, "texts": 10.0, "tokens": 100.0},
        events=[
            Event(HOUR * 3600 + 3700, "out", name, f"down: {name}"),
            Event(HOUR * 3600 + 4060, "back", name, "", 360.0),
            Event(HOUR * 3600 + 5000, "gateway", "", "", 3.0),
            Event(HOUR * 3600 + 6000, "out", name, f"down: {name}"),
        ],
    )
    drift = {"mean": 1e-6, "largest": 1e-5, "tolerance": 1e-3}
    replica = {"name": name, "model": name, "state": "drifted", "reason": name}
    replica |= {"last": {"ndcg10": 0.87, "drift": drift}, "history": [[1e9, 0.9, 0.0]] * 3}
    quality = {"set": {"queries": 300, "pairs": 2400}, "replicas": [replica]}
    model = {"model": name, "feedbacks": 4, "click_rate": 0.5, "satisfaction": 0.75, "mrr": 0.8}
    said = {"at": 1e9, "model": name, "comment": name}
    feedback = {"total": 4, "models": [model], "recent": [said]}
    advice = [Advice(kind="replicas", figures={"share": 0.9, "replicas": 1.0})]
    measured = OfModel(model="m", task="embed", replicas=1, rows=[row()], advice=advice)
    capacity = Capacity(
        er="1",
        at=1e9,
        seconds=90.0,
        interrupted=False,
        stopped="",
        workers=1,
        cores=2,
        models=[measured],
    )
    whole = {
        "host": name,
        "version": "1",
        "made": (HOUR + 2) * 3600.0,
        "since": HOUR,
        "until": HOUR + 2,
        "used": [
            used(HOUR, "k1", 900, 5, 900, 9000, team=name, name=name),
            used(HOUR + 1, "k2", 100, 8, 300, 3000),
        ],
        "hours": [hour],
        "quality": quality,
        "feedback": feedback,
        "capacity": capacity,
    }
    return Facts(**{**whole, **more})


# -- figures -------------------------------------------------------------------------------------


def test_figures_follow_from_the_counts() -> None:
    """Sums, quantiles of all requests, pairs of out and back, the share of what was measured."""
    found = summary(facts())
    assert found.total == (1000, 13, 1200, 12000) and found.success == 1000 / 1013
    assert [group.name for group in found.keys] == ["web (k1)", "k2"]
    assert [group.name for group in found.teams] == ["web"]
    assert found.steps[0].quantiles["p99"] is None  # nobody watched: not 0
    assert found.quantiles["p99"] == pytest.approx(100.0) and found.worst == (HOUR + 1, 100.0)
    assert [(i.kind, i.seconds) for i in found.incidents] == [
        ("out", None),
        ("gateway", 3.0),
        ("out", 360.0),
    ]
    assert found.refusals == [("overloaded", 8.0), ("invalid_api_key", 2.0)]
    assert found.used[0].peak_texts / found.used[0].row.texts_per_s == 0.5
    mine = [*facts().used, used(HOUR + 1, "local", 9000, 0, 9000, 9000)]  # er capacity itself
    assert summary(facts(used=mine)).used == found.used


def test_the_nearest_measured_shape_is_taken() -> None:
    """Texts of this machine's clients decide which row their load is compared with."""
    rows = [row(), row(inputs=16, texts_per_s=80.0), row(tokens=512, mean_tokens=512.0)]
    model = OfModel(model="m", task="embed", replicas=1, rows=rows, advice=[])
    capacity = Capacity(
        er="1", at=1e9, seconds=9.0, interrupted=True, stopped="x", workers=1, cores=2,
        models=[model],
    )  # fmt: skip
    for requests, texts, tokens, right in ((9, 9, 999, 0), (9, 150, 18000, 1), (9, 9, 5000, 2)):
        mine = [used(HOUR, "k", requests, 0, texts, tokens)]
        assert summary(facts(capacity=capacity, used=mine)).used[0].row is rows[right]


@pytest.mark.parametrize(("hours", "step"), [(2, 1), (192, 1), (193, 6), (1500, 24), (20000, 168)])
def test_long_spans_have_longer_steps(hours: int, step: int) -> None:
    """A plot has some 200 figures at the most, and no count is lost in it."""
    found = summary(facts(since=HOUR + 2 - hours))
    assert found.step_h == step and len(found.steps) <= 260
    assert sum(one.sums.requests for one in found.steps) == 1000
    html.page(found, Words("en"))


@given(st.floats(1e-3, 1e12))
def test_axes_hold_their_figures(most: float) -> None:
    """Round steps, not many, and the highest is not cut off."""
    axis = linear(most)
    assert axis.high >= most * (1 - 1e-9) and 2 <= len(axis.ticks) <= 7
    assert 0 <= axis.at(most) <= 1 and axis.at(axis.high) == 1
    powers = decades(most, most * 30)
    assert powers.low <= most * 1.001 and powers.high >= most * 29.9
    assert len(short(most)) <= 9


def test_what_is_not_whole_is_never_100_percent() -> None:
    """One of a million refused is not none."""
    shown = [percent(v) for v in (1.0, 999_999 / 1e6, 0.5, None)]
    assert shown == ["100.0 %", "> 99.9 %", "50.0 %", "-"]


# -- pages ---------------------------------------------------------------------------------------


def pages(found: Summary) -> list[str]:
    return [page(found, Words(tongue)) for page in (html.page, markdown.page) for tongue in WORDS]


WORDS: tuple[capacity_words.Language, ...] = ("en", "zh")


def test_a_page_is_whole_and_loads_nothing() -> None:
    """Well-formed, with its own policy; nothing in it names another place."""
    for language in WORDS:
        page = html.page(summary(facts()), Words(language))
        read = Reader(page)
        assert (read.loads, read.handlers, read.tags["script"]) == ([], [], 0)
        assert "default-src 'none'" in page and "url(" not in page.replace("url(#hatch)", "")
        assert "http" not in page.replace("http-equiv", "") and "@import" not in page
        assert "@media print" in page and read.tags["svg"] >= 4
        assert f'lang="{"zh-CN" if language == "zh" else "en"}"' in page


def test_what_clients_wrote_is_text_everywhere() -> None:
    """Names of keys, teams, models, replicas, codes, comments: no tag, no link, no control."""
    plain = {n: Reader(html.page(summary(facts()), Words(n))).tags for n in WORDS}
    for language in WORDS:
        page = html.page(summary(facts(NASTY)), Words(language))
        read = Reader(page)
        assert read.tags == plain[language] and "\x1b" not in page
        assert read.text.count("<script>alert(1)</script>") >= 10
        text = markdown.page(summary(facts(NASTY)), Words(language))
        assert "\x1b" not in text and not re.search(r"(?<!\\)[<`\[](?!``)(?!text)", _unfenced(text))
        assert "://" not in text.replace("\\://", "") and text.count("\\<script\\>") >= 10
        for table in re.findall(r"(?m)(?:^\|.*\n)+", _unfenced(text)):
            cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
            assert len(cells) == 1, table


def _unfenced(text: str) -> str:
    return re.sub(r"(?ms)^```text$.*?^```$", "", text)


def test_what_nobody_knows_is_said() -> None:
    """No gateway, no canary, no hours, no capacity, no traffic: sentences, not zeros."""
    bare: dict[str, Any] = dict.fromkeys(("quality", "feedback", "capacity"))
    bare |= {"hours": [], "used": []}
    for page in pages(summary(facts(**bare))):
        assert not re.search(
            r"\b(nan|inf)\b|None(?!\.)", re.sub(r"(?s)<style>.*?</style>", "", page)
        )
    text = markdown.page(summary(facts(**bare)), Words("en"))
    for said in ("Nobody asked", "runs no canary", "feedback is not known", "Not measured",
                 "No request's time is known"):  # fmt: skip
        assert said in text
    text = markdown.page(summary(facts(**bare | {"unasked": "the gateway is down"})), Words("en"))
    assert "could not be asked (the gateway is down)" in text
    text = markdown.page(summary(facts(capacity=None, unmeasured="it is damaged")), Words("en"))
    assert "Not known: it is damaged" in text
    text = markdown.page(summary(facts(damaged=["a file: 3"])), Words("en"))
    assert "left out: a file: 3" in text


def test_both_languages_have_the_same_places() -> None:
    """Every text has a Chinese one with the same figures in it, which is Chinese."""
    alike = {"mrr", "ndcg", "tokens"}
    for name, (english, chinese) in [*TEXTS.items(), *capacity_words.ADVICE.items()]:
        places = [
            sorted((p, spec) for _, p, spec, _ in string.Formatter().parse(text) if p)
            for text in (english, chinese)
        ]
        assert places[0] == places[1], name
        assert re.search("[\u4e00-\u9fff]", chinese) or name in alike, name
    assert all(re.search("[\u4e00-\u9fff]", chinese) for _, chinese in STATES.values())


def test_colours_have_contrast_and_are_not_alone() -> None:
    """Text and lines at 7 to 1 on white; series differ in dashes or pattern, states in glyphs."""

    def light(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        lit = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * lit[0] + 0.7152 * lit[1] + 0.0722 * lit[2]

    text = [*INK, *re.findall(r"(?<!-)color: (#[0-9a-f]{6})", html.STYLE), "#444444"]
    assert len(text) >= 5 and all(1.05 / (light(colour) + 0.05) >= 7 for colour in text)
    page = html.page(summary(facts()), Words("en"))
    assert 'stroke-dasharray="7 3"' in page and "url(#hatch)" in page and "▲ drifted" in page


# -- the command ---------------------------------------------------------------------------------


def test_the_language_is_that_of_the_locale() -> None:
    """--lang first, then the first of LC_ALL, LC_MESSAGES and LANG that is set."""

    def chosen(said: Any, environment: dict[str, str]) -> str:
        return wanted(environment, said)

    assert chosen("en", {"LANG": "zh_CN.UTF-8"}) == "en" and chosen("zh", {}) == "zh"
    assert chosen(None, {"LANG": "zh_CN.UTF-8"}) == "zh" and chosen(None, {}) == "en"
    assert chosen(None, {"LC_ALL": "C.UTF-8", "LANG": "zh_CN.UTF-8"}) == "en"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--since", "soon"), "--since: 'soon' is not a time"),
        (("--until", "2001-01-01"), "is not before --until 2001-01-01"),
        (("--since", "2001-01-01"), "at most 500 days; 400 are kept"),
    ],
)
def test_wrong_words(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    """64, with what to write."""
    done = called({"STATE_DIRECTORY": str(tmp_path)}, "report", *words)
    assert (done.code, done.out) == (64, "") and said in done.err


def test_where_it_cannot_write_or_nothing_ever_ran(tmp_path: Path) -> None:
    """A path that takes nothing is named; without any figures there is a page that says so."""
    where = {f"{kind}_DIRECTORY": str(tmp_path) for kind in ("STATE", "RUNTIME", "CONFIGURATION")}
    done = called(where, "report", "--html", str(tmp_path / "none/report.html"))
    assert done.code == 1 and "none/report.html: No such file" in done.err
    (tmp_path / result.FILE).write_text("{")
    done = called(where, "report")
    assert done.code == 0 and "measure anew: er capacity" in done.out
    assert "no gateway runs here" in done.out.replace("\\", "")


def known_totals(text: str) -> tuple[int, ...]:
    """The figures of the first sentence."""
    sentence = re.search(
        r"- ([\d,]+) requests were answered, ([\d,]+) refused .*; (.*) tokens", text
    )
    assert sentence, text
    texts, tokens = sentence[3].split(" texts, ")
    return tuple(int(n.replace(",", "")) for n in (sentence[1], sentence[2], texts, tokens))


def test_totals_are_those_of_usage_and_the_audit(tmp_path: Path) -> None:
    """A known mix, a replica that dies, callers without a key; then all is down."""
    with gateway(tmp_path) as running:
        path = running.state / "er_api_keys.json"
        made = keys.create(path, name=NASTY[:40], now=datetime.now(UTC), team="<b>team")
        secret = made.shown()["secret"]
        for i in range(20):
            assert running.embed(f"text {i}", key=secret).status == 200
        assert running.embed("x" * 2000, key=secret).status == 400
        assert running.embed("x", key="sk-er-wrong").status == 401
        until(lambda: _known(running).get("up"))
        running.engines[0].kill()
        assert running.embed("while it is out", key=secret).status == 503
        until(lambda: "out" in _events(running))
        time.sleep(1.2)  # two flushes of a busy worker
        running.stop()
        environment = running.environment() | {"LC_ALL": "C.UTF-8"}
        report = called(environment, "report", "--since", "1h")
        usage = json.loads(called(environment, "usage", "--since", "1h", "--json").out)
        page = tmp_path / "report.html"
        done = called(environment, "report", "--since", "1h", "--html", str(page), "--lang", "zh")
        audit = [r for r in running.audit() if "REQUEST_ID" in r]
    assert (report.code, done.code) == (0, 0), report.err + done.err
    totals = known_totals(report.out)
    assert totals == tuple(usage["total"].values())
    mine = [r for r in audit if r.get("KEY_ID")]
    good = [r for r in mine if str(r["STATUS"]) == "200"]
    assert totals[:2] == (len(good), len(mine) - len(good))
    assert totals[3] == sum(int(r["TOKENS"]) for r in good)
    causes = Counter(r["CODE"] for r in audit if r["CODE"])
    for code, count in causes.items():
        assert re.search(
            rf"\| {markdown.safe(code)} \| {count} \|".replace("\\", r"\\?"), report.out
        )
    assert "replica e0 went out" in report.out and "could not be asked" in report.out
    assert "<b>team" not in page.read_text() and escaping.escape("<b>team") in page.read_text()
    assert oct(page.stat().st_mode & 0o777) == "0o640" and Reader(page.read_text()).loads == []


def _known(running: Gateway) -> dict[str, Any]:
    """The hour that is not over, as it is stored."""
    path = running.state / "hourly/now.json"
    found: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
    return found


def _events(running: Gateway) -> list[str]:
    return [event[1] for event in _known(running)["hour"]["events"]]
