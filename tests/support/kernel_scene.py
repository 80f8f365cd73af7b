"""What the packet tests share: three hosts, a table of ours in the proxy, servers on the instances, a relay."""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import Self

from ambcore.model import Address
from tests.support.answering import Answering, Conversation, answered_by
from tests.support.hosts import Host, Hosts
from tests.support.kernel_table import TCP80, KernelTable

SERVED = 8000  # instances answer here, and refuse at every other port


class Scene:
    """`with Scene(4) as scene:`; `version` is that of the addresses used.

    What listens at the proxy's own port 80 stands for the relay.
    """

    def __init__(self, version: int, *, table: bool = True) -> None:
        self.version = version
        self.family = "ip" if version == 4 else "ip6"
        self._with_table = table

    def __enter__(self) -> Self:
        with ExitStack() as made:
            self.hosts = made.enter_context(Hosts())
            self.client, self.proxy, self.server = self.hosts.client, self.hosts.proxy, self.hosts.server
            made.enter_context(Answering(self.proxy, 80))
            made.enter_context(Answering(self.server, SERVED))
            if self._with_table:
                self.table = KernelTable(self.proxy, self.family)
            self._made = made.pop_all()
        return self

    def __exit__(self, *failure: object) -> None:
        self._made.close()

    def instance(self, number: int, port: int = SERVED) -> Address:
        """An address of an instance; one that refuses, at any other port."""
        return Address(self.host(number), port)

    def host(self, number: int) -> str:
        """The same, the IP address only."""
        return self.hosts.instance(number, self.version)

    def own(self, host: Host) -> str:
        """A host's address of this scene's version."""
        return host.ipv4 if self.version == 4 else host.ipv6

    @property
    def relay(self) -> str:
        """The name under which the proxy's own listener answers its clients."""
        return self.own(self.proxy)

    def add_address(self, host: Host, device: str, net: int, last: int) -> str:
        """One more address of a host on the wire to the proxy."""
        if self.version == 4:
            address = f"10.77.{net}.{last}"
            host.run("ip", "address", "add", f"{address}/24", "dev", device)
        else:
            address = f"fd77:{net}::{last}"
            host.run("ip", "address", "add", f"{address}/64", "dev", device, "nodad")  # else usable a moment later
        return address

    def ask(self, port: int = 80) -> str:
        """Who answers a new connection to the proxy."""
        return answered_by(self.client, (self.relay, port))

    def connect(self, source_port: int = 0) -> Conversation:
        """A connection to the proxy; whoever makes it closes it."""
        source = (self.own(self.client), source_port) if source_port else None
        return Conversation(self.client, (self.relay, TCP80.number), source)

    def rule(self, host: Host, hook: str, rule: str) -> None:
        """One rule more in a host, at a hook, before those of others."""
        table = f"{self.family} extra_{hook}"
        chain = f"add chain {table} rules {{ type filter hook {hook} priority raw + 10; }}"
        host.nft(f"add table {table}\n{chain}\nadd rule {table} rules {rule}\n")

    def counted(self, host: Host, hook: str) -> list[tuple[int, int]]:
        """Packets and bytes of every counter among the rules added at a hook."""
        text = host.output("nft", "list", "table", self.family, f"extra_{hook}")
        return [(int(packets), int(size)) for packets, size in re.findall(r"counter packets (\d+) bytes (\d+)", text)]
