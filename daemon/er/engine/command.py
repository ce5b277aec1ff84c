"""How one replica's vLLM is started: its command line, its environment, its logging file. Pure.

Every choice that vLLM would otherwise make by itself and that matters for right answers is said:
the number format, the longest sequence, one step for a whole sequence, the pooling task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import orjson

from er.config import Model, Replica
from er.engine.build import Build
from er.gpus import Gpu
from er.model_files import ModelFiles
from er.prompts import recipe

GIB = 1 << 30
# Modules of ours that run inside vLLM, by their names in the engine's own folder.
FORMATTER, INSIDE, GRAPHS = "er_engine_format", "er_engine_inside", "er_engine_graphs"
GUARD, MIG = "er_engine_guard", "er_engine_mig"
MODULES = {
    FORMATTER: "format.py",
    INSIDE: "inside.py",
    GRAPHS: "graphs.py",
    GUARD: "guard.py",
    MIG: "mig.py",
}
# yes and no become the two rows of a classifier, as Qwen3-Reranker was trained to be read.
RERANKER = {
    "architectures": ["Qwen3ForSequenceClassification"],
    "classifier_from_token": ["no", "yes"],
    "is_original_qwen3_reranker": True,
}
# A cross-encoder's number through the sigmoid, also where its files ask for the bare logit: vLLM
# takes what is beside this to mean one label's chance, whatever else the configuration names.
PAIRS = {"problem_type": "multi_label_classification"}
# What systemd or a shell told the launcher is not for the engine: a READY from it would be a lie.
NOT_INHERITED = ("NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "JOURNAL_STREAM", "ER_", "VIRTUAL_ENV")
# On the CPU vLLM would compute in a process beside the engine's, bound to the machine's first core,
# that asks for work in a loop. So all replicas share that core, and a kernel was seen (6.18) that
# lets whoever else is bound to it wait for ever. In the engine's own process none of it is needed.
IN_ITS_CORE = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
UTILIZATION = 0.90
FREE_BESIDE_CACHE = "0.1"  # of the card, for a replica with a kv_cache
# Processes of one engine, one a card, find each other by the first network address that they see,
# and the unit lets them reach loopback alone.
AMONG_THEMSELVES = {"NCCL_SOCKET_IFNAME": "lo", "GLOO_SOCKET_IFNAME": "lo"}

# The versions whose whole-step graphs were proven, with Qwen3 on one card: the same vectors as
# without them. Other models attend in other ways, and several cards talk within a step.
WHOLE_STEPS = ("0.25.1",)


class Launch(msgspec.Struct, frozen=True):
    """What to run: `argv` with the whole environment `env`."""

    argv: tuple[str, ...]
    env: dict[str, str]


def max_tokens(model: Model, files: ModelFiles) -> int:
    """The longest sequence, template included: the least of er.toml and the model's files."""
    return min(model.max_tokens, files.max_tokens)


def dtype(replica: Replica, model: Model) -> str:
    """The number format that it computes in, by vLLM's word."""
    return model.dtype or ("float32" if replica.cpu else "bfloat16")


