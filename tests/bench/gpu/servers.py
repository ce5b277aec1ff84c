"""The servers that are measured: vLLM as it comes and as ER's replica, and ER in front of some."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).resolve().parent
DAEMON = HERE.parents[2] / "daemon"
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_USE_FLASHINFER_SAMPLER": "0",  # pooling samples nothing
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
    "TOKENIZERS_PARALLELISM": "false",
}
# 6 GiB hold 56,160 tokens: more than 256 texts of 128 need, so the rate is that of a whole card.
SMALL = ("--gpu-memory-utilization", "0.1", "--kv-cache-memory-bytes", "6G")
TUNED = (
    *("--gpu-memory-utilization", "0.1", "--kv-cache-memory-bytes", "4G"),
    *("--disable-uvicorn-access-log", "--middleware", "er_engine_inside.Inside"),
)
# vLLM's own graphs end at 512 tokens; larger steps are launched piece by piece by its engine.
SIZES = [
    *(1, 2, 4, 8, 16, 24, 32, 48, 64, 96),
    *range(128, 512, 64),
    *range(512, 2048, 128),
    *range(2048, 8193, 256),
]


def graphs(sizes: Sequence[int]) -> tuple[str, ...]:
    return ("--compilation-config", json.dumps({"cudagraph_capture_sizes": list(sizes)}))


# Whole-step graphs: engine/graphs.py. One split: what splits attention is for decoding.
WHOLE = (
    *("--worker-cls", "er_engine_graphs.Worker"),
    *("--attention-config", '{"flash_attn_max_num_splits_for_cuda_graph":1}'),
    *graphs(SIZES),
)
RERANKER = (
    *("--chat-template", str(HERE / "qwen3_reranker.jinja"), "--hf-overrides"),
    '{"architectures":["Qwen3ForSequenceClassification"],"classifier_from_token":["no","yes"],'
    '"is_original_qwen3_reranker":true}',
)


@dataclasses.dataclass
class Kind:
    """How a vLLM is started, beside its model."""

    args: tuple[str, ...] = TUNED
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)


LEAN = ("--disable-log-stats", "--no-enable-prefix-caching")
COPY = {"VLLM_MSGPACK_ZERO_COPY_THRESHOLD": "1000000"}
ASYNC = ("--async-scheduling",)
KINDS = {
    "plain": Kind(SMALL),
    "plainrr": Kind((*SMALL, *RERANKER)),
    # As engine/command.py starts them.
    "er": Kind((*TUNED, *WHOLE, *ASYNC, "--no-enable-prefix-caching")),
    "err": Kind((*TUNED, *RERANKER, *WHOLE, *ASYNC)),
    # One way at a time: the path inside alone; whole steps; these ahead of the card; and less.
    "r": Kind(),
    "f": Kind((*TUNED, *WHOLE)),
    "rl": Kind((*TUNED, *LEAN), COPY),
    "fl": Kind((*TUNED, *WHOLE, *LEAN), COPY),
    "fal": Kind((*TUNED, *WHOLE, *ASYNC, *LEAN), COPY),
    "fas": Kind((*TUNED, *WHOLE, *ASYNC, "--no-enable-prefix-caching"), COPY),
    "fap": Kind((*TUNED, *WHOLE, *ASYNC, "--disable-log-stats"), COPY),
    "faz": Kind((*TUNED, *WHOLE, *ASYNC, *LEAN)),
    "api": Kind((*TUNED, "--api-server-count", "4")),
}


def kind_of(name: str) -> Kind:
    """The kind of the server `name`: its name without the number."""
    return KINDS[name.rstrip("0123456789")]


UNPROBED_S = 10.0  # ER serves without its prober too, which would be said by these figures


class Server:
    """A process with its children, and a port."""

    role = "other"

    def __init__(self, name: str, port: int, folder: Path) -> None:
        self.name, self.port, self.folder = name, port, folder / name
        self.url = f"http://127.0.0.1:{port}"
        self.key = ""
        shutil.rmtree(self.folder, ignore_errors=True)  # ER shows a key once: no state of before
        self.folder.mkdir(parents=True)
        self.log = self.folder / "log"

    def launch(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self.began = time.monotonic()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def page(self, path: str, timeout_s: float = 1.0) -> tuple[int, bytes]:
        """Status and body of a GET; status 0 when there is none."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=timeout_s) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""

    def well(self) -> bool:
        return self.page("/health")[0] == 200

    def ready(self, seconds: float) -> float | None:
        """Seconds from its start until it was well; None when it is not, and its log is shown."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.process.poll() is None:
            if self.well():
                return round(time.monotonic() - self.began, 1)
            time.sleep(0.1)
        lines = [line for line in self.log.read_text().splitlines() if "REQUEST_ID" not in line]
        print(f"{self.name} did not start:", *lines[-40:], sep="\n  ", flush=True)
        return None

    def processes(self) -> list[tuple[str, psutil.Process]]:
        """Every process of it with what it does."""
        try:
            top = psutil.Process(self.process.pid)
            found = []
            for process in (top, *top.children(recursive=True)):
                title = " ".join(process.cmdline())
                found.append((self.does(title, process is top), process))
            return [one for one in found if one[0]]
        except psutil.Error:
            return []

    def does(self, title: str, top: bool) -> str:
        """What a process of it is called in the figures; "" leaves it out."""
        return "server" if top else ""

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds so far, by what the processes do."""
        found: dict[str, float] = {}
        for does, process in self.processes():
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            found[does] = found.get(does, 0.0) + times.user + times.system
        return found

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        # vLLM's engine process and ER's workers have groups of their own.
        for _, process in self._left:
            if process.is_running():
                process.kill()

    _left: Sequence[tuple[str, psutil.Process]] = ()


