"""`er check` on [gateway.tls]: its files, whether they belong together, the certificate's time."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Literal, NamedTuple

from er import systemctl
from er.config import Config, Tls
from er.tls import Credentials, TlsError, context
from er.tls.credentials import contents


class Odd(NamedTuple):
    """A finding on `key`; one that `blocks` stops `er apply`."""

    key: str
    message: str
    level: Literal["error", "warning"] = "error"
    blocks: bool = False


def findings(config: Config) -> list[Odd]:
    """All that is wrong with HTTPS, [] without it."""
    tls = config.gateway.tls
    if tls is None:
        return []
    found: list[Odd] = []
    certificate = _read(tls.certificate, "certificate", found)
    key = _read(tls.key, "key", found)
    authorities = _read(tls.client_ca, "client_ca", found) if tls.client_ca else b""
    if certificate is not None:
        found += _time(certificate)
    if certificate is not None and key is not None:
        found += _together(tls, Credentials(certificate, key, authorities or b""))
    found += _open_to_others(tls.key)
    return found


def _read(path: Path, what: str, found: list[Odd]) -> bytes | None:
    """One file as systemd reads it for the gateway, which is as root."""
    closed = os.geteuid() != 0 and systemctl.booted() and not _reachable(path)
    if closed:
        message = f"{what} {path}: only root can look there; ask again with sudo"
        found.append(Odd(what, message, "warning"))
        return None
    try:
        return contents(path, what)
    except TlsError as error:
        found.append(Odd(what, str(error), blocks=True))
        return None


def _reachable(path: Path) -> bool:
    """Whether this user may read it, or can at least tell that it is not there."""
    try:
        path.stat()
    except PermissionError:
        return False
    except OSError:
        return True
    return os.access(path, os.R_OK)


def _time(certificate: bytes) -> list[Odd]:
    from er.tls import facts  # large, and only wanted with HTTPS

    try:
        known, now = facts.read(certificate), time.time()
    except TlsError as error:
        return [Odd("certificate", str(error), blocks=True)]
    found = []
    if known.too_small:
        message = f"the certificate's key is {known.kind}; clients want 2048 bits at least"
        found.append(Odd("certificate", message, blocks=True))
    if told := facts.ending(known, now):
        level: Literal["error", "warning"] = "warning"
        if not known.not_before <= now < known.not_after:
            level = "error"
        found.append(Odd("certificate", f"the certificate {told}", level))
    if not known.names:
        message = "the certificate has no subjectAltName, so clients can't tell whose it is"
        found.append(Odd("certificate", message, "warning"))
    return found


def _together(tls: Tls, credentials: Credentials) -> list[Odd]:
    try:
        context.make(credentials)
    except TlsError as error:
        return [Odd("key", str(error), blocks=True)]
    if tls.client_certificates == "off" or not credentials.client_ca:
        return []
    try:
        context.make(credentials, tls.client_certificates)
    except TlsError as error:
        return [Odd("client_ca", str(error), blocks=True)]
    return []


def _open_to_others(key: Path) -> list[Odd]:
    try:
        mode = key.stat().st_mode
    except OSError:  # said by who reads it
        return []
    if mode & 0o007:
        message = f"every user of this machine can read the key; chmod 0600 {key}"
        return [Odd("key", message, "warning")]
    return []
