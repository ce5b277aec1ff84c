"""er-vllm (engine_keeper, engine_watch) as a real process: READY on proof, every way to fail."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from er.ledger import Ledger
from launched import Launched, alive, until

pytestmark = pytest.mark.slow

QUICK = {"obstacle": 0.2, "tick": 0.05, "watch": 1.2, "end": 1.0, "drain": 0.6}


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Launched]:
    launched = Launched(tmp_path)
    yield launched
    launched.close()


def fault(one: Launched, kind: str, **more: Any) -> None:
    body = json.dumps({"kind": kind, **more}).encode()
    address = f"http://127.0.0.1:{one.port}/_fault"
    urllib.request.urlopen(urllib.request.Request(address, body), timeout=5).read()


def ledger(one: Launched) -> Ledger:
    return Ledger.open(one.runtime / "ledger", ["one"])


# -- a good life --------------------------------------------------------------------------------


def test_a_life_from_start_to_sigterm(one: Launched) -> None:
    one.systemd()
    one.env["FAKE_CHILD"] = "near"
    one.start()
    one.ready()
    until(lambda: one.messages().count("WATCHDOG=1") >= 2, what="two proofs")
    said = one.messages()
    before = said[: said.index("READY=1")]
    assert "STATUS=importing vLLM" in before
    assert "STATUS=loading weights" in before or "STATUS=first inference" in before
    assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in before)
    assert "WATCHDOG=1" not in before
    assert said.count("READY=1") == 1
    assert any(line.startswith("STATUS=ready: right answer in") for line in said)
    until(lambda: one.sample().get("engine"), what="figures of the engine")
    sample = one.sample()
    assert (sample["phase"], sample["attempt"], sample["gpu"]) == ("ready", 1, [])
    assert sample["vllm_version"] == "0.32.0"
    assert len(sample["identity"]) == 32
    assert sample["rss_bytes"] > 1 << 20
    assert sample["engine"]["running"] == 0.0
    assert ledger(one).verdict("one").state == "up"
    one.signal(signal.SIGTERM)
    assert one.ended() == 0
    assert "STOPPING=1" in one.messages()
    assert not alive(one.engine)
    assert not alive(one.starts()[-1]["child"])
    assert one.sample() == {}
    assert not (one.runtime / "replicas" / "one" / "backoff.json").exists()
    assert ledger(one).verdict("one").state == "down"


def test_the_engine_never_speaks_to_systemd(one: Launched) -> None:
    one.systemd()
    one.start()
    one.ready()
    env = one.starts()[0]["env"]
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & set(env)
    logging = json.loads(Path(env["VLLM_LOGGING_CONFIG_PATH"]).read_text())
    assert logging["loggers"]["uvicorn.access"]["level"] == "WARNING"
    for name in ("er_engine_format", "er_engine_inside", "er_engine_graphs"):
        assert (Path(env["PYTHONPATH"].split(":")[1]) / f"{name}.py").exists()


def test_a_score_model_is_proven_by_a_score(one: Launched) -> None:
    from model_cache import folder

    for name in ("tokenizer.json", "tokenizer_config.json"):
        (one.model / name).unlink(missing_ok=True)
        (one.model / name).symlink_to(folder("qwen3-tokenizer") / name)
    config = json.loads((one.model / "config.json").read_text())
    config |= {"architectures": ["Qwen3ForCausalLM"], "vocab_size": 151669}
    (one.model / "config.json").write_text(json.dumps(config))
    one.configure(task="score")
    one.start(patience=QUICK)
    one.ready()
    assert "--hf-overrides" in one.starts()[0]["argv"]


# -- configuration ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("two", "--config", "er.toml"), 78, "no replica 'two' in er.toml; there are: one."),
        (("one", "--config", "none.toml"), 78, "no such file"),
        (("one", "--config", "bad.toml"), 78, "bad.toml:3: error:"),
        (("far", "--config", "far.toml"), 78, "run by something else at http://10.0.0.7:8000"),
        (("one", "--nonsense"), 64, "unrecognized arguments"),
        ((), 78, "er.toml"),
    ],
)
def test_what_no_restart_cures_is_final(
    one: Launched, args: tuple[str, ...], code: int, said: str
) -> None:
    text = one.config.read_text()
    (one.folder / "bad.toml").write_text(text.replace('task = "embed"', 'task = "dance"'))
    (one.folder / "far.toml").write_text(
        text + '[[replica]]\nname = "far"\nmodel = "tiny"\nurl = "http://10.0.0.7:8000"\n'
    )
    if not args:  # nothing named: the active file, which does not know the replica
        args = ("nobody",)
    one.start(*args)
    assert one.ended() == code
    assert said in one.text()
    assert one.text().count("\n") <= 3
    assert one.starts() == []


@pytest.mark.parametrize("whole", [True, False])
def test_a_model_that_no_engine_loads_is_final(one: Launched, whole: bool) -> None:
    """GGUF, beside a whole folder's other files or alone: no waiting changes it."""
    weights = one.model / "model.safetensors"
    weights.rename(one.model / "model-Q4_K_M.gguf")
    if not whole:
        (one.model / "config.json").unlink()
    one.systemd()
    one.start(patience=QUICK)
    assert one.ended() == 78
    assert "llama.cpp's format (GGUF)" in one.text() and "AWQ, GPTQ or FP8" in one.text()
    assert any(m.startswith("STATUS=") and "GGUF" in m for m in one.messages())
    assert "GGUF" in one.sample()["last_error"]
    assert one.starts() == []


