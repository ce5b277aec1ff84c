"""A real er-gateway for tests: its folder, er.toml, stand-in engines, a client; all ended after."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fakes import EngineProcess, free_port

DIMENSIONS = 64
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
MISHAP = re.compile(r"unexpected \w+ while .* \(request .*\)")
QWEN3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_alphabet() -> list[str]:
    """The 256 letters that a byte-level tokenizer writes bytes with."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {b: chr(b) for b in plain}
    rest = [b for b in range(256) if b not in letters]
    letters.update({b: chr(256 + i) for i, b in enumerate(rest)})
    return [letters[b] for b in range(256)]


def model_folder(path: Path, *, limit: int = 512, dimensions: int = DIMENSIONS) -> Path:
    """A model folder in Qwen3's shape whose tokens are bytes: loaded in a millisecond."""
    path.mkdir(parents=True, exist_ok=True)
    vocabulary = {letter: i for i, letter in enumerate(byte_alphabet())}
    added = [
        {
            "id": 256 + i,
            "content": text,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": text.startswith("<|"),
        }
        for i, text in enumerate(SPECIAL)
    ]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    split = {
        "type": "Split",
        "pattern": {"Regex": QWEN3_SPLIT},
        "behavior": "Isolated",
        "invert": False,
    }
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [split, {**level, "use_regex": False}],
        },
        "post_processor": {**level, "use_regex": False},
        "decoder": {**level, "use_regex": False},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": [], "ignore_merges": False},
    }
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    (path / "tokenizer_config.json").write_text("{}")
    config = {
        "architectures": ["Qwen3ForCausalLM"],
        "max_position_embeddings": limit,
        "hidden_size": dimensions,
        "vocab_size": 256 + len(SPECIAL),
        "torch_dtype": "float32",
    }
    (path / "config.json").write_text(json.dumps(config))
    return path


class Reply(NamedTuple):
    """What the gateway answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """The error's code; None for a good answer."""
        error = self.json.get("error")
        return error["code"] if error else None

    @property
    def message(self) -> str:
        """What a refusal says, as most dialects or as TEI and Ollama write it."""
        said = self.json
        return str(said["message"] if "message" in said else said["error"])


