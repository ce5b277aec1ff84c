"""Who a client is: its true address, also from behind trusted proxies. Pure: no socket, no clock.

Two ways lead an address through a proxy: the header X-Forwarded-For of each request, and the PROXY
protocol's first bytes of each connection. Either is believed only where the other end of the
connection is one of er.toml's `trusted_proxies`. `Forwarded` is not read: a proxy that sets the one
header passes the other on as the client wrote it, so one of them has to be the only one.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from er.quantities import bytes_text

FORWARDED = b"x-forwarded-for"
CHAIN_MAX = 64  # addresses of a chain that are looked at, from the right
V1_MAX = 107  # bytes of a first version's line
V2_SIGN = b"\r\n\r\n\0\r\nQUIT\n"
V2_HEAD = struct.Struct("!12sBBH")
V2_MAX = 4096  # bytes behind a second version's head; the addresses take 216 of them at most
V2_SIZES = {0x11: 4, 0x12: 4, 0x21: 16, 0x22: 16}  # bytes of an address, by family and kind

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class WrongPreamble(Exception):  # noqa: N818 - the peer's, not the program's
    """What begins a connection is not the PROXY protocol; the text says why, and what to do."""


class Preamble(NamedTuple):
    """The PROXY protocol's first bytes of a connection."""

    size: int  # bytes
    source: str | None  # the client's address; None: the proxy asks for itself, as health checks do


def parsed(address: str) -> Address | None:
    """The IP address that a peer or a header names, with or without a port; None: it names none."""
    text = address.strip(" \t\"'")
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    if "%" in text:  # a zone means something on its own machine only, and may be any text
        return None
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


class Trusted:
    """The proxies whose word about a client's address is believed."""

    def __init__(self, networks: Iterable[str]) -> None:
        """Addresses or networks, as er.toml has them. Raises ValueError for what is neither."""
        self._networks = [ipaddress.ip_network(network) for network in networks]
        self._has = lru_cache(1024)(self._look)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def has(self, address: str) -> bool:
        """Whether a proxy at `address` is trusted."""
        return self._has(address)

    def _look(self, address: str) -> bool:
        found = parsed(address.partition("%")[0])
        return found is not None and any(found in network for network in self._networks)

    def believed(self, peer: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """The client's address, for a request of `headers` on a connection from `peer`.

        The names of `headers` are in small letters, and all of them in the order they came in.
        """
        if not self.has(peer):
            return peer
        return self.forwarded(headers) or peer

    def forwarded(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """The client's address by X-Forwarded-For, as a trusted proxy sent it; None: it has none.

        The rightmost address that is no trusted proxy: that one was written by a trusted proxy,
        all before it by whoever asked it. A chain of trusted proxies alone gives its first; what
        is no address ends the chain.
        """
        chain = b",".join([value for name, value in headers if name == FORWARDED])
        client = None
        for part in reversed(chain.decode("latin-1").split(",")[-CHAIN_MAX:]):
            address = parsed(part)
            if address is None:
                break
            client = str(address)
            if not self.has(client):
                break
        return client


def preamble(data: bytes) -> Preamble | None:
    """What the PROXY protocol says at the beginning of `data`; None: more of it must come.

    Raises WrongPreamble.
    """
    if data.startswith(V2_SIGN[: len(data)]):
        return _second(data)
    if data.startswith(b"PROXY "[: len(data)]):
        return _first(data)
    raise WrongPreamble(
        "a proxy that er.toml trusts must begin its connections with the PROXY protocol, as "
        "proxy_protocol says; have it send that, or set proxy_protocol = false"
    )


def _first(data: bytes) -> Preamble | None:
    end = data.find(b"\r\n", 0, V1_MAX)
    if end < 0:
        if len(data) >= V1_MAX:
            raise WrongPreamble(f"the PROXY line is over {bytes_text(V1_MAX)}")
        return None
    words = data[:end].decode("latin-1").split(" ")
    if words[1:2] == ["UNKNOWN"]:
        return Preamble(end + 2, None)
    if len(words) == 6 and words[1] in ("TCP4", "TCP6"):
        source = _plain(words[2])
        ports = all(word.isascii() and word.isdigit() and int(word) < 65536 for word in words[4:])
        if source is not None and _plain(words[3]) is not None and ports:
            return Preamble(end + 2, str(parsed(words[2])))
    raise WrongPreamble("the PROXY line does not say TCP4, TCP6 or UNKNOWN as it should")


def _plain(word: str) -> Address | None:
    """An address and nothing else."""
    try:
        return None if "%" in word else ipaddress.ip_address(word)
    except ValueError:
        return None


def _second(data: bytes) -> Preamble | None:
    if len(data) < V2_HEAD.size:
        return None
    _, version, kind, length = V2_HEAD.unpack_from(data)
    if version not in (0x20, 0x21):
        raise WrongPreamble(f"the PROXY protocol's version and command are 0x{version:02x}")
    if length > V2_MAX:
        raise WrongPreamble(f"the PROXY protocol's head says {length} bytes; at most {V2_MAX}")
    if len(data) < V2_HEAD.size + length:
        return None
    size = V2_SIZES.get(kind)
    source = None
    if version == 0x21 and size is not None:  # other kinds: a socket of the proxy's machine
        if length < 2 * size + 4:
            raise WrongPreamble("the PROXY protocol's head is too short for its addresses")
        source = str(parsed(str(ipaddress.ip_address(data[V2_HEAD.size : V2_HEAD.size + size]))))
    return Preamble(V2_HEAD.size + length, source)
