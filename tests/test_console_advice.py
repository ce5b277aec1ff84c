"""The console's header at each width, and its rules: silent, or evidence and one thing to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from er_console.advice import advice
from er_console.judgement import Verdict, verdict
from er_console.language import speak
from er_console.looks import Looks, plain, width_of
from er_console.panels import header
from er_console.reading import read_status
from er_console.state import Gpu, Reading, Snapshot
from test_console_state import NOW, all_up, golden, seen


@pytest.fixture(autouse=True)
def english_again() -> Iterator[None]:
    """The language is the process's."""
    yield
    speak("en")


def fleet(**first: Any) -> dict[str, Any]:
    """Three embedding replicas and a reranker, all up; `first` changes embedding-1."""
    data = all_up()
    model = data["models"][0]
    one = model["replicas"][0] | {"p95_ms": 20.0, "last_error": ""}
    model["replicas"] = [
        one | {"name": f"embedding-{i}", "unit": f"er-vllm@embedding-{i}.service", "sample": None}
        for i in range(3)
    ]
    model["replicas"][1] |= first
    data["models"][1]["replicas"][0]["sample"]["last_error"] = None
    data["models"][1]["replicas"][0] |= {"last_error": None, "restarts": 0}
    data["traffic"]["refusals"] = {}
    data["gpus"] = [gpu | {"utilization": 60} for gpu in data["gpus"]]
    return data


def out_of_memory(**more: Any) -> dict[str, Any]:
    """The fleet with embedding-1 starting for the third time."""
    data = fleet(
        state="starting",
        reason="loading weights 3/8; last error: out of GPU memory: 2.1 GiB free; lower it",
        last_error="out of GPU memory: 2.1 GiB free; lower batch_tokens",
        restarts=2,
        since=NOW - 240,
        **more,
    )
    data["status"] = "degraded"
    return data


def said_at(found: Verdict, width: int) -> str:
    """The header's text at a width; it fills the row."""
    line = plain(header(found, Looks(), width, NOW))
    assert width_of(line) == width
    return line


def test_the_header_is_one_sentence_with_unit_cause_and_how_often() -> None:
    """As an operator would say it: how many answer, who does not, why, the how manieth time."""
    found = verdict(seen(out_of_memory()), NOW)
    assert found.sentence == (
        "2 of 3 embedding replicas answering; "
        "er-vllm@embedding-1 restarting, out of GPU memory: 2.1 GiB free, 3rd time (4m)"
    )
    assert found.sentence in said_at(found, 200)
    assert "2/3; er-vllm@embedding-1 restarting, out of GPU memory, 3rd time" in said_at(found, 120)
    assert "embedding-1 restarting: out of GPU memory" in said_at(found, 80)
    assert "embedding-1 restarting: out of G" in said_at(found, 60)


def test_the_header_speaks_chinese_in_chinese_order() -> None:
    """The same facts; full-width signs take two cells and the row is filled all the same."""
    speak("zh")
    found = verdict(seen(out_of_memory()), NOW)
    assert found.word == "STARTING"
    assert found.sentence.startswith("3 个嵌入副本中 2 个应答；er-vllm@embedding-1 重启中，")
    assert found.sentence.endswith("，第 3 次（4分钟）")
    for width in (56, 80, 120, 200):
        assert "embedding-1" in said_at(found, width)


@pytest.mark.parametrize(
    ("restarts", "said"), [(1, "2nd"), (2, "3rd"), (3, "4th"), (10, "11th"), (20, "21st")]
)
def test_how_often_is_said_as_people_count(restarts: int, said: str) -> None:
    """The second time and on; the first one needs no word."""
    data = fleet(state="failed", reason="x", restarts=restarts)
    data["status"] = "degraded"
    assert f"failed, x, {said} time" in verdict(seen(data), NOW).sentence
    data["models"][0]["replicas"][1]["restarts"] = 0
    assert "time" not in verdict(seen(data), NOW).sentence


def test_the_worst_group_is_named_and_the_others_are_counted() -> None:
    """None of the rerankers is worse than one of three embedding replicas."""
    data = out_of_memory()
    data["models"][1]["replicas"][0] |= {"state": "down", "reason": "gave NaN; started anew"}
    found = verdict(seen(data), NOW).sentence
    assert found.startswith("0 of 1 reranker replica answering; er-vllm@reranker down, gave NaN")
    assert found.endswith("; 1 more out")


def test_two_models_of_a_task_are_named_by_their_names() -> None:
    """ "embedding" would not say which."""
    data = out_of_memory()
    data["models"][1]["task"] = "embed"
    said = verdict(seen(data), NOW).sentence
    assert said.startswith("2 of 3 replicas of Qwen3-Embedding-0.6B answering; ")


def test_a_host_without_what_hosts_share_says_so() -> None:
    """In the header where nothing else is out, and always among what to do."""
    gone = "the shared state (10.0.0.5:6379) is not reached: Error 111 connecting. refused."
    keys = {"state": "ok", "reason": "", "version": 3}
    state = {"state": "away", "since": NOW - 90, "reason": gone, "keys": keys}
    data = fleet() | {"status": "degraded", "reason": gone, "state": state}
    found = seen(data)
    assert verdict(found, NOW).sentence == gone
    (one,) = advice(found, NOW)
    assert one.what == f"{gone} (1m)" and "last known keys" in one.todo
    speak("zh")
    (one,) = advice(found, NOW)
    assert one.what.startswith("连接不上共享状态（10.0.0.5:6379）") and "最后所知" in one.todo
    speak("en")
    keys = {"state": "own", "reason": "it lacks keys; sudo er state move carries them over"}
    (one,) = advice(seen(data | {"state": {**state, "state": "ok", "keys": keys}}), NOW)
    assert (one.what, one.todo) == ("it lacks keys", "sudo er state move carries them over")
    assert not advice(seen(fleet() | {"state": None}), NOW)
    assert not advice(seen(fleet() | {"state": "odd"}), NOW)


