"""`er disk`: each place that ER keeps something in, its size, its cap, and what frees it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import orjson

from er.cli.disk_places import Place, places
from er.cli.doctor import DISK_LOW
from er.cli.screen import table
from er.config import ConfigError, active_path, load
from er.quantities import bytes_text


class Wish(msgspec.Struct, kw_only=True):
    """What the command line asked for."""

    as_json: bool = False


def run(wish: Wish) -> int:
    """Print it. Returns 0, and 1 where a disk is nearly full or nothing can be told."""
    try:
        config = load(active_path())
    except ConfigError as error:
        print(f"er disk: {error.findings[0]}", file=sys.stderr)
        return 1
    found = list(places(config))
    disks = _disks(found)
    low = [disk for disk in disks if disk["free"] < DISK_LOW]
    if wish.as_json:
        rows = {"places": [msgspec.to_builtins(place) for place in found], "disks": disks}
        print(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
        return 1 if low else 0
    rows_ = [("place", "takes", "at most", "held by", "what frees it")]
    rows_ += [
        (
            place.name,
            "closed to you" if place.used is None else bytes_text(place.used),
            "" if place.cap is None else bytes_text(place.cap) if place.cap else "off",
            place.bound,
            place.frees,
        )
        for place in found
    ]
    print("\n".join(table(rows_, named=False)))
    print()
    for disk in disks:
        print(
            f"{bytes_text(disk['free'])} of {bytes_text(disk['size'])} free on the disk of "
            f"{', '.join(disk['places'])}"
        )
    for disk in low:
        biggest = f"du -xh {disk['path']} | sort -h | tail"
        print(f"That is little: sudo er clean, a smaller size in er.toml, or {biggest}")
    if any(place.used is None for place in found):
        print("With sudo none of it is closed.")
    return 1 if low else 0


def _disks(found: list[Place]) -> list[dict[str, Any]]:
    """The file systems, each with the places on it."""
    disks: dict[int, dict[str, Any]] = {}
    for place in found:
        path = Path(place.path)
        try:
            device, room = path.stat().st_dev, os.statvfs(path)
        except OSError:  # closed
            continue
        one = disks.setdefault(
            device,
            {
                "path": place.path,
                "size": room.f_blocks * room.f_frsize,
                "free": room.f_bavail * room.f_frsize,
                "places": [],
            },
        )
        one["places"].append(place.name)
    return list(disks.values())
