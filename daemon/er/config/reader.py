"""Tables of an er.toml to structs; collects findings instead of stopping at the first."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from er.config.fields import Fields
from er.config.structs import (
    Audit,
    Config,
    Costs,
    Feedback,
    Finding,
    Gateway,
    Model,
    Quality,
    Replica,
    Tls,
)

REPLICAS_MAX = 64
TIMEOUT_MAX_S = 86400.0
RATE_WAIT_MAX_S = 60.0
LEAVE_MAX_S = 300.0
# What one request may ask. One short text, which passes without a look at them, always fits.
REQUEST_BOUNDS = {
    "max_inputs": (1, 16_384),
    "max_documents": (1, 100_000),
    "max_request_tokens": (8192, 1 << 30),
    "max_rerank_tokens": (8192, 1 << 30),
}
# What clients put behind a model's name to say which side of a search a text is on.
SIDES = (":query", ":document")
AUDIT_MIN, AUDIT_KEEP_MIN_S = 16 << 20, 3600.0  # journald wants some files of 4 MiB at least
DAY_S = 86400.0
KEEP_MAX_S = 3650 * DAY_S
QUALITY_MIN_S = 10.0
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,47}\Z")
ELSEWHERE = re.compile(r"[a-z0-9][a-z0-9-]{0,47}@[a-z0-9][a-z0-9-]{0,47}\Z")  # REPLICA@HOST
PRICE_MIN, PRICE_MAX = 0.0001, 1e6  # of a GPU-hour
CURRENCY = re.compile(r"[A-Z]{3}\Z")
HOLDS = ("off", "bulk", "all")
# What the launcher says to vLLM itself; given a second time in `args` it would win unseen.
OWN_ARGS = {"--port", "--host", "--uds", "--model", "--served-model-name", "--runner", "--api-key"}


class Reader:
    """Knows the text, so that a finding can name its line."""

    def __init__(self, text: str, file: str, elsewhere: bool = False) -> None:
        """`elsewhere`: replicas of other hosts may stand there."""
        self.lines = text.splitlines()
        self.file, self.elsewhere = file, elsewhere
        self.findings: list[Finding] = []

    # -- where things stand ------------------------------------------------------------------

    def line(self, table: str, index: int, key: str = "") -> int:
        """The line of `key` in the index-th table of that name; its header's without a key."""
        header = re.compile(rf"\s*\[\[?\s*{re.escape(table)}\s*\]\]?") if table else None
        seen, header_line, inside = -1, 1, table == ""
        for number, line in enumerate(self.lines, 1):
            if line.lstrip().startswith("["):
                if inside and table and seen == index:
                    break
                if header and header.match(line):
                    seen += 1
                    inside = seen == index
                    if inside:
                        header_line = number
                        if not key:
                            return number
                else:
                    inside = False
                    if not table and key and re.match(rf"\s*\[\[?\s*{re.escape(key)}\b", line):
                        return number
            elif inside and key and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*(=|\.)", line):
                return number
        return header_line

    def say(self, table: str, index: int, key: str, message: str) -> None:
        self.findings.append(Finding(self.file, self.line(table, index, key), message))

    def unknown(self, table: dict[str, Any], known: set[str], name: str, index: int) -> None:
        for key in table:
            if key in known:
                continue
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(sorted(known))}"
            self.say(name, index, key, f"unknown key {key!r}; {hint}")

    def tables(self, tree: dict[str, Any], name: str) -> list[dict[str, Any]]:
        value = tree.get(name, [])
        if isinstance(value, list) and all(isinstance(v, dict) for v in value):
            return value
        self.say("", 0, name, f"{name} must be written as [[{name}]] tables")
        return []

    # -- the tables --------------------------------------------------------------------

    def gateway(self, tree: dict[str, Any]) -> Gateway:
        table = tree.get("gateway", {})
        if not isinstance(table, dict):
            self.say("", 0, "gateway", "gateway must be a [gateway] table")
            return Gateway()
        f = Fields(self.say, table, "gateway", 0)
        fields: dict[str, Any] = {
            "listen": f.addresses("listen", Gateway().listen),
            "workers": f.workers(),
            "max_concurrency": f.integer("max_concurrency", 500, 1, 1_000_000),
            "rate_limit": f.rate("rate_limit"),
            "rate_wait_s": f.duration_or_off("rate_wait", RATE_WAIT_MAX_S),
            "timeout_s": f.duration("timeout", 600.0, 0.1, TIMEOUT_MAX_S),
            "stop_timeout_s": f.duration("stop_timeout", 60.0, 1.0, TIMEOUT_MAX_S),
            "leave_time_s": f.duration_or_off("leave_time", LEAVE_MAX_S),
            "max_body": f.size("max_body", 32 << 20, 1024) or 0,
            **{
                key: f.integer(key, getattr(Gateway(), key), low, high)
                for key, (low, high) in REQUEST_BOUNDS.items()
            },
            "first_key_in_log": f.boolean("first_key_in_log", True),
            "metrics": f.address_or_off("metrics", "127.0.0.1:9464"),
            "cors": f.origins("cors"),
            "docs": f.boolean("docs", True),
            "trusted_proxies": f.networks("trusted_proxies"),
            "proxy_protocol": f.boolean("proxy_protocol", False),
            "hold": f.choice("hold", HOLDS, Gateway().hold),
        }
        if fields["proxy_protocol"] and not table.get("trusted_proxies"):
            f.wrong("proxy_protocol", "is taken from trusted_proxies only; name them there")
        tls = table.get("tls")
        names = {n.removesuffix("_s") for n in fields} | {"tls"}
        self.unknown(table, names, "gateway", 0)
        return Gateway(**fields, tls=self.tls(tls) if tls is not None else None)

    def tls(self, table: Any) -> Tls | None:
        if not isinstance(table, dict):
            self.say("gateway", 0, "tls", "gateway.tls must be a [gateway.tls] table")
            return None
        f = Fields(self.say, table, "gateway.tls", 0)
        ca = f.path("client_ca", None)
        fields: dict[str, Any] = {
            "listen": f.addresses("listen", Tls().listen),
            "certificate": f.path("certificate", Tls().certificate),
            "key": f.path("key", Tls().key),
            "client_certificates": f.choice(
                "client_certificates", ("off", "ask", "require"), "off"
            ),
            "client_ca": ca,
            "http2": f.boolean("http2", True),
        }
        self.unknown(table, set(fields), "gateway.tls", 0)
        asks = fields["client_certificates"] != "off"
        if asks and "client_ca" not in table:
            f.wrong("client_certificates", "needs client_ca, the file of those who sign clients")
        elif ca is not None and not asks:
            f.wrong("client_ca", 'means nothing without client_certificates = "ask" or "require"')
        return Tls(**fields)

    def audit(self, tree: dict[str, Any]) -> Audit:
        table = tree.get("audit", {})
        if not isinstance(table, dict):
            self.say("", 0, "audit", "audit must be an [audit] table")
            return Audit()
        f = Fields(self.say, table, "audit", 0)
        self.unknown(table, {"keep", "size"}, "audit", 0)
        return Audit(
            keep_s=f.duration("keep", Audit().keep_s, AUDIT_KEEP_MIN_S, KEEP_MAX_S),
            size=f.size("size", Audit().size, AUDIT_MIN) or 0,
        )

    def costs(self, tree: dict[str, Any]) -> Costs:
        table = tree.get("costs", {})
        if not isinstance(table, dict):
            self.say("", 0, "costs", "costs must be a [costs] table")
            return Costs()
        f = Fields(self.say, table, "costs", 0)
        self.unknown(table, {"gpu_hour", "currency"}, "costs", 0)
        gpu_hour = f.number("gpu_hour", PRICE_MIN, PRICE_MAX)
        currency = f.text("currency", Costs().currency) or ""
        if not CURRENCY.match(currency):
            f.wrong("currency", f"is {currency!r}; write its three letters, as in USD or CNY")
        elif gpu_hour is None and "currency" in table:
            f.wrong("currency", "means nothing without gpu_hour, the price of a GPU-hour")
        return Costs(gpu_hour=gpu_hour, currency=currency)

    def quality(self, tree: dict[str, Any]) -> Quality:
        table = tree.get("quality", {})
        if not isinstance(table, dict):
            self.say("", 0, "quality", "quality must be a [quality] table")
            return Quality()
        f = Fields(self.say, table, "quality", 0)
        self.unknown(table, {"every", "act"}, "quality", 0)
        every_s = 0.0
        if table.get("every") != "off":
            every_s = f.duration("every", Quality().every_s, QUALITY_MIN_S, KEEP_MAX_S)
        act: Any = f.choice("act", ("take out", "tell"), Quality().act)
        return Quality(every_s=every_s, act=act)

    def feedback(self, tree: dict[str, Any]) -> Feedback:
        table = tree.get("feedback", {})
        if not isinstance(table, dict):
            self.say("", 0, "feedback", "feedback must be a [feedback] table")
            return Feedback()
        f = Fields(self.say, table, "feedback", 0)
        self.unknown(table, {"keep"}, "feedback", 0)
        return Feedback(keep_s=f.duration("keep", Feedback().keep_s, DAY_S, KEEP_MAX_S))

    def model(self, table: dict[str, Any], index: int) -> Model:
        f = Fields(self.say, table, "model", index)
        via = f.text("via")
        path = f.text("path", required=via is None)
        fields: dict[str, Any] = {
            "name": f.text("name", "", required=True) or "?",
            "task": f.choice("task", ("embed", "score"), None, required=True) or "embed",
            "path": Path(path) if path else None,
            "aliases": f.texts("aliases"),
            "prompt": f.choice("prompt", ("qwen3", "plain"), None),
            "token_ids": f.choice("token_ids", ("refuse", "cl100k", "model"), "refuse"),
            "over_length": f.choice("over_length", ("refuse", "cut"), "refuse"),
            "max_tokens": f.integer("max_tokens", 8192, 16, 1 << 20),
            "batch_tokens": f.integer("batch_tokens", 8192, 16, 1 << 20),
            "dimensions": f.integer("dimensions", None, 1, 1 << 16),
            "instruction": f.text("instruction"),
            "kind": f.choice("kind", ("document", "query"), "document"),
            "dtype": f.choice("dtype", ("bfloat16", "float16", "float32"), None),
            "via": via,
            "hold": f.choice("hold", HOLDS, None),
        }
        self.unknown(table, set(fields), "model", index)
        if "kind" in table and fields["task"] == "score":
            f.wrong("kind", 'is for task = "embed"; a reranker is told which is the query')
        if path and not Path(path).is_absolute():
            self.say("model", index, "path", f"path {path!r} must be absolute, as in /srv/models/…")
        return Model(**fields)

    def replica(self, table: dict[str, Any], index: int) -> Replica:
        f = Fields(self.say, table, "replica", index)
        far = self.elsewhere and ELSEWHERE.match(str(table.get("name")))
        url = f.url("url", "https" if far else "http")
        fields: dict[str, Any] = {
            "name": f.text("name", "", required=True) or "?",
            "model": f.text("model", "", required=True) or "?",
            "gpu": f.gpu("gpu", required="url" not in table),
            "port": f.integer("port", 0, 1, 65535, required="url" not in table),
            "gpu_memory_utilization": f.number("gpu_memory_utilization", 0.01, 1.0),
            "kv_cache": f.size("kv_cache", None, 1 << 20),
            "vllm": f.engine("vllm"),
            "args": f.texts("args"),
            "env": f.environment("env"),
            "url": url,
        }
        self.unknown(table, set(fields), "replica", index)
        if not far and not NAME.match(fields["name"]):
            message = "a replica's name has only a-z, 0-9 and -, and begins with a letter or digit"
            self.say("replica", index, "name", message)
        if fields["gpu_memory_utilization"] and fields["kv_cache"]:
            self.say(
                "replica", index, "kv_cache", "give gpu_memory_utilization or kv_cache, not both"
            )
        for arg in fields["args"]:
            if arg.split("=")[0] in OWN_ARGS:
                self.say("replica", index, "args", f"{arg} is set by er-vllm itself; leave it out")
        if url is not None:
            for key in (k for k in fields if k not in ("name", "model", "url")):
                if key in table:
                    self.say(
                        "replica", index, key, f"{key} means nothing beside url; leave one out"
                    )
        return Replica(**fields)

    # -- what only shows when all is read ----------------------------------------------------

    def across(self, config: Config) -> None:
        names: dict[str, int] = {}
        for i, model in enumerate(config.models):
            for j, name in enumerate((model.name, *model.aliases)):
                key = "aliases" if j else "name"
                if name in names:
                    whose = "this" if names[name] == i else "another"
                    self.say("model", i, key, f"{name!r} already names {whose} model")
                names[name] = i
                if wrong := _wrong_name(name):
                    self.say("model", i, key, f"{name!r} {wrong}")
            if model.via is not None:
                self._via(config, model, i)
        if not config.models:
            self.findings.append(Finding(self.file, 1, "no [[model]]; name at least one"))
        if sum(not r.host for r in config.replicas) > REPLICAS_MAX:
            self.say("replica", REPLICAS_MAX, "", f"more than {REPLICAS_MAX} replicas")
        ports: dict[int, str] = {
            int(a.rsplit(":", 1)[1]): "the gateway" for a in config.gateway.listen
        }
        if config.gateway.metrics:
            ports[int(config.gateway.metrics.rsplit(":", 1)[1])] = "the gateway's metrics"
        tls = config.gateway.tls
        self._ports_of(tls.listen if tls else (), "gateway.tls", "HTTPS", ports)
        self._ports_of(config.host.listen if config.state else (), "host", "other hosts", ports)
        seen: set[str] = set()
        for i, replica in enumerate(config.replicas):
            if replica.name in seen:
                self.say("replica", i, "name", f"{replica.name!r} already names another replica")
            seen.add(replica.name)
            target = next((m for m in config.models if m.name == replica.model), None)
            if target is None:
                known = ", ".join(m.name for m in config.models) or "none"
                self.say("replica", i, "model", f"no model {replica.model!r}; models: {known}")
            elif target.via is not None:
                self.say("replica", i, "model", f"{target.name} goes via {target.via}; no replica")
            if replica.url is None:
                if replica.port in ports:
                    self.say(
                        "replica",
                        i,
                        "port",
                        f"port {replica.port} is taken by {ports[replica.port]}",
                    )
                ports[replica.port] = f"replica {replica.name}"

    def _ports_of(
        self, listen: Sequence[str], table: str, what: str, ports: dict[int, str]
    ) -> None:
        """Ports of `what`, which nothing else may have; they are added to `ports`."""
        for address in listen:
            port = int(address.rsplit(":", 1)[1])
            if taken := ports.get(port):
                # At two addresses it could be meant, but nobody would know which one answers.
                message = f"listen has port {port}, which is taken by {taken}; choose another"
                self.say(table, 0, "listen", message)
            ports[port] = what

    def _via(self, config: Config, model: Model, index: int) -> None:
        target = next((m for m in config.models if m.name == model.via), None)
        if model.task != "score":
            self.say("model", index, "via", 'via is for task = "score" only')
        elif target is None or target.task != "embed" or target.via is not None:
            known = ", ".join(m.name for m in config.models if m.task == "embed") or "none"
            self.say("model", index, "via", f"via must name an embed model; there are: {known}")


def _wrong_name(name: str) -> str:
    """Why clients could not ask for a model of that name; "": they can."""
    if name.endswith(SIDES):
        end = f":{name.rpartition(':')[2]}"
        cure = "choose another name" if name in SIDES else f"leave {end} out"
        return f"can't end in {end}, by which clients say what their texts are; {cure}"
    if name.strip() != name or not name:
        return "is empty, or has a blank at an end; take the blanks away"
    return ""
