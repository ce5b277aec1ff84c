"""`er replica add | remove | set`: replicas come, go and move by a change of er.toml."""

from __future__ import annotations

from typing import Any

import msgspec
import psutil

from er import ports
from er.cli import check_machine, edited, placing
from er.cli.edited import ChangeError, Held, Will
from er.config import Config, Replica, edits
from er.engine.build import BuildError
from er.gpus import Gpus
from er.quantities import written_size
from er.units import weights_here


class Wish(msgspec.Struct, kw_only=True):
    """What the command line asked for."""

    action: str
    model: str | None = None
    name: str | None = None
    gpu: list[str] | None = None
    port: int | None = None
    kv_cache: str | None = None
    url: str | None = None
    dry_run: bool = False
    yes: bool = False
    no_apply: bool = False


def run(wish: Wish) -> int:
    """Do it. Returns 0 done, 1 not done, 64 nobody to ask."""
    how = {"add": _add, "remove": _remove, "set": _set}[wish.action]
    will = Will(dry_run=wish.dry_run, yes=wish.yes, apply=not wish.no_apply)
    return edited.run(f"replica {wish.action}", lambda held: how(held, wish), will)


def _add(held: Held, wish: Wish) -> tuple[str, str, list[str]]:
    config = held.config
    model = config.model(wish.model or "")
    if model is None:
        known = ", ".join(m.name for m in config.models if m.via is None)
        raise ChangeError(f"no model {wish.model!r}; there are: {known} (another: er model add)")
    if model.via is not None:
        raise ChangeError(f"{model.name} goes via {model.via}; add a replica of that")
    name = wish.name or placing.name_for(config, model.name)
    text, why = added(held, held.text, model.name, name, wish)
    return text, name, why


def added(held: Held, text: str, model: str, name: str, wish: Any) -> tuple[str, list[str]]:
    """`text` with one more replica, placed as `wish` says, and why there. Raises ChangeError.

    `text` may have more than er.toml, which is `held`: its model, say. Raises EditError too.
    """
    config = held.changed(text)
    _free_name(config, name)
    if wish.url is not None:
        if any(given is not None for given in (wish.gpu, wish.port, wish.kv_cache)):
            raise ChangeError("--url names a vLLM that runs elsewhere; leave the others out")
        values: dict[str, Any] = {"name": name, "model": model, "url": wish.url}
        return edits.add(text, "replica", values), [f"{name}: a replica of {model}, at {wish.url}"]
    like = next((r for r in config.replicas if r.model == model and r.url is None), None)
    gpu, why, beside = _card(config, like, wish)
    port = placing.port_for(config, _in_use) if wish.port is None else wish.port
    values = {"name": name, "model": model, "gpu": gpu, "port": port}
    if wish.kv_cache is not None:
        values["kv_cache"] = wish.kv_cache
    elif beside is not None and beside.kv_cache is not None and beside.cpu == (gpu == "cpu"):
        values["kv_cache"] = written_size(beside.kv_cache)
    if like is not None:  # the same engine: what makes the others what they are
        values |= {key: value for key in ("vllm", "args", "env") if (value := getattr(like, key))}
    text, told = _fitted(held, edits.add(text, "replica", values), name)
    return text, [f"{name}: a replica of {model}, on port {port}", *why, *told]


def _in_use(port: int) -> bool:
    return ports.bind_error(f"127.0.0.1:{port}") is not None


def _free_name(config: Config, name: str) -> None:
    if wrong := placing.bad_name(name):
        raise ChangeError(f"{name!r}: {wrong}; give another with --name")
    if config.replica(name) is not None:
        raise ChangeError(f"there is a replica {name!r} already; give another with --name")


def _card(config: Config, like: Replica | None, wish: Any) -> tuple[Any, list[str], Replica | None]:
    """The value of gpu, why, and the replica whose cache is a measure. Raises ChangeError."""
    on_cpu = next((r for r in config.replicas if r.cpu), None)
    if wish.gpu is not None:
        gpu = _gpu(wish.gpu)
        return gpu, [], like or (on_cpu if gpu == "cpu" else None)
    here = like or next((r for r in config.replicas if r.url is None), None)
    if here is not None and here.cpu:
        return "cpu", [f'gpu = "cpu", as {here.name} has'], here
    cards = Gpus()
    found = cards.read(users=True)
    if not found and _cpu_build(config):
        return "cpu", ['gpu = "cpu": the installed vLLM is the CPU build'], like or on_cpu
    try:
        card = placing.card_for(config, found, _weights(config))
    except placing.PlaceError as error:
        cure = 'name one with --gpu, "cpu" too, or a vLLM elsewhere with --url'
        raise ChangeError(f"{error} ({cards.reason}); {cure}") from None
    return card.gpu, [card.why], like


