"""Three hosts in a row, joined by veth: a client, a proxy that forwards, and a server with as many addresses as asked.

    client 10.77.1.2 ── 10.77.1.1 proxy 10.77.2.1 ── 10.77.2.2 server, 10.78.0.0/16
        fd77:1::2 ── fd77:1::1         fd77:2::1 ── fd77:2::2         fd78::/64

Each is a network namespace: its own ports, routes, packet filter, connection tracking and limits. The default routes of
client and server lead to the proxy, so addresses are kept unless the proxy's rules change them.
"""

from __future__ import annotations

import socket
import subprocess
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Self

from tests.support.netns import Namespace

PATIENCE = 10.0  # seconds a socket made here waits for anything before it raises TimeoutError

Address = tuple[str, int]


def family(address: str) -> socket.AddressFamily:
    """The address family of an IP literal."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Host(Namespace):
    """One of the three. `ipv4` and `ipv6` are its addresses; the proxy's are those that the client sees."""

    def __init__(self, ipv4: str, ipv6: str) -> None:
        super().__init__()
        self.ipv4, self.ipv6 = ipv4, ipv6

    def output(self, *command: str, text: str | None = None) -> str:
        """What a command prints, run inside with `text` as its input; an AssertionError with its words if it fails."""
        done = subprocess.run(
            [*self.prefix, *command], input=text, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
        return done.stdout

    def nft(self, text: str) -> None:
        """Apply a ruleset inside, in one transaction."""
        self.output("nft", "-f", "-", text=text)

    def popen(self, *command: str, **options: Any) -> subprocess.Popen[Any]:
        """Start a command inside; whoever starts it ends it. `options` are Popen's."""
        return subprocess.Popen([*self.prefix, *command], **options)

    def connect(self, to: Address, source: Address | None = None) -> socket.socket:
        """A TCP connection from inside."""
        return self.call(lambda: socket.create_connection(to, PATIENCE, source))

    def listen(self, at: Address, backlog: int = 128) -> socket.socket:
        """A listening TCP socket inside."""
        listener = self.call(lambda: socket.create_server(at, family=family(at[0]), backlog=backlog))
        listener.settimeout(PATIENCE)
        return listener

    def datagrams(self, at: Address, to: Address | None = None) -> socket.socket:
        """A UDP socket inside, bound to `at` and connected to `to` if given."""
        made = self.call(lambda: socket.socket(family(at[0]), socket.SOCK_DGRAM))
        made.settimeout(PATIENCE)
        made.bind(at)
        if to:
            made.connect(to)
        return made


class Hosts:
    """`with Hosts() as hosts: hosts.server.listen((hosts.instance(1), 80))`; needs root. Takes about 0.1 s to make."""

    def __init__(self) -> None:
        self.client = Host("10.77.1.2", "fd77:1::2")
        self.proxy = Host("10.77.1.1", "fd77:1::1")
        self.server = Host("10.77.2.2", "fd77:2::2")
        self._made = ExitStack()

    @staticmethod
    def instance(number: int, version: int = 4) -> str:
        """One of the server's many addresses, for 1 to 65,000; all are there already."""
        if version == 6:
            return str(IPv6Address("fd78::") + number)
        return str(IPv4Address("10.78.0.0") + number)

    def __enter__(self) -> Self:
        with self._made:
            for host in (self.client, self.proxy, self.server):
                self._made.enter_context(host)
                # Else a new address is unusable for the second or two of the duplicate detection.
                host.setting("net.ipv6.conf.default.accept_dad", "0")
            self._join(self.client, "client", "1")
            self._join(self.server, "server", "2")
            for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
                self.proxy.setting(name, "1")
            for version, many in (("-4", "10.78.0.0/16"), ("-6", "fd78::/64")):
                # A local route makes the whole prefix the server's own, without one address command each.
                self.server.run("ip", version, "route", "add", "local", many, "dev", "lo")
                via = self.server.ipv4 if version == "-4" else self.server.ipv6
                self.proxy.run("ip", version, "route", "add", many, "via", via)
            self.server.setting("net.ipv6.ip_nonlocal_bind", "1")  # IPv6 does not ask the local route who may bind
            self._made = self._made.pop_all()
        return self

    def _join(self, host: Host, name: str, net: str) -> None:
        """Lay the wire between the proxy and a host: `name` is the proxy's end, `eth0` the host's."""
        link = f"link add {name} type veth peer name eth0 netns {host.name}"
        self.proxy.run("ip", *link.split())
        for end, device, last in ((self.proxy, name, "1"), (host, "eth0", "2")):
            end.run("ip", "link", "set", device, "up")
            end.run("ip", "address", "add", f"10.77.{net}.{last}/24", "dev", device)
            end.run("ip", "address", "add", f"fd77:{net}::{last}/64", "dev", device, "nodad")
        host.run("ip", "-4", "route", "add", "default", "via", f"10.77.{net}.1")
        host.run("ip", "-6", "route", "add", "default", "via", f"fd77:{net}::1")

    def __exit__(self, *failure: object) -> None:
        self._made.close()
