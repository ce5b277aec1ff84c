"""What each alert must fire for, and what is so near to it that it must not.

Values are promtool's: "0+6x30" begins at 0 and grows by 6 a minute, 30 times; "_" is no sample.
A case's series begin at minute 0; `at` is when it is looked at, besides before the rule's `for` can
be over. `said` is how $value reads then.
"""

from __future__ import annotations

from typing import NamedTuple

Series = dict[str, str]
REPLICA = 'instance="er:1",job="er",replica="e1",model="m"'
E1, E2 = f"{{{REPLICA}}}", '{instance="er:1",job="er",replica="e2",model="m"}'
GPU = '{instance="er:1",job="er",gpu="0",uuid="GPU-1",replica="e1"'
DAY = 1440  # minutes


class Case(NamedTuple):
    """One alert, once with what fires it and with each of `calm` instead, none of which may."""

    alert: str
    at: str
    fires: Series
    labels: dict[str, str]  # of what fires, beside alertname and severity
    calm: tuple[Series, ...]
    said: str = ""


def _of(text: str) -> dict[str, str]:
    """Labels out of "a=b c=d"; each alert of one gateway has its instance."""
    return {"instance": "er:1", **dict(part.split("=") for part in text.split())}


def _requests(good: str, bad: str, status: str = "503") -> Series:
    name = 'er_requests_total{instance="er:1",model="m",dialect="openai",status='
    return {f'{name}"200"}}': good, f'{name}"{status}"}}': bad}


def _refused(code: str, values: str) -> Series:
    return {f'er_refusals_total{{instance="er:1",job="er",code="{code}"}}': values}


def _spent(part: str, within: float, values: str = "0+60x60") -> Series:
    """Requests that all took between that bucket's bound and the one below it."""
    bounds = (0.5, 1, 2.5, 5, 10, 30)
    head = f'er_request_seconds_bucket{{instance="er:1",model="m",part="{part}",le='
    found = {f'{head}"{b:g}"}}': values if b >= within else "0x60" for b in bounds}
    return found | {f'{head}"+Inf"}}': values}


def _key(outcome: str, values: str) -> Series:
    return {
        f'er_key_requests_total{{instance="er:1",key="k1",outcome="{outcome}"}}': values,
    }


UP = {'up{instance="er:1",job="er"}': "1x3000"}
IN_PROGRESS = 'er_batches{instance="er:1",status="in_progress"}'
LINES = 'er_batch_lines_total{instance="er:1",outcome="ok"}'
DISK = 'instance="er:1",job="er",place="state",path="/var/lib/er"}'
MODELS = 'instance="er:1",job="er",place="models",path="/models"}'
QUEUE = 'er_queue_sequences{instance="er:1",model="m",lane="interactive"}'
BATCHES = 'er_batch_sequences_count{instance="er:1",job="er",replica="e1"}'
MRR = 'er_feedback_mrr{instance="er:1",job="er",model="m"}'
FIRST = "_x100 1x20"  # a counter that comes into being with its first event
ENDED = 'er_batches_ended_total{instance="er:1",job="er",status='

