"""`er doctor` of several hosts: this one's port and certificate, and the way to each other host."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple

from er import hosts, ports
from er.config import Config, directory
from er.config.state import host_name
from er.hosts import Hosts, Other, UnknownHostError
from er.tls import Credentials, TlsError, facts, own

CONNECT_S = 2.0
AT_ONCE = 16


class Told(NamedTuple):
    """One line."""

    mark: Literal["ok", "!", "x"]
    what: str
    told: str
    cure: str = ""


def lines(config: Config) -> Iterator[Told]:
    """Everything; up to some seconds."""
    yield _own_certificate(config)
    for address in config.host.listen:
        yield _own_port(address)
    known = Hosts(directory("runtime") / hosts.FILE)
    others = sorted(known.known().hosts.items())
    if not others:
        yield Told("!", "other hosts", "none is known; er hosts shows who is there")
    with ThreadPoolExecutor(AT_ONCE) as together:
        yield from together.map(lambda one: _way_to(known, *one), others)


def _own_certificate(config: Config) -> Told:
    what, cure = f"host {host_name(config.host)}", "journalctl -u er-gateway; it is made at a start"
    pair: Credentials | None = own.Own(directory("state")).take()
    if pair is None:
        return Told("x", what, "has no certificate for other hosts", cure)
    try:
        end = facts.read(pair.certificate).not_after
    except TlsError as error:
        return Told("x", what, f"its certificate: {error}", cure)
    left, day = end - time.time(), facts.day(end)
    if left <= 0:
        return Told("x", what, "its certificate has ended; other hosts refuse it", cure)
    if left < (1 - own.DUE) / 2 * own.DAYS * 86400:
        return Told("!", what, f"its certificate ends on {day} and was not renewed", cure)
    return Told("ok", what, f"its certificate for other hosts is good until {day}; ER renews it")


def _own_port(address: str) -> Told:
    host, port = ports.split(address)
    there = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    try:
        with socket.create_connection((there, port), CONNECT_S):
            return Told("ok", "other hosts", f"are listened for at {address}")
    except OSError as error:
        cure = "sudo er apply; systemctl status er-gateway-hosts.socket"
        return Told("x", "other hosts", f"nobody listens at {address} ({_why(error)})", cure)


def _way_to(known: Hosts, name: str, other: Other) -> Told:
    """Whether its gateway answers, and with a certificate that it announces."""
    what = f"host {name}"
    host, port = ports.split(other.address)
    began, mine = time.monotonic(), "THIS-HOST"
    try:
        context = known.context(name)
        with socket.create_connection((host, port), CONNECT_S) as link:
            mine, took_ms = link.getsockname()[0], (time.monotonic() - began) * 1000
            with context.wrap_socket(link):
                told = f"is reached at {other.address}, {took_ms:.1f} ms away"
                return Told("ok", what, told)
    except UnknownHostError as error:
        return Told("x", what, str(error))
    except ssl.SSLCertVerificationError:
        told = f"at {other.address} shows another certificate than it announces"
        return Told("x", what, told, "look at who answers there, and at both clocks; er hosts")
    except OSError as error:
        told = f"is not reached at {other.address} ({_why(error)}); its firewall has to let us in"
        return Told("x", what, told, f"sudo ufw allow from {mine} to any port {port} proto tcp")


def _why(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
