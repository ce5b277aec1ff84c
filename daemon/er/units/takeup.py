"""What of an edited er.toml can take effect without restarting a unit, and what has to wait."""

from __future__ import annotations

import msgspec

from er.config import Config, Model, Replica
from er.quantities import written_size, written_time

# What a replica's vLLM was started with. The rest of a [[model]] is the gateway's own business.
ENGINE_FIELDS = (
    "task",
    "path",
    "prompt",
    "max_tokens",
    "batch_tokens",
    "dtype",
    "via",
)
VECTOR_FIELDS = ("path", "prompt", "kind")  # that give an embedding model's name other vectors
SYSTEMDS = (
    "listen",
    "stop_timeout_s",
    "leave_time_s",
)  # of [gateway]: systemd has to know them too
SIZES = ("max_body", "size", "quota", "max_file")  # in bytes


class TakeUp(msgspec.Struct, frozen=True, kw_only=True):
    """`config` can run now; `taken` and `held` say in words what changed and what has to wait."""

    config: Config
    taken: tuple[str, ...]
    held: tuple[str, ...]


def merge(applied: Config, edited: Config) -> TakeUp:
    """The applied configuration with everything of the edited one that needs no unit restarted."""
    taken: list[str] = []
    held: list[str] = []
    gateway = edited.gateway
    for name in SYSTEMDS:
        old, new = getattr(applied.gateway, name), getattr(gateway, name)
        if old != new:
            held.append(f"[gateway] {name.removesuffix('_s')}: {_pair(name, old, new)}")
            gateway = msgspec.structs.replace(gateway, **{name: old})
    if gateway.tls != applied.gateway.tls:
        held.append("[gateway.tls]: changed")
        gateway = msgspec.structs.replace(gateway, tls=applied.gateway.tls)
    for name in gateway.__struct_fields__:
        old, new = getattr(applied.gateway, name), getattr(gateway, name)
        if old != new:
            taken.append(f"[gateway] {name.removesuffix('_s')}: {_pair(name, old, new)}")
    for table in ("cache", "batches", "costs", "quality", "feedback"):
        olds, news = getattr(applied, table), getattr(edited, table)
        for name in news.__struct_fields__:
            old, new = getattr(olds, name), getattr(news, name)
            if old != new:
                taken.append(f"[{table}] {name.removesuffix('_s')}: {_pair(name, old, new)}")
    if edited.tracing != applied.tracing:
        taken.append("[tracing]: changed")
    if edited.alerts != applied.alerts:
        taken.append("[[alert]]: changed")  # no more: a webhook's address is a secret
    for name in edited.audit.__struct_fields__:
        old, new = getattr(applied.audit, name), getattr(edited.audit, name)
        if old != new:
            held.append(f"[audit] {name.removesuffix('_s')}: {_pair(name, old, new)}")
    if edited.state != applied.state:
        held.append("[state]: changed")
    if edited.host != applied.host:
        held.append("[host]: changed")
    replicas = _replicas(applied, edited, taken, held)
    models = _models(applied, edited, replicas, taken, held)
    config = Config(
        gateway=gateway,
        cache=edited.cache,
        batches=edited.batches,
        audit=applied.audit,
        costs=edited.costs,
        quality=edited.quality,
        feedback=edited.feedback,
        tracing=edited.tracing,
        alerts=edited.alerts,
        state=applied.state,
        host=applied.host,
        models=models,
        replicas=replicas,
        source=applied.source,
    )
    return TakeUp(config=config, taken=tuple(taken), held=tuple(held))


def _replicas(
    applied: Config, edited: Config, taken: list[str], held: list[str]
) -> tuple[Replica, ...]:
    """Replicas at a `url` come and go freely; those with a unit stay as they are."""
    result: list[Replica] = []
    for old in applied.replicas:
        new = edited.replica(old.name)
        if new == old:
            result.append(old)
        elif old.url and (new is None or new.url):
            taken.append(f"replica {old.name}: " + ("gone" if new is None else new.address))
            if new is not None:
                result.append(new)
        else:
            held.append(f"replica {old.name}: " + ("is removed" if new is None else "changed"))
            result.append(old)
    for new in edited.replicas:
        if applied.replica(new.name) is None:
            (taken if new.url else held).append(f"replica {new.name}: is new")
            if new.url:
                result.append(new)
    return tuple(result)


