"""The kernel plane: nftables forwards, the relay listens beside it for what the kernel does not take.

Not one byte passes through a process of ours. The rules stay when this process dies, is killed or is replaced; the next
one goes on from what it finds. The relay takes whom no rule takes: clients on this machine's own loopback, those
outside `--allow`, whom it refuses, clients of a service without a live instance, which wait there, and everybody when
rules cannot be written.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from ipaddress import ip_address

from ambcore.admission import of_family
from ambcore.model import Address, Instance, Protocol
from ambnet.daemon import background
from ambnet.nft import Nft, NftError
from dynproxy.config import Front, Settings
from dynproxy.endpoints import Want
from dynproxy.flows import Flows, Those
from dynproxy.kernel_tables import KernelTables
from dynproxy.plane import DataPlane, KernelState, KernelTraffic, PlaneStats, Serving
from dynproxy.probe import Probe
from dynproxy.ruleset import Port, Ruleset, table_name

log = logging.getLogger("kernel")

LOOK, LOOK_LIVELY = 4.0, 1.0  # seconds between two looks at the kernel; the shorter while somebody asks for figures
LIVELY_FOR = 10.0
LAST_CALL = 3.0  # seconds for the removal of all rules: a process that leaves has 5 beyond its drain

Place = tuple[str, Port]  # an address family and a port of ours


class KernelPlane:
    """A DataPlane in the kernel, with another, the relay, beside it. Use `kernel_plane`.

    `suspect` is called with every address that refused a client.
    """

    def __init__(  # noqa: PLR0917 - each part once
        self,
        settings: Settings,
        relay: DataPlane,
        tables: KernelTables,
        why: str,
        suspect: Callable[[Address], None],
        expected: Iterable[Front],
        fronts: Iterable[Front],
    ) -> None:
        self._settings = settings
        self._relay = relay
        self._tables = tables
        self._why = why
        self._suspect = suspect
        self._flows = Flows(_address(settings))
        self._instances: dict[str, tuple[Instance, ...]] = {}
        self._unhealthy: dict[str, frozenset[str]] = {}
        self._members: dict[Place, frozenset[Address]] = {}
        self._left: dict[tuple[Place, Address], int] = {}  # who is gone: the ticket of its last removal
        self._asked = 0.0
        self._expected = {port for front in expected for port in ports_of(front)}
        self._services: dict[Port, str] = {}
        self._places: dict[str, list[Place]] = {}
        for front in fronts:
            self._take(front)

    async def open(self, front: Front) -> None:
        """Have the relay listen for it; the kernel takes its clients from the next `apply` on. See DataPlane.

        A front with an address of its own is the relay's alone.
        """
        await self._relay.open(front)
        if front.host is None:
            self._take(front)
            self._tables.hold(self._services.keys() | self._expected)

    async def close(self, front: Front) -> None:
        """Have nobody listen for it any more; see DataPlane."""
        await self._relay.close(front)
        if front.host is None:
            self._leave(front)
            self._tables.hold(self._services.keys() | self._expected)

    def _take(self, front: Front) -> None:
        """Count a front's ports as its service's. What the kernel was found to serve there was there before: those that
        are gone now have departed.
        """
        places = self._places.setdefault(front.service, [])
        for family, port in itertools.product(self._tables.families, ports_of(front)):
            if port not in self._services:
                places.append((family, port))
                self._members[family, port] = self._tables.held(family, port)
        self._services |= dict.fromkeys(ports_of(front), front.service)

    def _leave(self, front: Front) -> None:
        """Count a front's ports as nobody's. One that could not be opened may be for a port of another service."""
        for port in ports_of(front):
            self._expected.discard(port)
            if self._services.get(port) != front.service:
                continue
            del self._services[port]
            self._places[front.service] = [place for place in self._places[front.service] if place[1] != port]
            if not self._places[front.service]:
                del self._places[front.service]
            for family in self._tables.families:
                self._members.pop((family, port), None)

    async def take_charge(self) -> None:
        """Go on from what the kernel holds by now, write what differs, and have the relay accept; see DataPlane."""
        await self._relay.take_charge()
        if not self._tables.adopted:
            await _adopt(self._tables)
            for place in itertools.chain.from_iterable(self._places.values()):
                self._members[place] = self._tables.held(*place)
        self._tables.take_charge()
        for service in tuple(self._instances):  # what is known of the next may change while one is written
            await self.apply(service, self._instances[service], self._unhealthy[service])

    async def give_charge(self) -> None:
        """Write nothing any more; see DataPlane. The rules stay for whoever takes over, whatever `--on-exit` says."""
        await self._relay.give_charge()
        await self._tables.give_charge()

    async def apply(
        self, service: str, instances: tuple[Instance, ...], unhealthy: frozenset[str] = frozenset()
    ) -> None:
        """Tell the relay, and have the kernel's rules written; see DataPlane. Returns even if they cannot be."""
        self._instances[service], self._unhealthy[service] = instances, unhealthy
        wants: dict[str, dict[Port, Want]] = {}
        members = {place: _members(instances, *place) for place in self._places.get(service, ())}
        for (family, port), items in members.items():
            targets = {item.address: item.weight for item in items if item.takes_new and item.id not in unhealthy}
            wants.setdefault(family, {})[port] = Want(self._settings.policy, targets)
        ticket = self._tables.want(wants)
        for place, items in members.items():
            addresses = frozenset(item.address for item in items)
            gone = self._members.get(place, frozenset()) - addresses
            self._members[place] = addresses
            for back in [key for key in self._left if key[0] == place and key[1] in addresses]:
                del self._left[back]
            if gone:
                self._left.update(dict.fromkeys(((place, address) for address in gone), ticket))
                self._flows.beside(self._follow_removal(ticket, place, gone))
        await asyncio.gather(self._relay.apply(service, instances, unhealthy), self._tables.settled(ticket))

    async def _follow_removal(self, ticket: int, place: Place, gone: frozenset[Address]) -> None:
        """End the connections of instances that are gone, as `--on-removal` says; datagrams move on at once.

        Not before the rules send nobody there any more: what is cut would come again.
        """
        await self._tables.written(ticket)
        # Datagrams have no end to wait for. Without another instance they go on to the relay, which has the next one:
        # left where they are they would go to the old one for as long as their sender does not pause.
        seconds = 0 if place[1].protocol is Protocol.UDP else self._settings.on_removal.seconds
        if seconds is not None:
            await asyncio.sleep(seconds)
            await self._flows.end(self._those(place, self._still_gone(ticket, place, gone)))
        for address in self._still_gone(ticket, place, gone):
            self._tables.forget(*place, {address})
            del self._left[place, address]

    def _still_gone(self, ticket: int, place: Place, gone: Iterable[Address]) -> frozenset[Address]:
        """Those that have not come back since: one that left again has the time of its last removal."""
        return frozenset(address for address in gone if self._left.get((place, address)) == ticket)

    def released(self, family: str, port: Port, addresses: frozenset[Address]) -> None:
        """The kernel sends nobody there any more: whoever still waits for an answer is to be balanced anew."""
        instances = self._instances.get(self._services.get(port, ""), ())
        finishing = {item.address for item in instances if not item.takes_new}
        if lost := addresses - finishing:
            self._flows.beside(self._flows.forget_unanswered(self._those((family, port), lost)))

    async def forget_ended(self) -> None:
        """The kernel is about to be given rules where it may have had none."""
        await self._flows.forget_ended(self._tables.families, self._tcp_ports)

    @property
    def _tcp_ports(self) -> frozenset[int]:
        return frozenset(port.number for port in self._services if port.protocol is Protocol.TCP)

    def _those(self, place: Place, addresses: Iterable[Address]) -> Those:
        return Those(*place, self._tables.marks(*place, addresses))

    def stats(self, *, again_soon: bool = True) -> PlaneStats:
        """The relay's figures and the kernel's; see DataPlane."""
        if again_soon:
            self._asked = time.monotonic()
        relay = self._relay.stats()
        tables = self._tables
        return PlaneStats(
            plane="kernel",
            why=self._why,
            processes=relay.processes,
            healthy=relay.healthy,
            services=relay.services,
            restarts=relay.restarts,
            updates=relay.updates,
            serving={service: self._serving(service) for service in self._places},
            kernel=KernelState(
                tables.names,
                tables.transactions,
                tables.failures,
                tables.repairs,
                tables.error,
                self._flows.cut,
                self._flows.errors,
            ),
        )

    def _serving(self, service: str) -> Serving:
        instances = self._instances.get(service)
        places = self._places[service]
        taking = {family for family, port in places if self._tables.serves(family, port)}
        traffic = self._traffic(service)
        if not taking:
            why = "not known yet: clients wait" if instances is None else "no instance takes clients: they wait"
            return Serving("relay", why, traffic)
        refusing = {address for place in places for address in self._tables.refusing(*place)}
        names = frozenset(item.id for item in instances or () if item.address in refusing)
        without = [name for family, name in FAMILY_NAMES.items() if family not in taking]
        why = self._why + "".join(f"; no instance for {name} clients, the relay serves them" for name in without)
        if self._tables.error is not None:
            why += f"; as it was: {self._tables.error}"
        return Serving("kernel", why, traffic, names)

    def _traffic(self, service: str) -> KernelTraffic:
        stems = {port.name for _, port in self._places[service]}
        packets, size = self._tables.packets, self._tables.bytes
        return KernelTraffic(
            connections=sum(packets[f"{stem}_new"] for stem in stems),
            packets=sum(packets[f"{stem}_all"] for stem in stems),
            bytes=sum(size[f"{stem}_all"] for stem in stems),
        )

    async def watch_kernel(self) -> None:
        """Endless: take up what the kernel knows, and see that the rules are still ours."""
        while True:
            lively = time.monotonic() - self._asked < LIVELY_FOR
            await asyncio.sleep(LOOK_LIVELY if lively else LOOK)
            await self._tables.look()
            for place in itertools.chain.from_iterable(self._places.values()):
                refusing = self._tables.refusing(*place)
                if refusing and place[1].protocol is Protocol.UDP:
                    self._flows.beside(self._flows.forget_unanswered(self._those(place, refusing)))
                for address in refusing:
                    self._suspect(address)

    async def drain(self, seconds: float) -> None:
        """Let the relay's connections end; with `--on-exit remove` the kernel's, too, unless another process has taken
        over. See DataPlane.
        """
        if not self._tables.in_charge:
            await self._relay.drain(seconds)
            return
        if not _removes(self._settings.on_exit):
            log.info("the kernel goes on forwarding; `dynproxy --cleanup` would end that")
            await self._relay.drain(seconds)
            return
        await self._tables.withdraw()
        ended = self._flows.ended(self._tables.families, self._tcp_ports, seconds)
        _, cut = await asyncio.gather(self._relay.drain(seconds), ended)
        log.info("connections in the kernel cut: %d", cut)
        try:
            async with asyncio.timeout(LAST_CALL):
                await self._tables.remove()
        except (NftError, TimeoutError) as error:
            log.error("the kernel's rules stay: %s", str(error) or "nft takes too long")  # noqa: TRY400 - one line will do

    async def aclose(self) -> None:
        """End the relay; the rules stay as they are. See DataPlane."""
        await self._flows.aclose()
        await self._relay.aclose()


