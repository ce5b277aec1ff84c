"""What is nearly out: HTTPS's certificate, API keys, room on the disks; for alerts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from er import keys
from er.alert import Ending
from er.config import directory
from er.keys import KeysError

DAY_S = 86400.0
CERTIFICATE_S = (14 * DAY_S, 3 * DAY_S, 0.0)  # left of it; each is told of
KEY_S = (7 * DAY_S, DAY_S)
SHARE, LEAST = 0.05, 1 << 30  # of a disk, and bytes, that have to be free
WELL = 1.5  # times that much, and it is over
LOGS = (Path("/var/log/journal"), Path("/var/log"))


def look(certificate: float | None, now: float) -> tuple[Ending, ...] | None:
    """All that ends and all disks; None where the key file can't be read. Blocks a little.

    `certificate` is its end in Unix seconds, None without HTTPS.
    """
    try:
        found = [*_keys(now)]
    except (KeysError, OSError):
        return None
    if certificate is not None:
        found.append(
            Ending(
                event="certificate",
                mark=f"certificate {certificate:.0f}",
                stage=sum(certificate - now <= left for left in CERTIFICATE_S),
                what="HTTPS",
                until=certificate,
            )
        )
    return (*found, *disks(places()))


def _keys(now: float) -> Iterator[Ending]:
    path = keys.path()
    for record in keys.read(path) if path.exists() else ():
        if record.expires is None or record.revoked is not None:
            continue
        end = record.expires.timestamp()
        if now < end <= now + KEY_S[0]:
            yield Ending(
                event="key",
                mark=f"key {record.id} {end:.0f}",
                stage=sum(end - now <= left for left in KEY_S),
                what=f"{record.name} ({record.id})",
                until=end,
            )


def places() -> list[Path]:
    """Where ER and the journal write."""
    logs = next((path for path in LOGS if path.exists()), None)
    return [directory("state"), directory("cache"), *([logs] if logs else [])]


def disks(folders: list[Path]) -> Iterator[Ending]:
    """One for each file system; one that can't be asked is left out."""
    devices: set[int] = set()
    for path in folders:
        try:
            device, whole = path.stat().st_dev, os.statvfs(path)
        except OSError:
            continue
        if device in devices:
            continue
        devices.add(device)
        free, size = whole.f_bavail * whole.f_frsize, whole.f_blocks * whole.f_frsize
        yield Ending(
            event="disk",
            mark=f"disk {path}",
            stage=scarce(free, size),
            what=str(path),
            free=free,
            lasting=True,
        )


def scarce(free: int, size: int) -> int:
    """1: too little is free, 0: enough, -1: neither. In bytes."""
    wanted = max(SHARE * size, min(LEAST, size / 2))
    if free < wanted:
        return 1
    return 0 if free >= WELL * wanted else -1
