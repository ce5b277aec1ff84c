"""What `er doctor` says of the way in: containers behind a firewall, plain HTTP in public.

tests/golden/ufw/user.rules was written by ufw 0.36.2 itself, by such commands as
`ufw allow from 172.17.0.0/16 to any port 2048 proto tcp`.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Interface, ip_interface
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from er.cli import doctor_network, network
from er.cli.network import Interface, Rule, Ufw
from er.config import Gateway, Tls

RULES = (Path(__file__).parent / "golden/ufw/user.rules").read_text()
DOCKER = IPv4Interface("172.17.0.1/16")
NET = [
    Interface("lo", (ip_interface("127.0.0.1/8"),)),
    Interface("eth0", (ip_interface("10.0.0.5/24"),)),
    Interface("docker0", (DOCKER,)),
    Interface("br-0123456789ab", (ip_interface("172.18.0.1/16"),)),
]


def told(gateway: Gateway, ufw: Ufw | None = None, net: list[Interface] = NET) -> list[str]:
    found = list(doctor_network.containers(gateway, net, ufw))
    return [f"{line.mark} {line.told} -> {line.cure}" for line in found]


# -- ufw's files ---------------------------------------------------------------------------------


def test_the_rules_are_read_as_ufw_writes_them() -> None:
    """What goes out or passes through is left out; notes and profiles are no part of a rule."""
    everywhere = "0.0.0.0/0"
    found = list(network.rules_in(RULES))
    assert found[:3] == [
        Rule("allow", "tcp", "22", everywhere, everywhere, ""),
        Rule("allow", "tcp", "2048", everywhere, "172.17.0.0/16", ""),
        Rule("allow", "tcp", "2443", everywhere, everywhere, "docker0"),
    ]
    assert [r.action for r in found] == [
        *["allow"] * 3,
        "deny",
        "limit",
        "allow",
        "reject",
        "allow",
    ]
    assert found[5].ports == "80,443" and found[7].ports == "80,443"
    assert (
        list(network.rules_in("### tuple ### allow tcp x 0.0.0.0/0 any y in\n### tuple ### z"))
        == []
    )


def test_the_first_rule_that_fits_decides() -> None:
    rules = tuple(network.rules_in(RULES))
    other = IPv4Interface("172.18.0.1/16")
    for name, address, port, want in (
        ("docker0", DOCKER, 2048, "allow"),
        ("docker0", DOCKER, 2443, "allow"),
        ("docker0", DOCKER, 2444, None),
        ("docker0", DOCKER, 9464, "deny"),
        ("docker0", DOCKER, 8005, "limit"),
        ("br-0123456789ab", other, 443, "allow"),  # a rule before the one that rejects all
        ("br-0123456789ab", other, 2443, "reject"),  # that was for docker0
        ("br-0123456789ab", IPv4Interface("172.16.0.1/12"), 2048, None),  # wider than the rule's
    ):
        assert network.verdict(rules, name, address, port) == want, (name, port)
    assert (
        network.verdict([Rule("allow", "udp", "any", "::/0", "::/0", "")], "d", DOCKER, 1) is None
    )
    there = Rule("allow", "tcp", "any", "10.0.0.9", "0.0.0.0/0", "")
    assert network.verdict([there], "docker0", DOCKER, 2048) is None


def test_a_firewall_is_there_when_its_files_say_that_it_is_on(tmp_path: Path) -> None:
    assert network.ufw(tmp_path) is None
    (tmp_path / "ufw").mkdir()
    (tmp_path / "default").mkdir()
    conf, policy = tmp_path / "ufw/ufw.conf", tmp_path / "default/ufw"
    conf.write_text("# ENABLED=yes\nENABLED=no\n")
    assert network.ufw(tmp_path) is None
    conf.write_text("ENABLED=yes\n")
    assert network.ufw(tmp_path) == Ufw(True, None)  # rules that can't be read
    (tmp_path / "ufw/user.rules").write_text(RULES)
    policy.write_text('DEFAULT_INPUT_POLICY="ACCEPT"\n')
    found = network.ufw(tmp_path)
    assert found is not None and not found.drops and len(found.rules or ()) == 8


# -- containers ----------------------------------------------------------------------------------


def test_containers_that_reach_it_and_none_there() -> None:
    assert told(Gateway(), net=NET[:2]) == []
    assert told(Gateway()) == ["ok those behind docker0 reach 172.17.0.1:2048 -> "]


def test_each_network_that_the_firewall_keeps_out_has_the_line_that_lets_it_in() -> None:
    closed = told(Gateway(), Ufw(True, ()))
    assert len(closed) == 2 and all(line.startswith("! ufw keeps those behind") for line in closed)
    assert "sudo ufw allow from 172.17.0.0/16 to any port 2048 proto tcp" in closed[0]
    rules = tuple(network.rules_in(RULES))
    (half,) = told(Gateway(), Ufw(True, rules))  # what the rules let in is docker0's network
    assert "br-0123456789ab (172.18.0.0/16)" in half
    assert told(Gateway(tls=Tls()), Ufw(True, rules), NET[:3])[0].startswith("ok")
    # The cure, as ufw notes it, is one.
    noted = "### tuple ### allow tcp 2048 0.0.0.0/0 any 172.18.0.0/16 in\n" + RULES
    cured = Ufw(True, tuple(network.rules_in(noted)))
    assert told(Gateway(), cured) == [
        "ok those behind docker0 reach 172.17.0.1:2048; ufw lets them pass -> "
    ]
    assert told(Gateway(), Ufw(False, ()))[0].startswith("ok")
    assert "sudo er doctor" in told(Gateway(), Ufw(True, None))[0]


def test_loopback_is_out_of_reach_unless_a_proxy_is_meant() -> None:
    here = Gateway(listen=("127.0.0.1:2048",))
    (line,) = told(here)
    assert line.startswith("! 127.0.0.1:2048 is loopback") and '"0.0.0.0:2048"' in line
    assert told(Gateway(listen=("127.0.0.1:2048",), trusted_proxies=("127.0.0.1/32",))) == []


# -- plain HTTP ----------------------------------------------------------------------------------


def test_plain_http_is_warned_of_at_a_public_address() -> None:
    outside = [*NET, Interface("eth1", (ip_interface("8.8.4.4/24"),))]
    (line,) = doctor_network.plain(Gateway(), outside)
    assert line.mark == "!" and "8.8.4.4:2048" in line.told and "er help tls" in line.cure
    (line,) = doctor_network.plain(Gateway(), NET)
    assert line.mark == "ok"
    assert list(doctor_network.plain(Gateway(listen=(), tls=Tls()), outside)) == []


# -- this machine --------------------------------------------------------------------------------


def test_interfaces_as_psutil_lists_them() -> None:
    def entry(family: int, address: str, netmask: str | None) -> SimpleNamespace:
        return SimpleNamespace(family=family, address=address, netmask=netmask)

    listed = {
        "eth0": [
            entry(socket.AF_INET, "10.0.0.5", "255.255.255.0"),
            entry(socket.AF_INET6, "fe80::1%eth0", "ffff:ffff:ffff:ffff::"),
            entry(psutil.AF_LINK, "00:00:5e:00:53:01", None),
        ],
        "tun0": [entry(socket.AF_INET, "10.8.0.2", None)],
    }
    eth0, tun0 = network.named(listed)
    assert eth0.addresses == (ip_interface("10.0.0.5/24"), ip_interface("fe80::1/64"))
    assert tun0.addresses == (ip_interface("10.8.0.2/32"),)
    assert not eth0.bridges and NET[2].bridges and NET[3].bridges


def test_this_machine_s_own_are_read() -> None:
    found = {i.name: i.addresses for i in network.interfaces()}
    assert any(a.ip.is_loopback for addresses in found.values() for a in addresses)


def test_a_machine_without_a_route(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(network.outgoing(), str)
    monkeypatch.setattr(network, "NOWHERE", ("255.255.255.255", 9))  # broadcast: not allowed
    assert network.outgoing() == ""
