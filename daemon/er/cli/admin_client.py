"""Asks the admin API over its unix socket, from the command line."""

from __future__ import annotations

import errno
import http.client
import socket
from pathlib import Path
from typing import Any

import orjson

from er.config import directory
from er.systemctl import GATEWAY, booted, show


class NoAdmin(Exception):  # noqa: N818 - it is an answer: nobody is there
    """The admin API can't be asked; the text says why and what to do. `closed`: no right to it."""

    def __init__(self, message: str, closed: bool = False) -> None:
        super().__init__(message)
        self.closed = closed


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("er", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def socket_path() -> Path:
    """Where the admin API listens."""
    return directory("runtime") / "admin.sock"


def call(
    method: str, path: str, body: Any = None, *, timeout_s: float = 5.0
) -> tuple[int, dict[str, Any]]:
    """(status, answer) of one request. Raises NoAdmin.

    A stopped gateway is not asked: systemd would start it for the connection's sake.
    """
    units = show([GATEWAY])
    unit = units.get(GATEWAY) if units else None
    if unit is not None and unit.loaded and unit.state in ("inactive", "failed"):
        raise NoAdmin(f"the gateway is {unit.state}; {_start()}")
    connection = _Connection(socket_path(), timeout_s)
    data = None if body is None else orjson.dumps(body)
    headers = {} if data is None else {"content-type": "application/json"}
    try:
        connection.request(method, path, data, headers)
        answer = connection.getresponse()
        value = orjson.loads(answer.read() or b"{}")
    except OSError as error:
        raise _reason(error) from None
    except (http.client.HTTPException, orjson.JSONDecodeError) as error:
        raise NoAdmin(
            f"{socket_path()} gave no sensible answer ({error or 'it hung up'})"
        ) from None
    finally:
        connection.close()
    return answer.status, value if isinstance(value, dict) else {}


def told(answer: dict[str, Any]) -> str:
    """What an answer that says no says."""
    error = answer.get("error")
    return str(error.get("message", error)) if isinstance(error, dict) else str(answer)


def _start() -> str:
    return "start it: " + ("sudo systemctl start er.target" if booted() else "er-gateway")


def _reason(error: OSError) -> NoAdmin:
    path = socket_path()
    if error.errno == errno.ENOENT:
        return NoAdmin(f"no gateway runs here ({path} is missing); {_start()}")
    if error.errno == errno.ECONNREFUSED:
        return NoAdmin(f"no gateway answers at {path}; {_start()}")
    if error.errno in (errno.EACCES, errno.EPERM):
        text = f"{path} is for root and members of group er: use sudo, or: sudo adduser NAME er"
        return NoAdmin(text, closed=True)
    if isinstance(error, TimeoutError):
        return NoAdmin("the admin process does not answer in time; journalctl -u er-gateway")
    return NoAdmin(f"{path}: {error.strerror or error}")
