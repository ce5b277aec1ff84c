"""A way out of a Network to the rest of the world, for machines that install packages in it."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from hosts.network import Network

ADDRESS, NETS = "10.77.0.254", "10.77.0.0/24"
LINK = "er-uplink"
FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


@contextlib.contextmanager
def uplink(network: Network) -> Iterator[str]:
    """This machine as the hosts' router; gives its address among them. Needs root and iptables."""
    before = FORWARD.read_text()
    rule = ["POSTROUTING", "-s", NETS, "!", "-d", NETS, "-j", "MASQUERADE"]
    with contextlib.ExitStack() as undo:
        there = f"name uplink netns {network.switch.path}"
        _run("ip", "link", "add", LINK, "type", "veth", "peer", *there.split())
        undo.callback(_run, "ip", "link", "del", LINK)
        network.switch.ip("link set uplink master switch up")
        _run("ip", "address", "add", f"{ADDRESS}/24", "dev", LINK)
        _run("ip", "link", "set", LINK, "up")
        _run("iptables", "-t", "nat", "-A", *rule)
        undo.callback(_run, "iptables", "-t", "nat", "-D", *rule)
        FORWARD.write_text("1")
        undo.callback(FORWARD.write_text, before)
        for host in network.hosts.values():
            host.ip(f"route add default via {ADDRESS}")
        yield ADDRESS


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
