"""`er connect`: what to paste into a client, for this gateway, its models and one of its keys."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec
import orjson

from er import keys
from er.cli import check, network
from er.cli.admin_client import NoAdmin, call
from er.cli.bench_load import Client, Where, Wrong
from er.cli.connect_texts import CLIENTS, OFTEN, Facts, Served
from er.cli.reached import Certificate, Reached, reached
from er.cli.screen import clean
from er.config import Config, ConfigError, Gateway, Model, active_path, directory, load
from er.job import Task
from er.keys import KeysError, Record
from er.keys.bounds import DEFAULT_SCOPES
from er.tls.credentials import TlsError, contents

TASKS: tuple[Task, ...] = ("embed", "score")


class Wish(msgspec.Struct, kw_only=True):
    """What the command line asked for. None = not said."""

    client: str
    key: str | None = None  # an id or a name
    model: list[str] | None = None
    url: str | None = None


class Unfit(Exception):  # noqa: N818 - it says what to do
    """The client can't be told anything that would work."""


def run(wish: Wish) -> int:
    """Print it. Returns the exit status: 0 done, 1 not done and said why, 64 wrong use."""
    try:
        where = given(wish.url) if wish.url else None
    except ValueError as error:
        return _fail(f"--url: {error}", 64)
    try:
        config = load(active_path())
        record = None if wish.key is None else keys.find(keys.path(), wish.key)
        key, told = _key(wish.client, record, config)
        embed, score, more = _models(wish, config, record)
    except ConfigError as error:
        cure = "er check tells more; this needs root or group er: sudo er connect …"
        return _fail(f"{error.findings[0]}; {cure}", 1)
    except (KeysError, Unfit) as error:
        return _fail(str(error), 1)
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}; use sudo", 1)
    found = where or place(config.gateway)
    facts = Facts(
        found.root, found.ca, key, embed, score, (*told, *found.remarks, *_over(config), *more)
    )
    print("\n".join(CLIENTS[wish.client](facts)))
    return 0


def _fail(text: str, code: int) -> int:
    print(f"er connect: {text}", file=sys.stderr)
    return code


def given(url: str) -> Reached:
    """The address that the operator says, of a proxy before the gateway. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise ValueError(f"{url!r} is not as https://er.example")
    if parts.username is not None:
        raise ValueError("without a name or password in it")
    return Reached(clean(url).rstrip("/").removesuffix("/v1"), "", ())


def place(gateway: Gateway) -> Reached:
    """Where this machine's gateway is reached."""
    certificate = None
    if gateway.tls is not None:
        from er.tls import facts  # large, and seldom wanted

        path = gateway.tls.certificate
        try:
            read = facts.read(contents(path, "certificate"))
            certificate = Certificate(read.names, read.self_signed, str(path))
        except TlsError:
            certificate = Certificate((), False, str(path))
    return reached(gateway, network.interfaces(), network.outgoing(), certificate)


# -- the key -------------------------------------------------------------------------------------


def _key(client: str, record: Record | None, config: Config) -> tuple[str, list[str]]:
    """(what stands where the secret goes, what to know of the key). Raises Unfit.

    ER keeps no secrets, only their hashes: nobody can be shown one again.
    """
    if record is None:
        often = " --rate-limit off" if client in OFTEN else ""
        make = f"sudo er keys create --name {client}{often}"
        return "sk-er-…", [f"The key: `{make}`, which shows its secret (sk-er-…) once"]
    shown = f"{clean(record.name)} ({record.id})"
    if not record.valid(datetime.now(UTC)):
        state = "has expired" if record.revoked is None else "is revoked"
        raise Unfit(f"key {shown} {state}; make another: sudo er keys create --name {client}")
    if "inference" not in (record.scopes or DEFAULT_SCOPES):
        cure = f"sudo er keys set {record.id} --scopes default"
        raise Unfit(f"key {shown} may not embed or rank; {cure}")
    told = [
        f"The key: {shown}. ER keeps no secrets, it was shown when the key was made. Lost: "
        f"`sudo er keys rotate {record.id}`"
    ]
    rate = record.rate_limit or config.gateway.rate_limit
    if rate is not None and rate != "off":
        free = f"`sudo er keys set {record.id} --rate-limit off`"
        said = f"Its rate is {rate}"
        told.append(f"{said}, which indexing goes over: {free}" if client in OFTEN else said)
    if record.networks is not None:
        told.append(f"It may ask from {', '.join(record.networks)} alone")
    if record.expires is not None:
        told.append(f"It ends on {record.expires:%Y-%m-%d}")
    return ("sk-…" if record.imported else f"sk-er-{record.id}-…"), told


