"""The Chinese of the console: what it says itself (WORDS) and what it hears from ER (HEARD)."""

from __future__ import annotations

from er_console.chinese import (
    app,
    basics,
    config,
    findings,
    hearsay,
    hosts,
    judged,
    keys,
    logs,
    replicas,
    sources,
    traffic,
    trial,
)

ROOMS = (app, basics, config, hosts, judged, keys, logs, replicas, sources, traffic, trial)
WORDS = {english: chinese for room in ROOMS for english, chinese in room.WORDS.items()}
HEARD = {**hearsay.HEARD, **findings.HEARD, **app.HEARD, **config.HEARD, **keys.HEARD}
HEARD |= hosts.HEARD
