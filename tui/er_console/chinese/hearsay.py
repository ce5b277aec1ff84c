"""Chinese for what the gateway, the launchers and the commands say, with {fields}."""

from __future__ import annotations

HEARD: dict[str, str] = {}
