"""A gateway that has everything there is a metric of, and a real Prometheus that reads it.

What a test has no hardware or systemd for is put in its place where ER reads it: the launchers'
samples with their GPUs, `systemctl`, and the cgroups' files.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

import certificates
from er import keys
from fakes import EngineProcess, free_port
from running import Gateway
from test_alerts import span_m

ETC = Path(__file__).parent.parent / "etc"
KNOWING = Path(__file__).with_name("knowing_engine.py")
EVERY = "500ms"  # a scrape, and a look at the rules
BLOCK = "file-0123456789abcdef"  # what stands between parts of an upload
# In the admin process alone: a machine with systemd, and no half minute for sums of feedback.
SHIM = """
import sys
if "er.admin" in sys.orig_argv:
    from pathlib import Path
    from er import systemctl
    from er.admin import cgroups, satisfaction
    satisfaction.EVERY_S = satisfaction.WINDOW_S = 1.0
    systemctl.booted = lambda: True
    cgroups.rows.__defaults__ = (Path({root!r}), Path({own!r}))
"""
SYSTEMCTL = """#!/bin/sh
for unit; do
    case $unit in er-*.service)
        echo Id=$unit; echo LoadState=loaded; echo ActiveState=active; echo NRestarts=0
        echo IPIngressBytes=1000; echo IPEgressBytes=2000; echo
    esac
done
"""
CGROUP = {
    "cpu.stat": "usage_usec 5000\nuser_usec 3000\nsystem_usec 2000\n",
    "memory.current": "100000000\n",
    "memory.peak": "200000000\n",
    "memory.max": "max\n",
    "memory.events": "low 0\noom 0\noom_kill 0\n",
    "io.stat": "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n",
    "pids.current": "17\n",
}


class Engine(EngineProcess):
    """The stand-in engine that is a good model."""

    def __init__(self) -> None:
        super().__init__(dim=64)
        self.argv[1] = str(KNOWING)


class Site(Gateway):
    """er-gateway with two replicas on one GPU, HTTPS, costs, the canary, and units of systemd's."""

    def __init__(self, folder: Path, engines: list[EngineProcess]) -> None:
        self.metrics_port = free_port()
        super().__init__(folder, engines, workers=1, metrics=f"127.0.0.1:{self.metrics_port}")
        self.models[0]["over_length"] = "cut"
        card: dict[str, Any] = {"model": "embed", "gpu": 0, "kv_cache": "1GiB"}
        self.replicas = [
            dict(card, name=f"e{i}", port=engine.port) for i, engine in enumerate(engines)
        ]
        self.quality = {"every": "10s"}
        issued = certificates.Authority().issue("localhost", "127.0.0.1")
        self.tls = dict(certificates.put(folder / "tls", issued))
        self.ended = threading.Event()
        self.written = threading.Thread(target=self._samples, daemon=True)

    def write_config(self) -> None:
        super().write_config()
        with self.config.open("a") as file:
            file.write('\n[costs]\ngpu_hour = 2.5\ncurrency = "EUR"\n')

    def environment(self) -> dict[str, str]:
        found = super().environment()
        path = f"{self.folder / 'shim'}:{found.get('PYTHONPATH', '')}"
        return {**found, "PYTHONPATH": path, "PATH": f"{self.folder / 'bin'}:{found['PATH']}"}

    def lay_out(self) -> None:
        """What stands for systemd, for the kernel and for the launchers."""
        units = self.folder / "cgroup/er.slice"
        for unit in (
            "er-gateway.service",
            *(f"er-vllm@{r['name']}.service" for r in self.replicas),
        ):
            (units / unit).mkdir(parents=True)
            for name, text in CGROUP.items():
                (units / unit / name).write_text(text)
        own = self.folder / "own-cgroup"
        own.write_text("0::/er.slice/er-gateway.service\n")
        (self.folder / "shim").mkdir()
        shim = SHIM.format(root=str(self.folder / "cgroup"), own=str(own))
        (self.folder / "shim/sitecustomize.py").write_text(shim)
        (self.folder / "bin").mkdir()
        (self.folder / "bin/systemctl").write_text(SYSTEMCTL)
        (self.folder / "bin/systemctl").chmod(0o755)
        self.state.mkdir()
        now, ends = datetime.now(UTC), datetime.now(UTC) + timedelta(days=30)
        path = self.state / "er_api_keys.json"
        self.key = keys.create(path, name="web", now=now, expires=ends).secret
        self.written.start()

    def _samples(self) -> None:
        """What launchers write each second, as long as their engines live."""
        began = time.time()
        while not self.ended.wait(0.5):
            for replica, engine in zip(self.replicas, self.engines, strict=True):
                if engine.process is not None and engine.process.poll() is None:
                    self._sample(replica["name"], engine.process.pid, began)

    def _sample(self, name: str, pid: int, began: float) -> None:
        folder = self.runtime / "replicas" / name
        folder.mkdir(parents=True, exist_ok=True)
        sample = {
            "name": name,
            "pid": pid,
            "phase": "ready",
            "phase_since": began,
            "ready_since": began,
            "attempt": 1,
            "load_s": 38.4,
            "start_s": 41.2,
            "coming": False,
            "time": time.time(),
            "gpu": [CARD],
            "engine": {
                "running": 1,
                "waiting": 0,
                "prompt_tokens_total": int(time.time() - began) * 1000,
                "kv_cache_usage": 0.07,
                "p50_ms": 11.2,
                "p95_ms": 34.0,
            },
            "rss_bytes": 1 << 30,
            "vllm_version": "0.32.0",
            "identity": "5f1d8a0c93b7e24466d0a9f3c2b1e807",
            "shared_identity": "9b0c1e7d52f84a6638e1d4c7a0b9f265",
        }
        new = folder / "sample.new"
        new.write_text(json.dumps(sample))
        new.rename(folder / "sample.json")

    def batch(self) -> str:
        """A batch of one good line and one that is refused; its id."""
        lines = b"".join(
            json.dumps(
                {
                    "custom_id": str(n),
                    "method": "POST",
                    "url": "/v1/embeddings",
                    "body": {"model": model, "input": "text"},
                }
            ).encode()
            + b"\n"
            for n, model in enumerate(("embed", "none"))
        )
        head = f'--{BLOCK}\r\nContent-Disposition: form-data; name="{{}}"{{}}\r\n\r\n'
        body = head.format("purpose", "").encode() + b"batch\r\n"
        body += head.format("file", '; filename="lines.jsonl"').encode() + lines
        body += f"\r\n--{BLOCK}--\r\n".encode()
        kind = {"content-type": f"multipart/form-data; boundary={BLOCK}"}
        file = self.ask("POST", "/v1/files", body, headers=kind)
        assert file.status == 200, file.body
        wish = {"input_file_id": file.json["id"], "endpoint": "/v1/embeddings"}
        made = self.ask("POST", "/v1/batches", wish | {"completion_window": "24h"})
        assert made.status == 200, made.body
        return str(made.json["id"])

    def scraped(self) -> bytes:
        """What a scraper reads."""
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=20) as answer:
            found: bytes = answer.read()
        return found

    def twin(self) -> bool:
        """Whether a call was sent again elsewhere; gives one its reason: it takes too long."""
        self.engines[0].fault("slow", 1, ms=2000)
        for n in range(4):  # one of them goes there
            assert self.embed(f"slow {time.monotonic()} {n}").status == 200
        return b"er_hedges_total{" in self.scraped()

    def traffic(self) -> None:
        """Requests of every kind: answered, refused, cut, sent again."""
        link = self.connection()
        for n in range(180):  # enough to know the replicas' pace, and for some twins
            assert self.embed(f"text {n}", connection=link).status == 200
        self.engines[0].fault("500", 1)
        for n in range(40):
            assert self.embed([f"text {n}", f"more {n}"], connection=link).status == 200
        assert self.embed("long " * 200, connection=link).status == 200  # cut
        rerank = {"model": "bi", "query": "q", "documents": ["a", "b"]}
        ranked = self.ask("POST", "/v1/rerank", rerank, connection=link)
        said = {"request_id": ranked.headers["x-request-id"], "document": 1, "rating": "up"}
        assert self.ask("POST", "/v1/feedback", said, connection=link).status == 200
        assert self.embed("x", key="sk-er-wrong", connection=link).status == 401
        assert self.ask("POST", "/v1/embeddings", {"model": "none", "input": "x"}).status == 404
        link.close()


