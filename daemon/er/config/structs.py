"""The configuration as frozen structs: what each table of er.toml may say, and its defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from er.quantities import Rate

Hold = Literal["off", "bulk", "all"]  # whose requests wait for a replica that is starting


class Finding(msgspec.Struct, frozen=True):
    """One thing wrong (or odd, for a warning) at file:line, with what to do about it."""

    file: str
    line: int
    message: str
    level: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.level}: {self.message}"


class ConfigError(Exception):
    """An er.toml that can't be used; `findings` say why."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("\n".join(str(f) for f in findings))
        self.findings = findings


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    listen: tuple[str, ...] = ("0.0.0.0:2443",)
    certificate: Path = Path("/etc/er/tls/cert.pem")
    key: Path = Path("/etc/er/tls/key.pem")
    client_certificates: Literal["off", "ask", "require"] = "off"
    client_ca: Path | None = None
    http2: bool = True


class Gateway(msgspec.Struct, frozen=True, kw_only=True):
    listen: tuple[str, ...] = ("0.0.0.0:2048",)
    workers: int | Literal["auto"] = "auto"
    max_concurrency: int = 500
    rate_limit: Rate | None = Rate(100, 60)  # None = off
    rate_wait_s: float = 0.0  # over its rate, a request is held so long for its turn
    timeout_s: float = 600.0
    stop_timeout_s: float = 60.0  # for requests in flight at a stop; what is left gets a 503
    leave_time_s: float = 0.0  # before a stop /readyz says 503 so long, and all else goes on
    max_body: int = 32 << 20  # bytes
    max_inputs: int = 2048  # texts to embed in one request
    max_documents: int = 10_000  # to rank in one request
    max_request_tokens: int = 300_000  # of all texts to embed in one request
    max_rerank_tokens: int = 10_000_000  # of all pairs of query and document in one request
    first_key_in_log: bool = True
    metrics: str = "127.0.0.1:9464"  # "" = off
    cors: tuple[str, ...] = ()  # origins whose pages may ask; ("*",) = all
    docs: bool = True  # /docs and /openapi.json, which ask for no key
    trusted_proxies: tuple[str, ...] = ()  # networks whose word about a client's address counts
    proxy_protocol: bool = False  # what trusted proxies begin their connections with
    hold: Hold = "bulk"
    tls: Tls | None = None


class Model(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    task: Literal["embed", "score"]
    path: Path | None = None
    aliases: tuple[str, ...] = ()
    prompt: Literal["qwen3", "plain"] | None = None
    token_ids: Literal["refuse", "cl100k", "model"] = "refuse"
    over_length: Literal["refuse", "cut"] = "refuse"
    max_tokens: int = 8192  # the longest sequence; less when the files or the engine say less
    batch_tokens: int = 8192  # the engine's step
    dimensions: int | None = None
    instruction: str | None = None
    kind: Literal["document", "query"] = "document"  # embed: texts of which a client says nothing
    dtype: Literal["bfloat16", "float16", "float32"] | None = None
    via: str | None = None
    hold: Hold | None = None  # None: as [gateway] says


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    model: str
    gpu: tuple[int | str, ...] = ()  # indices or UUIDs; ("cpu",) for none; () with url
    port: int = 0
    gpu_memory_utilization: float | None = None
    kv_cache: int | None = None  # bytes
    vllm: str | None = (
        None  # an installed version, or an environment's folder; None: the one in use
    )
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    url: str | None = None

    @property
    def address(self) -> str:
        """Where its vLLM answers, as http://host:port."""
        return self.url or f"http://127.0.0.1:{self.port}"

    @property
    def cpu(self) -> bool:
        return self.gpu == ("cpu",)

    @property
    def host(self) -> str:
        """The other host that it is of, "" for this one's own: see config.elsewhere."""
        return self.name.partition("@")[2]


class Cache(msgspec.Struct, frozen=True, kw_only=True):
    size: int = 2 << 30  # bytes; 0 = off
    scope: Literal["all", "key"] = "key"
    shared: int = 0  # bytes of the shared state; 0 = this host keeps its own alone


class Batches(msgspec.Struct, frozen=True, kw_only=True):
    quota: int = 10 << 30  # bytes; 0 = off
    keep_s: float = 30 * 86400.0
    max_file: int = 200 << 20  # bytes
    shared: int = 0  # bytes of the shared state; 0 = a batch waits for its host


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    keep_s: float = 90 * 86400.0
    size: int = 256 << 20  # bytes


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    gpu_hour: float | None = None  # what an hour of one GPU costs; None: no costs are told
    currency: str = "USD"


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    every_s: float = 900.0  # between two looks at a replica's answers; 0 = off
    act: Literal["take out", "tell"] = "take out"  # what to do with one whose answers drifted


class Feedback(msgspec.Struct, frozen=True, kw_only=True):
    keep_s: float = 400 * 86400.0


class Tracing(msgspec.Struct, frozen=True, kw_only=True):
    endpoint: str  # of a collector that takes OTLP over HTTP, without /v1/traces
    sample: float = 0.01  # of the requests that begin a trace of their own


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The Valkey (or Redis) that several hosts share; `config.state.address` reads the url."""

    url: str
    password_file: Path | None = None
    name: str = "er"  # several installations may share one Valkey
    ca: Path | None = None  # None: the system's
    certificate: Path | None = None  # of this host, for a Valkey that asks for one
    key: Path | None = None


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """This machine among those that share a Valkey."""

    name: str = ""  # "": the hostname
    listen: tuple[str, ...] = ("0.0.0.0:2049",)  # where other hosts reach this one's replicas
    address: str | None = None  # what they are told; None: where this host reaches Valkey from


AlertKind = Literal["feishu", "dingtalk", "wecom", "slack", "json"]
ALERT_EVENTS = ("down", "degraded", "recovered", "certificate", "key", "disk")


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Who is told: a webhook of a kind, its address here or in a file; or a command."""

    name: str
    kind: AlertKind | None = None  # None: a command
    webhook: str | None = None  # a secret: never shown
    webhook_file: Path | None = None
    secret_file: Path | None = None  # what Feishu's and DingTalk's signatures are made with
    command: tuple[str, ...] = ()
    after_s: float = 60.0
    again_s: float = 4 * 3600.0
    on: tuple[str, ...] = ALERT_EVENTS
    language: Literal["en", "zh"] = "en"

    def __repr__(self) -> str:
        """Without the address: a traceback or a failed comparison must not show it."""
        return f"Alert({self.name!r})"


class Config(msgspec.Struct, frozen=True, kw_only=True):
    gateway: Gateway
    models: tuple[Model, ...]
    replicas: tuple[Replica, ...]
    source: Path
    cache: Cache = Cache()
    batches: Batches = Batches()
    audit: Audit = Audit()
    costs: Costs = Costs()
    quality: Quality = Quality()
    feedback: Feedback = Feedback()
    tracing: Tracing | None = None  # None: off
    alerts: tuple[Alert, ...] = ()
    state: State | None = None  # None: this machine alone, in files of its own
    host: Host = Host()

    def model(self, name: str) -> Model | None:
        """The model that a client means by `name`: its name or one of its aliases."""
        return next((m for m in self.models if name == m.name or name in m.aliases), None)

    def replicas_of(self, model: str) -> tuple[Replica, ...]:
        """The replicas that serve `model`; those of the other model when it goes `via` one."""
        found = next((m for m in self.models if m.name == model), None)
        target = found.via if found is not None and found.via else model
        return tuple(r for r in self.replicas if r.model == target)

    def replica(self, name: str) -> Replica | None:
        return next((r for r in self.replicas if r.name == name), None)