def _removes(on_exit: str) -> bool:
    """Whether the rules go with us. A container's network goes with its first process, and so would its connections."""
    return on_exit == "remove" or (on_exit == "auto" and os.getpid() == 1)


FAMILY_NAMES: Mapping[str, str] = {"ip": "IPv4", "ip6": "IPv6"}


def ports_of(front: Front) -> list[Port]:
    """What a front is for the kernel: its port, for its protocol or for either."""
    return [Port(protocol, front.port) for protocol in Protocol if front.protocol in (None, protocol)]


def table_of(settings: Settings) -> str:
    """What the tables of a dynproxy with these settings are called."""
    return table_name(_address(settings), (front.port for front in settings.fronts), settings.containers)


def _address(settings: Settings) -> str | None:
    """The one address that clients come to; None for every address, however that is said."""
    return None if settings.listen is None or ip_address(settings.listen).is_unspecified else settings.listen


def _empty(settings: Settings, probe: Probe, family: str) -> Ruleset:
    """The table of one family, before it has a port."""
    clients = of_family(settings.allow, 6 if family == "ip6" else 4) if settings.allow else None
    return Ruleset(family, table_of(settings), _address(settings), forgets=probe.forgets, clients=clients)


async def _adopt(tables: KernelTables) -> None:
    if endpoints := await tables.adopt():
        log.info("goes on from %d endpoints that the kernel holds already", endpoints)


