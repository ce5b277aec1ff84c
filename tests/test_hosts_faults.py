"""Three hosts of ER on one Valkey amid faults: traffic goes on everywhere, and all mends itself.

Real gateways, a real server and real clients in networks of their own, with clocks that are minutes
apart all the time. Sentinels and what is between two hosts: tests/test_hosts_failover.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

import fault_rows
from faulty_link import FaultyLink
from hosts.host import Host, together
from hosts.network import Network
from hosts.traffic import Traffic
from hosts.valkeys import Valkey
from launched import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

NAMES = ("gpu1", "gpu2", "gpu3")
AHEAD_S = (0, 180, -240)  # of the hosts' clocks
GOES_ON = "traffic goes on with the last known keys"
AGAIN = "the shared state answers again"

AWAY = fault_rows.Fault(
    "several hosts' Valkey is away: killed, stands still, cut off, refuses the password, is full",
    client="200",
    heals="each host goes on with the last known keys; what changes later is taken up again",
    within_s=30,
)
EMPTY = fault_rows.Fault(
    "several hosts' Valkey comes back without its data",
    client="200",
    heals="hosts put the keys back that they know, revoked ones as revoked",
    within_s=30,
)
PARTED = fault_rows.Fault(
    "a host is cut off from Valkey, the others are not",
    client="200",
    heals="it goes on with the last known keys and takes up the changes when it reaches it again",
    within_s=30,
)

LINK = fault_rows.Fault(
    "the link between a host and Valkey is late, stalls, cuts, resets, lets nothing through",
    client="200",
    heals="late is no fault; else it goes on with the last known keys until it comes through",
    within_s=30,
)
SHARE = fault_rows.Fault(
    "several hosts' Valkey is away, and a key asks for more than its limit",
    client=("200", "429 rate_limit_exceeded"),
    heals="each host allows its share of the limit; when it answers all that was used counts",
    within_s=30,
)
CLOCKS = fault_rows.Fault(
    "the clocks of several hosts are minutes apart, and one jumps by an hour",
    client=("200", "429 rate_limit_exceeded"),
    heals="nothing needs to: keys, limits and who is there do not run by the hosts' clocks",
    within_s=30,
)


class Site(NamedTuple):
    """What the tests of this file share. The last host reaches Valkey by `link`."""

    network: Network
    valkey: Valkey
    hosts: list[Host]
    link: FaultyLink


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Three hosts with one key for all of them, made by the first that started."""
    folder = tmp_path_factory.mktemp("site")
    with (
        Network(*NAMES, "state", "clients") as network,
        Valkey(folder / "valkey", network["state"], user="er", password="sesame") as valkey,
    ):
        with network[NAMES[-1]].entered():
            link = FaultyLink((valkey.place.address, valkey.port))
        urls = (valkey.url, valkey.url, f"valkey://er@127.0.0.1:{link.port}/0")
        hosts = [
            Host(folder / name, network[name], {"url": url}, password="sesame", ahead_s=ahead)
            for name, url, ahead in zip(NAMES, urls, AHEAD_S, strict=True)
        ]
        with link, together(hosts):
            yield Site(network, valkey, hosts, link)


def saw(row: fault_rows.Fault, traffic: Traffic, hosts: list[Host]) -> None:
    """Every client got what the row says, and each host answered some."""
    for seen in traffic.seen:
        row.saw(seen.status, seen.code)
    for host in hosts:
        assert traffic.counted(host).total() > 5, traffic.counted(host)


def well(site: Site, row: fault_rows.Fault) -> None:
    """Within the row's time a key made on one host is good on all, and /health says nothing."""
    made = until(site.hosts[0].made_key, row.within_s)
    for host in site.hosts:
        until(lambda h=host: h.embed(key=made["secret"]).status == 200, row.within_s, host.end)
        until(lambda h=host: h.health()["state"]["state"] == "ok", row.within_s)
    site.hosts[1].er("keys", "revoke", made["id"])
    for host in site.hosts:
        until(lambda h=host: h.embed(key=made["secret"]).status == 401, row.within_s)


Fault = Callable[[Site], Callable[[], None]]  # does it; what it gives cures it


def killed(site: Site) -> Callable[[], None]:
    site.valkey.kill()
    return site.valkey.start


def stands_still(site: Site) -> Callable[[], None]:
    site.valkey.pause()
    return site.valkey.resume


def cut_off(site: Site) -> Callable[[], None]:
    site.network.alone("state")
    return site.network.heal


def wrong_password(site: Site) -> Callable[[], None]:
    site.valkey.change_password("another")

    def cure() -> None:
        for host in site.hosts:
            host.set_password("another")

    return cure


def full(site: Site) -> Callable[[], None]:
    site.valkey.fill()
    return site.valkey.empty


def _says(health: dict[str, Any], cause: str) -> bool:
    """Whether it is degraded by what hosts share, for that cause."""
    return health["status"] == "degraded" and cause in health["state"]["reason"]


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (killed, "unreachable"),
        pytest.param(stands_still, "late", marks=pytest.mark.long),
        (cut_off, "late"),
        (wrong_password, "refused"),
        (full, "full"),
    ],
)
def test_valkey_is_away(
    site: Site, fault: Callable[[Site], Callable[[], None]], cause: str
) -> None:
    """Nobody is refused for it; each host's journal and /health say so, and say when it is over."""
    said = [host.says(GOES_ON) for host in site.hosts]
    over = [host.says(AGAIN) for host in site.hosts]
    with Traffic(site.hosts, site.network["clients"]) as traffic:
        cure = fault(site)
        try:
            for host, now in zip(site.hosts, said, strict=True):
                until(now, 20, host.end)
                until(lambda h=host: _says(h.health(), cause), 20, host.end)  # type: ignore[misc]
                assert host.ask("GET", "/readyz", key=None).status == 200
            time.sleep(1)
            assert "sesame" not in "".join(host.text() for host in site.hosts)
        finally:
            cure()
        for host, now in zip(site.hosts, over, strict=True):
            until(now, AWAY.within_s, host.end)
        well(site, AWAY)
    saw(AWAY, traffic, site.hosts)


