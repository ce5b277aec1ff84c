"""er.toml against this machine, as user er would see it: files, GPUs, memory, ports, programs.

`parse` has found what is wrong in the file itself; here is what only this machine can tell. A
finding that `blocks` can never work and stops `er apply`; the others (a folder or GPU that is not
there yet, a port that somebody holds) are retried by the replicas themselves.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from er import model_files, ports
from er.cli import (
    as_user,
    check_alert,
    check_batches,
    check_cache,
    check_cards,
    check_fingerprints,
    check_fit,
    check_names,
    check_packed,
    check_programs,
    check_recipe,
    check_state,
    check_tls,
    check_weights,
)
from er.config import Config, Finding, Model, Replica, directory, successor
from er.config.reader import Reader
from er.engine import fits
from er.engine.build import Build, BuildError
from er.fingerprint import UNKNOWN, Fingerprint
from er.gpus import Driver, Gpu
from er.model_files import ERS_OWN, HIDDEN, GgufError, ModelFilesError

HOMES = tuple(map(Path, HIDDEN))


class Found(msgspec.Struct, frozen=True):
    """A finding, and whether it stops `er apply`."""

    finding: Finding
    blocks: bool


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What the check looks at; tests pass their own."""

    gpus: list[Gpu]
    gpu_reason: str  # why there is none, or not all; "" when all are
    driver: Driver | None = None  # None where it does not answer
    build: Callable[[], Build]
    own: Callable[[Replica], Build]  # of a replica with a `vllm`
    bind_error: Callable[[str], str | None]
    holder: Callable[[int], ports.Holder | None]
    running: frozenset[str]  # replicas whose launcher lives
    gateway_runs: bool
    has_library: Callable[[str], bool]
    cores: int  # of the CPU


