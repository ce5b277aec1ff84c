"""The peers that ER is measured against: their versions, how each is set up and started.

Programs of the distribution (nginx, wrk) are installed by tests/bench/run. The others are Python
packages; each gets an environment of its own in $ER_TEST_CACHE/bench, made once for a version.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from measure import CACHE, HERE, BenchError, listens, process, wait_for

from fakes import free_port

# The one place for versions. What they need in turn is the package index's choice of the day.
PACKAGES = {
    "vllm-router": ("vllm-router==0.1.17",),
    "litellm": ("litellm[proxy]==1.108.7",),
    "fastapi": ("fastapi==0.136.0", "httpx==0.28.1", "uvicorn[standard]==0.54.0"),
}
STARTS_S = 120.0


def environment(peer: str) -> Path:
    """The bin folder of a peer's environment, made if it is not there. Raises BenchError."""
    packages = PACKAGES[peer]
    stamp = hashlib.sha256(" ".join([sys.version, *packages]).encode()).hexdigest()[:8]
    folder = CACHE / "bench" / f"{peer}-{stamp}"
    if (folder / ".complete").exists():
        return folder / "bin"
    print(f"bench: making {folder}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    base = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    pip = ["-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    for argv in (
        [str(base), "-m", "venv", str(folder)],
        [str(folder / "bin" / "python"), *pip, "--root-user-action=ignore", *packages],
    ):
        done = subprocess.run(argv, capture_output=True, text=True)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise BenchError(f"{peer} can't be installed: {(errors or [done.stderr])[-1][:300]}")
    (folder / ".complete").touch()
    return folder / "bin"


Server = tuple[int, int, str]  # port, process id, the key that clients send


NGINX = """\
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-other;
    uwsgi_temp_path {folder}/nginx-other;
    scgi_temp_path {folder}/nginx-other;
    keepalive_requests 1000000000;
    upstream engine {{
        server 127.0.0.1:{engine};
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://engine;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffers 8 8k;
        }}
    }}
}}
"""


@contextlib.contextmanager
def nginx(folder: Path, engine: int) -> Iterator[Server]:
    """nginx with one worker process, passing through over kept-alive connections, no access log."""
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, engine=engine, port=port))
    argv = ["nginx", "-p", folder, "-c", config, "-e", "stderr"]
    with process(argv, folder, "nginx") as popen:
        wait_for(lambda: listens(port), popen, "nginx")
        yield port, popen.pid, ""


@contextlib.contextmanager
def vllm_router(folder: Path, engine: int) -> Iterator[Server]:
    """vllm-router with the one engine, round robin."""
    port, metrics = free_port(), free_port()
    argv = [environment("vllm-router") / "vllm-router", "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--worker-urls", f"http://127.0.0.1:{engine}", "--policy", "round_robin"]
    argv += ["--prometheus-port", str(metrics), "--prometheus-host", "127.0.0.1"]
    argv += ["--log-level", "warning"]
    with process(argv, folder, "vllm-router") as popen:
        wait_for(lambda: listens(port), popen, "vllm-router", STARTS_S)
        yield port, popen.pid, ""


LITELLM = """\
model_list:
  - model_name: embed
    litellm_params:
      model: openai/embed
      api_base: http://127.0.0.1:{engine}/v1
      api_key: none
"""


@contextlib.contextmanager
def litellm(folder: Path, engine: int) -> Iterator[Server]:
    """LiteLLM's proxy, one worker, without its database."""
    port = free_port()
    config = folder / "litellm.yaml"
    config.write_text(LITELLM.format(engine=engine))
    argv = [environment("litellm") / "litellm", "--config", config, "--host", "127.0.0.1"]
    argv += ["--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    key = "sk-" + secrets.token_urlsafe(32)  # without one it does not start
    more = {"LITELLM_MASTER_KEY": key, "LITELLM_LOG": "ERROR"}
    more |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with process(argv, folder, "litellm", PYTHONPATH="", **more) as popen:
        wait_for(lambda: listens(port), popen, "LiteLLM", STARTS_S)
        yield port, popen.pid, key


@contextlib.contextmanager
def fastapi(folder: Path, engine: int) -> Iterator[Server]:
    """A FastAPI and httpx proxy on uvicorn, one worker (fastapi_proxy.py)."""
    port = free_port()
    argv = [environment("fastapi") / "uvicorn", "fastapi_proxy:app", "--host", "127.0.0.1"]
    argv += ["--port", str(port), "--no-access-log", "--log-level", "warning"]
    argv += ["--app-dir", HERE]
    more = {"UPSTREAM": f"http://127.0.0.1:{engine}", "PYTHONPATH": ""}
    with process(argv, folder, "fastapi", **more) as popen:
        wait_for(lambda: listens(port), popen, "the FastAPI proxy", STARTS_S)
        yield port, popen.pid, ""
