"""PURE: what Docker says of containers that declare links -> the listeners they want, or the reason why not."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ambcore.links import LABEL, Link, parse_links
from ambcore.model import IPAddress, Protocol, join_host_port
from ambcore.networks import Network
from ambcore.text import visible

MAX_LISTENERS = 1024  # for all consumers of a host; each is a descriptor in every process

HOST = "host"  # the network of containers that share the host's; they find it on loopback
LOOPBACK = "127.0.0.1"

Place = tuple[str, int, Protocol]  # where one listens: an IP address, a port, a transport


@dataclass(frozen=True, slots=True)
class Consumer:
    """A container that bears the label. `created` is the daemon's time, in text that sorts; `networks` are names.

    `trouble` says why nothing can be done for it; then there are no links.
    """

    id: str
    name: str
    created: str
    links: tuple[Link, ...] = ()
    networks: tuple[str, ...] = ()
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """A front of the command line: it stays whoever comes and goes. `host` None: on all addresses."""

    service: str
    port: int
    host: str | None = None

    def covers(self, host: str, port: int) -> bool:
        """Whether it listens there."""
        every = {None: True, "::": True, "0.0.0.0": ":" not in host}  # noqa: S104 - all addresses, as one may say it
        return port == self.port and every.get(self.host, host == self.host)


@dataclass(frozen=True, slots=True)
class Listener:
    """The service behind a place, and the names of the consumers that want it, the oldest first.

    `standing`: one of the command line serves them.
    """

    service: str
    consumers: tuple[str, ...]
    standing: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Refusal:
    """What a consumer does not get, and why; `link` is empty where it is all of its links."""

    consumer: str
    link: str
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is wanted now."""

    listeners: Mapping[Place, Listener]
    refused: tuple[Refusal, ...] = ()


def consumer_of(inspected: Mapping[str, Any]) -> Consumer | None:
    """The consumer that a container is, running or not; None without the label.

    One that was created and not started yet tells its networks already, but not yet their gateways.
    """
    label = ((inspected.get("Config") or {}).get("Labels") or {}).get(LABEL)
    if label is None:
        return None
    name = str(inspected.get("Name", "")).lstrip("/")
    # Nanoseconds whose last zeros are left out: without the Z, text sorts as time does.
    who = (str(inspected["Id"]), name, str(inspected.get("Created", "")).removesuffix("Z"))
    mode = str((inspected.get("HostConfig") or {}).get("NetworkMode") or "default")
    if mode.startswith("container:"):
        return Consumer(*who, trouble="it shares another container's network: the label belongs on that one")
    networks = tuple(sorted((inspected.get("NetworkSettings") or {}).get("Networks") or ()))
    if mode == HOST:
        networks = (HOST,)
    try:
        return Consumer(*who, parse_links(str(label)), networks or ("bridge" if mode == "default" else mode,))
    except ValueError as error:
        return Consumer(*who, trouble=f"the label {LABEL}: {visible(str(error))}")


def wanted(
    consumers: Iterable[Consumer],
    networks: Iterable[Network],
    local: Collection[IPAddress],
    standing: Sequence[Standing] = (),
) -> Plan:
    """Where to listen for whom. `local` are this machine's addresses.

    Where two services want one place, the older container's wins, whether it runs or not: what works is not taken away
    by what comes later.
    """
    named = {network.name: network for network in networks}
    listeners: dict[Place, Listener] = {}
    refused: set[Refusal] = set()
    for consumer in sorted(consumers, key=lambda each: (each.created, each.id)):
        hosts, trouble = _reach(consumer, named, local)
        if trouble:
            refused.add(Refusal(consumer.name, "", trouble))
        for link, host in itertools.product(consumer.links, hosts):
            if why := _place(listeners, consumer, link, host, standing):
                refused.add(Refusal(consumer.name, str(link), why))
    return Plan(listeners, tuple(sorted(refused)))


def _reach(
    consumer: Consumer, networks: Mapping[str, Network], local: Collection[IPAddress]
) -> tuple[tuple[str, ...], str]:
    """The addresses of this host that a consumer can reach, or why there are none."""
    if consumer.trouble:
        return (), consumer.trouble
    found = {name: tuple(_addresses(name, networks, local)) for name in consumer.networks}
    troubles = [_unreachable(name, networks.get(name)) for name, addresses in found.items() if not addresses]
    hosts = tuple(itertools.chain(*found.values()))
    return hosts, "" if hosts else "; ".join(troubles)


def _addresses(name: str, networks: Mapping[str, Network], local: Collection[IPAddress]) -> Iterator[str]:
    """An internal network's containers are to reach nothing outside, so not by us either."""
    network = networks.get(name)
    if name == HOST:
        gateways = [gateway for each in networks.values() for gateway in each.gateways]
        if not gateways or any(gateway in local for gateway in gateways):  # else it is not our loopback that they see
            yield LOOPBACK
    elif network is not None and not network.internal:
        yield from (str(gateway) for gateway in network.gateways if gateway in local)


def _unreachable(name: str, network: Network | None) -> str:
    """One reason, with what to do where something can be done."""
    if network is not None and network.internal:
        return f"network {name} is internal: its containers are to reach nothing outside"
    if name == HOST:
        return "it is on the host's network and we are not: run dynproxy with --network host"
    if network is None:
        return f"there is no network {name}"
    if not network.gateways:
        return f"network {name} ({network.driver}) has no gateway"
    gateways = " and ".join(map(str, network.gateways))
    return f"{gateways}, the gateway of network {name}, is no address of ours: run dynproxy with --network host"


def _place(
    listeners: dict[Place, Listener], consumer: Consumer, link: Link, host: str, standing: Sequence[Standing]
) -> str | None:
    """Add one link at one address; says why not."""
    place = host, link.port, link.protocol
    front = next((each for each in standing if each.covers(host, link.port)), None)
    listener = listeners.get(place)
    if listener is None:
        if len(listeners) >= MAX_LISTENERS:
            return f"more than {MAX_LISTENERS} listeners are wanted"
        listener = Listener(front.service if front else link.service, (), front is not None)
    if listener.service != link.service:
        whom = "the command line" if listener.standing else f"{listener.consumers[0]}, which is older"
        return f"{join_host_port(host, link.port)} is where {listener.service} is, for {whom}"
    if consumer.name not in listener.consumers:
        listeners[place] = Listener(listener.service, (*listener.consumers, consumer.name), listener.standing)
    return None
