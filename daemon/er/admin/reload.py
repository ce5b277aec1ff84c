"""Takes up er.toml while everything runs: what needs no unit restarted, in a new generation."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import msgspec
import orjson

from er.config import (
    Config,
    ConfigError,
    applied_path,
    directory,
    edited_path,
    load,
    parse,
    successor,
)
from er.config.render import render
from er.units import UnitsError, applied_text, store_applied, takeup, turns

PATIENCE_S = 90.0  # for a new generation of workers to be ready
LOOK_EVERY_S = 0.1


class ReloadError(Exception):
    """A reload that did not happen; nothing was changed. The text says why and what to do."""

    def __init__(self, message: str, findings: list[str] | None = None) -> None:
        super().__init__(message)
        self.findings = findings or []


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """What a reload did: changes in force, and those that wait for `er apply`."""

    generation: int
    taken: tuple[str, ...]
    held: tuple[str, ...]


def prepare(running: Config) -> tuple[takeup.TakeUp, str | None]:
    """What to take up, and the text to store as applied (None: the running file is er.toml itself).

    Raises ReloadError with the findings of a file that can't be used.
    """
    running = successor.without(running)
    from_applied = running.source == applied_path()
    path = edited_path() if from_applied else running.source
    try:
        edited = load(path)
    except ConfigError as error:
        raise ReloadError(f"{path} can't be used; nothing was changed", _lines(error)) from None
    merged = takeup.merge(running, edited)
    if not from_applied:
        return merged, None
    text = render(merged.config) if merged.held else path.read_text(encoding="utf-8")
    try:
        parse(text, applied_path())
    except ConfigError as error:
        message = (
            "what can be taken up contradicts what has to wait, so nothing was changed; take all "
            "of it: sudo er apply"
        )
        raise ReloadError(message, _lines(error)) from None
    return merged, text


def _lines(error: ConfigError) -> list[str]:
    return [str(finding) for finding in error.findings]


async def reload(running: Config, generation: int, parent: int) -> Reloaded:
    """Store what can take effect, have `parent` start new workers, wait until they answer.

    Raises ReloadError when the file is bad, the new workers don't come up, or an `er apply` is
    under way; then the stored configuration is again what it was.
    """

    def busy() -> None:
        raise ReloadError("nothing was changed: an er apply is under way; wait for its end")

    try:
        with turns.alone(busy):
            return await _reload(running, generation, parent)
    except OSError as error:
        raise ReloadError(f"nothing was changed: {error}") from None


async def _reload(running: Config, generation: int, parent: int) -> Reloaded:
    merged, text = await asyncio.to_thread(prepare, running)
    # A damaged applied.toml is no way back: what runs is, and that is known.
    before = applied_text() or render(successor.without(running))
    if text is not None and text != before:
        try:
            await asyncio.to_thread(store_applied, text)
        except UnitsError as error:
            raise ReloadError(f"nothing was changed: {error}") from None
    # A reload that failed has left a higher number than the workers' own.
    base = max(generation, _read(_generation_path()).get("generation", 0))
    os.kill(parent, signal.SIGHUP)
    said = await _generation_after(base)
    if said.get("state") != "ready":
        if text is not None and text != before:
            await asyncio.to_thread(store_applied, before)
        cause = said.get("error") or "the new workers did not come up; journalctl -u er-gateway"
        raise ReloadError(f"nothing was changed: {cause}")
    return Reloaded(generation=int(said["generation"]), taken=merged.taken, held=merged.held)


async def _generation_after(generation: int) -> dict[str, Any]:
    """What the parent writes once the generation after `generation` is ready or has failed."""
    path = _generation_path()
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        said = _read(path)
        if said.get("served", 0) > generation:  # another reload may have begun since
            return {"state": "ready", "generation": said["served"]}
        if said.get("generation", 0) > generation and said.get("state") != "starting":
            return said
        await asyncio.sleep(LOOK_EVERY_S)
    return {"state": "failed", "error": f"no new workers after {PATIENCE_S:.0f} s"}


def _generation_path() -> Path:
    return directory("runtime") / "generation.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        value = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    whole = isinstance(value, dict) and isinstance(value.get("generation"), int)
    return value if whole else {}
