"""What the play's gateway says of itself: GET /status of the story's moment, and its units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from er_console.parts import unit_of
from er_console.played_replicas import LOADS_S, rates
from er_console.state import GATEWAY_UNIT, TARGET_UNIT, Unit
from er_console.story import DRIFTED, EMBEDDING, OUT_OF_MEMORY, REPLICAS, RERANKER, Now, Story

GIB = 2**30
LEFT_GIB = 2.1  # free on GPU 1 while another process holds its memory
ACTIVE = {
    "up": "active",
    "down": "active",
    "drained": "active",
    "starting": "activating",
    "failed": "activating",
    "stopping": "deactivating",
    "stopped": "inactive",
}


def status_json(story: Story, now: float) -> dict[str, Any]:
    """The admin API's status of a moment."""
    states = {name: story.replica(name, now) for name, *_ in REPLICAS}
    answering = {model for name, model, *_ in REPLICAS if states[name].state == "up"}
    bad = [f"{name} {found.state}" for name, found in states.items() if found.state != "up"]
    gateway, figures, wave = story.gateway(now), story.figures(now), _wave(now)
    busy = {"in_flight": figures["in_flight"], "queued": figures["queued"]}
    return {
        "version": "0.1.0",
        "time": now,
        "status": "ok" if not bad else "degraded" if answering else "down",
        "reason": "; ".join(bad),
        "gateway": {
            "state": gateway.state,
            "since": gateway.since,
            "workers": 4,
            "listen": ["0.0.0.0:2048"],
            **busy,
            "max_concurrency": 500,
            "config_differs": False,
        },
        "models": [_model_json(story, model, states, now) for model in (EMBEDDING, RERANKER)],
        "gpus": _gpus_json(states, wave),
        "traffic": _traffic_json(story, figures, now),
        "machine": {
            "cpu_percent": round(22 + 20 * wave, 1),
            "memory_used": 68 * GIB,
            "memory_total": 1024 * GIB,
            "load1": round(4 + 3 * wave, 1),
            "net_rx_bytes_per_s": 2.1e6 * wave,
            "net_tx_bytes_per_s": 9.5e6 * wave,
        },
    }


def _wave(now: float) -> float:
    """What a machine's figures swing by, 0 to 1."""
    return 0.5 + 0.35 * math.sin(now / 9) + 0.15 * math.sin(now / 2.3)


def _traffic_json(story: Story, figures: Mapping[str, Any], now: float) -> dict[str, Any]:
    rate, p95, refused = figures["requests_per_s"], figures["p95_ms"], figures["refused_per_s"]
    limited = round(60 * 0.8 * refused)
    return {
        "requests_per_s": rate,
        "sequences_per_s": figures["sequences_per_s"],
        "tokens_per_s": round(figures["sequences_per_s"] * 128),
        "success_rate": round(1 - refused / rate, 4),
        "p50_ms": round(0.54 * p95, 1),
        "p95_ms": p95,
        "p99_ms": round(1.8 * p95, 1),
        "in_flight": figures["in_flight"],
        "queued": figures["queued"],
        "requests_total": int(1839221 + 200 * (now - story.began)),
        "refusals": {
            "rate_limit_exceeded": limited,
            "input_too_long": round(60 * refused) - limited,
        },
        "window_s": 60,
    }


def _model_json(story: Story, model: str, states: Mapping[str, Now], now: float) -> dict[str, Any]:
    wave = _wave(now)
    found = []
    for name, own, gpu, port in REPLICAS:
        if own != model:
            continue
        at, up = states[name], states[name].state == "up"
        there = up or at.reason == DRIFTED  # its engine
        sample = {
            "name": name,
            "pid": 41000 + port,
            "phase": "ready" if there else at.state,
            "phase_since": at.since,
            "attempt": story.restarts(name, now) + 1,
            "load_s": LOADS_S[name],
            "last_error": OUT_OF_MEMORY if at.reason not in ("", DRIFTED) else None,
            "time": now,
            "gpu": [],
            "engine": {"running": int(14 * wave), "waiting": int(5 * wave)} if up else None,
            "rss_bytes": 5 * GIB,
            "vllm_version": "0.32.0",
            "identity": "5f1d8a0c93b7e24466d0a9f3c2b1e807" if there else None,
            "shared_identity": "9b0c1e7d52f84a6638e1d4c7a0b9f265" if there else None,
        }
        found.append(
            {
                "name": name,
                "state": at.state,
                "since": at.since,
                "reason": at.reason,
                "model": model,
                "address": f"http://127.0.0.1:{port}",
                "gpu": [gpu],
                "unit": unit_of(name),
                "unit_state": ACTIVE[at.state],
                "status_text": at.said,
                "restarts": story.restarts(name, now),
                "pid": 41000 + port if there else None,
                "in_flight_tokens": int(15000 * wave) if up else 0,
                **rates(name, wave, up=up),
                "last_error": sample["last_error"],
                "drained_by": "operator" if at.state == "drained" else None,
                "proof": {
                    "answered": now - 1 if up else None,
                    "probed": at.since + 0.2 if there else None,
                    "probe_ms": 9.0 if there else None,
                    "wrong": 0,
                },
                "sample": sample,
            }
        )
    task = "embed" if model == EMBEDDING else "score"
    return {"name": model, "task": task, "via": None, "aliases": [], "replicas": found}


def _gpus_json(states: Mapping[str, Now], wave: float) -> list[dict[str, Any]]:
    found = []
    for index in (0, 1):
        names = [name for name, _, gpu, _ in REPLICAS if gpu == index]
        up = [name for name in names if states[name].state == "up"]
        busy = min(99, int((38 + 22 * wave) * len(up))) if up else 0
        used = 2.0 + (66 if index else 134) * len(up)
        if any(states[name].reason == OUT_OF_MEMORY for name in names):
            used = 141 - LEFT_GIB
        found.append(
            {
                "index": index,
                "uuid": f"GPU-5f0c1d1e-0000-0000-0000-00000000000{index}",
                "name": "NVIDIA H200",
                "memory_used": used * GIB,
                "memory_total": 141 * GIB,
                "utilization": busy,
                "temperature": 36 + busy // 4,
                "power_w": 80.0 + 5.4 * busy,
                "power_limit_w": 700.0,
                "replicas": names,
            }
        )
    return found


def units(story: Story, now: float) -> dict[str, Unit]:
    """The units of a moment."""
    gateway = story.gateway(now)
    found = {TARGET_UNIT: Unit(TARGET_UNIT, "active", "active", since=story.booted)}
    found[GATEWAY_UNIT] = Unit(
        GATEWAY_UNIT, ACTIVE[gateway.state], "running", since=gateway.since, restarts=0
    )
    for name, *_ in REPLICAS:
        at, unit = story.replica(name, now), unit_of(name)
        restarts = story.restarts(name, now)
        active = ACTIVE[at.state]
        found[unit] = Unit(unit, active, "running", text=at.said, since=at.since, restarts=restarts)
    return found
