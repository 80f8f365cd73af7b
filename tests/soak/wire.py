"""Hosts on one wire: each a network namespace with an address of its own, `10.79.0.N`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack

from tests.support.hosts import Host
from tests.support.netns import Namespace

NETWORK = "10.79.0"
CUT = """table inet cut {
 chain from { type filter hook prerouting priority -400; iifname "eth0" drop; }
 chain to { type filter hook postrouting priority 400; oifname "eth0" drop; }
}
"""


class Wire:
    """A bridge in a namespace of its own, into which hosts are plugged: `10.79.0.N` each, on `eth0`."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._switch = stack.enter_context(Namespace())
        self._switch.run("ip", "link", "add", "br0", "type", "bridge")
        self._switch.run("ip", "link", "set", "br0", "up")

    def host(self, number: int) -> Host:
        """A fresh host."""
        return self.plug(self._stack.enter_context(Host(f"{NETWORK}.{number}", "")), number)

    def plug(self, host: Host, number: int) -> Host:
        """Give a namespace its end of a cable."""
        link = f"link add port{number} type veth peer name eth0 netns {host.name}"
        self._switch.run("ip", *link.split())
        self._switch.run("ip", "link", "set", f"port{number}", "master", "br0", "up")
        host.run("ip", "address", "add", f"{NETWORK}.{number}/24", "dev", "eth0")
        host.run("ip", "link", "set", "eth0", "up")
        return host


@contextlib.contextmanager
def cut_off(host: Host) -> Iterator[None]:
    """Nothing reaches a host nor leaves it, and nobody is told."""
    host.nft(CUT)
    try:
        yield
    finally:
        host.nft("delete table inet cut\n")
