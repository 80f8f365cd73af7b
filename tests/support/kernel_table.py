"""One table of the kernel plane's rules in a host's kernel, without the process that keeps it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ambcore.admission import IPNetwork
from ambcore.model import Address, Protocol
from dynproxy import adopted
from dynproxy.endpoints import Numbers, Want, planned
from dynproxy.ruleset import Front, Port, Ruleset, change, replacement, table_name
from tests.support.hosts import Host
from tests.support.listing import counters, dead

TCP80 = Port(Protocol.TCP, 80)
UDP53 = Port(Protocol.UDP, 53)


class KernelTable:
    """`KernelTable(host).serve(TCP80, address, …)`; `held` is what the kernel was last told."""

    def __init__(
        self,
        host: Host,
        family: str = "ip",
        ports: Iterable[Port] = (TCP80, UDP53),
        listen: str | None = None,
        clients: tuple[IPNetwork, ...] | None = None,
    ) -> None:
        fronts = dict.fromkeys(ports, Front())
        self.host = host
        name = table_name(listen, (port.number for port in fronts))
        self.held = Ruleset(family, name, listen, fronts, clients=clients)
        self.numbers = Numbers(self.held)
        host.nft(replacement(self.held))

    def serve(self, port: Port, *addresses: Address, policy: str = "round-robin") -> None:
        """Let these be behind a port, all of weight 1."""
        self.share(port, dict.fromkeys(addresses, 1), policy)

    def share(self, port: Port, weights: Mapping[Address, int], policy: str = "round-robin") -> None:
        """Let these be behind a port, each with its weight."""
        wanted = planned(self.held, {port: Want(policy, weights)}, self.numbers)
        if text := change(self.held, wanted):
            self.host.nft(text)
        self.held = wanted

    def items(self) -> list[Any]:
        """What nft prints of the table, as JSON."""
        listing: dict[str, list[Any]] = json.loads(
            self.host.output("nft", "-j", "list", "table", self.held.family, self.held.table)
        )
        return listing["nftables"]

    def read(self) -> Ruleset:
        """What the kernel holds."""
        return adopted.ruleset(self.items(), self.held.family, self.held.table, self.held.listen)

    def dead(self) -> set[Address]:
        """Who refused lately, of those that are behind a port now."""
        held = self.held.endpoints
        return {held[endpoint] for endpoint in dead(self.items()) if endpoint in held}

    def counted(self, port: Port) -> dict[str, tuple[int, int]]:
        """`new`, `in` and `out` of a port, each with packets and bytes."""
        stem = f"{port.name}_"
        return {
            name.removeprefix(stem): (packets, size)
            for name, packets, size in counters(self.items())
            if name.startswith(stem)
        }
