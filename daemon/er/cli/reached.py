"""Where clients reach the gateway: which of its addresses to tell them, and what to mind. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import NamedTuple

from er import ports
from er.cli.network import Interface
from er.config import Gateway

EVERYWHERE = ("0.0.0.0", "::")
OPEN = '`listen = ["0.0.0.0:{}"]` in [gateway] of er.toml, then: `sudo er apply`'


class Certificate(NamedTuple):
    """What HTTPS clients are shown; no names where the file can't be read."""

    names: tuple[str, ...]
    self_signed: bool
    path: str


class Reached(NamedTuple):
    """The base that clients get, without a path, and what to know of it, in sentences."""

    root: str
    ca: str  # a file that clients must trust, "" where they trust the certificate anyway
    remarks: tuple[str, ...]


def reached(
    gateway: Gateway,
    interfaces: Sequence[Interface],
    outgoing: str,
    certificate: Certificate | None,
) -> Reached:
    """`outgoing`: the address this machine goes out with, which others most likely know it by.

    HTTPS goes before plain HTTP, unless nobody has been told to trust its certificate.
    """
    tls = gateway.tls
    trusted = certificate is not None and not certificate.self_signed
    secure = tls is not None and (trusted or not gateway.listen)
    listen = tls.listen if tls is not None and secure else gateway.listen
    places = _places(listen, interfaces, outgoing)
    host, port = places[0]
    remarks = []
    if secure and certificate is not None:
        host, told = _named(certificate, places)
        remarks += [told] if told else []
    root = _url("https" if secure else "http", host, port)
    alone = all(loopback(place) for place, _ in places)
    if alone:
        remarks.append(
            "The gateway listens on loopback alone: only programs of this machine reach it, and no "
            f"container but with network_mode: host. For others: {OPEN.format(port)}"
        )
    else:
        others = [_url("https" if secure else "http", *place) for place in places[1:]]
        if others and not secure:
            remarks.append(f"This machine has other addresses too: {', '.join(others[:4])}")
        remarks += _containers(listen, interfaces, "https" if secure else "http")
    if secure and tls is not None and tls.client_certificates == "require":
        remarks.append("The gateway wants a certificate of its clients: er help tls")
    if tls is not None and not secure:
        there = _url("https", *_places(tls.listen, interfaces, outgoing)[0])
        remarks.append(
            f"HTTPS is at {there}, for clients that were told to trust its certificate: er help tls"
        )
    if not secure and public(gateway, interfaces):
        remarks.append("This is plain HTTP on a public address; er doctor says what to do")
    own = secure and certificate is not None and certificate.self_signed
    return Reached(root, certificate.path if own and certificate else "", tuple(remarks))


def public(gateway: Gateway, interfaces: Sequence[Interface]) -> list[str]:
    """Public addresses of this machine at which plain HTTP is served, as HOST:PORT."""
    found = []
    for listened in gateway.listen:
        host, port = ports.split(listened)
        for one in _addresses(host, interfaces):
            if _is_public(one):
                found.append(_url("", one, port))
    return found


def loopback(host: str) -> bool:
    """Whether only this machine reaches it. A name counts as what it most likely is."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_public(host: str) -> bool:
    try:
        return ip_address(host).is_global
    except ValueError:
        return False


def _places(
    listen: Sequence[str], interfaces: Sequence[Interface], outgoing: str
) -> list[tuple[str, int]]:
    """(host, port) of all that is listened on, the one to tell first."""
    bridges = {str(a.ip) for i in interfaces if i.bridges for a in i.addresses}
    found = []
    for listened in listen:
        host, port = ports.split(listened)
        found += [(one, port) for one in _addresses(host, interfaces) or ["127.0.0.1"]]

    def rank(place: tuple[str, int]) -> tuple[bool, bool, bool, bool]:
        host = place[0]
        return loopback(host), host in bridges, host != outgoing, ":" in host

    found = sorted(dict.fromkeys(found), key=rank)
    outward = [p for p in found if not loopback(p[0]) and p[0] not in bridges]
    return outward or found


def _addresses(host: str, interfaces: Sequence[Interface]) -> list[str]:
    """What a listened host stands for: itself, or this machine's addresses of that family."""
    if host not in EVERYWHERE:
        return [host]
    every = [a.ip for i in interfaces for a in i.addresses]
    version = 6 if ":" in host else 4
    return [str(ip) for ip in every if ip.version == version and not ip.is_link_local]


def _named(certificate: Certificate, places: Sequence[tuple[str, int]]) -> tuple[str, str]:
    """(a host that the certificate is for, what is odd about it)."""
    for name in certificate.names:
        if _is_name(name) and "*" not in name and not loopback(name):
            return name, ""
    for host, _ in places:
        if host in certificate.names:
            return host, ""
    host = places[0][0]
    names = ", ".join(certificate.names) or "names that can't be read here (sudo er tls show)"
    return host, f"The certificate is for {names}: clients must reach this machine by one of these"


def _is_name(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return True
    return False


def _containers(
    listen: Sequence[str], interfaces: Sequence[Interface], scheme: str
) -> Iterator[str]:
    """How a container of this machine reaches it, where it listens on every address."""
    split = [ports.split(one) for one in listen]
    port = next((port for host, port in split if host == EVERYWHERE[0]), None)
    if port is None:
        return
    inner = [a.ip for i in interfaces if i.bridges for a in i.addresses if a.version == 4]
    if inner:
        yield (
            f"Containers of this machine also reach it at {_url(scheme, str(inner[0]), port)}, or "
            f"at {_url(scheme, 'host.docker.internal', port)} with "
            '`extra_hosts: ["host.docker.internal:host-gateway"]`; not at '
            "localhost. er doctor tells whether a firewall is between"
        )


def _url(scheme: str, host: str, port: int) -> str:
    bracketed = f"[{host}]" if ":" in host else host
    return f"{scheme}://{bracketed}:{port}" if scheme else f"{bracketed}:{port}"
