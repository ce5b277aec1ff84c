"""The console's judgement: what is said of which readings, without a terminal or a clock."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from er_console.advice import advice
from er_console.consequences import about_drain, about_revoke, about_unit
from er_console.judgement import changes, lasted, verdict
from er_console.language import speak
from er_console.looks import (
    Looks,
    figure,
    fit,
    share,
    size,
    wants_ansi,
    wants_ascii,
    width_of,
    wrapped,
)
from er_console.panels import History
from er_console.parts import Pending, gateway, gpus, replicas
from er_console.reading import read_sample, read_status
from er_console.state import Key, Missing, Reading, Snapshot, Traffic, Unit
from er_console.tables import PART_COLUMNS, Row, column_widths, part_rows, table_line

GOLDEN = Path(__file__).parent / "golden" / "status.json"
NOW = 1795449872.0


def golden() -> dict[str, Any]:
    """A fresh copy of the example of GET /status."""
    found: dict[str, Any] = json.loads(GOLDEN.read_text())
    return found


def seen(data: dict[str, Any], at: float = NOW, **others: Any) -> Snapshot:
    """A snapshot with this status, read at `at`."""
    return Snapshot(status=Reading(read_status(data), at), **others)


def units(**states: str) -> Reading[Any]:
    """systemd's units by short name: gateway, target or a replica's."""
    names = {"gateway": "er-gateway.service", "target": "er.target"}
    found = {}
    for short, active in states.items():
        name = names.get(short, f"er-vllm@{short}.service")
        found[name] = Unit(name, active, since=NOW - 60)
    return Reading(found, NOW)


def all_up() -> dict[str, Any]:
    """The example with both replicas up."""
    data = golden()
    data["status"], data["reason"] = "ok", ""
    for model in data["models"]:
        for replica in model["replicas"]:
            replica |= {"state": "up", "reason": "", "unit_state": "active"}
    return data


def test_the_example_is_read_whole() -> None:
    """Every figure of the example arrives under its name."""
    status = read_status(golden())
    assert [r.name for r in status.replicas] == ["embedding", "reranker"]
    assert status.replicas[1].sample is not None
    assert status.replicas[1].sample.last_error.startswith("not enough GPU memory")
    assert status.gateway.max_concurrency == 500
    assert status.traffic.p95_ms == 38.0
    assert status.traffic.refusals == {"rate_limit_exceeded": 38, "input_too_long": 2}
    assert status.gpus[1].replicas == ("embedding",)
    assert status.raw["version"] == "0.1.0"


def test_unknown_members_and_nulls_are_no_error() -> None:
    """An older or newer gateway's status is read as far as it goes; unknown is None, not 0."""
    data = {"status": "ok", "traffic": {"p50_ms": None, "new": 3}, "gpus": None, "models": [7]}
    status = read_status(data)
    assert status.traffic.p50_ms is None
    assert status.replicas == () and status.gpus == ()


def test_a_model_via_another_has_no_replicas_of_its_own() -> None:
    """It lists the other's, which are not counted twice."""
    data = all_up()
    via = {"name": "bi", "task": "score", "via": "Qwen3-Embedding-0.6B"}
    data["models"].append(via | {"replicas": data["models"][0]["replicas"]})
    assert len(read_status(data).replicas) == 2
    assert verdict(seen(data), NOW).sentence == "2 of 2 replicas answering"


@pytest.mark.parametrize("data", [{}, {"status": 3}, []])
def test_what_is_no_status_is_said_to_be_none(data: Any) -> None:
    """An answer of another kind is a reason, not a crash."""
    with pytest.raises(Missing, match="not a status"):
        read_status(data)


def test_control_characters_never_reach_the_terminal() -> None:
    """A reason can't clear the operator's screen."""
    data = golden()
    data["models"][1]["replicas"][0]["reason"] = "bad\x1b[2Jthing\n"
    assert read_status(data).replicas[1].reason == "bad [2Jthing "


def test_verdict_ok_names_the_count() -> None:
    """All replicas up: OK, exit code 0."""
    found = verdict(seen(all_up()), NOW)
    assert (found.word, found.exit_code) == ("OK", 0)
    assert found.sentence == "2 of 2 replicas answering"