def _members(instances: Iterable[Instance], family: str, port: Port) -> list[Instance]:
    """Those that this port's clients of this family can be sent to."""
    protocol, ipv6 = port.protocol, family == "ip6"
    return [item for item in instances if item.protocol is protocol and (":" in item.address.host) is ipv6]


@contextlib.asynccontextmanager
async def kernel_plane(  # noqa: PLR0917 - each part once
    settings: Settings,
    relay: DataPlane,
    nft: Nft,
    probe: Probe,
    suspect: Callable[[Address], None],
    expected: Iterable[Front] = (),
    *,
    waiting: bool = False,
    fronts: Iterable[Front] | None = None,
) -> AsyncIterator[KernelPlane]:
    """A running kernel plane beside a running relay. What the kernel holds of `expected` fronts, which will be opened
    soon, goes on like that of the settings' own.

    `fronts` are those as far as the relay could have their ports; None: all of them. A port that it could not have is
    another program's, whose clients are none of ours.
    """
    fronts = settings.fronts if fronts is None else fronts
    ports = {port for front in (*fronts, *expected) for port in ports_of(front)}
    rules = [_empty(settings, probe, family) for family in probe.families]
    tables = KernelTables(nft, rules, ports, in_charge=not waiting)
    if not waiting:
        await _adopt(tables)
    plane = KernelPlane(settings, relay, tables, probe.why, suspect, expected, fronts)
    tables.on_release, tables.before_anew = plane.released, plane.forget_ended
    try:
        async with background(tables.run, plane.watch_kernel):
            yield plane
    finally:
        await plane.aclose()
