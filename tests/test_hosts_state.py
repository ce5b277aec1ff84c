"""Clients of a shared state amid faults: each error says its cause in time, and all mends itself.

Both kinds of client are made once and asked all the time, as the admin process does; the servers,
the failover, the partition and the links are real.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

import certificates
from er import shared_state
from er.config import State
from er.shared_state import Away
from faulty_link import FaultyLink
from hosts.network import HERE, Network, Place
from hosts.valkeys import Cluster, Valkey, Watched
from launched import until

pytestmark = pytest.mark.slow

EVERY_S = 0.05
HANGS_S = 10.0  # nobody waits for a second each on Sentinels, connection, AUTH, answer as long


class Answer(NamedTuple):
    """One time of asking."""

    client: str  # "now" or "later"
    began: float  # monotonic
    took_s: float
    cause: str  # "" where all was well
    text: str


class Asking:
    """`with Asking(state) as asking:` writes and reads 20 times a second until the end."""

    def __init__(self, state: State, place: Place = HERE) -> None:
        self.state, self.place = state, place
        self.answers: list[Answer] = []
        self._key = shared_state.key(state.name, "asked")
        self._over = threading.Event()
        works: tuple[Callable[[], None], ...] = (self._now, lambda: asyncio.run(self._later()))
        self._threads = [threading.Thread(target=self._there, args=(one,)) for one in works]

    def __enter__(self) -> Asking:
        for thread in self._threads:
            thread.start()
        self.well()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive(), "a client hangs"
        assert max(one.took_s for one in self.answers) < HANGS_S

    def well(self, within_s: float = 20.0) -> None:
        """Until both are answered right, again and again."""
        self._all(lambda one: not one.cause, 5, within_s)

    def away(self, *causes: str, within_s: float = 20.0) -> str:
        """Until neither is, and only for these causes; what is said then."""
        return self._all(lambda one: one.cause in causes, 2, within_s)

    def _all(self, true: Callable[[Answer], bool], times: int, within_s: float) -> str:
        began = time.monotonic()

        def now() -> bool:
            since = [one for one in self.answers if one.began >= began]
            last = [[one for one in since if one.client == kind] for kind in ("now", "later")]
            return all(len(of) >= times and all(map(true, of[-times:])) for of in last)

        try:
            until(now, within_s)
        except AssertionError:
            raise AssertionError(f"for {within_s} s: {self.answers[-10:]}") from None
        return self.answers[-1].text

    def _there(self, work: Callable[[], None]) -> None:
        with self.place.entered():
            work()

    def _now(self) -> None:
        client = shared_state.connect_now(self.state)
        while not self._over.wait(EVERY_S):
            began = time.monotonic()
            try:
                with shared_state.asked(self.state):
                    client.set(self._key, "now")
                    assert client.get(self._key)
                self._note("now", began)
            except Away as away:
                self._note("now", began, away)
        client.close()

    async def _later(self) -> None:
        client = shared_state.connect(self.state)
        while not self._over.is_set():
            await asyncio.sleep(EVERY_S)
            began = time.monotonic()
            try:
                with shared_state.asked(self.state):
                    await client.set(self._key, "later")
                    assert await client.get(self._key)
                self._note("later", began)
            except Away as away:
                self._note("later", began, away)
        await client.aclose()

    def _note(self, client: str, began: float, away: Away | None = None) -> None:
        cause, text = (away.cause, away.text) if away is not None else ("", "")
        self.answers.append(Answer(client, began, time.monotonic() - began, cause, text))


def of(url: str, folder: Path, password: str = "", ca: Path | None = None) -> State:
    """What [state] says, with the password in a file."""
    file = folder / "password"
    file.write_text(password)
    return State(url=url, password_file=file if password else None, ca=ca)


def test_one_server_restarts_stands_still_and_fills_up(tmp_path: Path) -> None:
    """With TLS and a user whose password is changed on one side first."""
    authority = certificates.Authority()
    with Valkey(tmp_path / "v", user="er", password="first", tls=authority) as valkey:
        state = of(valkey.url, tmp_path, "first", valkey.authority)
        with Asking(state) as asking:
            valkey.kill()
            asking.away("unreachable")
            valkey.start()
            asking.well()
            valkey.pause()
            asking.away("late")
            valkey.resume()
            asking.well()
            valkey.fill()
            assert "maxmemory" in asking.away("full")
            valkey.empty()
            asking.well()
            valkey.change_password("second")
            said = asking.away("refused")
            assert str(state.password_file) in said and "first" not in said
            assert state.password_file is not None
            state.password_file.write_text("second\n")
            asking.well()


def test_sentinels_and_the_network_between(tmp_path: Path) -> None:
    """The primary is cut off from all: the other one is found, and the old one not believed."""
    with Network("one", "two", "three") as network:
        places = list(network.hosts.values())
        with Watched(tmp_path, places[:2], places, password="sesame") as watched:
            state = of(watched.url, tmp_path, "sesame")
            with Asking(state, network["three"]) as asking:
                first = watched.primary()
                network.alone("one")
                asking.away("late", "unreachable", "read_only")
                asking.well(30)
                second = watched.primary()
                assert second is not first
                network.heal()
                asking.well()
                assert second.facts("replication")["role"] == "master"


def test_a_cluster_loses_the_node_and_gets_it_back(tmp_path: Path) -> None:
    with Cluster(tmp_path, password="sesame") as cluster:
        state = of(cluster.url, tmp_path, "sesame")
        with Asking(state) as asking:
            owner = cluster.owner(shared_state.key(state.name, "asked"))
            owner.kill()
            asking.away("unreachable", "broken", "late")
            owner.start()
            asking.well(30)


def test_a_link_that_is_late_stalls_cuts_resets(tmp_path: Path) -> None:
    """100 ms and lost packets are no fault; what is half open, reset or cut is one, and mends."""
    with Valkey(tmp_path / "v", password="sesame") as valkey, FaultyLink(valkey.port) as link:
        state = of(f"valkey://127.0.0.1:{link.port}", tmp_path, "sesame")
        with Asking(state) as asking:
            began = time.monotonic()
            link.delay_s, link.lost, link.again_s = 0.05, 0.3, 0.2
            asking.well()
            slow = [one for one in asking.answers if one.began > began]
            assert not [one for one in slow if one.cause] and max(a.took_s for a in slow) > 0.3
            link.delay_s = link.lost = 0.0
            for state_of_link, causes in (
                ("dead", ("late", "unreachable")),
                ("reset", ("unreachable",)),
                ("cut", ("unreachable", "broken")),
            ):
                link.state = state_of_link
                if state_of_link == "reset":
                    link.reset()
                asking.away(*causes)
                link.state = "good"
                asking.well()