class Gateway:
    """er-gateway as a process, with everything it needs in one folder."""

    def __init__(self, folder: Path, engines: Sequence[EngineProcess] = (), **gateway: Any) -> None:
        self.folder = folder
        self.listen, self.port = "127.0.0.1", free_port()
        self.engines = engines
        self.settings = {"workers": 1, "metrics": "", "rate_limit": "off", **gateway}
        self.models: list[dict[str, Any]] = [
            {"name": "embed", "task": "embed", "path": str(model_folder(folder / "model"))},
            {"name": "bi", "task": "score", "via": "embed", "aliases": ["bi/encoder"]},
        ]
        self.replicas = [
            {"name": f"e{i}", "model": "embed", "url": engine.address}
            for i, engine in enumerate(engines)
        ]
        self.batches: dict[str, Any] = {}  # [batches]
        self.quality: dict[str, Any] = {"every": "off"}  # [quality]: tests count what is asked
        self.tracing: dict[str, Any] = {}  # [tracing]
        self.alerts: list[dict[str, Any]] = []  # [[alert]]
        self.tls: dict[str, Any] = {}  # [gateway.tls], without `listen`
        self.shared: dict[str, dict[str, Any]] = {}  # [state] and [host], by name
        self.https_port = free_port()
        self.state, self.runtime = folder / "state", folder / "run"
        self.config = folder / "er.toml"
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.key = ""

    def write_config(self) -> None:
        """er.toml from settings, models and replicas."""
        text = f'[gateway]\nlisten = ["{self.listen}:{self.port}"]\n'
        text += "".join(f"{k} = {json.dumps(v)}\n" for k, v in self.settings.items())
        if self.tls:
            text += f'\n[gateway.tls]\nlisten = ["127.0.0.1:{self.https_port}"]\n'
            text += "".join(f"{k} = {json.dumps(v)}\n" for k, v in self.tls.items())
        if "state" in self.shared:
            host = self.shared.setdefault("host", {})
            host.setdefault("listen", [f"127.0.0.1:{free_port()}"])
        for name, values in self.shared.items():
            text += f"\n[{name}]\n"
            text += "".join(f"{k} = {json.dumps(v)}\n" for k, v in values.items())
        if self.batches:
            text += "\n[batches]\n"
            text += "".join(f"{k} = {json.dumps(v)}\n" for k, v in self.batches.items())
        text += "\n[quality]\n" + "".join(
            f"{k} = {json.dumps(v)}\n" for k, v in self.quality.items()
        )
        if self.tracing:
            text += "\n[tracing]\n"
            text += "".join(f"{k} = {json.dumps(v)}\n" for k, v in self.tracing.items())
        many = (("alert", self.alerts), ("model", self.models), ("replica", self.replicas))
        for kind, tables in many:
            for table in tables:
                text += f"\n[[{kind}]]\n"
                text += "".join(f"{k} = {json.dumps(v)}\n" for k, v in table.items())
        self.config.write_text(text)

    def environment(self) -> dict[str, str]:
        away = ("JOURNAL_STREAM", "NOTIFY_SOCKET", "LISTEN_FDS", "PROMETHEUS_MULTIPROC_DIR")
        kept = {k: v for k, v in os.environ.items() if k not in away}
        return {
            **kept,
            "STATE_DIRECTORY": str(self.state),
            "RUNTIME_DIRECTORY": str(self.runtime),
            "CACHE_DIRECTORY": str(self.folder / "cache"),
            "CONFIGURATION_DIRECTORY": str(self.folder),
        }

    def start(self, *, wait: bool = True, **more: Any) -> Gateway:
        """Start it; with `wait`, until it says that it answers."""
        self.write_config()
        before = self.text().count("answers at") if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "er.supervisor", "--config", str(self.config)],
                env=self.environment(),
                stdout=log,
                stderr=log,
                **more,
            )
        if wait:
            self.wait_for("answers at", count=before + 1)
            self.key = self.key or (self.secrets() or [""])[-1]
        return self

    def secrets(self) -> list[str]:
        return [w for w in self.text().split() if w.startswith("sk-er-k")]

    def text(self) -> str:
        """Its log so far: lines and audit records."""
        return self.log.read_text(errors="replace")

    def mishaps(self) -> list[str]:
        """What `journal.mishap` wrote: the exceptions that nobody expected.

        The word "unexpected" alone is no sign: it stands in OpenSSL's own reasons, too.
        """
        return MISHAP.findall(self.text())

    def audit(self) -> list[dict[str, Any]]:
        """The audit records so far."""
        return [json.loads(line) for line in self.text().splitlines() if line.startswith("{")]

    def wait_for(self, text: str, timeout: float = 20.0, count: int = 1) -> None:
        """Until the log has `text` (`count` times)."""
        until = time.monotonic() + timeout
        while self.text().count(text) < count:
            assert time.monotonic() < until, f"no {text!r} in:\n{self.text()[-4000:]}"
            assert self.process is None or self.process.poll() is None or text in self.text(), (
                f"ended with {self.process.poll()}:\n{self.text()[-4000:]}"
            )
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM, timeout: float = 15.0) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """End it and its children for sure."""
        if self.process is None:
            return
        children = self.children()
        self.process.kill()
        self.process.wait()
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def children(self, kind: str = "er.") -> list[int]:
        """The pids of its child processes whose command line has `kind`."""
        assert self.process is not None
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        try:
            pids = [int(pid) for pid in task.read_text().split()]
        except OSError:
            return []
        found = []
        for pid in pids:
            with contextlib.suppress(OSError):
                if kind in Path(f"/proc/{pid}/cmdline").read_text():
                    found.append(pid)
        return found

    def connection(self, timeout: float = 20.0) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = "",
        headers: dict[str, str] | None = None,
        connection: http.client.HTTPConnection | None = None,
    ) -> Reply:
        """One request; `key` "" = the first key, None = none."""
        own = connection is None
        link = connection or self.connection()
        sent = dict(headers or {})
        if key is not None:
            sent["authorization"] = f"Bearer {key or self.key}"
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            link.request(method, path, data, sent)
            answer = link.getresponse()
            found = {k.lower(): v for k, v in answer.getheaders()}
            return Reply(answer.status, found, answer.read())
        finally:
            if own:
                link.close()

    def embed(self, text: Any = "hello", **more: Any) -> Reply:
        """One embedding request."""
        fields = {k: more.pop(k) for k in ("dimensions", "encoding_format") if k in more}
        body = {"model": "embed", "input": text, **fields}
        return self.ask("POST", "/v1/embeddings", body, **more)


@contextlib.contextmanager
def gateway(folder: Path, engines: int = 1, **settings: Any) -> Iterator[Gateway]:
    """A running gateway with that many stand-in engines."""
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(EngineProcess(dim=DIMENSIONS)) for _ in range(engines)]
        running = Gateway(folder, started, **settings)
        stack.callback(running.kill)
        yield running.start()