class Check:
    """One run over one configuration. `text` is the file's, to name lines."""

    def __init__(self, config: Config, text: str, machine: Machine) -> None:
        self._config, self._machine = config, machine
        self._reader = Reader(text, str(config.source))
        self._facts: dict[str, dict[str, Any]] = {}
        self.found: list[Found] = []

    def run(self) -> list[Found]:
        """All findings, in the order of the file."""
        self._readable()
        for index, model in enumerate(self._config.models):
            if model.path is not None:
                self._model(index, model)
        for index, key, message in check_names.findings(self._config):
            self._say("model", index, key, message, level="warning")
        for index, replica in enumerate(self._config.replicas):
            if successor.is_successor(replica.name):
                told = f"no name may end in {successor.SUFFIX}, as er restart --surge's do"
                self._say("replica", index, "name", told, blocks=True)
        self._programs()
        self._cards()
        for idle in check_cards.findings(
            self._config, self._machine.gpus, self._weights(), self._machine.cores
        ):
            self._say(idle.table, idle.number, idle.key, idle.message, level="warning")
        self._ports()
        said = any(line.lstrip().startswith("[cache]") for line in self._reader.lines)
        for key, message in check_cache.findings(self._config, directory("cache"), said):
            self._say("cache", 0, key, message, level="warning")
        for key, message in check_batches.findings(self._config, directory("state")):
            if not key or self._says("batches", 0, key):
                self._say("batches", 0, key, message, level="warning")
        for key, message, level, blocks in check_tls.findings(self._config):
            self._say("gateway.tls", 0, key, message, level=level, blocks=blocks)
        for key, message, level in check_state.findings(self._config):
            self._say("state", 0, key, message, level=level)
        for index, key, message, level in check_alert.findings(self._config):
            self._say("alert", index, key, message, level=level)
        self.found.sort(key=lambda f: f.finding.line)
        return self.found

    def recipes(self) -> list[str]:
        """Lines that say which recipe each model has and why, once it has run."""
        return [
            line
            for name, facts in self._facts.items()
            for line in check_recipe.shown(name, facts.get("recipe", []))
        ]

    def fingerprints(self) -> dict[str, Fingerprint]:
        """What each model with a folder would give vectors of by now, once it has run."""
        found = {name: facts.get("fingerprint", ()) for name, facts in self._facts.items()}
        return {name: Fingerprint(*parts) for name, parts in found.items()}

    def other_vectors(self, other: check_fingerprints.Other) -> None:
        """Add a finding on a name that gives other vectors than was applied; an error refuses."""
        blocks = other.level == "error"
        key = other.key if self._says("model", other.number, other.key) else ""
        self._say("model", other.number, key, other.message, level=other.level, blocks=blocks)
        self.found.sort(key=lambda f: f.finding.line)

    def _say(
        self,
        table: str,
        index: int,
        key: str,
        message: str,
        *,
        level: Literal["error", "warning"] = "error",
        blocks: bool = False,
    ) -> None:
        line = self._reader.line(table, index, key)
        finding = Finding(str(self._config.source), line, message, level)
        self.found.append(Found(finding, blocks))

    # -- files -------------------------------------------------------------------------------

    def _readable(self) -> None:
        source = self._config.source
        if not as_user.ask(lambda: os.access(source, os.R_OK)):
            cure = f"chown root:er {source} && chmod 0640 {source}"
            self._say("", 0, "", f"user er can't read this file; as root: {cure}")

    def _model(self, index: int, model: Model) -> None:
        assert model.path is not None
        local = any(r.url is None for r in self._config.replicas_of(model.name))
        facts = look(model, model.path, weights=local)
        self._facts[model.name] = facts
        if facts["error"]:
            level: Literal["error", "warning"] = "warning" if "unseen" in facts else "error"
            final = "final" in facts
            self._say("model", index, "path", facts["error"], level=level, blocks=final)
            return
        known = len(self.found)
        self._task(index, model, facts)
        if facts["unfit"] and len(self.found) == known:
            keys = (k for k in ("max_tokens", "instruction", "prompt") if k in facts["unfit"])
            key = next((k for k in keys if self._says("model", index, k)), "path")
            self._say("model", index, key, facts["unfit"])
        limit = facts["max_tokens"]
        if model.max_tokens > limit and self._says("model", index, "max_tokens"):
            message = f"max_tokens {model.max_tokens}: the model ends at {limit}, and that holds"
            self._say("model", index, "max_tokens", message, level="warning")
        if model.dimensions is not None and model.dimensions > facts["dimensions"]:
            message = f"dimensions {model.dimensions}: this model has {facts['dimensions']}"
            self._say("model", index, "dimensions", message, blocks=True)

    def _says(self, table: str, index: int, key: str) -> bool:
        """Whether the file itself says `key` there (or leaves it to its default)."""
        return self._reader.line(table, index, key) != self._reader.line(table, index)

    def _task(self, index: int, model: Model, facts: Mapping[str, Any]) -> None:
        architecture, qwen3 = facts["architecture"], facts["prompt"] == "qwen3"
        if model.task == "score" and not qwen3 and "SequenceClassification" not in architecture:
            message = (
                f"{model.path} is a {architecture}, which gives no scores; name a reranker, or go "
                'through an embedding model with via = "…"'
            )
            self._say("model", index, "task", message, blocks=True)
        elif model.task == "score" and facts["embeds"]:
            message = (
                f"{model.path} looks like an embedding model (it has sentence-transformers' "
                'modules.json); for task = "score" name a reranker, or use via = "…"'
            )
            self._say("model", index, "task", message, level="warning")
        elif model.task == "embed" and "rerank" in str(model.path).lower():
            message = f'{model.path} looks like a reranker; its task would be "score"'
            self._say("model", index, "task", message, level="warning")

    # -- programs ----------------------------------------------------------------------------

    def _programs(self) -> None:
        machine = self._machine
        for wrong in check_programs.findings(
            self._config, machine.build, machine.own, machine.has_library
        ):
            index, key, message, blocks, level = wrong
            self._say("replica", index, key, message, level=level, blocks=blocks)

    # -- GPUs --------------------------------------------------------------------------------

    def _cards(self) -> None:
        config, machine = self._config, self._machine
        read = {name: facts for name, facts in self._facts.items() if not facts["error"]}
        try:
            cuda = machine.build().cuda
        except BuildError:
            cuda = fits.CUDA  # as install.sh will fetch it
        found = check_fit.findings(
            config,
            machine.gpus,
            reason=machine.gpu_reason,
            driver=machine.driver,
            cuda=cuda,
            facts=read,
        )
        packed = check_packed.findings(config, machine.gpus, read)
        promised = check_fit.promised(config, machine.gpus, self._weights())
        for one in (*found, *packed, *promised):
            self._say(
                "replica", one.number, one.key, one.message, level=one.level, blocks=one.blocks
            )

    def _weights(self) -> dict[str, int]:
        """Bytes of the weights by model, where they could be seen."""
        return {name: facts.get("bytes", 0) for name, facts in self._facts.items()}

    # -- ports -------------------------------------------------------------------------------

    def _ports(self) -> None:
        gateway = self._config.gateway
        for address in gateway.listen:
            self._port("gateway", 0, "listen", address, "", self._machine.gateway_runs)
        for address in gateway.tls.listen if gateway.tls else ():
            self._port("gateway.tls", 0, "listen", address, "", self._machine.gateway_runs)
        for address in self._config.host.listen if self._config.state else ():
            self._port("host", 0, "listen", address, "", self._machine.gateway_runs)
        if gateway.metrics:
            runs = self._machine.gateway_runs
            self._port("gateway", 0, "metrics", gateway.metrics, "", runs, only="warning")
        for index, replica in enumerate(self._config.replicas):
            if replica.url is None:
                address, runs = f"127.0.0.1:{replica.port}", replica.name in self._machine.running
                self._port("replica", index, "port", address, replica.name, runs)

    def _port(
        self,
        table: str,
        index: int,
        key: str,
        address: str,
        replica: str,
        runs: bool,
        only: Literal["error", "warning"] = "error",
    ) -> None:
        why = self._machine.bind_error(address)
        if why is None:
            return
        if why != "in use":
            # Neither stops systemd, which binds the socket as root and before the address is up.
            mild = why.startswith(("not an address", "not allowed"))
            level: Literal["error", "warning"] = "warning" if mild else only
            self._say(table, index, key, f"{address} can't be used: {why}", level=level)
            return
        port = ports.split(address)[1]
        holder = self._machine.holder(port)
        if holder is None or (not holder.pid and runs):
            return  # gone meanwhile; or ER's own, only that the kernel does not tell us
        mine = f"er-vllm@{replica}.service" if replica else "er-gateway.service"
        if holder.own and holder.unit in ("", mine, ports.SOCKET_UNIT):
            return
        known = only if holder.pid else "warning"
        cure = f"end it, or choose another port in {key}"
        self._say(table, index, key, f"port {port} is taken by {holder}; {cure}", level=known)


