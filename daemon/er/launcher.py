"""er-vllm NAME: one replica in the foreground, READY and WATCHDOG only on proof.

Exit codes: 0 it was asked to end; 1 the engine failed and systemd is to start anew; 64 wrong use;
78 a bad configuration, an unknown name or a model that no engine loads, which no restart cures.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from er import __version__, chinese, config, systemd
from er.chinese.wording import worded
from er.config import Config, ConfigError, Model, Replica, successor
from er.engine.checks import BAD_CONFIG, only_one
from er.engine.keeper import Keeper
from er.engine.watch import Patience
from er.gpus import Gpus
from er.journal import log

WRONG_USE = 64


class Parser(argparse.ArgumentParser):
    """Exits with 64 on wrong use."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(WRONG_USE, f"er-vllm: {message}\n")


class Final(Exception):  # noqa: N818 - an end, with its reason
    """Nothing here can be run before the operator changes something."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one replica until it is asked to end. Returns the exit code."""
    parser = Parser(prog="er-vllm", description="Runs one replica of er.toml: one vLLM, watched.")
    parser.add_argument("name", help="the replica's name in er.toml")
    parser.add_argument("--config", type=Path, metavar="F", help="read F, not the applied er.toml")
    parser.add_argument("--version", action="version", version=f"er-vllm {__version__}")
    with chinese.speaking(only_to_people=True):
        options = worded(parser).parse_args(argv)
    try:
        found = find(options.config or config.active_path(), options.name)
        return asyncio.run(keep(*found))
    except Final as final:
        log("err", chinese.at_terminal(f"er-vllm: {final}"))
        systemd.Notifier().notify(status=str(final))
        return BAD_CONFIG


def find(path: Path, name: str) -> tuple[Config, Replica, Model]:
    """The replica `name` and its model from the er.toml at `path`. Raises Final."""
    try:
        loaded, _ = successor.running(path)
    except ConfigError as error:
        more = f" (and {len(error.findings) - 1} more: er check)" if error.findings[1:] else ""
        cure = "; correct er.toml, then: sudo er apply" if path == config.applied_path() else ""
        raise Final(f"{error.findings[0]}{more}{cure}") from None
    replica = loaded.replica(name)
    if replica is None:
        known = ", ".join(r.name for r in loaded.replicas if not r.url) or "none"
        raise Final(
            f"no replica {name!r} in {path}; there are: {known}. Add it to er.toml, then: "
            "sudo er apply"
        )
    if replica.url:
        raise Final(
            f"replica {name!r} is run by something else at {replica.url}; there is nothing to "
            "start here"
        )
    model = loaded.model(replica.model)
    assert model is not None  # config.load has seen to it
    return loaded, replica, model


async def keep(
    loaded: Config, replica: Replica, model: Model, patience: Patience | None = None
) -> int:
    """Run the replica until SIGTERM or SIGINT. Returns the exit code."""
    runtime = config.directory("runtime")
    folder = runtime / "replicas" / replica.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = only_one(folder, lambda text: log("err", f"{replica.name}: {text}"))
    except OSError as error:
        where = f"{error.filename or folder}: {error.strerror}"
        cure = "make it writable: systemd-tmpfiles --create, or set RUNTIME_DIRECTORY"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            cure = f"make room in {runtime}"
        log("err", f"{replica.name}: {where}; {cure}")
        return 1
    if lock is None:
        systemd.Notifier().notify(status="another er-vllm runs this replica; stop that one first")
        return 1
    keeper = Keeper(
        loaded,
        replica,
        model,
        runtime=runtime,
        environ=os.environ,
        cards=Gpus(),
        patience=patience or Patience(),
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, keeper.stop.set)
    try:
        return await keeper.run()
    finally:
        os.close(lock)


if __name__ == "__main__":
    sys.exit(main())