def launch(
    replica: Replica,
    model: Model,
    files: ModelFiles,
    build: Build,
    *,
    gpus: Sequence[Gpu],
    folder: Path,
    secret: Path,
    inherited: Mapping[str, str],
    cpu_cache: int,
    cores: int,
) -> Launch:
    """The start of `replica` with the vLLM of `build`.

    `gpus` are the cards it runs on, [] on the CPU. `folder` holds its logging file and formatter,
    `secret` is the file with what its guard asks for.
    On the CPU `cpu_cache` is what its KV cache needs at least, in bytes, when er.toml does not say,
    and `cores` how many it computes on.
    """
    longest = max_tokens(model, files)
    argv = [str(build.python), "-m", *build.entry, str(model.path)]
    argv += ["--served-model-name", model.name]
    argv += ["--host", "127.0.0.1", "--port", str(replica.port)]
    argv += ["--disable-uvicorn-access-log", "--middleware", f"{INSIDE}.Inside"]
    argv += ["--middleware", f"{GUARD}.Guard"]  # the last one is asked first
    argv += pooling(model, files, dtype(replica, model))
    if build.version in WHOLE_STEPS and files.prompt == "qwen3" and len(gpus) == 1:
        argv += _whole_steps(max(model.batch_tokens, longest))
    argv += _memory(replica, len(gpus))
    argv += replica.args
    env = _environment(replica, gpus, folder, inherited)
    if replica.cpu:
        env["VLLM_CPU_KVCACHE_SPACE"] = str(-(-max(replica.kv_cache or cpu_cache, 1) // GIB))
        env["OMP_NUM_THREADS"] = str(cores)
    env |= replica.env
    return Launch(tuple(argv), env | {"ENGINE_SECRET_FILE": str(secret)})


def pooling(model: Model, files: ModelFiles, dtype: str) -> list[str]:
    """What every start of vLLM is told for right answers, as a server or within another process."""
    longest = max_tokens(model, files)
    argv = ["--runner", "pooling", "--dtype", dtype]
    argv += ["--max-model-len", str(longest), "--no-enable-chunked-prefill"]
    argv += ["--max-num-batched-tokens", str(max(model.batch_tokens, longest))]
    if model.task == "embed":
        # Texts share next to nothing; hashing their blocks costs a sixth of short ones' rate.
        argv += ["--no-enable-prefix-caching"]
    if model.task == "score" and files.architecture == "Qwen3ForCausalLM":
        argv += ["--hf-overrides", orjson.dumps(RERANKER).decode()]
    return argv + _pooled(model, files)


def memory(cpu: bool) -> list[str]:
    """What vLLM within another process is told of where it computes: one card, or the CPU."""
    if cpu:
        return ["--enforce-eager", "--distributed-executor-backend", IN_ITS_CORE]
    return ["--gpu-memory-utilization", f"{UTILIZATION}"]


def _whole_steps(step: int) -> list[str]:
    """Steps of up to `step` tokens as CUDA graphs, and the next one prepared during one."""
    sizes = [1, 2, 4, 8, 16, 24, 32, 48, 64, 96, *range(128, 512, 64), *range(512, 2048, 128)]
    sizes = [size for size in (*sizes, *range(2048, step, 256)) if size < step]
    graphs = {"cudagraph_capture_sizes": [*sizes, step]}
    # FlashAttention splits a sequence over the card for the sake of decoding; here it costs memory.
    one_part = {"flash_attn_max_num_splits_for_cuda_graph": 1}
    argv = ["--worker-cls", f"{GRAPHS}.Worker", "--async-scheduling"]
    argv += ["--compilation-config", orjson.dumps(graphs).decode()]
    return [*argv, "--attention-config", orjson.dumps(one_part).decode()]


def _pooled(model: Model, files: ModelFiles) -> list[str]:
    """What vLLM makes of the tokens' states, said for all but Qwen3, whose ways are proven."""
    plain = (model.prompt or files.prompt) == "plain"
    if model.task == "score":
        return ["--hf-overrides", orjson.dumps(PAIRS).decode()] if plain else []
    if not plain and files.normalised:
        return []
    how = {"pooling_type": recipe.pooling(files), "use_activation": True}  # length 1
    argv = ["--pooler-config", orjson.dumps(how).decode()]
    if files.architecture == "XLMRobertaModel" and files.positions == "absolute":
        # vLLM asks for it by name, and transformers 5 writes it into no file any more
        argv += ["--hf-overrides", orjson.dumps({"position_embedding_type": "absolute"}).decode()]
    return argv


def _memory(replica: Replica, cards: int) -> list[str]:
    if replica.cpu:
        return memory(cpu=True)
    argv = ["--tensor-parallel-size", str(cards)] if cards > 1 else []
    if replica.kv_cache is not None:
        # vLLM refuses to start when less than this share of the card is free, even though the
        # cache has a size of its own; several replicas on a card need it low.
        argv += ["--kv-cache-memory-bytes", str(replica.kv_cache), "--gpu-memory-utilization"]
        return [*argv, FREE_BESIDE_CACHE]
    return [*argv, "--gpu-memory-utilization", f"{replica.gpu_memory_utilization or UTILIZATION}"]


def _environment(
    replica: Replica,
    gpus: Sequence[Gpu],
    folder: Path,
    inherited: Mapping[str, str],
) -> dict[str, str]:
    env = {k: v for k, v in inherited.items() if not k.startswith(NOT_INHERITED)}
    path = [str(folder), *filter(None, [inherited.get("PYTHONPATH")])]
    env |= {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "75",
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_LOGGING_CONFIG_PATH": str(folder / "logging.json"),
        "VLLM_USE_FLASHINFER_SAMPLER": "0",  # pooling samples nothing
        # The launcher judges slowness by progress; vLLM's own limit would end a slow disk's start.
        "VLLM_ENGINE_READY_TIMEOUT_S": "3600",
        "PYTHONPATH": ":".join(path),
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "ignore",
    }
    if replica.cpu:
        env["CUDA_VISIBLE_DEVICES"] = ""
    else:
        env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        env["CUDA_VISIBLE_DEVICES"] = ",".join(gpu.uuid for gpu in gpus)
    if len(gpus) > 1:
        env |= AMONG_THEMSELVES
    return env


def cpu_cache_bytes(config: Mapping[str, Any], longest: int) -> int:
    """KV cache that two sequences of `longest` tokens need in float32, from a config.json."""
    text = config.get("text_config") if isinstance(config.get("text_config"), dict) else config
    assert text is not None
    heads = int(text.get("num_attention_heads") or 1)
    width = int(text.get("head_dim") or int(text.get("hidden_size") or 0) // heads)
    per_token = 2 * 4 * width * int(text.get("num_key_value_heads") or heads)
    return 2 * longest * per_token * int(text.get("num_hidden_layers") or 1)


def logging_config() -> bytes:
    """vLLM's logging file: every speaker's lines with their level, none for each request."""
    quiet = {"level": "WARNING"}
    said = {"level": "INFO", "handlers": ["journal"], "propagate": False}
    to_stdout = {
        "class": "logging.StreamHandler",
        "formatter": "journal",
        "stream": "ext://sys.stdout",
    }
    return orjson.dumps(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"journal": {"()": f"{FORMATTER}.Journal", "fmt": "%(message)s"}},
            # A library that vLLM 0.25 imports sets the root's handlers to ERROR; one shared with
            # vLLM's speakers would then be silent about the start's phases and about warnings.
            "handlers": {"journal": to_stdout, "others": to_stdout},
            "root": {"handlers": ["others"], "level": "WARNING"},
            "loggers": {
                "vllm": said,
                "vllm.v1.metrics.loggers": quiet,  # a line every ten seconds while idle
                "vllm.entrypoints.launchers.launcher": quiet,  # the list of its routes
                "vllm.entrypoints.launcher": quiet,
                "uvicorn": said,
                "uvicorn.access": {**said, "level": "WARNING"},
            },
        }
    )