class Vllm(Server):
    """One vLLM. `paths`: PYTHONPATH."""

    def __init__(self, name: str, port: int, folder: Path, args: Sequence[str] = ()) -> None:
        super().__init__(name, port, folder)
        self.args = args

    def start(self, model: str, paths: str, env: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", model]
        command += ["--served-model-name", "m", "r", "--runner", "pooling", "--host", "127.0.0.1"]
        command += ["--dtype", "bfloat16", "--max-model-len", "8192", "--port", str(self.port)]
        self.launch([*command, *self.args], {**QUIET, "PYTHONPATH": paths, **env})

    def does(self, title: str, top: bool) -> str:
        if "EngineCore" in title:
            return "engine"
        return "api" if top else ""

    def stop(self) -> None:
        self._left = self.processes()
        super().stop()


class Er(Server):
    """ER over replicas that run already. `patch`: constants of the scheduler, for trials."""

    def __init__(
        self,
        name: str,
        port: int,
        folder: Path,
        *,
        model: str,
        embed: Sequence[Server],
        rerank: Sequence[Server] = (),
        workers: int | str = "auto",
        batch_tokens: int = 8192,
        patch: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(name, port, folder)
        self.behind = [*embed, *rerank]
        self._daemon = self._patched(dict(patch or {}))
        quoted = workers if isinstance(workers, int) else f'"{workers}"'
        text = (
            f'[gateway]\nlisten = ["127.0.0.1:{port}"]\nworkers = {quoted}\nmetrics = ""\n'
            'rate_limit = "4000000000/minute"\n'
        )
        for known, task, servers in (("m", "embed", embed), ("r", "score", rerank)):
            if not servers:
                continue
            text += f'[[model]]\nname = "{known}"\ntask = "{task}"\npath = "{model}"\n'
            text += f"batch_tokens = {batch_tokens}\n"
            for server in servers:
                text += f'[[replica]]\nname = "{server.name}"\nmodel = "{known}"\n'
                text += f'url = "{server.url}"\n'
        (self.folder / "er.toml").write_text(text)

    def _patched(self, patch: dict[str, int]) -> Path:
        if not patch:
            return DAEMON
        target = self.folder / "daemon"
        shutil.copytree(DAEMON, target, dirs_exist_ok=True)
        scheduler = target / "er" / "scheduler.py"
        text = scheduler.read_text()
        for name, value in patch.items():
            text, n = re.subn(rf"(?m)^{name} = \d+", f"{name} = {value}", text)
            assert n == 1, name
        scheduler.write_text(text)
        return target

    def start(self, paths: str) -> None:
        env = {"PYTHONPATH": f"{self._daemon}:{paths}"}
        for kind in ("CONFIGURATION", "STATE", "RUNTIME", "CACHE"):
            (self.folder / kind.lower()).mkdir(exist_ok=True)
            env[f"{kind}_DIRECTORY"] = str(self.folder / kind.lower())
        config = str(self.folder / "er.toml")
        self.launch([sys.executable, "-P", "-m", "er.supervisor", "--config", config], env)

    def well(self) -> bool:
        status, body = self.page("/health")
        if not status or (status == 200 and json.loads(body)["status"] != "ok"):
            return False
        if status != 200 and time.monotonic() - self.began < UNPROBED_S:
            return False
        found = re.search(r"sk-er-\S+", self.log.read_text())
        self.key = found[0] if found else ""
        return bool(self.key)

    def does(self, title: str, top: bool) -> str:
        if "er.worker" in title:
            return "worker"
        return "admin" if "er.admin" in title else "supervisor"

    def stop(self) -> None:
        self._left = self.processes()
        super().stop()


def cpu_of(servers: Sequence[Server]) -> dict[str, Any]:
    """CPU seconds by server and what its processes do."""
    return {f"{s.name}.{k}": v for s in servers for k, v in s.cpu_s().items()}