def test_all_well_says_nothing() -> None:
    """Every rule is silent on a fleet that is well."""
    driver = (Gpu(0, "GPU-0", "H200", ecc_errors=0.0), Gpu(1, "GPU-1", "H200"))
    assert advice(seen(fleet(), gpus=Reading(driver, NOW)), NOW) == []


def said(snapshot: Snapshot) -> dict[str, str]:
    """The advice as {what: todo}."""
    return {item.what: item.todo for item in advice(snapshot, NOW)}


def busy(data: dict[str, Any], waiting: float, running: float, percent: float) -> Snapshot:
    """The fleet's second replica with that in its engine, on a GPU that busy."""
    row = data["models"][0]["replicas"][1]
    row["sample"] = {"name": row["name"], "engine": {"waiting": waiting, "running": running}}
    data["gpus"][1] |= {"replicas": [row["name"]], "utilization": percent}
    return seen(data)


def test_saturated_and_starved_differ_by_the_gpu() -> None:
    """Both wait; who is busy says what to do. Less waiting than work says nothing."""
    full = said(busy(fleet(), 30, 10, 97))
    what = "embedding-1 is full: 75 % of the time in it is waiting, its GPU is 97 % busy"
    assert full == {what: "add a replica of this model"}
    starved = said(busy(fleet(), 30, 10, 20))
    assert list(starved) == [
        "embedding-1 starves its GPU: 75 % of the time in it is waiting, the GPU is 20 % busy"
    ]
    for waiting, running, percent in ((10, 30, 97), (30, 10, 70), (7, 1, 97)):
        assert said(busy(fleet(), waiting, running, percent)) == {}


def test_a_long_queue_beside_idle_gpus_is_the_gateways() -> None:
    """Where the GPUs are busy the queue is nobody's fault."""
    data = fleet()
    data["gateway"]["queued"] = 300
    assert said(busy(data, 0, 3, 80)) == {}
    what = "300 sequences wait in the gateway, and no GPU is more than 30 % busy"
    data["gpus"][0]["utilization"] = 10
    assert list(said(busy(data, 0, 3, 30))) == [what]


def test_an_odd_replica_is_measured_against_its_models_median() -> None:
    """1.5 times, and by more than a bucket's width."""
    what = "embedding-1 is slow: p95 31 ms, the median of its model is 20 ms"
    assert list(said(seen(fleet(p95_ms=31.0)))) == [what]
    assert said(seen(fleet(p95_ms=29.0))) == {} and said(seen(fleet(p95_ms=None))) == {}
    small = fleet(p95_ms=6.0)
    for i in (0, 2):
        small["models"][0]["replicas"][i]["p95_ms"] = 2.0
    assert said(seen(small)) == {}


def test_a_restart_loop_is_over_after_ten_good_minutes() -> None:
    """Three restarts, and not up for long enough since."""
    loop = fleet(restarts=3, since=NOW - 60, last_error="hangs; started anew")
    assert list(said(seen(loop))) == [
        "embedding-1 was restarted 3 times; last time: hangs; started anew"
    ]
    assert said(seen(loop)).popitem()[1] == "it answers now; l shows its log"
    assert said(seen(fleet(restarts=3, since=NOW - 700))) == {}
    assert said(seen(fleet(restarts=2, since=NOW - 60))) == {}
    failed = fleet(restarts=5, state="failed", reason="x", since=NOW - 9000)
    assert said(seen(failed)) == {
        "embedding-1 was restarted 5 times": "l shows its log; S stops it until that is mended"
    }


def test_what_the_driver_tells_of_a_card() -> None:
    """Errors, guests, heat, and a card that is gone; each with its own remedy."""
    uuid = golden()["gpus"][1]["uuid"]
    driver = Gpu(
        1, uuid, "H200", throttle="power brake", ecc_errors=2.0, others=("python (pid 7) 3.0G",)
    )
    snapshot = seen(fleet(), gpus=Reading((driver, Gpu(0, "GPU-0", "H200")), NOW))
    found = said(snapshot)
    assert "GPU 1 has 2 memory errors that could not be corrected" in found
    assert "GPU 1 is used by others too: python (pid 7) 3.0G" in found
    assert "GPU 1 is throttled: power brake" in found
    lost = replace(snapshot, gpus=Reading((Gpu(0, "GPU-0", "H200"),), NOW))
    wants = [what for what in said(lost) if "wants GPU 1, and the driver lists none" in what]
    assert len(wants) == 3
    unreachable = replace(snapshot, gpus=Reading((driver, Gpu(2, "GPU-2", "", lost=True)), NOW))
    assert "GPU 2 is lost: its driver can't reach it" in said(unreachable)


def test_a_status_that_tells_less_is_no_error() -> None:
    """An older gateway has none of these figures: unknown, and no rule speaks."""
    status = read_status(fleet())
    old = tuple(replace(r, p95_ms=None, tokens_per_s=None) for r in status.replicas)
    assert advice(Snapshot(status=Reading(replace(status, replicas=old), NOW)), NOW) == []


def test_an_er_without_replicas_is_told_what_to_write() -> None:
    """Just installed, all is well and nothing is served."""
    data = fleet()
    data["models"] = []
    found = advice(seen(data), NOW)
    assert [one.what for one in found] == ["no replica is configured"]
    assert "er help configuration" in found[0].todo
