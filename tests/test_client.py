"""A client's true address: what is believed of a chain and of the PROXY protocol."""

from __future__ import annotations

import ipaddress
import struct

import pytest

from er.gateway.client import V2_MAX, V2_SIGN, Preamble, Trusted, WrongPreamble, preamble

TRUSTED = Trusted(["10.0.0.0/8", "192.168.1.7", "fd00::/8"])
Headers = list[tuple[bytes, bytes]]


def chain(*values: str) -> Headers:
    return [(b"x-forwarded-for", value.encode("latin-1")) for value in values]


@pytest.mark.parametrize(
    ("peer", "headers", "client"),
    [
        ("10.0.0.1", chain("1.2.3.4"), "1.2.3.4"),
        ("10.0.0.1", chain("9.9.9.9, 1.2.3.4"), "1.2.3.4"),  # the left one a client wrote
        ("10.0.0.1", chain("10.0.0.5, 1.2.3.4"), "1.2.3.4"),  # also when it names a proxy
        ("10.0.0.1", chain("9.9.9.9", "1.2.3.4"), "1.2.3.4"),  # as HAProxy adds it
        ("10.0.0.1", chain("9.9.9.9,1.2.3.4, 10.3.0.1,192.168.1.7"), "1.2.3.4"),
        ("10.0.0.1", chain("10.0.0.9, 10.0.0.5"), "10.0.0.9"),  # a client inside
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", chain(""), "10.0.0.1"),
        ("10.0.0.1", chain("unknown"), "10.0.0.1"),
        ("10.0.0.1", chain("1.2.3.4, unknown"), "10.0.0.1"),  # beyond it nothing is sure
        ("10.0.0.1", chain("1.2.3.4, nonsense, 10.0.0.2"), "10.0.0.2"),
        ("10.0.0.1", chain("1.2.3.4:5678"), "1.2.3.4"),
        ("10.0.0.1", chain("[2001:db8::1]:5678"), "2001:db8::1"),
        ("10.0.0.1", chain("2001:DB8:0::1"), "2001:db8::1"),
        ("10.0.0.1", chain("::ffff:1.2.3.4"), "1.2.3.4"),
        ("10.0.0.1", chain("::ffff:10.0.0.2, 1.2.3.4, ::ffff:10.0.0.2"), "1.2.3.4"),
        ("10.0.0.1", chain("fe80::1%evil\x1b[2J"), "10.0.0.1"),
        ("10.0.0.1", chain("\xff\xfe, 1.2.3.4"), "1.2.3.4"),
        ("fd00::1", chain("1.2.3.4"), "1.2.3.4"),
        ("192.168.1.7", chain("1.2.3.4"), "1.2.3.4"),
        ("192.168.1.8", chain("1.2.3.4"), "192.168.1.8"),  # not trusted, not believed
        ("1.2.3.4", chain("10.0.0.1"), "1.2.3.4"),
        ("unknown", chain("1.2.3.4"), "unknown"),
        ("uid:0", chain("1.2.3.4"), "uid:0"),
        ("10.0.0.1", [(b"forwarded", b"for=1.2.3.4")], "10.0.0.1"),
        ("10.0.0.1", chain(",".join(["10.0.0.2"] * 9000)), "10.0.0.2"),
    ],
)
def test_whom_a_request_is_from(peer: str, headers: Headers, client: str) -> None:
    assert TRUSTED.believed(peer, headers) == client


def test_nobody_is_trusted_by_default() -> None:
    assert not Trusted(())
    assert Trusted(()).believed("127.0.0.1", chain("1.2.3.4")) == "127.0.0.1"


def second(source: str, command: int = 0x21, more: bytes = b"", kind: int | None = None) -> bytes:
    """A head of the second version, as a proxy writes it."""
    address = ipaddress.ip_address(source)
    body = address.packed * 2 + struct.pack("!HH", 5678, 2048) + more
    family = kind or (0x11 if address.version == 4 else 0x21)
    return V2_SIGN + struct.pack("!BBH", command, family, len(body)) + body


GOOD = {
    b"PROXY TCP4 1.2.3.4 127.0.0.1 5678 2048\r\n": "1.2.3.4",
    b"PROXY TCP6 2001:DB8::1 ::1 5678 2048\r\n": "2001:db8::1",
    b"PROXY TCP6 ::ffff:1.2.3.4 ::1 5678 2048\r\n": "1.2.3.4",
    b"PROXY UNKNOWN\r\n": None,
    b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n": None,
    second("1.2.3.4"): "1.2.3.4",
    second("2001:db8::1"): "2001:db8::1",
    second("1.2.3.4", more=b"\x04\0\x03abc" * 20): "1.2.3.4",  # further fields are passed over
    second("1.2.3.4", command=0x20): None,  # a proxy's own health check
    second("1.2.3.4", kind=0x31): None,
}


@pytest.mark.parametrize(("said", "source"), GOOD.items())
def test_the_proxy_protocol_in_pieces(said: bytes, source: str | None) -> None:
    """Whole, with the request behind it, and byte by byte."""
    found = Preamble(len(said), source)
    assert preamble(said) == preamble(said + b"GET / HTTP/1.1\r\n") == found
    assert [preamble(said[:i]) for i in range(len(said))] == [None] * len(said)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"GET / HTTP/1.1\r\n", "must begin its connections with the PROXY protocol"),
        (b"\x16\x03\x01", "must begin its connections"),
        (b"PROXIES", "must begin its connections"),
        (b"\r\n\r\n\0\r\nQUIP", "must begin its connections"),
        (b"PROXY TCP4 1.2.3.4\r\n", "does not say TCP4"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 70000\r\n", "does not say TCP4"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 x\r\n", "does not say TCP4"),
        (b"PROXY TCP6 fe80::1%\x1b ::1 1 2\r\n", "does not say TCP4"),
        (b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n", "does not say TCP4"),
        (b"PROXY TCP4 [::1]:5 5.6.7.8 1 2\r\n", "does not say TCP4"),
        (b"PROXY " + b"a" * 200, "line is over 107 B"),
        (second("1.2.3.4", command=0x11), "version and command are 0x11"),
        (V2_SIGN + struct.pack("!BBH", 0x21, 0x11, 8) + bytes(8), "too short"),
        (V2_SIGN + struct.pack("!BBH", 0x21, 0x11, V2_MAX + 1), "at most 4096"),
    ],
)
def test_what_is_no_proxy_protocol(said: bytes, why: str) -> None:
    with pytest.raises(WrongPreamble, match=why):
        preamble(said)
