"""This machine's network as `er connect` and `er doctor` see it: interfaces, ufw's rules."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from pathlib import Path
from typing import Any, NamedTuple

import psutil

BRIDGE = re.compile(r"docker\d+$|docker_gwbridge$|br-[0-9a-f]{12}$|podman\d+$|cni-podman\d+$")
TUPLE = re.compile(r"^### tuple ### (.+)$", re.MULTILINE)
PORTS = re.compile(r"any$|\d+(?::\d+)?(?:,\d+(?::\d+)?)*$")
NOWHERE = ("192.0.2.1", 9)  # RFC 5737's, for examples alone: the kernel says how it would go there


class Interface(NamedTuple):
    """A network interface and its addresses, each with its prefix."""

    name: str
    addresses: tuple[IPv4Interface | IPv6Interface, ...]

    @property
    def bridges(self) -> bool:
        """Whether containers of this machine are behind it."""
        return BRIDGE.match(self.name) is not None


class Rule(NamedTuple):
    """One of ufw's rules for what comes in. "any" and "0.0.0.0/0" fit everything."""

    action: str  # allow, deny, reject, limit
    protocol: str  # any, tcp, udp
    ports: str  # any, "2048", "80,443", "8000:8100"
    destination: str
    source: str
    interface: str  # "" = all


class Ufw(NamedTuple):
    """A firewall that is on."""

    drops: bool  # what no rule names
    rules: tuple[Rule, ...] | None  # in ufw's order; None: not for this user to read


def interfaces() -> list[Interface]:
    """Those of this machine that carry something; containers' bridges even while none runs."""
    up = {name for name, stats in psutil.net_if_stats().items() if stats.isup}
    return [
        found
        for found in named(psutil.net_if_addrs())
        if found.addresses and (found.name in up or found.bridges)
    ]


def named(listed: Mapping[str, Iterable[Any]]) -> Iterator[Interface]:
    """What psutil lists, as addresses. Pure."""
    for name, entries in listed.items():
        addresses = []
        for entry in entries:
            if entry.family in (socket.AF_INET, socket.AF_INET6):
                bits = int(ip_address(entry.netmask)).bit_count() if entry.netmask else ""
                bare = entry.address.partition("%")[0]
                addresses.append(ip_interface(f"{bare}/{bits}" if bits != "" else bare))
        yield Interface(name, tuple(addresses))


def outgoing() -> str:
    """The address that this machine goes out with, "" without a route. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(NOWHERE)
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def ufw(etc: Path = Path("/etc")) -> Ufw | None:
    """The firewall as its files say; None where there is none, or it is off."""
    try:
        if not re.search(r"^ENABLED=yes\b", (etc / "ufw/ufw.conf").read_text(), re.MULTILINE):
            return None
    except OSError:
        return None
    try:
        policy = (etc / "default/ufw").read_text()
    except OSError:
        policy = ""
    drops = not re.search(r'^DEFAULT_INPUT_POLICY="?ACCEPT', policy, re.MULTILINE)
    try:
        rules = tuple(rules_in((etc / "ufw/user.rules").read_text()))
    except OSError:
        return Ufw(drops, None)
    return Ufw(drops, rules)


def rules_in(text: str) -> Iterator[Rule]:
    """The rules for what comes in that ufw's user.rules holds, by the notes it keeps of them. Pure.

    `### tuple ### allow tcp 2048 0.0.0.0/0 any 172.17.0.0/16 in_docker0`: action, protocol, port
    and address there, port and address here from, an application's two names if it was one, way.
    """
    for line in TUPLE.findall(text):
        words = line.partition(" comment=")[0].split()
        if len(words) not in (7, 9):
            continue
        action, protocol, ports, destination, _, source = words[:6]
        way, _, interface = words[-1].partition("!")[0].partition("_")
        # "route:allow" is of what passes through; "allow_log" is an allow.
        if way == "in" and ":" not in action and PORTS.match(ports):
            kind = action.partition("_")[0]
            yield Rule(kind, protocol, ports, destination, source, interface)


def verdict(rules: Iterable[Rule], bridge: str, address: IPv4Interface, port: int) -> str | None:
    """What ufw does with TCP from the bridge's network: the first rule's action, None for none."""
    for rule in rules:
        if (
            rule.protocol in ("any", "tcp")
            and rule.interface in ("", bridge)
            and _has(rule.ports, port)
            and _within(ip_network(address.ip), rule.destination)
            and _within(address.network, rule.source)
        ):
            return rule.action
    return None


def _within(narrow: IPv4Network | IPv6Network, wide: str) -> bool:
    try:
        found = ip_network(wide, strict=False)
    except ValueError:
        return False
    if isinstance(narrow, IPv4Network):
        return isinstance(found, IPv4Network) and narrow.subnet_of(found)
    return isinstance(found, IPv6Network) and narrow.subnet_of(found)


def _has(ports: str, port: int) -> bool:
    for part in ports.split(","):
        first, _, last = part.partition(":")
        if part == "any" or int(first) <= port <= int(last or first):
            return True
    return False