def test_the_same_replica_twice_is_refused(one: Launched) -> None:
    one.start()
    one.ready()
    other = Launched.__new__(Launched)
    other.__dict__.update(one.__dict__)
    other.start()
    assert other.ended() == 1
    assert f"another er-vllm runs this replica already (pid {one.process.pid})" in one.text()  # type: ignore[union-attr]


# -- what stands in the way ---------------------------------------------------------------------


def test_a_missing_model_is_waited_for(one: Launched) -> None:
    away = one.model.with_name("away")
    one.model.rename(away)
    one.start(patience=QUICK)
    until(lambda: one.sample().get("phase") == "waiting for the model")
    one.said("no such folder; put the model's files there")
    time.sleep(0.6)
    assert one.text().count("no such folder") == 1, "one line for one cause"
    away.rename(one.model)
    one.ready()
    assert one.sample()["last_error"]


def test_a_model_hidden_from_a_unit_needs_a_new_unit_start(one: Launched) -> None:
    """What lies under /tmp, /home or /root is bound into the sandbox when the unit starts."""
    one.model.rename(one.model.with_name("away"))
    one.systemd()
    one.start(patience=QUICK)
    assert one.ended() == 1
    assert any(m.startswith("STATUS=waiting for the model: ") for m in one.messages())
    assert "if it is there now, run: sudo er apply" in one.text()


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("config.json", "not JSON"),
        ("tokenizer.json", "tokenizer.json"),
        ("model.safetensors", "has no weights"),
    ],
)
def test_what_is_no_model_is_said(one: Launched, file: str, said: str) -> None:
    if file == "model.safetensors":
        (one.model / file).unlink()
    else:
        (one.model / file).write_text("{nonsense")
    one.start(patience=QUICK)
    one.said(said)
    until(lambda: one.sample().get("phase") == "waiting for the model")
    one.signal(signal.SIGTERM)
    assert one.ended() == 0
    assert one.starts() == []


def test_a_missing_gpu_is_waited_for_and_needs_a_new_unit_start(one: Launched) -> None:
    """A unit's devices are fixed when it starts, so under systemd the launcher ends to be anew."""
    text = one.config.read_text()
    one.config.write_text(text.replace('gpu = "cpu"', 'gpu = "GPU-none"'))
    one.systemd()
    one.start(patience=QUICK)
    assert one.ended() == 1
    assert "GPU GPU-none is not there" in one.text()
    assert "sudo er apply" in one.text()