def _over(config: Config) -> list[str]:
    """What clients see when they ask too much at once."""
    most = config.gateway.max_concurrency
    return [f"At most {most} requests at once, all clients together; over that 503, to ask again"]


# -- the models ----------------------------------------------------------------------------------


def _models(
    wish: Wish, config: Config, record: Record | None
) -> tuple[Served | None, Served | None, list[str]]:
    """(for vectors, for ranks, what to know of them). Raises Unfit."""
    allowed = [
        m
        for m in config.models
        if record is None or record.models is None or {m.name, *m.aliases} & {*record.models}
    ]
    wanted = allowed
    if wish.model:
        for name in wish.model:
            if config.model(name) is None:
                there = ", ".join(m.name for m in config.models)
                raise Unfit(f"there is no model {clean(name)}; there are: {there}")
        wanted = [m for m in allowed if {m.name, *m.aliases} & {*wish.model}]
    if not config.models:
        raise Unfit(f"{config.source} has no model yet: er help configuration")
    if not wanted:
        may = ", ".join(m.name for m in allowed) or "none of those here"
        raise Unfit(f"the key may use {may}; er keys set KEY --models … changes it")
    # A reranker before what only compares vectors.
    first = sorted(wanted, key=lambda model: model.via is not None)
    chosen = {task: next((m for m in first if m.task == task), None) for task in TASKS}
    cards, told = _cards(config)
    found = {t: None if m is None else _served(m, config, cards) for t, m in chosen.items()}
    rest = [m.name for m in allowed if m not in chosen.values()]
    if rest and not wish.model:
        told.append(f"Other models here, for --model: {', '.join(rest)}")
    return found["embed"], found["score"], told


def _served(model: Model, config: Config, cards: dict[str, dict[str, Any]]) -> Served:
    card, embeds, gateway = cards[model.name], model.task == "embed", config.gateway
    return Served(
        name=model.name,
        task=model.task,
        max_tokens=int(card["max_model_len"]),
        dimensions=card.get("dimensions") if embeds else None,
        items=gateway.max_inputs if embeds else gateway.max_documents,
        tokens=gateway.max_request_tokens if embeds else gateway.max_rerank_tokens,
    )


def _cards(config: Config) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """What clients are told of each model: by the gateway, or without it by er.toml and files."""
    sock = directory("runtime") / "gateway.sock"
    cards: dict[str, dict[str, Any]] = {m.name: _of_files(m, config) for m in config.models}
    try:
        call("GET", "/status")
        cards |= asyncio.run(_asked(Where(sock)))
    except (NoAdmin, OSError, Wrong) as error:
        why = f"{error.strerror or error}" if isinstance(error, OSError) else str(error)
        told = f"Limits are those of er.toml and the models' files, as nobody could be asked: {why}"
        return cards, [told]
    return cards, []


async def _asked(where: Where) -> dict[str, dict[str, Any]]:
    """GET /v1/models. Raises OSError, Wrong."""
    client = Client(where, "")
    try:
        rows = orjson.loads(await client.ask("GET", "/v1/models"))["data"]
    finally:
        client.close()
    return {row["id"]: row for row in rows}


def _of_files(model: Model, config: Config) -> dict[str, Any]:
    true = config.model(model.via) or model if model.via else model
    seen: dict[str, Any] = {"error": "no folder"}
    if true.path is not None and os.path.lexists(true.path):
        seen = check.look(true, true.path, weights=False)
    if seen["error"]:
        return {"max_model_len": true.max_tokens, "dimensions": true.dimensions}
    return {
        "max_model_len": min(true.max_tokens, seen["max_tokens"]),
        "dimensions": true.dimensions or seen["dimensions"],
    }
