"""Two hosts of ER whose Valkey is watched by Sentinels: its primary dies, or is cut off."""

from __future__ import annotations

from pathlib import Path

import pytest

import fault_rows
from hosts.host import Host, together
from hosts.network import Network
from hosts.traffic import Traffic
from hosts.valkeys import Watched
from launched import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

FAILS_OVER = fault_rows.Fault(
    "the primary of several hosts' Valkey dies or is cut off, Sentinels promote its replica",
    client="200",
    heals="hosts go on with what they know until then, and ask the new primary from then on",
    within_s=60,
)


@pytest.mark.parametrize("cut_off", [False, pytest.param(True, marks=pytest.mark.long)])
def test_sentinels_promote_the_replica(tmp_path: Path, cut_off: bool) -> None:
    """A key made before is good all the time; one made after it holds on both hosts."""
    with Network("gpu1", "gpu2", "state1", "state2", "clients") as network:
        servers, watchers = (
            [network["state1"], network["state2"]],
            list(network.hosts.values())[1:4],
        )
        with Watched(tmp_path / "state", servers, watchers, password="sesame") as watched:
            hosts = [
                Host(tmp_path / n, network[n], {"url": watched.url}, password="sesame", ahead_s=a)
                for n, a in (("gpu1", 120), ("gpu2", -120))
            ]
            with together(hosts), Traffic(hosts, network["clients"]) as traffic:
                first = watched.primary()
                if cut_off:
                    network.alone(first.place.name)
                else:
                    first.kill()
                until(lambda: watched.primary() is not first, 40)
                made = until(lambda: hosts[0].made_key(), FAILS_OVER.within_s)
                for host in hosts:
                    until(lambda h=host: h.embed(key=made["secret"]).status == 200, 30, host.end)
                if cut_off:
                    network.heal()
                    until(lambda: first.facts("replication")["role"] == "slave", 40)
                hosts[1].er("keys", "revoke", made["id"])
                for host in hosts:
                    until(lambda h=host: h.embed(key=made["secret"]).status == 401, 30)
            for seen in traffic.seen:
                FAILS_OVER.saw(seen.status, seen.code)
            assert min(traffic.counted(host)["200"] for host in hosts) > 20
