"""The units that only [gateway.tls] wants: HTTPS's socket and the renewal. Pure."""

from __future__ import annotations

from collections.abc import Collection

from er.config import Config

HTTPS = "er-gateway-https.socket"
PATH, TIMER = "er-tls.path", "er-tls.timer"
FOLDER = "/usr/local/lib/systemd/system"  # where install.sh puts unit files


def wanted(config: Config) -> tuple[str, ...]:
    """Those that er.target is to start."""
    return (HTTPS, PATH, TIMER) if config.gateway.tls is not None else ()


def renewal(written: Collection[str], added: Collection[str], active: Collection[str]) -> list[str]:
    """systemctl's words for the units that notice a renewal; [] when they need nothing.

    `written`: units with a new drop-in; `added`: units that er.target has from now on.
    """
    if PATH in active:
        return ["restart", PATH] if PATH in written else []
    return ["start", PATH, TIMER] if PATH in added and "er.target" in active else []