def test_verdict_starting_is_degraded_for_scripts() -> None:
    """Only loading replicas are out: the word is STARTING, the exit code that of degraded."""
    found = verdict(seen(golden()), NOW)
    assert (found.word, found.level, found.exit_code) == ("STARTING", "degraded", 1)
    assert found.sentence == (
        "0 of 1 reranker replica answering; er-vllm@reranker restarting, not enough GPU memory: "
        "136.2 GiB wanted, 2.1 GiB free on GPU 0, 3rd time (32s)"
    )


def test_verdict_names_the_worst_replica() -> None:
    """A failed replica is named before a loading one."""
    data = golden()
    data["models"][0]["replicas"][0] |= {"state": "failed", "reason": "out of GPU memory"}
    data["status"] = "down"
    found = verdict(seen(data), NOW)
    assert (found.word, found.exit_code) == ("DOWN", 2)
    assert "er-vllm@embedding failed, out of GPU memory" in found.sentence
    assert "1 more out" in found.sentence


def test_verdict_of_old_data_is_unknown_however_good_it_was() -> None:
    """Three intervals and a moment later nothing is green any more."""
    snapshot = seen(all_up())
    assert verdict(snapshot, NOW + 3.0).word == "OK"
    late = verdict(snapshot, NOW + 3.1)
    assert (late.word, late.exit_code) == ("UNKNOWN", 3)
    assert "no word from the gateway for 3s" in late.sentence
    slow = replace(snapshot, interval_s=5.0)
    assert verdict(slow, NOW + 14).word == "OK"
    assert verdict(slow, NOW + 16).word == "UNKNOWN"


def test_without_status_a_stopped_gateway_is_down() -> None:
    """systemd is certain: no client gets an answer."""
    missing = Missing("stopped", "the gateway is stopped")
    snapshot = Snapshot(
        status=Reading(missing=missing), units=units(gateway="inactive", embedding="active")
    )
    found = verdict(snapshot, NOW)
    assert (found.word, found.exit_code) == ("DOWN", 2)
    assert "the gateway is stopped" in found.sentence
    assert [(r.name, r.state) for r in replicas(snapshot, NOW)] == [("embedding", "running")]


def test_a_stopped_units_last_status_is_not_its_reason() -> None:
    """systemd keeps the text; it was true once."""
    unit = Unit("er-gateway.service", "inactive", text="4 workers, 214 requests/s")
    snapshot = Snapshot(
        status=Reading(missing=Missing("stopped", "")), units=Reading({unit.name: unit}, NOW)
    )
    said = "no client gets an answer: the gateway is stopped: not started since boot"
    assert verdict(snapshot, NOW).sentence == said
    failed = Unit("er-gateway.service", "failed", text="bad er.toml", result="exit-code")
    snapshot = replace(snapshot, units=Reading({failed.name: failed}, NOW))
    assert "failed: exit-code, its last word: bad er.toml" in verdict(snapshot, NOW).sentence


def test_without_rights_it_is_unknown_not_down() -> None:
    """Not being allowed to ask says nothing about the gateway."""
    missing = Missing("rights", "no right to use /run/er/admin.sock", "sudo er-console")
    snapshot = Snapshot(status=Reading(missing=missing), units=units(gateway="active"))
    found = verdict(snapshot, NOW)
    assert (found.word, found.sentence) == ("UNKNOWN", "no right to use /run/er/admin.sock")


def test_nobody_listening_is_down_without_systemd() -> None:
    """A dead socket file means that no gateway serves it."""
    snapshot = Snapshot(status=Reading(missing=Missing("refused", "nobody listens at /x")))
    assert verdict(snapshot, NOW).exit_code == 2


def test_systemd_overrules_a_status_that_is_a_moment_old() -> None:
    """A replica that systemd has stopped is stopped, though the prober has not seen it yet."""
    snapshot = seen(all_up(), units=units(gateway="active", embedding="failed", reranker="active"))
    assert replicas(snapshot, NOW)[0].state == "failed"
    assert verdict(snapshot, NOW).word == "DEGRADED"