def test_a_taken_port_is_told_with_its_holder_and_tried_again(one: Launched) -> None:
    one.systemd()
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", one.port))
        holder.listen()
        one.start(patience=QUICK)
        one.said(f"port {one.port} is taken by")
        assert f"(pid {os.getpid()})" in one.text()
        until(lambda: any("attempt 2, waiting" in m for m in one.messages()))
    one.ready()
    assert "STATUS=importing vLLM (attempt 2)" in one.messages()
    assert one.sample()["attempt"] == 2


def test_a_vllm_that_is_not_there_or_too_old(one: Launched) -> None:
    one.env["ER_VLLM_PYTHON"] = "/nonexistent/python"
    one.start(patience=QUICK)
    one.said("/nonexistent/python can't be run")
    one.signal(signal.SIGTERM)
    assert one.ended() == 0


# -- engines that fail before READY -------------------------------------------------------------


def test_a_cause_from_the_engines_log_and_a_growing_pause(one: Launched) -> None:
    one.env["ENGINE_END"] = (
        "1:ValueError: Free memory on device cuda:0 (19.5/139.8 GiB) on startup is less than "
        "desired GPU memory utilization (0.9, 125.82 GiB)."
    )
    one.systemd()
    one.start(patience=QUICK)
    one.said("next attempt (3) in 2 s")
    assert one.text().count("not enough GPU memory: 19.5 of 139.8 GiB are free") == 2
    until(lambda: any("attempt 3, waiting" in m for m in one.messages()))
    assert one.process is not None
    assert one.process.poll() is None, "it stays alive and says so"
    assert "READY=1" not in one.messages()
    kept = one.runtime / "replicas" / "one" / "backoff.json"
    assert json.loads(kept.read_text())["failures"] == 2
    assert ledger(one).verdict("one").state == "down"
    one.signal(signal.SIGTERM)
    assert one.ended() == 0
    assert not kept.exists(), "a wanted stop forgets"


def test_a_file_of_its_own_that_can_not_be_written_is_a_cause(one: Launched) -> None:
    """As on a full disk: one line and a growing pause, not a traceback each second."""
    folder = one.runtime / "replicas" / "one"
    (folder / "logging.json").mkdir(parents=True)
    (folder / "backoff.new").mkdir()
    one.systemd()
    one.start(patience=QUICK)
    one.said("logging.json: Is a directory; make room there (df), or make it writable")
    one.said("next attempt (3) in 2 s")
    assert "Traceback" not in one.text()
    one.signal(signal.SIGTERM)
    assert one.ended() == 0


def test_a_start_without_progress_is_out_of_time(one: Launched) -> None:
    one.env["ENGINE_DELAY_S"] = "100"
    one.start(patience={**QUICK, "silence": 1.5})
    one.said("out of time: no sign of progress for 2 s while")
    one.said("next attempt (2) in 1 s")
    first = int(one.starts()[0]["pid"])
    until(lambda: not alive(first), what="the engine's end")


def test_a_first_answer_of_nan_is_no_answer(one: Launched) -> None:
    one.env["ENGINE_FAULT"] = '{"kind": "nan"}'
    one.start(patience=QUICK)
    one.said("the first inference gave NaN")
    assert "READY" not in one.text()


def test_an_engine_process_killed_while_it_loads_is_missed_at_once(one: Launched) -> None:
    """Its server waits on, for half a minute and more; it gets the time to say why, no longer."""
    one.env["ENGINE_DELAY_S"] = "100"
    one.env["FAKE_CHILD"] = "engine"
    one.start(patience=QUICK)
    until(one.starts)
    time.sleep(4)  # seen in two looks, two seconds apart
    assert "next attempt" not in one.text()
    began = time.monotonic()
    os.kill(one.starts()[0]["child"], signal.SIGKILL)
    one.said("one: vLLM lost its process VLLM::EngineCor, which was killed (SIGKILL")
    assert time.monotonic() - began < QUICK["end"] + 3
    one.said("next attempt (2) in 1 s")
    until(lambda: not alive(int(one.starts()[0]["pid"])), what="the engine's end")


