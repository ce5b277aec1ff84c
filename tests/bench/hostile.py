"""Attacks on a gateway at length: bound on memory and time, and what others get meanwhile.

    python tests/bench/hostile.py [ATTACK…]     # all take about 6 minutes

Writes tests/reports/hostile.json and prints a table. One worker, the stand-in engine, everything on
one machine: latencies are those of two good clients that share its cores with the attack.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).parents[2]
sys.path[:0] = [str(TOP / "tests"), str(TOP / "daemon")]

from running import gateway  # noqa: E402
from siege import besiege  # noqa: E402

REPORT = TOP / "tests/reports/hostile.json"
NEVER_READ_S = 75.0  # longer than the gateway's patience
COUNTS = {
    "connects": 20_000,
    "half_open": 10_000,
    "slow_heads": 500,
    "slow_bodies": 200,
    "held_bodies": 100,
    "head_bombs": 200,
    "body_bombs": 60,
    "compressed": 50,
    "deep_json": 110,
    "never_read": 100,
    "hang_ups": 10_000,
    "guesses": 10_000,
}


def main() -> int:
    wanted = sys.argv[1:] or list(COUNTS)
    report = json.loads(REPORT.read_text()) if REPORT.exists() else {}
    print("| attack | seconds | answered | MiB at most, kept | others' p50, p99 ms | wrong |")
    print("| --- | --- | --- | --- | --- | --- |")
    for attack in wanted:
        # A gateway of its own for each, so that memory is that attack's.
        with tempfile.TemporaryDirectory() as folder, gateway(Path(folder)) as running:
            for number in range(300):
                running.embed(f"warm {number}")
            found = besiege(running, attack, COUNTS[attack], NEVER_READ_S)
        report[attack] = found
        answered = ", ".join(f"{n} {status}" for status, n in found["statuses"].items())
        beside = found["others_beside"]
        print(
            f"| {attack} {COUNTS[attack]:,} | {found['seconds']:.0f} | {answered} "
            f"| {found['peak_mib']}, {found['kept_mib']} "
            f"| {beside['p50_ms']}, {beside['p99_ms']} | {beside['wrong']} |",
            flush=True,
        )
        REPORT.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
