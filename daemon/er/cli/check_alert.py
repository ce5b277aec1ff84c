"""`er check` on [[alert]]: whether user er can run the command and read the files, and who else."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from er.alert.send import SendError, address, contents
from er.cli import as_user
from er.config import Alert, Config
from er.model_files import HIDDEN

LOCAL = ("127.0.0.1", "localhost", "::1")


class Odd(NamedTuple):
    """A finding on a table's `key`. None stops `er apply`: clients are served anyway."""

    number: int
    key: str
    message: str
    level: Literal["error", "warning"] = "error"


def findings(config: Config) -> list[Odd]:
    """All that keeps an alert from its receiver, or shows its secrets. They are not repeated."""
    found: list[Odd] = []
    for index, alert in enumerate(config.alerts):
        said = [*_command(alert), *_files(alert), *_open(alert, config.source)]
        found += [Odd(index, *one) for one in said]
    return found


Said = tuple[str, str, Literal["error", "warning"]]


def _command(alert: Alert) -> list[Said]:
    if not alert.command:
        return []
    path = Path(alert.command[0])
    seen = next((folder for folder in HIDDEN if f"{path.resolve()}".startswith(folder)), None)
    if seen is not None:
        told = f"{path}: the gateway's unit does not see {seen}; put it into /usr/local/bin, say"
        return [("command", told, "error")]
    if not as_user.ask(path.is_file):
        return [("command", f"{path}: no such file that user er could see", "error")]
    if not as_user.ask(lambda: os.access(path, os.X_OK)):
        return [("command", f"{path}: user er may not run it; chmod 0755 {path}", "error")]
    return []


def _files(alert: Alert) -> list[Said]:
    found: list[Said] = []
    for key, path in (("webhook_file", alert.webhook_file), ("secret_file", alert.secret_file)):
        if path is None:
            continue
        if closed := _closed_to_us(path):
            found.append((key, closed, "warning"))
            continue
        if why := as_user.ask(partial(_unreadable, alert, key, path)):
            cure = f"; as root: chown root:er {path} && chmod 0640 {path}"
            found.append((key, why + (cure if "denied" in why else ""), "error"))
        elif path.stat().st_mode & 0o007:
            told = f"every user of this machine can read {path}; chmod 0640 {path}"
            found.append((key, told, "warning"))
    return found


def _closed_to_us(path: Path) -> str:
    """Whether user er may read it is for root to ask; root's own folders are for nobody else."""
    if os.geteuid() == 0 or os.access(path, os.R_OK):
        return ""
    try:
        path.stat()
    except FileNotFoundError:
        return ""
    except OSError:
        pass
    return f"{path}: only root can look there; ask again with sudo"


def _unreadable(alert: Alert, key: str, path: Path) -> str:
    try:
        if key == "webhook_file":
            address(alert)
        else:
            contents(path, key)
    except SendError as error:
        return str(error)
    return ""


def _open(alert: Alert, source: Path) -> list[Said]:
    """An address in a file that all can read, or on a line that all can hear."""
    if alert.webhook is None:
        return []
    found: list[Said] = []
    if source.exists() and source.stat().st_mode & 0o007:
        told = f"the address is a secret, and every user can read this file; chmod 0640 {source}"
        found.append(("webhook", told, "warning"))
    parts = urlsplit(alert.webhook)
    if parts.scheme == "http" and parts.hostname not in LOCAL:
        told = f"is sent to {parts.hostname} without HTTPS, for all on the way to read"
        found.append(("webhook", told, "warning"))
    return found