def test_helpers_with_an_engines_name_may_end_while_it_loads(one: Launched) -> None:
    """They are forks of the engine process, which has named itself; and they are gone soon."""
    one.env["ENGINE_DELAY_S"] = "6"
    one.env["FAKE_CHILD"] = "helpers"
    one.start(patience={**QUICK, "watch": 30})
    one.ready()
    assert len((one.vllm / "helpers").read_text()) >= 3, "some ended while it loaded"
    assert "lost" not in one.text()


def test_a_stop_while_it_loads_is_at_once(one: Launched) -> None:
    one.env["ENGINE_DELAY_S"] = "100"
    one.env["FAKE_CHILD"] = "apart"
    one.start()
    until(one.starts)
    began = time.monotonic()
    one.signal(signal.SIGTERM)
    assert one.ended() == 0
    assert time.monotonic() - began < 3
    assert not alive(one.engine)
    assert not alive(one.starts()[0]["child"])


# -- engines that fail after READY --------------------------------------------------------------


def replaced(one: Launched, said: str) -> None:
    """Under systemd: the launcher ends with 1 and a line, nothing lives on, the count is kept."""
    assert one.ended() == 1
    assert said in one.text()
    assert not alive(one.engine)
    kept = one.runtime / "replicas" / "one" / "backoff.json"
    assert json.loads(kept.read_text())["failures"] == 1


def test_a_killed_engine_ends_the_launcher_and_the_next_one_remembers(one: Launched) -> None:
    one.systemd()
    one.env["FAKE_CHILD"] = "near"
    one.start(patience=QUICK)
    one.ready()
    os.kill(one.engine, signal.SIGKILL)
    replaced(one, "vLLM was killed (SIGKILL")
    assert not alive(one.starts()[0]["child"])
    one.start(patience=QUICK)
    one.ready(2)
    assert one.sample()["attempt"] == 2


def test_a_dead_engine_process_is_told_before_the_rest_is_ended(one: Launched) -> None:
    """vLLM's server outlives its engine process for a second or more, and answers only errors."""
    one.systemd()
    one.env["FAKE_CHILD"] = "engine"
    one.start(patience={**QUICK, "end": 2.0})
    one.ready()
    table = ledger(one)
    assert table.verdict("one").state == "up"
    until(lambda: "ready" in one.sample().get("phase", ""))
    time.sleep(0.3)
    os.kill(one.starts()[0]["child"], signal.SIGKILL)
    until(lambda: table.verdict("one").state == "down", 1.0, "the verdict, at once")
    assert table.verdict("one").reason.startswith("vLLM lost its process VLLM::EngineCor")
    assert alive(one.engine), "its server was given time to say why"
    replaced(one, "vLLM lost its process VLLM::EngineCor, which was killed (SIGKILL")


def test_a_killed_engine_is_told_before_what_is_left_of_it_is_ended(one: Launched) -> None:
    one.systemd()
    one.start(patience=QUICK)
    one.ready()
    table = ledger(one)
    assert one.process is not None
    # Its output is held open from outside: to read it to its end takes the launcher a second.
    pipe = os.open(f"/proc/{one.engine}/fd/1", os.O_WRONLY)
    os.kill(one.engine, signal.SIGKILL)
    until(lambda: table.verdict("one").state == "down", 0.8, "the verdict, at once")
    assert one.process.poll() is None
    os.close(pipe)
    replaced(one, "vLLM was killed (SIGKILL")


def test_without_systemd_a_killed_engine_is_replaced_here(one: Launched) -> None:
    one.start(patience=QUICK)
    one.ready()
    first = one.engine
    os.kill(first, signal.SIGKILL)
    one.ready(2)
    assert one.engine != first
    assert one.sample()["last_error"].startswith("vLLM was killed")


