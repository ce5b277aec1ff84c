"""Who may change something by the admin socket, which user er's own processes reach too."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping

OWNER = "er"
ITS_OWN = ("/reload",)  # what er-gateway.service asks of itself (ExecReload=)
READING = ("GET", "HEAD")


def why_not(method: str, path: str, host: str, environment: Mapping[str, str] = os.environ) -> str:
    """Why the caller at `host` ("uid:N") may not ask that; "" where it may.

    Root and members of group er may ask all. Under systemd user er itself is nobody who steers, but
    the gateway and the replicas: whoever breaks into a vLLM must not make keys.
    """
    mine = os.geteuid()
    if method in READING or path in ITS_OWN or host != f"uid:{mine}" or mine == 0:
        return ""
    if "INVOCATION_ID" not in environment or _name(mine) != OWNER:
        return ""
    return f"user {OWNER} only reads here; ask as root (sudo) or as a member of group {OWNER}"


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""