def _models(
    applied: Config,
    edited: Config,
    replicas: tuple[Replica, ...],
    taken: list[str],
    held: list[str],
) -> tuple[Model, ...]:
    """Models whose engine must change, or that a kept replica still serves, stay as they are."""
    olds = {m.name: m for m in applied.models}
    news = {m.name: m for m in edited.models}
    # A name that a held model still owns can't become another model's alias yet.
    busy = {r.model for r in replicas if not r.url}
    result: list[Model] = []
    for name, old in olds.items():
        new = news.get(name)
        if new == old:
            result.append(old)
        elif new is None and (heir := edited.model(name)) and _others(old, heir):
            held.append(f"model {name}: its name goes to {heir.name} (other vectors under a name)")
            result.append(old)
        elif new is None and name not in busy:
            taken.append(f"model {name}: gone")
        elif new is None:
            held.append(f"model {name}: is removed, but its replica still runs")
            result.append(old)
        elif fields := _other_vectors(old, new, applied, edited):
            held.append(f"model {name}: {', '.join(fields)} (other vectors under a name)")
            result.append(old)
        elif name in busy and any(getattr(old, f) != getattr(new, f) for f in ENGINE_FIELDS):
            changed = [f for f in ENGINE_FIELDS if getattr(old, f) != getattr(new, f)]
            held.append(f"model {name}: {', '.join(changed)}")
            result.append(old)
        else:
            changed = [f for f in Model.__struct_fields__ if getattr(old, f) != getattr(new, f)]
            taken.append(f"model {name}: {', '.join(changed)}")
            result.append(new)
    for name, new in news.items():
        if name not in olds and (moved := _come(new, applied)):
            held.append(f"model {name}: {', '.join(moved)} (other vectors under a name)")
        elif name not in olds:
            result.append(new)
            taken.append(f"model {name}: is new")
    return tuple(result)


def _other_vectors(old: Model, new: Model, applied: Config, edited: Config) -> list[str]:
    """What may give a name of an embedding model other vectors; `er apply` alone looks at them."""
    if new.task != "embed":
        return []
    found = [f for f in _vector_fields(new) if getattr(old, f) != getattr(new, f)]
    for name in old.aliases:
        model = edited.model(name)
        if model is not None and model.name != new.name and _others(model, new):
            found.append(f"the alias {name}")
    return found + _come(new, applied)


def _vector_fields(model: Model) -> tuple[str, ...]:
    return (*VECTOR_FIELDS, *(("instruction",) if model.kind == "query" else ()))


def _others(one: Model, new: Model) -> bool:
    """Whether the two may give other vectors; nobody here knows those of one without a folder."""
    if one.path is None or new.task != "embed":
        return False
    return any(getattr(one, f) != getattr(new, f) for f in _vector_fields(new))


def _come(new: Model, applied: Config) -> list[str]:
    """The names that were another model's, of other vectors."""
    pairs = ((name, applied.model(name)) for name in (new.name, *new.aliases))
    return [
        f"the name {name}" if name == new.name else f"the alias {name}"
        for name, was in pairs
        if was is not None and was.name != new.name and _others(was, new)
    ]


def _pair(name: str, old: object, new: object) -> str:
    return f"{_word(name, old)} -> {_word(name, new)}"


def _word(name: str, value: object) -> str:
    """The value as er.toml has it, nearly."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and name in SIZES:
        return written_size(value) if value else "0"
    if isinstance(value, float) and name.endswith("_s"):
        return written_time(value) if value else "off"
    if isinstance(value, tuple):
        return ", ".join(str(v) for v in value) or "none"
    return "off" if value is None or value == "" else str(value)
