"""All that is known of one replica, in lines of words and figures. Pure."""

from __future__ import annotations

from er_console.judgement import last_error, lasted
from er_console.language import count, heard, noted, say
from er_console.looks import Line, Looks, clock, figure, fit, size, wrapped
from er_console.panels import gpu_line
from er_console.parts import gpus
from er_console.state import Gpu, Replica, Snapshot

NAMES = 13  # cells of a fact's name
VOUCHED = {"systemd": noted("(says systemd)"), "launcher": noted("(says its launcher)")}
Fact = tuple[str, str]  # its name, and what is known


def replica_lines(
    replica: Replica, snapshot: Snapshot, now: float, looks: Looks, width: int
) -> list[Line]:
    """All that is known of one replica, every word of it."""
    state, role = looks.state(replica.state)
    since = ""
    if replica.since is not None:
        since = " " + say("for {span}", span=lasted(now - replica.since))
    vouch = f"  {say(VOUCHED[replica.source])}" if replica.source in VOUCHED else ""
    lines: list[Line] = [
        [(f"{replica.name}  ", "strong"), (state, role), (since + vouch, "dim")],
        *_rows(_health(replica), looks, width),
        *_rows(_work(replica), looks, width),
    ]
    for gpu in gpus(snapshot, now):
        if replica.name in gpu.replicas:
            lines.append([(fit("GPU", NAMES), "dim"), *gpu_line(gpu, looks, 80, names=False)])
            lines += _rows([("", _of_card(gpu))], looks, width)
    return [*lines, *_rows(_process(replica), looks, width)]


def _rows(facts: list[Fact], looks: Looks, width: int) -> list[Line]:
    lines: list[Line] = []
    for name, said in facts:
        rows = wrapped(looks.words(said), max(20, width - NAMES)) if said else []
        lines += [
            [(fit(name if i == 0 else "", NAMES), "dim"), (row, "")] for i, row in enumerate(rows)
        ]
    return lines


def _health(replica: Replica) -> list[Fact]:
    """Why it is as it is; what would say nothing is empty."""
    last = heard(last_error(replica))
    text = heard(replica.status_text)
    why = heard(replica.reason)
    return [
        (say("why"), why),
        (say("status"), "" if text == why else text),
        (say("last error"), "" if last and last in why else last),
        (say("drained by"), heard(replica.drained_by)),
        (say("model"), replica.model),
    ]


def _work(replica: Replica) -> list[Fact]:
    """Its queue, its rates, its latency."""
    sample = replica.sample
    queue = say(
        "{running} running, {waiting} waiting in the engine; {tokens} tokens in flight",
        running=figure(sample.running if sample else None),
        waiting=figure(sample.waiting if sample else None),
        tokens=figure(replica.tokens),
    )
    rates = say(
        "{tokens} tokens/s, {sequences} sequences/s, {calls} calls/s",
        tokens=figure(replica.tokens_per_s),
        sequences=figure(replica.sequences_per_s),
        calls=figure(replica.calls_per_s),
    )
    spent = say(
        "p50 {p50} ms, p95 {p95} ms in the engine, last minute",
        p50=figure(replica.p50_ms),
        p95=figure(replica.p95_ms),
    )
    if sample is None or (sample.running is None and sample.waiting is None):
        queue = say(
            "unknown in the engine; {tokens} tokens in flight", tokens=figure(replica.tokens)
        )
    if replica.tokens_per_s is None:
        rates = say("unknown")
    if replica.p95_ms is None:
        spent = say("unknown")
    return [(say("queue"), queue), (say("work"), rates), (say("latency"), spent)]


def _of_card(gpu: Gpu) -> str:
    """What a card's row leaves out; the driver alone tells most of it."""
    limit = say("power limit {watts} W", watts=figure(gpu.power_limit_w))
    errors = say("memory errors unknown")
    if gpu.ecc_errors is not None:
        errors = count(gpu.ecc_errors, "{n} memory error", "{n} memory errors")
    throttle = say("throttling unknown") if gpu.throttle is None else say("not throttled")
    if gpu.throttle:
        throttle = say("throttled: {why}", why=heard(gpu.throttle))
    said = [limit, throttle, errors]
    if gpu.others:
        said.append(say("others on it: {who}", who=", ".join(gpu.others)))
    return say(", ").join(said)


def _process(replica: Replica) -> list[Fact]:
    """Where and since when it runs."""
    sample = replica.sample
    unit = f"{replica.unit} {replica.unit_state}".strip() or say("none (no systemd)")
    restarts = say("restarts unknown")
    if replica.restarts is not None:
        restarts = count(replica.restarts, "{n} restart", "{n} restarts")
    pid = f"pid {replica.pid}" if replica.pid else ""
    facts: list[Fact] = [
        (say("unit"), say(", ").join(said for said in (unit, restarts, pid) if said)),
        (say("address"), replica.address),
    ]
    if sample is None:
        return facts
    phase, since = heard(sample.phase), clock(sample.phase_since)
    said = say("{phase} since {time}", phase=phase, time=since)
    if sample.attempt:
        said = say("{phase} since {time}, try {n}", phase=phase, time=since, n=sample.attempt)
    engine = say(
        "vLLM {version}, {size} of memory",
        version=sample.vllm_version or "-",
        size=size(sample.rss_bytes),
    )
    return [*facts, (say("phase"), said), (say("engine"), engine)]
