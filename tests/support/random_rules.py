"""Hypothesis strategies for what fronts shall do, and histories of it."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import Literal

from hypothesis import strategies as st

from ambcore.admission import IPNetwork, of_family
from ambcore.model import MAX_WEIGHT, Address, Protocol
from dynproxy.endpoints import Want
from dynproxy.ruleset import DRAWS, Front, Port, Ruleset, table_name

PORTS = (Port(Protocol.TCP, 80), Port(Protocol.TCP, 65535), Port(Protocol.UDP, 53), Port(Protocol.UDP, 80))


def address(family: str, number: int) -> Address:
    """The n-th of many: a few ports at each host."""
    first = ip_address("10.0.0.1" if family == "ip" else "fd00::1")
    return Address(str(first + number // 3), 8000 + number % 3)


def wants(family: str, most: int = 30) -> st.SearchStrategy[Mapping[Port, Want]]:
    """What some of the ports shall do, with up to `most` instances of 40 each."""
    weights = st.sampled_from([st.just(1), st.integers(1, 3), st.integers(1, MAX_WEIGHT)])
    targets = weights.flatmap(
        lambda weight: st.dictionaries(st.integers(0, 39).map(lambda n: address(family, n)), weight, max_size=most)
    )
    return st.dictionaries(st.sampled_from(PORTS), st.builds(Want, st.sampled_from(sorted(DRAWS)), targets))


def histories(family: str, longest: int, most: int = 30) -> st.SearchStrategy[list[Mapping[Port, Want]]]:
    """Several such, one after the other."""
    return st.lists(wants(family, most), min_size=1, max_size=longest)


def clients(family: str) -> st.SearchStrategy[tuple[IPNetwork, ...] | None]:
    """Whom a table serves: everybody, nobody, or some networks, as `--allow` gives them."""
    version: Literal[4, 6] = 4 if family == "ip" else 6
    bits = {4: 32, 6: 128}[version]
    network = st.builds(
        lambda host, length: ip_network((host, length), strict=False),
        st.ip_addresses(v=version),
        st.sampled_from([bits, bits - 1]) | st.integers(0, bits),
    )
    return st.none() | st.lists(network, max_size=6).map(lambda networks: of_family(networks, version))


def empty(family: str, listen: str | None = None, clients: tuple[IPNetwork, ...] | None = None) -> Ruleset:
    """A table in which every port is there and nobody is behind it."""
    name = table_name(listen, (port.number for port in PORTS))
    return Ruleset(family, name, listen, dict.fromkeys(PORTS, Front()), clients=clients)