def _cpu_build(config: Config) -> bool:
    try:
        return check_machine.machine(config).build().cpu
    except BuildError:
        return False


def _gpu(words: list[str]) -> Any:
    """The value that er.toml has for these words: 2, "GPU-…", "cpu", [0, 1]."""
    cards = [int(word) if word.isdecimal() else word for word in words]
    return cards[0] if len(cards) == 1 else cards


def _weights(config: Config) -> dict[str, int]:
    """Bytes of the weights by model, 0 where they can't be seen."""
    here = weights_here(config)
    return {m.name: here.get(m.path, 0) for m in config.models if m.path is not None}


def _fitted(held: Held, text: str, name: str) -> tuple[str, list[str]]:
    """`text` in which replica `name` has the memory that it needs, and why. Raises ChangeError."""
    config = held.changed(text)
    replica = config.replica(name)
    if replica is None or replica.url is not None:
        return text, []
    if replica.cpu:
        free = psutil.virtual_memory().available if held.config.replica(name) is None else 1 << 62
        if told := placing.too_large(replica, _weights(config).get(replica.model, 0), free):
            raise ChangeError(f"{told}. Nothing was changed")
        return text, []
    cards = Gpus().read(users=True)
    try:
        memory = placing.memory_for(config, name, cards, _weights(config))
    except placing.PlaceError as error:
        raise ChangeError(f"{error}. Nothing was changed") from None
    for one, size in memory.kv_cache.items():
        values = {"kv_cache": size, "gpu_memory_utilization": None}
        text = edits.change(text, "replica", one, values)
    return text, memory.why


def _known(held: Held, name: str) -> Replica:
    found = held.config.replica(name)
    if found is None:
        known = ", ".join(r.name for r in held.config.replicas) or "none"
        raise ChangeError(f"no replica {name!r}; there are: {known}")
    return found


def _remove(held: Held, wish: Wish) -> tuple[str, str, list[str]]:
    found = _known(held, wish.name or "")
    why = [f"{found.name}: gets nothing new, finishes what it has, and ends"]
    if len(held.config.replicas_of(found.model)) == 1:
        served = [m.name for m in held.config.models if found.model in (m.name, m.via)]
        why.append(
            f"{found.name} is the last replica of {found.model}: from then on requests for "
            f"{', '.join(served)} are answered with 503 (the model too: er model remove)"
        )
    return edits.remove(held.text, "replica", found.name), found.name, why


def _set(held: Held, wish: Wish) -> tuple[str, str, list[str]]:
    found = _known(held, wish.name or "")
    values: dict[str, Any] = {}
    if wish.gpu is not None:
        values["gpu"] = _gpu(wish.gpu)
    if wish.port is not None:
        values["port"] = wish.port
    if wish.kv_cache is not None:
        values |= {"kv_cache": wish.kv_cache, "gpu_memory_utilization": None}
    if wish.url is not None:
        values["url"] = wish.url
    if not values:
        raise ChangeError("nothing to change; say --gpu, --port, --kv-cache or --url")
    if (found.url is None) == ("url" in values) or (found.url and len(values) > 1):
        kind = "is a vLLM elsewhere: --url alone" if found.url else "runs here: not --url"
        raise ChangeError(f"{found.name} {kind} (else remove it and add another)")
    text = edits.change(held.text, "replica", found.name, values)
    if text == held.text:
        raise ChangeError(f"{found.name} has that already; nothing to change")
    moved = "gpu" in values or "kv_cache" in values
    text, why = _fitted(held, text, found.name) if moved else (text, [])
    changed = ", ".join(key for key, value in values.items() if value is not None)
    return text, found.name, [f"{found.name}: another {changed}; it alone is restarted", *why]