CASES = (
    Case(
        "ErGatewayUnreachable",
        "4m",
        {'up{instance="er:1",job="er"}': "1 0x9"},
        _of("job=er"),
        (UP, {'up{instance="er:1",job="er"}': "1 1 0 0 1 1"}),
    ),
    Case(
        "ErNoWorkers",
        "3m",
        {'er_workers{instance="er:1"}': "0x9"},
        _of(""),
        (UP | {'er_workers{instance="er:1"}': "1x9"},),
    ),
    Case(
        "ErModelDown",
        "4m",
        {f"er_replica_up{E1}": "1 0x9", f"er_replica_up{E2}": "0x9"},
        _of("model=m"),
        (
            {f"er_replica_up{E1}": "0x9", f"er_replica_up{E2}": "1x9"},
            {f"er_replica_up{E1}": "1 0 0 1 1"},
        ),
    ),
    Case(
        "ErReplicaDown",
        "8m",
        {f"er_replica_up{E1}": "1 0x9", f"er_replica_up{E2}": "1x9"},
        _of("job=er replica=e1 model=m"),
        (
            {f"er_replica_up{E1}": "0x9", f"er_replica_up{E2}": "0x9"},  # ErModelDown's
            {
                f"er_replica_up{E1}": "0x9",
                f"er_replica_up{E2}": "1x9",
                f'er_replica_state{{{REPLICA},state="drained"}}': "1x9",
            },
        ),
    ),
    Case(
        "ErReplicaDrained",
        "135m",
        {f'er_replica_state{{{REPLICA},state="drained"}}': "1x140"},
        _of("job=er replica=e1 model=m state=drained"),
        (
            {f'er_replica_state{{{REPLICA},state="drained"}}': "1x60 0x80"},
            {f'er_replica_state{{{REPLICA},state="up"}}': "1x140"},
        ),
    ),
    Case(
        "ErReplicaCannotStart",
        "5m",
        {
            'er_replica_attempt{instance="er:1",replica="e1"}': "3x9",
            f"er_replica_up{E1}": "0x9",
        },
        _of("replica=e1"),
        (
            {
                'er_replica_attempt{instance="er:1",replica="e1"}': "3x9",
                f"er_replica_up{E1}": "1x9",  # the third was the good one
            },
            {
                'er_replica_attempt{instance="er:1",replica="e1"}': "2x9",
                f"er_replica_up{E1}": "0x9",
            },
        ),
        "3",
    ),
    Case(
        "ErUnitRestarts",
        "30m",
        {'er_unit_restarts_total{instance="er:1",unit="er-gateway.service"}': "0x5 1x5 2x5 4x14"},
        _of("unit=er-gateway.service"),
        ({'er_unit_restarts_total{instance="er:1",unit="er-gateway.service"}': "7x10 8x20"},),
        "4",
    ),
    Case(
        "ErErrors",
        "15m",
        _requests("0+54x20", "0+6x20"),
        _of("model=m"),
        (
            _requests("0+96x20", "0+4x20"),
            _requests("0+1x20", "0+1x20"),  # one of two, but of two a minute
            _requests("0+50x20", "0+50x20", "429"),
        ),
        "10%",
    ),
    Case(
        "ErErrorsForAnHour",
        "90m",
        _requests("0+98x90", "0+2x90"),
        _of("model=m"),
        (_requests("0+992x90", "0+8x90"), _requests("0+1x90", "0+1x90")),
        "2%",
    ),
    Case(
        "ErInternalErrors",
        "105m",
        UP | _refused("internal_error", FIRST),
        _of("job=er code=internal_error"),
        (
            UP | _refused("internal_error", "5x120"),
            UP | _refused("overloaded", FIRST),
            {'up{instance="er:1",job="er"}': "_x100 1x20"} | _refused("internal_error", FIRST),
        ),
    ),
    Case(
        "ErOverloaded",
        "15m",
        _refused("overloaded", "0+60x20"),
        _of(""),
        (_refused("overloaded", "7x20"), _refused("rate_limit_exceeded", "0+60x20")),
        "1",
    ),
    Case(
        "ErNearlyFull",
        "6m",
        {'er_in_flight{instance="er:1"}': "450x9", 'er_in_flight_limit{instance="er:1"}': "500x9"},
        _of(""),
        (
            {
                'er_in_flight{instance="er:1"}': "390x9",
                'er_in_flight_limit{instance="er:1"}': "500x9",
            },
        ),
        "90%",
    ),
    Case(
        "ErQueueStuck",
        "14m",
        {QUEUE: "7x20", BATCHES: "0+5x5 25x15", f"er_replica_up{E1}": "1x20"},
        _of("model=m"),
        (
            {QUEUE: "7x20", BATCHES: "0+5x20", f"er_replica_up{E1}": "1x20"},
            {QUEUE: "0x20", BATCHES: "25x20", f"er_replica_up{E1}": "1x20"},
        ),
        "7",
    ),
    Case(
        "ErQueueing",
        "20m",
        _spent("queue", 2.5),
        _of("model=m part=queue"),
        (_spent("queue", 1), _spent("engine", 2.5)),
        "2.425s",
    ),
    Case(
        "ErSlow",
        "25m",
        _spent("total", 30),
        _of("model=m part=total"),
        (_spent("total", 10), _spent("queue", 30, "0x60")),
        "29.8s",
    ),
    Case(
        "ErKeyRefused",
        "35m",
        _key("ok", "0+20x40") | _key("refused", "0+60x40"),
        _of("key=k1"),
        (
            _key("ok", "0+60x40") | _key("refused", "0+20x40"),
            _key("ok", "0x40") | _key("refused", "0+5x40"),
        ),
        "75%",
    ),
    Case(
        "ErWrongKeys",
        "20m",
        _refused("invalid_api_key", "0+120x20"),
        _of(""),
        (_refused("invalid_api_key", "0+45x20"),),
        "2",
    ),
    Case(
        "ErUpstreamErrors",
        "20m",
        {
            'er_upstream_errors_total{instance="er:1",replica="e1",kind="broken"}': "0+10x20",
            BATCHES: "0+100x20",
        },
        _of("replica=e1"),
        (
            {
                'er_upstream_errors_total{instance="er:1",replica="e1",kind="broken"}': "0+4x20",
                BATCHES: "0+100x20",
            },
        ),
        "10%",
    ),
    Case(
        "ErWrongAnswers",
        "105m",
        UP
        | {'er_upstream_errors_total{instance="er:1",job="er",replica="e1",kind="wrong"}': FIRST},
        _of("job=er replica=e1 kind=wrong"),
        (
            UP
            | {
                'er_upstream_errors_total{instance="er:1",job="er",replica="e1",kind="busy"}': FIRST
            },
        ),
    ),
    Case(
        "ErBatchFailed",
        "105m",
        UP | {f'{ENDED}"failed"}}': FIRST},
        _of("job=er status=failed"),
        (UP | {f'{ENDED}"completed"}}': FIRST}, UP | {f'{ENDED}"failed"}}': "3x120"}),
    ),
    Case(
        "ErBatchesStuck",
        "105m",
        {IN_PROGRESS: "2x120", LINES: "0+9x20 180x100"},
        _of(""),
        ({IN_PROGRESS: "2x120", LINES: "0+9x120"}, {IN_PROGRESS: "0x120", LINES: "180x120"}),
        "2",
    ),
    Case(
        "ErQualityWrong",
        "3m",
        {f'er_quality_state{{{REPLICA},state="drifted"}}': "1x9"},
        _of("job=er replica=e1 model=m state=drifted"),
        (
            {f'er_quality_state{{{REPLICA},state="drifted"}}': "0x9"},
            {f'er_quality_state{{{REPLICA},state="good"}}': "1x9"},
        ),
    ),
    Case(
        "ErQualityFell",
        "60m",
        {f'er_quality_ndcg{{{REPLICA},language="zh"}}': "0.9x20 0.8x60"},
        _of("job=er replica=e1 model=m language=zh"),
        ({f'er_quality_ndcg{{{REPLICA},language="zh"}}': "0.9x20 0.87x60"},),
        "0.800",
    ),
    Case(
        "ErQualityUnknown",
        "1500m",
        {f'er_quality_state{{{REPLICA},state="never"}}': f"1x{DAY + 100}"},
        _of("job=er replica=e1 model=m state=never"),
        (
            {f'er_quality_state{{{REPLICA},state="never"}}': "1x700 0x900"},
            {f'er_quality_state{{{REPLICA},state="off"}}': f"1x{DAY + 100}"},
        ),
    ),
    Case(
        "ErFeedbackFell",
        "1500m",
        {MRR: f"{'NaN ' * 120}0.8x1260 0.4x200"},
        _of("job=er model=m"),
        ({MRR: "0.8x1380 0.7x200"}, {MRR: f"0.8x1380{' NaN' * 200}"}),
        "0.400",
    ),
    # Time begins at 0 in these: what ends at second N ends N seconds after.
    Case(
        "ErCertificateEndsSoon",
        "1m",
        {'er_certificate_end_seconds{instance="er:1",listener="https"}': "432060x9"},
        _of("listener=https"),
        (
            {'er_certificate_end_seconds{instance="er:1",listener="https"}': "1296000x9"},
            {'er_certificate_end_seconds{instance="er:1",listener="https"}': "86400x9"},
        ),
        "5d 0h 0m 0s",
    ),
    Case(
        "ErCertificateEnds",
        "1m",
        {'er_certificate_end_seconds{instance="er:1",listener="https"}': "86460x9"},
        _of("listener=https"),
        ({'er_certificate_end_seconds{instance="er:1",listener="https"}': "432000x9"},),
        "1d 0h 0m 0s",
    ),
    Case(
        "ErKeyEndsSoon",
        "1m",
        {'er_key_expiry_seconds{instance="er:1",key="k1"}': "432060x9"},
        _of("key=k1"),
        (
            {'er_key_expiry_seconds{instance="er:1",key="k1"}': "864000x9"},
            {'er_key_expiry_seconds{instance="er:1",key="k1"}': "30x9"},  # it has ended
        ),
        "5d 0h 0m 0s",
    ),
    Case(
        "ErDiskFilling",
        "405m",
        {
            f"er_disk_free_bytes{{{DISK}": "16000000000-20000000x410",
            f"er_disk_size_bytes{{{DISK}": "100000000000x410",
        },
        _of("job=er place=state path=/var/lib/er"),
        (
            {
                f"er_disk_free_bytes{{{DISK}": "90000000000x410",
                f"er_disk_size_bytes{{{DISK}": "100000000000x410",
            },
            # By tomorrow it would be full at this rate, but half is free.
            {
                f"er_disk_free_bytes{{{DISK}": "80000000000-80000000x410",
                f"er_disk_size_bytes{{{DISK}": "100000000000x410",
            },
            # Nothing of ER's grows where the models lie.
            {
                f"er_disk_free_bytes{{{MODELS}": "1000000000x410",
                f"er_disk_size_bytes{{{MODELS}": "100000000000x410",
            },
        ),
    ),
    Case(
        "ErDiskFull",
        "3m",
        {f"er_disk_free_bytes{{{DISK}": "104857600x9"},
        _of("job=er place=state path=/var/lib/er"),
        ({f"er_disk_free_bytes{{{DISK}": "300000000x9"}, {f"er_disk_free_bytes{{{MODELS}": "0x9"}),
        "100Mi",
    ),
    Case(
        "ErMemoryLow",
        "12m",
        {
            'er_machine_memory_used_bytes{instance="er:1",job="er"}': "98x20",
            'er_machine_memory_total_bytes{instance="er:1",job="er"}': "100x20",
        },
        _of("job=er"),
        (
            {
                'er_machine_memory_used_bytes{instance="er:1",job="er"}': "90x20",
                'er_machine_memory_total_bytes{instance="er:1",job="er"}': "100x20",
            },
        ),
        "98%",
    ),
    Case(
        "ErOomKill",
        "8m",
        {'er_unit_oom_kills_total{instance="er:1",unit="er-vllm@e1.service"}': "0x4 1x9"},
        _of("unit=er-vllm@e1.service"),
        ({'er_unit_oom_kills_total{instance="er:1",unit="er-vllm@e1.service"}': "1x9"},),
    ),
    Case(
        "ErCpuBusy",
        "18m",
        {'er_machine_cpu_ratio{instance="er:1"}': "0.99x20"},
        _of(""),
        ({'er_machine_cpu_ratio{instance="er:1"}': "0.99x10 0.6 0.99x10"},),
        "99%",
    ),
    Case(
        "ErGpuThrottled",
        "12m",
        {f'er_gpu_throttled{GPU},reason="hw_thermal"}}': "1x20"},
        _of("job=er gpu=0 uuid=GPU-1 replica=e1 reason=hw_thermal"),
        (
            {f'er_gpu_throttled{GPU},reason="power_cap"}}': "1x20"},  # a busy card's everyday life
            {f'er_gpu_throttled{GPU},reason="hw_thermal"}}': "0x20"},
        ),
    ),
    Case(
        "ErGpuMemoryErrors",
        "8m",
        {f'er_gpu_ecc_errors_total{GPU},kind="uncorrected"}}': "0x4 1x9"},
        _of("job=er gpu=0 uuid=GPU-1 replica=e1 kind=uncorrected"),
        (
            {f'er_gpu_ecc_errors_total{GPU},kind="corrected"}}': "0+1x20"},
            {f'er_gpu_ecc_errors_total{GPU},kind="uncorrected"}}': "4x20"},
        ),
    ),
)
