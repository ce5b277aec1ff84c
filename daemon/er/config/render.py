"""A Config back to the text of an er.toml: what is stored when only part of a file may take effect.

`parse(render(config))` gives the same Config; comments are not kept.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from er.config.structs import Alert, Batches, Config, Gateway, Model, Replica

HEAD = "# Written by `er reload` from er.toml; what needs `sudo er apply` is still as it was.\n"


def render(config: Config) -> str:
    """The TOML text of `config`, every value written out that is not its default."""
    parts = [HEAD, _table("[gateway]", _gateway(config.gateway))]
    if config.gateway.tls is not None:
        tls = _set(config.gateway.tls)
        parts.append(_table("[gateway.tls]", _written(tls)))
    if cache := _set(config.cache):
        if "size" in cache:
            cache["size"] = f"{config.cache.size}B" if config.cache.size else 0
        if "shared" in cache:
            cache["shared"] = f"{config.cache.shared}B"
        parts.append(_table("[cache]", cache))
    if batches := _batches(config.batches):
        parts.append(_table("[batches]", batches))
    if audit := _set(config.audit):
        if "keep_s" in audit:
            audit["keep"] = f"{audit.pop('keep_s')!r}s"
        if "size" in audit:
            audit["size"] = f"{config.audit.size}B"
        parts.append(_table("[audit]", audit))
    if costs := _set(config.costs):
        parts.append(_table("[costs]", costs))
    if quality := _set(config.quality):
        if "every_s" in quality:
            every_s = quality.pop("every_s")
            quality["every"] = f"{every_s!r}s" if every_s else "off"
        parts.append(_table("[quality]", quality))
    if _set(config.feedback):
        parts.append(_table("[feedback]", {"keep": f"{config.feedback.keep_s!r}s"}))
    if config.tracing is not None:
        sent = {"endpoint": config.tracing.endpoint, "sample": config.tracing.sample}
        parts.append(_table("[tracing]", sent))
    for header, table in (("[state]", config.state), ("[host]", config.host)):
        if table is not None and (values := _set(table)):
            parts.append(_table(header, _written(values)))
    parts += [_table("[[alert]]", _alert(a)) for a in config.alerts]
    parts += [_table("[[model]]", _model(m)) for m in config.models]
    parts += [replica_table(r) for r in config.replicas]
    return "\n".join(parts)


def replica_table(replica: Replica) -> str:
    """One [[replica]] table."""
    return _table("[[replica]]", _replica(replica))


def _gateway(gateway: Gateway) -> dict[str, Any]:
    values = _set(gateway)
    values.pop("tls", None)
    if "rate_limit" in values:
        values["rate_limit"] = "off" if gateway.rate_limit is None else str(gateway.rate_limit)
    for name in ("timeout", "stop_timeout", "leave_time", "rate_wait"):
        if f"{name}_s" in values:
            values[name] = f"{values.pop(f'{name}_s')!r}s"
    if "max_body" in values:
        values["max_body"] = f"{gateway.max_body}B"
    return values


def _batches(batches: Batches) -> dict[str, Any]:
    values = _set(batches)
    if "quota" in values:
        values["quota"] = f"{batches.quota}B" if batches.quota else 0
    if "max_file" in values:
        values["max_file"] = f"{batches.max_file}B"
    if "shared" in values:
        values["shared"] = f"{batches.shared}B"
    if "keep_s" in values:
        values["keep"] = f"{values.pop('keep_s')!r}s"
    return values


def _alert(alert: Alert) -> dict[str, Any]:
    values = _written(_set(alert))
    for name in ("after", "again"):
        if f"{name}_s" in values:
            values[name] = f"{values.pop(f'{name}_s')!r}s"
    return values


def _model(model: Model) -> dict[str, Any]:
    values = _set(model)
    if model.path is not None:
        values["path"] = str(model.path)
    return values


def _replica(replica: Replica) -> dict[str, Any]:
    values = _set(replica)
    if replica.cpu:
        values["gpu"] = "cpu"
    if replica.kv_cache is not None:
        values["kv_cache"] = f"{replica.kv_cache}B"
    return values


def _written(values: dict[str, Any]) -> dict[str, Any]:
    return {k: str(v) if isinstance(v, Path) else v for k, v in values.items()}


def _set(struct: msgspec.Struct) -> dict[str, Any]:
    """The fields that are not at their defaults."""
    found = {}
    for field in msgspec.structs.fields(struct):
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        value = getattr(struct, field.name)
        if value != default:
            found[field.name] = value
    return found


def _table(header: str, values: dict[str, Any]) -> str:
    lines = [f"{key} = {_value(value)}" for key, value in values.items()]
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
