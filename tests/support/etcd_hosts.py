"""An etcd cluster of three hosts: a network namespace each, so that the network between them can really fail.

    with EtcdHosts(folder) as hosts:
        hosts.part(hosts.etcd.members[0])      # from the other members; its clients reach it
        hosts.swallow(hosts.etcd.members[1])   # what its clients send and are sent vanishes, without a word
        hosts.heal()

All hang on one switch, and so does this machine, at `address`. Needs root.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.support.etcd_cluster import EtcdCluster, Member, Place
from tests.support.netns import Namespace

SIZE = 3
NET = 24  # bits; ours is .1, the members' are .11 and up
TABLE = "inet amb_test_fault"
_numbers = itertools.count()


class EtcdHosts:
    """A context manager: `etcd` is the cluster, `address` this machine's on its network.

    Times are etcd's own defaults; `options` go to every member.
    """

    def __init__(self, folder: Path, options: tuple[str, ...] = ()) -> None:
        self._folder = folder
        self._options = options
        self._net = free_network()
        self._cable = f"ambe{os.getpid()}-{next(_numbers)}"[-15:]
        self._hosts: dict[str, Namespace] = {}  # by address
        self.address = f"{self._net}.1"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            switch = stack.enter_context(Namespace())
            switch.run("ip", "link", "add", "switch", "type", "bridge")
            switch.run("ip", "link", "set", "switch", "up")
            self._plug_in(switch)
            stack.callback(subprocess.run, ["ip", "link", "delete", self._cable], check=False, capture_output=True)
            for number in range(SIZE):
                address = f"{self._net}.{11 + number}"
                host = self._hosts[address] = stack.enter_context(Namespace())
                host.run(
                    "ip", "link", "add", "eth0", "type", "veth", "peer", "name", f"m{number}", "netns", switch.name
                )
                host.run("ip", "addr", "add", f"{address}/{NET}", "dev", "eth0")
                host.run("ip", "link", "set", "eth0", "up")
                switch.run("ip", "link", "set", f"m{number}", "master", "switch", "up")
            places = [Place(address, host.prefix) for address, host in self._hosts.items()]
            cluster = EtcdCluster(self._folder, heartbeat=100, election=1000, options=self._options, places=places)
            self.etcd = stack.enter_context(cluster)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *failure: object) -> None:
        self._stack.close()

    def part(self, member: Member) -> None:
        """Drop everything between this member and the others, both ways; its clients do not notice by themselves."""
        self._drop(member, [address for address in self._hosts if address != _address(member)])

    def swallow(self, member: Member) -> None:
        """Drop everything between this member and us, both ways; the others do not notice."""
        self._drop(member, [self.address])

    def heal(self) -> None:
        """Let everything through again."""
        for host in self._hosts.values():
            subprocess.run([*host.prefix, "nft", "delete", "table", *TABLE.split()], check=False, capture_output=True)

    def reaches(self, member: Member) -> bool:
        """Whether a connection from here to this member can be made, within a second."""
        host, _, port = member.url.rpartition("/")[2].rpartition(":")
        try:
            socket.create_connection((host, int(port)), 1).close()
        except TimeoutError:
            return False
        return True

    def _drop(self, member: Member, others: list[str]) -> None:
        addresses = ", ".join(others)
        rules = f"""table {TABLE} {{
            chain come {{ type filter hook input priority 0; ip saddr {{ {addresses} }} drop; }}
            chain go {{ type filter hook output priority 0; ip daddr {{ {addresses} }} drop; }}
        }}"""
        subprocess.run([*self._hosts[_address(member)].prefix, "nft", "-f", "-"], input=rules, text=True, check=True)

    def _plug_in(self, switch: Namespace) -> None:
        for command in (
            f"ip link add {self._cable} type veth peer name us netns {switch.name}",
            f"ip addr add {self.address}/{NET} dev {self._cable}",
            f"ip link set {self._cable} up",
            f"ip -n {switch.name} link set us master switch up",
        ):
            subprocess.run(command.split(), check=True)


def _address(member: Member) -> str:
    return member.url.rpartition("/")[2].rpartition(":")[0]


def free_network() -> str:
    """The first three numbers of a network that this machine is not on."""
    listed = subprocess.run(["ip", "-json", "-4", "addr"], check=True, capture_output=True, text=True).stdout
    taken = {address["local"].rpartition(".")[0] for link in json.loads(listed) for address in link["addr_info"]}
    candidates = (f"10.253.{(os.getpid() + number) % 256}" for number in range(256))
    return next(network for network in candidates if network not in taken)