def test_an_engine_that_ends_with_code_0_has_failed(one: Launched) -> None:
    one.systemd()
    one.start(patience=QUICK)
    one.ready()
    fault(one, "exit")
    replaced(one, "ended by itself (exit code 0)")


def test_a_hung_engine_is_found_and_replaced(one: Launched) -> None:
    one.systemd(1.5)
    one.start(patience=QUICK)
    one.ready()
    os.kill(one.engine, signal.SIGSTOP)
    until(lambda: "hangs: no right answer" in one.text())
    replaced(one, "hangs: no right answer for 0.")


def test_an_engine_that_turns_to_nan_is_found_and_replaced(one: Launched) -> None:
    one.systemd(1.5)
    one.start(patience=QUICK)
    one.ready()
    fault(one, "nan")
    replaced(one, "an inference gave NaN; started anew")


def test_a_wrong_answer_that_the_gateway_saw_is_enough(one: Launched) -> None:
    one.systemd(30)
    one.start(patience=QUICK)
    one.ready()
    ledger(one).set_verdict("one", "down", "gave NaN", time.time(), wrong=True)
    replaced(one, "the gateway got a wrong answer from it (gave NaN)")


def test_real_answers_vouch_for_a_busy_engine(one: Launched) -> None:
    one.systemd(1.5)
    one.start(patience=QUICK)
    one.ready()
    worker = ledger(one)
    worker.claim(0)
    fault(one, "slow", ms=30_000)
    before = one.messages().count("WATCHDOG=1")
    end = time.monotonic() + 3.5
    while time.monotonic() < end:
        worker.sent("one", 10)
        worker.answered("one", 10, True, time.monotonic_ns())
        time.sleep(0.05)
    assert one.messages().count("WATCHDOG=1") >= before + 2
    assert "STATUS=ready: busy, real answers flow" in one.messages()
    replaced(one, "hangs")  # as soon as they flow no more


# -- the end ------------------------------------------------------------------------------------


def test_a_drain_waits_for_what_is_in_flight(one: Launched) -> None:
    one.start(patience={**QUICK, "drain": 10.0})
    one.ready()
    worker = ledger(one)
    worker.claim(0)
    worker.sent("one", 4000)
    one.signal(signal.SIGTERM)
    until(lambda: worker.verdict("one").state == "draining")
    assert not worker.usable("one", time.time())
    time.sleep(0.5)
    assert alive(one.engine)
    worker.answered("one", 4000, True, time.monotonic_ns())
    assert one.ended() == 0
    assert "drained in" in one.text()
    assert worker.verdict("one").drained_by == ()
    worker.close()


def test_a_drain_has_an_end(one: Launched) -> None:
    one.start(patience=QUICK)
    one.ready()
    worker = ledger(one)
    worker.claim(0)
    worker.sent("one", 4000)
    one.signal(signal.SIGTERM)
    assert one.ended() == 0
    assert "4000 tokens still in flight" in one.text()
    worker.close()


def test_an_engine_that_ignores_sigterm_is_killed(one: Launched) -> None:
    one.start(patience={**QUICK, "watch": 30})
    one.ready()
    os.kill(one.engine, signal.SIGSTOP)
    one.signal(signal.SIGTERM)
    assert one.ended() == 0
    assert "vLLM did not end within 1 s: killed" in one.text()
    assert not alive(one.engine)


@pytest.mark.parametrize("child", ["near", "apart"])
def test_a_killed_launcher_leaves_no_engine(one: Launched, child: str) -> None:
    """The guard reaches the engine's session; what left that session only the cgroup reaches."""
    one.env["FAKE_CHILD"] = child
    one.start()
    one.ready()
    one.signal(signal.SIGKILL)
    one.ended()
    until(lambda: not alive(one.engine), what="the engine's end")
    if child == "near":
        until(lambda: not alive(one.starts()[0]["child"]), what="its child's end")
