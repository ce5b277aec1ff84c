"""What /health and /readyz say: the ledger's verdicts put together, per model and in all.

/readyz is what a balancer asks, so it says besides whether this host wants requests (er.leaving).
"""

from __future__ import annotations

import time
from typing import Any

import orjson

from er import leaving
from er.config import Model, directory
from er.gateway.exchange import Response
from er.gateway.served import Served
from er.ledger import UP, VERDICT_AGE_S, Ledger

STATUS = {"ok": 200, "degraded": 200, "down": 503}
SOON = (b"retry-after", b"5")


def page(path: str, served: Served, ledger: Ledger) -> Response:
    """The answer to GET /livez, /readyz or /health."""
    now, now_ns = time.time(), time.monotonic_ns()
    if path == "/livez":
        return Response(200, b'{"status":"ok"}')
    if path == "/readyz":
        away = leaving.reason(directory("runtime"))
        if away:
            said = orjson.dumps({"status": "leaving", "reason": away})
            return Response(503, said, headers=[SOON])
        if ready(served, ledger, now, now_ns):
            return Response(200, b'{"status":"ok"}')
        return Response(503, b'{"status":"down"}', headers=[SOON])
    found = report(served, ledger, now, now_ns)
    if served.config.state is not None:
        found = _with_state(found, now)
    status = STATUS[found["status"]]
    return Response(status, orjson.dumps(found), headers=[SOON] if status == 503 else None)


def report(served: Served, ledger: Ledger, now: float, now_ns: int) -> dict[str, Any]:
    """The body of /health. `now` in Unix seconds, `now_ns` monotonic.

    "ok": every configured replica answers; "degraded": some model answers, but something is out or
    still loading; "down": no model answers.
    """
    models = [_model(served, m, ledger, now, now_ns) for m in served.config.models]
    answering = [m for m in models if m["answers"]]
    whole = all(m["answers"] and all(map(_well, m["replicas"])) for m in models)
    status = "ok" if whole else "degraded" if answering else "down"
    return {"status": status, "models": models}


def _with_state(found: dict[str, Any], now: float) -> dict[str, Any]:
    """The same with what hosts share: without that a gateway is degraded, and goes on."""
    from er.shared_state import verdict  # with [state] alone

    state = verdict.public(directory("runtime"), now)
    degraded = found["status"] == "ok" and state["state"] == "away"
    return {**found, "status": "degraded" if degraded else found["status"], "state": state}


def _well(replica: dict[str, Any]) -> bool:
    """Whether it answers; one of another host is that host's business."""
    return replica["state"] == "up" or "@" in replica["name"]


def ready(served: Served, ledger: Ledger, now: float, now_ns: int) -> bool:
    """Whether at least one model answers."""
    return bool(report(served, ledger, now, now_ns)["status"] != "down")


def _model(served: Served, model: Model, ledger: Ledger, now: float, now_ns: int) -> dict[str, Any]:
    replicas = [
        _replica(r.name, ledger, now, now_ns) for r in served.config.replicas_of(model.name)
    ]
    why = served.missing.get(model.via or model.name, "")
    if not replicas:
        why = "no [[replica]] in er.toml serves it"
    found: dict[str, Any] = {
        "name": model.name,
        "task": model.task,
        # A verdict that is only old is no reason to call a model dead: it may have been idle.
        "answers": not why and any(r["state"] == "up" or r["was_up"] for r in replicas),
        "replicas": [{k: v for k, v in r.items() if k != "was_up"} for r in replicas],
    }
    if why:
        found["reason"] = why
    return found


def _replica(name: str, ledger: Ledger, now: float, now_ns: int) -> dict[str, Any]:
    seen = ledger.verdict(name)
    state, reason = str(seen.state), seen.reason
    if state == "up" and ledger.rank(name, now, now_ns) != UP:
        state, reason = "unknown", f"last seen {max(0, now - seen.checked):.0f} s ago"
    elif state == "unknown":
        # No prober has looked, but a request was answered just now: that is proof enough.
        answered = seen.answered and now_ns - seen.answered < VERDICT_AGE_S * 1e9
        state, reason = ("up", "") if answered else (state, reason or "not looked at yet")
    found: dict[str, Any] = {"name": name, "state": state, "was_up": "up" in (state, seen.state)}
    if state != "up":
        found["reason"] = reason
    if seen.since:
        found["since"] = round(seen.since, 3)
    return found
