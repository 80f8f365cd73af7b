"""The kernel's tables as one process keeps them: what they hold, what they shall hold, and one writer between the two.

A transaction is the difference to what is held, for all families at once; it happens as a whole or not at all. After
one that failed, or when somebody else changed a table, nothing is sure any more and the next one replaces all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from ambcore.backoff import backoff
from ambcore.model import Address
from ambnet.daemon import cancel
from ambnet.nft import Nft, NftError
from ambnet.saying import Saying
from dynproxy import adopted
from dynproxy.cleanup import forgotten_tables
from dynproxy.endpoints import Numbers, Want, planned
from dynproxy.filter_state import generation, marks, take_counts
from dynproxy.filter_watch import FilterWatch, tells_of_a_change
from dynproxy.kept_table import KeptTable, Wants
from dynproxy.netlink import NetlinkError
from dynproxy.ruleset import (
    MAX_ENDPOINT,
    NOBODY,
    SIGNATURE_MASK,
    Port,
    Ruleset,
    addresses_of,
    mark,
    removal,
    with_ports,
)

log = logging.getLogger("kernel")

PERIOD = 0.05  # seconds between two transactions, at least
SOON = 0.5  # seconds after which nobody waits for a transaction any more; it goes on
RETRY = (0.5, 15.0)  # seconds until the next try after a transaction that failed: first and longest


class KernelTables:
    """Use: `adopt` once, `run` beside everything else, `want` as often as it changes, `look` now and then.

    `tables` are those to keep, one a family, all of one name and one listening address, each without its ports.
    `failures` counts transactions that failed, `repairs` what others broke. `error` says why the last one failed and
    is None after one that worked. `packets` and `bytes` are sums by counter, since this process began. `on_release` is
    called with the addresses that get no new connections any more, once that is so, `before_anew` before tables are
    made anew. One that is not `in_charge` writes nothing: another process does.
    """

    def __init__(self, nft: Nft, tables: Iterable[Ruleset], ports: Iterable[Port], *, in_charge: bool = True) -> None:
        self.in_charge = in_charge
        self.adopted = False
        self._nft = nft
        self._ports = tuple(sorted(ports))
        self._tables = {rules.family: self._unknown(rules) for rules in tables}
        self._rivals = ""  # the text that removes them
        self._changed = asyncio.Event()
        self._progress = asyncio.Condition()
        self._access = asyncio.Lock()
        self._wanted = self._tried = self._done = 0
        self._late = False
        self._watch = FilterWatch(nft, self.families)
        self._seeing = Saying(log)
        self._withdrawn = self._removed = False
        self.failures = self.transactions = self.repairs = 0
        self.error: str | None = None
        self.on_release: Callable[[str, Port, frozenset[Address]], None] = lambda *_: None
        self.before_anew: Callable[[], Awaitable[None]] = _nothing
        self.packets: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def _unknown(self, rules: Ruleset) -> KeptTable:
        held = replace(rules, fronts=dict.fromkeys(self._ports, NOBODY))
        return KeptTable(held, _numbers(held))

    @property
    def names(self) -> tuple[str, ...]:
        """The tables as nft names them."""
        return tuple(table.where for table in self._tables.values())

    @property
    def families(self) -> tuple[str, ...]:
        """The address families that have a table."""
        return tuple(self._tables)

    async def adopt(self) -> int:
        """Take over what a process before this one left in the kernel; returns the number of its endpoints.

        What they serve goes on being served until more is known.
        """
        self.adopted = True
        for family, table in self._tables.items():
            rules = table.held
            try:
                items = await self._nft.read(f"list table {family} {rules.table}")
                held = adopted.ruleset(items, family, rules.table, rules.listen)
            except NftError:
                continue  # there is none
            except adopted.UnreadableError as error:
                log.warning("table %s %s is replaced: %s", family, rules.table, error)
                continue
            kept = with_ports(held, self._ports)
            table.held = replace(rules, fronts=kept.fronts, endpoints=kept.endpoints)
            table.numbers = _numbers(table.held)
            table.sure = held == table.held
            if held.clients != rules.clients:  # whom it lets in is for this process to say, and at once
                self._changed.set()
        await self._see_rivals()
        if (all(table.sure for table in self._tables.values()) and not self._rivals) or not self._ports:
            self._changed.set()  # the same again in this version's words: then it can be looked after, known or not
        return sum(len(table.held.endpoints) for table in self._tables.values())

    async def _see_rivals(self) -> None:
        """Learn who else holds ports of ours: nobody does who listens there, for we do."""
        ours = next(iter(self._tables.values())).held
        try:
            self._rivals = await forgotten_tables(self._nft, ours.listen, set(self._ports), but=ours.table)
        except NftError as error:
            log.warning("what others before left cannot be seen: %s", error)

    def hold(self, ports: Iterable[Port]) -> None:
        """Hold these ports from now on, nobody behind a new one. Ports are part of the rules, so with what is wanted
        next, or at once if one goes, the tables are made anew, in one transaction; connections go on.
        """
        before, self._ports = self._ports, tuple(sorted(ports))
        if set(before).difference(self._ports):
            self._changed.set()

    async def _take_ports(self) -> None:
        """Let what is held have exactly our ports, without a change of what the kernel has."""
        if all(table.held.fronts.keys() == set(self._ports) for table in self._tables.values()):
            return
        await self._see_rivals()
        for table in self._tables.values():
            table.held, table.sure = with_ports(table.held, self._ports), False
            table.wants = {port: want for port, want in table.wants.items() if port in table.held.fronts}

    def want(self, wants: Mapping[str, Wants]) -> int:
        """Make these, by family, what the ports named in them shall do; returns a ticket for `settled`.

        Once withdrawn, nothing is wanted any more.
        """
        if self._withdrawn:
            return self._tried
        for family, ports in wants.items():
            if family in self._tables:
                self._tables[family].wants.update({port: want for port, want in ports.items() if port in self._ports})
        self._wanted += 1
        self._changed.set()
        return self._wanted

    async def settled(self, ticket: int) -> None:
        """Until what was wanted then has been tried, with or without success, or is known to take long."""
        await self._until(lambda: self._tried >= ticket or self.error is not None or self._late or not self.in_charge)

    async def written(self, ticket: int) -> None:
        """Until what was wanted then is so, however long that takes."""
        await self._until(lambda: self._done >= ticket)

    async def _until(self, reached: Callable[[], bool]) -> None:
        async with self._progress:
            await self._progress.wait_for(reached)

    def marks(self, family: str, port: Port, addresses: Iterable[Address]) -> frozenset[int]:
        """The connection marks of these endpoints."""
        numbers = self._tables[family].numbers
        return frozenset(mark(number) for number in numbers.known(port, addresses))

    def forget(self, family: str, port: Port, addresses: Iterable[Address]) -> None:
        """Free the numbers of endpoints that are gone and have no connection any more."""
        self._tables[family].numbers.forget(port, addresses)

    def serves(self, family: str, port: Port) -> bool:
        """Whether the kernel takes new connections of this port."""
        return bool(self._tables[family].held.fronts.get(port, NOBODY).slots)

    def held(self, family: str, port: Port) -> frozenset[Address]:
        """The addresses that the kernel sends new connections of this port to."""
        return addresses_of(self._tables[family].held, port)

    def refusing(self, family: str, port: Port) -> frozenset[Address]:
        """The addresses that refused lately, as of the last look."""
        return frozenset(address for at, address in self._tables[family].refusing if at == port)

    async def give_charge(self) -> None:
        """Write nothing any more: another process is about to. Returns when what is under way is written."""
        self.in_charge = False
        async with self._access, self._progress:
            self._progress.notify_all()

    def take_charge(self) -> None:
        """Be the one that writes, from now on."""
        self.in_charge = True
        self._changed.set()

    async def run(self) -> None:
        """Endless: write what is wanted, while in charge."""
        delays: Iterator[float] | None = None
        while True:
            await self._changed.wait()
            self._changed.clear()
            began = time.monotonic()
            async with self._impatience():
                await self._try()
            if self.error is None:
                delays = None
                await asyncio.sleep(max(0.0, began + PERIOD - time.monotonic()))
            else:
                delays = delays or backoff(*RETRY, random.random)
                await asyncio.sleep(next(delays))
                self._changed.set()

    async def _try(self) -> None:
        """One transaction, with all that is wanted by the time it can begin."""
        async with self._access:
            if not self.in_charge:
                return
            ticket = self._wanted
            await self._write()
        async with self._progress:
            self._tried = ticket
            self._done = ticket if self.error is None else self._done
            self._progress.notify_all()

    @contextlib.asynccontextmanager
    async def _impatience(self) -> AsyncIterator[None]:
        """Tell those who wait, should the block take long."""

        async def tell() -> None:
            await asyncio.sleep(SOON)
            async with self._progress:
                self._late = True
                self._progress.notify_all()

        telling = asyncio.create_task(tell())
        try:
            yield
        finally:
            self._late = False
            await cancel(telling)

    async def _write(self) -> None:
        """One transaction, and what it says about what is held."""
        if self._removed:
            return
        await self._take_ports()
        tables = self._tables.values()
        taken = [table.take() for table in tables]
        plans = [planned(table.held, wants, table.numbers) for table, wants in zip(tables, taken, strict=True)]
        for table in tables:
            self._save_counts(table)
        text = self._rivals + "".join(map(KeptTable.transaction, tables, plans))
        if anew := not all(table.sure for table in tables):
            await self.before_anew()
        before = generation()
        try:
            if text:
                await self._nft.apply(text)
        except NftError as error:
            self.failures += 1
            for table, wants in zip(tables, taken, strict=True):
                table.wants = {**wants, **table.wants}
            self._doubt(f"a transaction failed: {error}")
            return
        self.transactions += bool(text)
        self._rivals = ""
        if text:
            self._watch.wrote(before, anew=anew)
        if self.error is not None:
            log.info("the kernel's rules are as they shall be again")
        self.error = None
        for table, plan, wants in zip(tables, plans, taken, strict=True):
            table.rules = None if text else table.rules
            self._written(table, plan, wants)

    def _written(self, table: KeptTable, plan: Ruleset, wants: Wants) -> None:
        """Take what was planned for what is held, and tell who gets nobody any more."""
        held, table.held, table.sure, table.ours = table.held, plan, True, True
        for port in wants:
            if left := set(held.fronts[port].ring).difference(plan.fronts[port].ring):
                self.on_release(plan.family, port, frozenset(held.endpoints[number] for number in left))

    def _doubt(self, why: str) -> None:
        """Nothing is sure any more; the next transaction replaces everything."""
        if self.error is None:
            log.error("%s", why)
        self.error = why
        for table in self._tables.values():
            table.sure = False

    async def look(self) -> None:
        """Take up what the kernel has counted and who refused; repair the tables if somebody changed them."""
        async with self._access:
            if not self.in_charge:
                return
            tables = [table for table in self._tables.values() if table.sure and table.ours and not self._removed]
            try:
                for table in tables:
                    self._take_up(table)
                if await self._watch.look(tables):
                    self._changed.set()
            except (NftError, NetlinkError, adopted.UnreadableError) as error:
                if not tells_of_a_change(error):
                    self._seeing.say(
                        type(error).__name__, logging.ERROR, "the kernel's rules cannot be read: %s", error
                    )
                    return
                self.repairs += 1
                self._doubt(f"somebody changed our rules: {error}")
                self._changed.set()
            else:
                self._seeing.say("", logging.INFO, "the kernel's rules can be read again")

    def _take_up(self, table: KeptTable) -> None:
        """What a table has counted, and who refused."""
        where = table.held.family, table.held.table
        table.saw_refusing(frozenset(value & ~SIGNATURE_MASK for value in marks(*where, "dead")))
        for counted in take_counts(*where):
            self.packets[counted.name] += counted.packets
            self.bytes[counted.name] += counted.bytes

    def _save_counts(self, table: KeptTable) -> None:
        """What a table has counted goes with it when it is made anew."""
        if table.ours and not table.sure:
            with contextlib.suppress(NetlinkError):  # somebody else was faster
                self._take_up(table)

    async def withdraw(self) -> None:
        """Send nobody on any more; what is connected goes on."""
        nobody = {port: Want("round-robin", {}) for port in self._ports}
        ticket = self.want(dict.fromkeys(self._tables, nobody))
        self._withdrawn = True
        await self.settled(ticket)

    async def remove(self) -> None:
        """Take the tables out of the kernel, for good. Raises NftError.

        With them goes the translation of open connections, unless other tables in this network translate, too.
        """
        async with self._access:
            await self._nft.apply("".join(removal(family, table.held.table) for family, table in self._tables.items()))
            self._removed = True


def _numbers(held: Ruleset) -> Numbers:
    """Numbers go on from a random one: connections live on that bear those of a process before."""
    return Numbers(held, random.randint(1, MAX_ENDPOINT))  # noqa: S311 - no secret


async def _nothing() -> None:
    pass
