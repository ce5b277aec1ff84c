"""Three hosts of ER that use each other's replicas, amid dying hosts, split networks, bad links.

Real gateways in networks of their own. What others send to a host's replicas comes over a link that
can be late, cut and dead; the clocks are minutes apart all the time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

import fault_rows
from hosts.host import Host, together
from hosts.network import Network
from hosts.traffic import Traffic
from hosts.valkeys import Valkey
from launched import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

NAMES = ("gpu1", "gpu2", "gpu3")
AHEAD_S = (0, 180, -240)

DIES = fault_rows.Fault(
    "one of several hosts dies under load, killed or without power",
    client="200",
    heals="clients that a balancer sends elsewhere; the others do without its replicas",
    within_s=60,
)
SPLIT = fault_rows.Fault(
    "the network between two of several hosts is split",
    client="200",
    heals="each asks the replicas that it reaches; the other's come back by themselves",
    within_s=60,
)
BETWEEN = fault_rows.Fault(
    "the link to another host's replicas is late, stalls, cuts answers off, lets nothing through",
    client="200",
    heals="what fails or lasts goes to another replica; that one is asked again until it answers",
    within_s=60,
)


class Site(NamedTuple):
    """What the tests of this file share."""

    network: Network
    hosts: list[Host]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Three hosts that know each other."""
    folder = tmp_path_factory.mktemp("site")
    with (
        Network(*NAMES, "state", "clients") as network,
        Valkey(folder / "valkey", network["state"], user="er", password="sesame") as valkey,
    ):
        hosts = [
            Host(folder / n, network[n], {"url": valkey.url}, password="sesame", ahead_s=ahead)
            for n, ahead in zip(NAMES, AHEAD_S, strict=True)
        ]
        with together(hosts):
            made = Site(network, hosts)
            all_up(made, 150)  # each is taken up by new workers of the two others
            yield made


def all_up(site: Site, within_s: float) -> None:
    """Within the time each host has all replicas up, its own and the others'."""
    for host in site.hosts:
        wanted = {"e0", *(f"e0@{other.name}" for other in site.hosts if other is not host)}
        until(lambda h=host, w=wanted: h.up() == w, within_s, host.end)


def saw(row: fault_rows.Fault, traffic: Traffic) -> None:
    """Every client got what the row says."""
    for seen in traffic.seen:
        row.saw(seen.status, seen.code)


def lender(site: Site, host: Host) -> Host:
    """The other host whose replica answers that host's requests now."""
    before = len(host.audit())

    def found() -> str:
        names = [r["REPLICA"] for r in host.audit()[before:] if "@" in r["REPLICA"]]
        return names[-1].partition("@")[2] if names else ""

    name = until(found, 20, host.end)
    return next(other for other in site.hosts if other.name == name)


@pytest.mark.parametrize("power", [pytest.param(True, marks=pytest.mark.long), False])
def test_a_host_dies_under_load(site: Site, power: bool) -> None:
    """Its own clients are sent elsewhere, the others' requests are answered; it comes back."""
    first = site.hosts[0]
    first.engines[0].kill()  # so that its traffic goes to the one that dies
    dying = first
    try:
        with Traffic(site.hosts, site.network["clients"], elsewhere=True, clients=2) as traffic:
            until(lambda: min(traffic.counted(h)["200"] for h in site.hosts) > 20, 30)
            dying = lender(site, first)
            others = [host for host in site.hosts if host is not dying]
            if not power:
                site.network.alone(dying.name)
            dying.kill()
            began = time.monotonic()
            for host in others:
                until(lambda h=host: f"e0@{dying.name}" not in h.up(), 30, host.end)
            until(lambda: min(traffic.counted(h, began)["200"] for h in others) > 50, 30)
    finally:
        site.network.heal()
        if dying is not first:
            dying.start()
        first.start_engines()
    saw(DIES, traffic)
    all_up(site, DIES.within_s)


@pytest.mark.parametrize(
    "cut_off",
    [
        *(pytest.param(names, marks=pytest.mark.long) for names in (("gpu3",), ("gpu2", "gpu3"))),
        ("gpu2", "gpu3", "state"),
    ],
)
def test_the_network_between_hosts_is_split(site: Site, cut_off: tuple[str, ...]) -> None:
    """The first host from these; each side answers its clients by what it reaches."""
    first = site.hosts[0]
    with Traffic(site.hosts, site.network["clients"], clients=2) as traffic:
        site.network.split(first.name, *cut_off)
        began = time.monotonic()
        lost = {f"e0@{name}" for name in cut_off if name != "state"}
        until(lambda: not first.up() & lost, 40, first.end)
        until(lambda: min(traffic.counted(h, began)["200"] for h in site.hosts) > 50, 30)
        site.network.heal()
        all_up(site, SPLIT.within_s)
    saw(SPLIT, traffic)


@pytest.mark.parametrize(
    "state",
    [
        *("cut", "dead"),
        *(pytest.param(s, marks=pytest.mark.long) for s in ("late", "stalls", "slow", "reset")),
    ],
)
def test_the_link_to_another_host_is_no_good(site: Site, state: str) -> None:
    """Where the replicas of the first host are dead, so that it needs the link."""
    first = site.hosts[0]
    first.engines[0].kill()
    link = site.hosts[1].link
    try:
        with Traffic([first], site.network["clients"], clients=2) as traffic:
            link = lender(site, first).link
            link.suffers(state)
            began = time.monotonic()
            until(lambda: traffic.counted(since=began)["200"] > 100, 60, traffic.counted)
            link.state, link.delay_s, link.lost = "good", 0.0, 0.0
    finally:
        link.state, link.delay_s, link.lost = "good", 0.0, 0.0
        first.start_engines()
    saw(BETWEEN, traffic)
    all_up(site, BETWEEN.within_s)