def test_samples_alone_show_plain_processes() -> None:
    """Without systemd and gateway the launchers' samples still tell who runs."""
    sample = read_sample({"name": "embedding", "phase": "ready", "time": NOW - 1})
    loading = read_sample({"name": "reranker", "phase": "loading weights", "time": NOW - 1})
    dead = read_sample({"name": "old", "phase": "ready", "time": NOW - 600})
    snapshot = Snapshot(
        status=Reading(missing=Missing("absent", "no socket")),
        samples=Reading((sample, loading, dead), NOW),
    )
    states = {r.name: r.state for r in replicas(snapshot, NOW)}
    assert states == {"embedding": "running", "reranker": "starting", "old": "unknown"}


def test_pending_actions_show_at_once() -> None:
    """Between the key press and systemd's next state the row says what is being done."""
    pending = {"er-vllm@embedding.service": Pending("restart", NOW - 4)}
    found = replicas(seen(all_up()), NOW, pending)[0]
    assert (found.state, found.since) == ("restarting", NOW - 4)


def test_gpus_come_from_the_samples_when_the_gateway_is_down() -> None:
    """A GPU and its owner are known from the launcher."""
    data = golden()["models"][0]["replicas"][0]["sample"]
    snapshot = Snapshot(samples=Reading((read_sample(data),), NOW))
    found = gpus(snapshot, NOW)
    assert [(gpu.index, gpu.replicas) for gpu in found] == [(1, ("embedding",))]


def test_advice_is_silent_when_all_is_well() -> None:
    """No news is no line."""
    data = all_up()
    data["traffic"]["refusals"] = {}
    for model in data["models"]:
        model["replicas"][0]["sample"]["last_error"] = None
    assert advice(seen(data), NOW) == []


def test_advice_names_cause_and_remedy() -> None:
    """Failed before loading again, differing er.toml, failing requests, a full gateway."""
    data = golden()
    data["gateway"] |= {"config_differs": True, "in_flight": 480}
    data["traffic"]["success_rate"] = 0.85
    said = [item.what for item in advice(seen(data), NOW)]
    assert said[0] == "15.0 % of requests are refused or fail"
    assert any("reranker starts again (restart 2); last time: not enough" in s for s in said)
    assert any("er.toml differs" in s for s in said)
    assert any("480 of 500 requests in flight" in s for s in said)


def test_a_failed_socket_unit_is_named_as_the_cause() -> None:
    """A port that is taken keeps the gateway from starting, and only its socket knows."""
    found = dict(units(gateway="inactive", target="active").value)
    name = "er-gateway-http.socket"
    found[name] = Unit(name, "failed", result="resources")
    snapshot = Snapshot(
        status=Reading(missing=Missing("stopped", "the gateway is stopped")),
        units=Reading(found, NOW),
    )
    first = advice(snapshot, NOW)[0]
    assert "er-gateway-http.socket has failed (resources): its address is taken" in first.what


def test_advice_tells_why_there_are_no_figures() -> None:
    """The socket's reason and its remedy stand there."""
    missing = Missing("rights", "no right", "sudo usermod -aG er $USER")
    found = advice(Snapshot(status=Reading(missing=missing)), NOW)
    assert found[0].todo == "sudo usermod -aG er $USER" and found[0].severe


def test_changes_are_told_once() -> None:
    """up -> failed is one change; the same state again is none."""
    before = seen(all_up())
    data = all_up()
    data["models"][0]["replicas"][0]["state"] = "failed"
    after = seen(data)
    found = changes(before, after, NOW)
    assert [(c.part, c.before, c.after) for c in found] == [("embedding", "up", "failed")]
    assert changes(after, after, NOW) == []


def test_restarting_the_only_replica_says_503() -> None:
    """The consequence names the model and those that depend on it."""
    data = all_up()
    data["models"].append(
        {"name": "biencoder", "task": "score", "via": "Qwen3-Embedding-0.6B", "replicas": []}
    )
    unit = "er-vllm@embedding.service"
    asked = about_unit("restart", unit, seen(data), NOW)
    words = " ".join(asked.sentences)
    assert "only replica of Qwen3-Embedding-0.6B: clients get 503" in words
    assert "biencoder" in words and "14,336 tokens in flight" in words
    assert asked.type_this == ""
    assert about_unit("stop", unit, seen(data), NOW).type_this == "embedding"


