"""What becomes of connections that the kernel forwards to an instance that goes, or does not answer."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass

from ambcore.model import Protocol
from ambnet.daemon import cancel
from dynproxy import conntrack
from dynproxy.conntrack import Which
from dynproxy.netlink import NetlinkError
from dynproxy.own_sockets import connected
from dynproxy.ruleset import SIGNATURE, SIGNATURE_MASK, Port

log = logging.getLogger("kernel")

FAMILIES = {"ip": socket.AF_INET, "ip6": socket.AF_INET6}
PROTOCOLS = {Protocol.TCP: socket.IPPROTO_TCP, Protocol.UDP: socket.IPPROTO_UDP}
POLL = 0.5  # seconds between two looks at whether all have ended, at least
SHARE = 0.05  # of the time that is spent looking, at most
WHOLE_MARK = 0xFFFFFFFF
AT_ONCE = 8  # questions to the kernel, each in a thread: a host takes the instances of 100 services along
FAILURES = (NetlinkError, OSError)  # what the kernel refuses, and a thread or a file that is not to be had


@dataclass(frozen=True, slots=True)
class Those:
    """Connections of a port to the endpoints with these marks."""

    family: str
    port: Port
    marks: frozenset[int]


class Flows:
    """Ends and forgets connections that came to `address`, None for any.

    `cut` counts those that were ended, `errors` what the kernel refused to do.
    """

    def __init__(self, address: str | None = None) -> None:
        self._address = address
        self._few = asyncio.Semaphore(AT_ONCE)
        self._chores: set[asyncio.Task[None]] = set()
        self.cut = 0
        self.errors = 0

    async def forget_unanswered(self, those: Those) -> None:
        """Forget attempts that nobody answered: the client's next packet is balanced anew. Raises NetlinkError."""
        if those.marks:
            async with self._few:
                await conntrack.delete_unanswered(self._which(those))

    async def end(self, those: Those) -> None:
        """Cut these. Raises NetlinkError."""
        if those.marks:
            async with self._few:
                self.cut += await conntrack.delete_all(self._which(those))

    async def forget_ended(self, families: Iterable[str], ports: frozenset[int]) -> None:
        """Forget the TCP connections of these ports to our endpoints that are over; a NetlinkError is logged and
        counted.

        To be done before there are rules again: what the relay took meanwhile was not tracked. Its connection to an
        instance, seen for the first time then, would get another port of ours if a client's before had the same, be
        that over or still open when the rules went.
        """
        try:
            for which in self._all_tcp(families, ports):
                await conntrack.delete_ended(which, connected)
        except FAILURES as error:
            self._failed(error)

    async def ended(self, families: Iterable[str], ports: frozenset[int], seconds: float) -> int:
        """Wait until no TCP connection to our endpoints goes on, or for so long, and cut the rest; how many these were.

        Without a word from the kernel there is nothing to wait for.
        """
        tcp = self._all_tcp(families, ports)
        deadline = time.monotonic() + seconds
        try:
            began = time.monotonic()
            while (left := await _open(tcp)) and (now := time.monotonic()) < deadline:
                # The kernel has no event for it that would not come for every connection, and counting many takes long.
                await asyncio.sleep(min(max(POLL, (now - began) / SHARE), deadline - now))
                began = time.monotonic()
            for which in tcp if left else ():
                await conntrack.delete_all(which)
        except FAILURES as error:
            self._failed(error)
            return 0
        self.cut += left
        return left

    def beside(self, work: Coroutine[None, None, None]) -> None:
        """Do this beside everything else; a NetlinkError is logged and counted."""

        async def chore() -> None:
            try:
                await work
            except FAILURES as error:
                self._failed(error)

        task = asyncio.create_task(chore())
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)

    def _failed(self, error: Exception) -> None:
        self.errors += 1
        log.error("connections stay as they are: %s", error)

    def _which(self, those: Those) -> Which:
        """The same in connection tracking's words."""
        ports = frozenset({those.port.number})
        protocol = PROTOCOLS[those.port.protocol]
        return Which(FAMILIES[those.family], those.marks, WHOLE_MARK, protocol, ports, self._address)

    def _all_tcp(self, families: Iterable[str], ports: frozenset[int]) -> list[Which]:
        """The TCP connections of these ports to endpoints of ours, by family."""
        marks, tcp = frozenset({SIGNATURE}), socket.IPPROTO_TCP
        return [Which(FAMILIES[each], marks, SIGNATURE_MASK, tcp, ports, self._address) for each in families]

    async def aclose(self) -> None:
        """Leave undone what is not done."""
        await cancel(*self._chores)


async def _open(every: Iterable[Which]) -> int:
    """How many of these go on; an entry is kept for minutes after its connection has ended. Raises NetlinkError."""
    return sum([(await conntrack.count(which, established=True)).total() for which in every])