CARD = {
    "index": 0,
    "uuid": "GPU-5f0c1d1e",
    "name": "NVIDIA H200",
    "memory_used": 60 << 30,
    "memory_total": 141 << 30,
    "utilization": 91,
    "temperature": 61,
    "power_w": 612.4,
    "power_limit_w": 700.0,
    "throttled": {"power_cap": True, "hw_thermal": False},
    "ecc_errors": {"corrected": 0, "uncorrected": 0},
}


class Prometheus:
    """A real one with a folder and a port of its own; a minute of the rules is a second in it."""

    def __init__(self, folder: Path, target: int) -> None:
        self.folder, self.port = folder, free_port()
        rules = yaml.safe_load((ETC / "prometheus/rules.yml").read_text(encoding="utf-8"))
        for group in rules["groups"]:
            for rule in group["rules"]:
                if "for" in rule:
                    rule["for"] = f"{max(2, span_m(rule['for']))}s"
        (folder / "rules.yml").write_text(yaml.safe_dump(rules))
        config = yaml.safe_load((ETC / "prometheus/prometheus.yml").read_text(encoding="utf-8"))
        config["global"] = {"scrape_interval": EVERY, "evaluation_interval": EVERY}
        (scrape,) = config["scrape_configs"]
        scrape["static_configs"] = [{"targets": [f"127.0.0.1:{target}"]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Prometheus:
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={self.folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self.folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    "--log.level=warn",
                ],
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        until(self._ready, 20, lambda: (self.folder / "log").read_text())
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def _ready(self) -> bool:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5).close()
            return True
        return False

    def get(self, path: str, **fields: str) -> Any:
        """The data that its API answers with."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(fields)}"
        with urllib.request.urlopen(url, timeout=20) as answer:
            found = json.load(answer)
        assert found["status"] == "success", found
        return found["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query, now."""
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def firing(self) -> dict[str, dict[str, Any]]:
        """The alerts that fire now, by name, each with its labels and texts."""
        alerts = self.get("alerts")["alerts"]
        return {a["labels"]["alertname"]: a for a in alerts if a["state"] == "firing"}


def until(true: Callable[[], Any], seconds: float, told: Callable[[], str]) -> Any:
    """Wait until `true()` is; what it is then."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, told()
        time.sleep(0.1)
    return found


@contextlib.contextmanager
def site(folder: Path) -> Iterator[tuple[Site, Prometheus]]:
    """Both, running."""
    for name in ("gateway", "prometheus"):
        (folder / name).mkdir()
    with contextlib.ExitStack() as stack:
        engines: list[EngineProcess] = [stack.enter_context(Engine()) for _ in range(2)]
        running = Site(folder / "gateway", engines)
        running.lay_out()
        stack.callback(running.written.join)
        stack.callback(running.ended.set)
        stack.callback(running.kill)
        running.start()
        prometheus = stack.enter_context(Prometheus(folder / "prometheus", running.metrics_port))
        until(lambda: prometheus.query('up{job="er"} == 1'), 60, running.text)
        yield running, prometheus