def test_restarting_one_of_two_says_who_serves() -> None:
    """With another replica up nobody loses anything."""
    data = all_up()
    second = dict(data["models"][0]["replicas"][0], name="embedding-2")
    data["models"][0]["replicas"].append(second)
    asked = about_unit("stop", "er-vllm@embedding.service", seen(data), NOW)
    assert "stays served by 1 other replica" in " ".join(asked.sentences)
    assert asked.type_this == ""


def test_stopping_everything_needs_its_name() -> None:
    """er.target is typed; starting it is not."""
    snapshot = seen(all_up())
    assert about_unit("stop", "er.target", snapshot, NOW).type_this == "er.target"
    assert about_unit("start", "er.target", snapshot, NOW).type_this == ""
    stop = about_unit("stop", "er-gateway.service", snapshot, NOW)
    assert "the next call starts it again" in stop.sentences[-1]


def test_draining_the_last_replica_needs_its_name() -> None:
    """A drain of the only replica takes the model away."""
    snapshot = seen(all_up())
    found = replicas(snapshot, NOW)
    assert about_drain(found[0], snapshot, NOW).type_this == "embedding"


def test_revoking_a_key_in_use_needs_its_name() -> None:
    """Used within the hour: typed. Never used: y is enough."""
    key = Key("kab2cd3ef", "web")
    assert about_revoke(key, 12).type_this == "web"
    assert about_revoke(key, 3601).type_this == ""
    assert "never used" in about_revoke(key, None).sentences[-1]


def test_history_is_bounded_and_keeps_gaps() -> None:
    """Ten minutes and no more; a moment without figures is a gap, not a zero."""
    history = History()
    for n in range(700):
        history.add(Traffic(p95_ms=float(n)))
    history.add(None)
    past = history.of("p95_ms")
    assert len(past) == 600 and past[-1] is None and past[-2] == 699.0


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "-"), (0, "0"), (0.25, "0.2"), (9.96, "10.0"), (41.4, "41"), (1402, "1402")],
)
def test_figures_are_short_and_unknown_is_a_dash(value: float | None, said: str) -> None:
    """Four digits at most."""
    assert figure(value) == said


def test_figures_round_honestly() -> None:
    """99.97 % is not 100 %, and bytes have their size."""
    assert (share(0.9997), share(1.0), share(None)) == ("99.9%", "100%", "-")
    assert (size(137438953472), size(None), figure(179456)) == ("128G", "-", "179k")
    assert [lasted(s) for s in (4, 130, 7300, 200000)] == ["4s", "2m", "2h", "2d"]


@pytest.mark.parametrize("width", [1, 2, 5, 9, 40])
@pytest.mark.parametrize("said", ["", "plain words", "模型 loading 权重", "é"])
def test_fit_gives_exactly_the_cells_asked_for(said: str, width: int) -> None:
    """Wide signs count twice, and nothing runs over."""
    assert width_of(fit(said, width)) == width
    assert width_of(fit(said, width, right=True)) == width


def test_wrapped_keeps_every_word() -> None:
    """Long words are broken, short ones kept together."""
    rows = wrapped("a " + "x" * 30 + " end", 10)
    assert all(len(row) <= 10 for row in rows)
    assert "".join(rows).replace(" ", "") == "a" + "x" * 30 + "end"


@pytest.mark.parametrize("width", [73, 78, 98, 118, 190])
def test_table_rows_fill_the_width_exactly(width: int) -> None:
    """No column runs over at any size, with long names too."""
    data = golden()
    data["models"][1]["replicas"][0]["reason"] = "word " * 60
    rows = part_rows(seen(data), NOW, Looks(), {})
    widths = column_widths(PART_COLUMNS, rows, width, 1)
    for row in rows:
        line = table_line(PART_COLUMNS, widths, row, "…")
        assert sum(width_of(said) for said, _ in line) == width


