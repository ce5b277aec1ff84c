"""A Config back to the text of an er.toml: what is stored when only part of a file may take effect.

`parse(render(config))` gives the same Config; comments are not kept.
"""

from __future__ import annotations

import json
from typing import Any

from er.config.structs import Config, Gateway, Model, Replica

HEAD = "# Written by `er reload` from er.toml; what needs `sudo er apply` is still as it was.\n"


def render(config: Config) -> str:
    """The TOML text of `config`, every value written out that is not its default."""
    parts = [HEAD, _table("[gateway]", _gateway(config.gateway))]
    if config.gateway.tls is not None:
        tls = config.gateway.tls
        values = {"listen": tls.listen, "certificate": str(tls.certificate), "key": str(tls.key)}
        parts.append(_table("[gateway.tls]", values))
    parts += [_table("[[model]]", _model(m)) for m in config.models]
    parts += [_table("[[replica]]", _replica(r)) for r in config.replicas]
    return "\n".join(parts)


def _gateway(gateway: Gateway) -> dict[str, Any]:
    return {
        "listen": gateway.listen,
        "workers": gateway.workers,
        "max_concurrency": gateway.max_concurrency,
        "rate_limit": "off" if gateway.rate_limit is None else str(gateway.rate_limit),
        "timeout": f"{gateway.timeout_s!r}s",
        "max_body": f"{gateway.max_body}B",
        "first_key_in_log": gateway.first_key_in_log,
        "metrics": gateway.metrics,
    }


def _model(model: Model) -> dict[str, Any]:
    values = {name: getattr(model, name) for name in model.__struct_fields__}
    values["path"] = None if model.path is None else str(model.path)
    return values


def _replica(replica: Replica) -> dict[str, Any]:
    values = {name: getattr(replica, name) for name in replica.__struct_fields__}
    values["gpu"] = "cpu" if replica.cpu else replica.gpu
    values["port"] = replica.port or None
    values["kv_cache"] = None if replica.kv_cache is None else f"{replica.kv_cache}B"
    return values


def _table(header: str, values: dict[str, Any]) -> str:
    lines = [f"{k} = {_value(v)}" for k, v in values.items() if v is not None and v not in ((), {})]
    return "\n".join([header, *lines, ""])


def _value(value: Any) -> str:
    """One TOML value. A JSON string is a TOML string, but for DEL and escaped surrogates."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_value(k)} = {_value(v)}" for k, v in value.items()) + " }"
    return repr(value)
