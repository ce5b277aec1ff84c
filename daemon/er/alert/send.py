"""Sends one message by webhook or command, and says in words what came of it. Blocks.

A webhook's address is a secret: nothing that is said here has more of it than its host.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from er import small_file
from er.alert import shapes
from er.config import Alert
from er.config.alert import unusable

TIMEOUT_S = 10.0
COMMAND_S = 30.0
PAUSES_S = (2.0, 5.0)  # before the second try and the third
ANSWER_MOST = 65_536  # bytes that are read of one
# What systemd and the gateway's parent told this process alone.
OURS = ("NOTIFY_", "WATCHDOG_", "LISTEN_", "JOURNAL_", "INVOCATION_", "PROMETHEUS_", "ER_")
SECRET_LEAST = 6  # characters of a part of the address that is blotted out wherever it stands


class SendError(Exception):
    """Nobody was told, and why; `final`: another try would end the same."""

    def __init__(self, text: str, *, final: bool = False) -> None:
        super().__init__(text)
        self.final = final


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An answer that leads elsewhere is an answer: the message goes to who was named alone."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def send(
    alert: Alert,
    message: dict[str, Any],
    *,
    pause: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.time,
) -> str:
    """Tell the receiver, with two more tries. Returns who took it; raises SendError."""
    for wait_s in (*PAUSES_S, None):
        try:
            return once(alert, message, clock())
        except SendError as error:
            if wait_s is None or error.final:
                raise
        pause(wait_s)
    raise AssertionError


def once(alert: Alert, message: dict[str, Any], now: float) -> str:
    """One try. Returns who took it, for people; raises SendError."""
    if alert.kind is None:
        return _command(alert.command, message)
    webhook = address(alert)
    secret = contents(alert.secret_file, "secret_file") if alert.secret_file else None
    url, body = shapes.posted(alert.kind, webhook, secret, message, now)
    host = host_of(webhook)
    try:
        status, answer = _post(url, body)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise SendError(f"{host}: {_blotted(_reason(error), url, secret)}") from None
    if why := shapes.refused(alert.kind, status, answer):
        raise SendError(f"{host}: {_blotted(why, url, secret)}")
    return f"{host} took it (HTTP {status})"


def address(alert: Alert) -> str:
    """Where to post. Raises SendError."""
    if alert.webhook is not None:
        return alert.webhook
    assert alert.webhook_file is not None
    found = contents(alert.webhook_file, "webhook_file")
    if why := unusable(found):
        raise SendError(f"what stands in webhook_file {alert.webhook_file} {why}", final=True)
    return found


def contents(path: Path, what: str) -> str:
    """The one line of a secret's file. Raises SendError."""
    try:
        found = small_file.read(path).decode("utf-8").strip()
    except OSError as error:
        raise SendError(f"{what} {path}: {error.strerror or error}", final=True) from None
    except UnicodeDecodeError:
        raise SendError(f"{what} {path} is no text", final=True) from None
    if not found or len(found.splitlines()) > 1:
        raise SendError(f"{what} {path} must hold one line", final=True)
    return found


def host_of(webhook: str) -> str:
    """The part of an address that may be shown."""
    return urlsplit(webhook).hostname or "?"


def receiver(alert: Alert) -> str:
    """Who it goes to, for people: a host, a file's name or a program."""
    if alert.kind is None:
        return alert.command[0]
    if alert.webhook is not None:
        return f"{alert.kind} at {host_of(alert.webhook)}"
    return f"{alert.kind}, its address in {alert.webhook_file}"


def _post(url: str, body: bytes) -> tuple[int, bytes]:
    request = urllib.request.Request(url, body, method="POST")
    request.add_header("content-type", "application/json; charset=utf-8")
    request.add_header("user-agent", "er")
    opener = urllib.request.build_opener(_NoRedirect)  # HTTPS_PROXY and its like hold
    try:
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            return int(answer.status), _some(answer)
    except urllib.error.HTTPError as error:
        with error:
            return int(error.code), _some(error)


def _some(answer: Any) -> bytes:
    """The answer's beginning, also of one that comes in drops."""
    until, data = time.monotonic() + TIMEOUT_S, b""
    while len(data) < ANSWER_MOST and time.monotonic() < until:
        piece = answer.read1(ANSWER_MOST - len(data))
        if not piece:
            break
        data += piece
    return data


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer within {TIMEOUT_S:.0f} s"
    if isinstance(cause, socket.gaierror):
        return f"its name is not known: {cause.strerror}"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {cause.verify_message}"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__


def _blotted(text: str, url: str, secret: str | None) -> str:
    """What a receiver or a library says, without the parts of the address that it may repeat."""
    parts = urlsplit(url)
    pieces = [*parts.path.split("/"), *parts.query.replace("=", "&").split("&"), secret or ""]
    pieces += [url, f"{parts.path}?{parts.query}", *map(unquote, pieces)]
    for piece in sorted(pieces, key=len, reverse=True):
        if len(piece) >= SECRET_LEAST:
            text = text.replace(piece, "…")
    return text


def _command(command: tuple[str, ...], message: dict[str, Any]) -> str:
    """Run it with the message on its standard input; no shell is between."""
    name = command[0]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            cwd="/",
            env=kept,
        )
    except OSError as error:
        raise SendError(f"{name} can't be run: {error.strerror or error}", final=True) from None
    data = json.dumps(message, ensure_ascii=False).encode("utf-8", "replace")
    try:
        _, said = process.communicate(data, COMMAND_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise SendError(f"{name} was not done within {COMMAND_S:.0f} s, and was ended") from None
    if process.returncode:
        last = " ".join(said.decode("utf-8", "replace").split())[-shapes.SHOWN :]
        raise SendError(f"{name} ended with {process.returncode}" + (f": {last}" if last else ""))
    return f"{name} ended with 0"