def test_every_state_has_glyph_and_word_in_ascii_too() -> None:
    """Nothing but ASCII where UTF-8 is not to be had, spark and bar included."""
    looks = Looks(ascii_only=True)
    rows = part_rows(seen(golden()), NOW, looks, {})
    drawn = "".join(said for row in rows for said, _ in row.cells)
    drawn += looks.spark([1, 2, None, 8], 8) + looks.bar(0.4, 9) + looks.bar(None, 3)
    assert drawn.isascii()
    assert looks.state("failed") == ("x failed", "bad")


def test_plots_scale_to_their_maximum() -> None:
    """The largest value fills the height, a small one is still seen."""
    assert Looks().plot([0, 8, 16], 3, 2) == ["  █", " ██"]
    assert Looks().spark([0.01, 100], 4) == "  ▁█"
    assert Looks().spark([], 3) == "   "


def test_terminals_are_known_by_their_environment() -> None:
    """NO_COLOR, TERM=linux, 16 colours and missing UTF-8."""
    assert wants_ascii({"TERM": "linux"}, "utf-8") and wants_ascii({}, "ANSI_X3.4-1968")
    assert not wants_ascii({"TERM": "tmux-256color"}, "UTF-8")
    assert wants_ansi({"NO_COLOR": "1", "COLORTERM": "truecolor"})
    assert wants_ansi({"TERM": "linux"}) and wants_ansi({"TERM": "xterm"})
    assert not wants_ansi({"TERM": "xterm-256color"})


def test_rows_need_no_room_for_the_unknown() -> None:
    """An empty machine still has a gateway row, with the reason."""
    missing = Missing("absent", "there is no /run/er/admin.sock")
    rows = part_rows(Snapshot(status=Reading(missing=missing)), NOW, Looks(), {})
    assert isinstance(rows[0], Row) and rows[0].cells[1][0] == "? unknown"
    assert gateway(Snapshot(), NOW).state == "unknown"


def left_alone(data: dict[str, Any]) -> dict[str, Any]:
    """The example with a load time and an alias for its embedding model."""
    data["models"][0]["aliases"] = ["bge-m3"]
    data["models"][0]["replicas"][0]["sample"]["load_s"] = 42.0
    data["gateway"]["in_flight"] = 12
    return data


@pytest.mark.parametrize(
    ("verb", "until"),
    [
        ("restart", "clients get 503 until it answers again"),
        ("stop", "clients get 503 until one is started"),
    ],
)
def test_who_is_hit_and_for_how_long(verb: str, until: str) -> None:
    """The model, its other names, what is in flight, and what the last start took."""
    asked = about_unit(verb, "er-vllm@embedding.service", seen(left_alone(all_up())), NOW)
    words = " ".join(asked.sentences)
    assert until in words and "Its clients also call it bge-m3." in words
    assert "12 requests are in flight in the gateway" in words
    assert ("Its last start took 42s." in words) == (verb == "restart")


def test_a_drain_lets_the_work_there_finish() -> None:
    """A stop waits for ten seconds, a drain for as long as it takes."""
    snapshot = seen(all_up())
    words = " ".join(about_drain(replicas(snapshot, NOW)[0], snapshot, NOW).sentences)
    assert "14,336 tokens in flight there will finish" in words and "10 s" not in words
    assert "until it is resumed" in words


def test_restarting_everything_says_how_long_that_took_last_time() -> None:
    """The longest of the replicas' loads."""
    asked = about_unit("restart", "er.target", seen(left_alone(all_up())), NOW)
    assert asked.sentences[1:] == (
        "12 requests in flight get up to 10 s to finish.",
        "The longest of their last starts took 42s.",
    )
    data = all_up()
    data["models"][0]["replicas"][0]["sample"]["load_s"] = None
    unknown = about_unit("restart", "er.target", seen(data), NOW)
    assert not [said for said in unknown.sentences if "last starts" in said]


def test_consequences_in_chinese_have_the_same_facts() -> None:
    """Numbers and names are carried over."""
    speak("zh")
    try:
        asked = about_unit("restart", "er-vllm@embedding.service", seen(left_alone(all_up())), NOW)
    finally:
        speak("en")
    words = "".join(asked.sentences)
    assert asked.title == "重启 er-vllm@embedding.service？" and asked.button == "重启"
    for fact in ("Qwen3-Embedding-0.6B", "503", "14,336", "bge-m3", "12", "42秒"):
        assert fact in words
