"""The units that some tables want: [gateway.tls] those of HTTPS, [state] a socket. Pure."""

from __future__ import annotations

from collections.abc import Collection

from er.config import Config

HTTPS, HOSTS = "er-gateway-https.socket", "er-gateway-hosts.socket"
PATH, TIMER = "er-tls.path", "er-tls.timer"
FOLDER = "/usr/local/lib/systemd/system"  # where install.sh puts unit files


def wanted(config: Config) -> tuple[str, ...]:
    """Those that er.target is to start."""
    https = (HTTPS, PATH, TIMER) if config.gateway.tls is not None else ()
    return https if config.state is None else (*https, HOSTS)


def renewal(written: Collection[str], added: Collection[str], active: Collection[str]) -> list[str]:
    """systemctl's words for the units that notice a renewal; [] when they need nothing.

    `written`: units with a new drop-in; `added`: units that er.target has from now on.
    """
    if PATH in active:
        return ["restart", PATH] if PATH in written else []
    return ["start", PATH, TIMER] if PATH in added and "er.target" in active else []