def look(model: Model, path: Path, *, weights: bool) -> dict[str, Any]:
    """What user er finds in the model's folder: facts, or `error` with cause and cure."""
    hidden = f"{path}/".startswith(HIDDEN)
    if hidden and os.geteuid() != 0 and _closed_parent(path) is not None:
        return {"error": f"{path}: only root can look there; ask again with sudo", "unseen": True}
    if wrong := _leads_away(path, hidden):
        return {"error": f"{path}: {wrong}"}
    door = -1
    if hidden and os.geteuid() == 0 and path.is_dir():
        # Seen as in the unit: the folder is bound in there, its parents' rights don't count.
        door = os.open(path, os.O_PATH | os.O_DIRECTORY)
    seen = path if door < 0 else Path(f"/proc/self/fd/{door}")
    try:
        facts: dict[str, Any] = as_user.ask(lambda: _facts(model, seen, path, weights))
    finally:
        if door >= 0:
            os.close(door)
    return facts


def _leads_away(path: Path, hidden: bool) -> str:
    """What of a model's folder is not there inside the units, which see no /home and no /root."""
    real = path.resolve()
    if any(real.is_relative_to(own) for own in ERS_OWN):
        return "lies in user er's own folder, which replicas don't see; move it, to /srv/models say"
    if not hidden and any(real.is_relative_to(home) for home in HOMES):
        return f"is a link to {real}, which the units don't see; name that path itself"
    if not os.access(path, os.R_OK | os.X_OK) or not path.is_dir():
        return ""  # said by the question that user er is asked
    for file in path.iterdir():
        target = file.resolve()
        inside = target.is_relative_to(real if hidden else path)
        if file.is_symlink() and not inside and any(target.is_relative_to(h) for h in HOMES):
            return (
                f"{file.name} is a link to {target}, which the units don't see; make a copy "
                f"without links: cp -rL {path} FOLDER, and name that"
            )
    return ""


def _facts(model: Model, seen: Path, path: Path, weights: bool) -> dict[str, Any]:
    """The question itself, asked as user er; `seen` is the way to `path` that the unit has."""
    closed = None if seen != path else _closed_parent(path)
    if closed is not None:
        cure = f"chmod o+x {closed}"
        return {"error": f"{path}: user er may not pass through {closed}; as root: {cure}"}
    try:
        files = model_files.read(seen)
        if weights:
            model_files.demand_weights(seen)
    except ModelFilesError as error:
        final = {"final": True} if isinstance(error, GgufError) else {}
        return {"error": str(error).replace(str(seen), str(path)), **final}
    size, wrong = check_weights.found(seen) if weights else (0, "")
    wrong = wrong or (model_files.lacking(files, seen) if weights else "")
    if wrong:
        return {"error": f"{path}: {wrong}"}
    unfit, recipe, word = check_recipe.examined(model, files)
    return {
        "error": "",
        "architecture": files.architecture,
        "prompt": files.prompt,
        "max_tokens": files.max_tokens,
        "dimensions": files.dimensions,
        "heads": files.heads,
        "kv_heads": files.kv_heads,
        "inner": files.inner,
        "packed": msgspec.to_builtins(files.packed),
        "embeds": (seen / "modules.json").exists(),
        "bytes": size,
        "unfit": unfit.replace(str(seen), str(path)),
        "recipe": recipe,
        "fingerprint": [check_weights.word(seen, files) if weights else UNKNOWN, word],
    }


def _closed_parent(path: Path) -> Path | None:
    """The uppermost folder on the way to `path` that this user may not pass through."""
    for parent in reversed(path.parents):
        if os.access(parent, os.F_OK) and not os.access(parent, os.X_OK):
            return parent
    return None
