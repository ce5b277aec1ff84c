"""What `er doctor` says of the way in: from containers, and over public addresses. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Interface
from typing import Literal, NamedTuple

from er import ports
from er.cli.network import Interface, Ufw, verdict
from er.cli.reached import OPEN, loopback, public
from er.config import Gateway

LETS = ("allow", "limit")


class Told(NamedTuple):
    """What was seen, and what to do about it."""

    mark: Literal["ok", "!"]
    what: str
    told: str
    cure: str = ""


def containers(
    gateway: Gateway, interfaces: Sequence[Interface], ufw: Ufw | None
) -> Iterator[Told]:
    """Whether containers of this machine reach the gateway; nothing where there are none."""
    bridges = [
        (found.name, address)
        for found in interfaces
        if found.bridges
        for address in found.addresses
        if isinstance(address, IPv4Interface)
    ]
    if not bridges:
        return
    listen = [*gateway.listen, *(gateway.tls.listen if gateway.tls else ())]
    split = [ports.split(one) for one in listen]
    wanted = sorted({port for host, port in split if not loopback(host) and host != "::"})
    if not wanted:
        if not gateway.trusted_proxies:  # of a proxy beside it that is known
            told = f"{', '.join(listen)} is loopback, which no container reaches"
            yield Told("!", "containers", told, OPEN.format(split[0][1]).replace("`", ""))
        return
    if ufw is not None and ufw.rules is None and ufw.drops:
        told = "ufw is on, and only root can read whether it lets them pass"
        yield Told("!", "containers", told, "sudo er doctor")
        return
    blocked = [
        (name, address, port)
        for name, address in bridges
        for port in wanted
        if ufw is not None and not _passes(ufw, name, address, port)
    ]
    for name, address, port in blocked:
        told = f"ufw keeps those behind {name} ({address.network}) from port {port}: they wait"
        cure = f"sudo ufw allow from {address.network} to any port {port} proto tcp"
        yield Told("!", "containers", told, cure)
    if not blocked:
        name, address = bridges[0]
        told = f"those behind {name} reach {address.ip}:{wanted[0]}"
        yield Told("ok", "containers", told if ufw is None else f"{told}; ufw lets them pass")


def _passes(ufw: Ufw, name: str, address: IPv4Interface, port: int) -> bool:
    action = verdict(ufw.rules or (), name, address, port)
    return action in LETS or (action is None and not ufw.drops)


def plain(gateway: Gateway, interfaces: Sequence[Interface]) -> Iterator[Told]:
    """Whether keys and texts pass a public network as everybody can read them."""
    found = public(gateway, interfaces)
    if found:
        told = (
            f"listens at {', '.join(found)}, which is public: keys and texts can be read on the way"
        )
        cure = "HTTPS (er help tls), or in [gateway] listen an address of your own network alone"
        yield Told("!", "plain HTTP", told, cure)
    elif gateway.listen:
        yield Told("ok", "plain HTTP", "at no public address of this machine")