def test_valkey_has_lost_all(site: Site) -> None:
    gone = site.hosts[0].er("keys", "create", "--name", "gone")
    for host in site.hosts:
        until(lambda h=host: h.embed(key=gone["secret"]).status == 200)
    site.hosts[1].er("keys", "revoke", gone["id"])
    for host in site.hosts:
        until(lambda h=host: h.embed(key=gone["secret"]).status == 401)
    with Traffic(site.hosts, site.network["clients"]) as traffic:
        site.valkey.kill()
        site.valkey.forget()
        site.valkey.start()
        well(site, EMPTY)
        for host in site.hosts:
            assert host.embed(key=gone["secret"]).status == 401
    saw(EMPTY, traffic, site.hosts)


def test_a_host_is_cut_off_from_valkey(site: Site) -> None:
    """It goes on with what it knew: a key revoked meanwhile is good there, until it hears of it."""
    lone, other = site.hosts[0], site.hosts[1]
    made = other.er("keys", "create", "--name", "parted")
    for host in site.hosts:
        until(lambda h=host: h.embed(key=made["secret"]).status == 200)
    with Traffic(site.hosts, site.network["clients"]) as traffic:
        said = lone.says(GOES_ON)
        site.network.split("gpu1", "state")
        until(said, 20, lone.end)
        other.er("keys", "revoke", made["id"])
        until(lambda: site.hosts[2].embed(key=made["secret"]).status == 401)
        assert lone.embed(key=made["secret"]).status == 200
        assert other.health()["state"]["state"] == "ok"
        site.network.heal()
        until(lambda: lone.embed(key=made["secret"]).status == 401, PARTED.within_s)
        well(site, PARTED)
    saw(PARTED, traffic, site.hosts)


@pytest.mark.parametrize(
    "state",
    [
        *("late", "dead"),
        *(pytest.param(s, marks=pytest.mark.long) for s in ("stalls", "slow", "cut", "reset")),
    ],
)
def test_the_link_to_valkey_is_no_good(site: Site, state: str) -> None:
    """100 ms there and back, lost packets and a slow line are no fault: changes come through."""
    far, link = site.hosts[-1], site.link
    said, over = far.says(GOES_ON), far.says(AGAIN)
    with Traffic(site.hosts, site.network["clients"]) as traffic:
        try:
            link.suffers(state)
            if state in ("late", "stalls", "slow"):
                well(site, LINK)
            else:
                until(said, 20, far.end)
                assert site.hosts[0].health()["state"]["state"] == "ok"
                time.sleep(1)
        finally:
            link.state, link.delay_s, link.lost = "good", 0.0, 0.0
        if state not in ("late", "stalls", "slow"):
            until(over, LINK.within_s, far.end)
            well(site, LINK)
    saw(LINK, traffic, site.hosts)


def burst(site: Site, row: fault_rows.Fault, key: str, each: int) -> list[int]:
    """How many of `each` requests with that key every host answers, at once one after the other."""
    answered = []
    for host in site.hosts:
        replies = [host.embed(f"text {number}", key=key) for number in range(each)]
        for reply in replies:
            row.saw(reply.status, reply.code)
        answered.append(sum(reply.status == 200 for reply in replies))
    return answered


def limited(site: Site, rate: str) -> str:
    """A new key with that limit, which all hosts know; its secret."""
    made = site.hosts[0].er(
        *f"keys create --name l{time.monotonic_ns()} --rate-limit {rate}".split()
    )
    for host in site.hosts:
        until(lambda h=host: made["id"] in {k["id"] for k in h.er("keys", "list")["keys"]}, 10)
    return str(made["secret"])


def test_a_share_of_the_limit_without_valkey(site: Site) -> None:
    """Nobody gets nothing, and all together no more than the limit, also when it is back."""
    secret = limited(site, "60/hour")
    for host in site.hosts:  # whose share is that of the members it has heard of
        until(lambda m=host.runtime / "members": m.read_text() == "3\n", 30, host.end)
    said, over = [h.says(GOES_ON) for h in site.hosts], [h.says(AGAIN) for h in site.hosts]
    site.valkey.kill()
    try:
        for now in said:
            until(now, 20)
        alone = burst(site, SHARE, secret, 30)
        assert alone == [20, 20, 20], [host.end() for host in site.hosts]
    finally:
        site.valkey.start()
    for now in over:
        until(now, SHARE.within_s)
    until(lambda: sum(burst(site, SHARE, secret, 1)) == 0, SHARE.within_s)


def test_clocks_that_are_apart(site: Site) -> None:
    """One limit over hosts whose clocks are minutes apart, and one of these jumps meanwhile."""
    secret = limited(site, "60/hour")
    first, before = site.hosts[0], [host.text().count(GOES_ON) for host in site.hosts]
    assert sum(burst(site, CLOCKS, secret, 10)) == 30
    first.clock.set(3600)
    try:
        assert 59 <= 30 + sum(burst(site, CLOCKS, secret, 15)) <= 61
        assert sum(burst(site, CLOCKS, secret, 2)) <= 1
        well(site, CLOCKS)
    finally:
        first.clock.set(AHEAD_S[0])
    assert [host.text().count(GOES_ON) for host in site.hosts] == before
