"""Say in etcd that a program takes part in the fleet, as long as it does.

The announcement hangs on a lease and is written again only when it changes, the lease is another or etcd has lost it:
an idle fleet causes no watch event. Nobody depends on it but those who look, so nothing that goes wrong with it is
fatal.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from ambcore.errors import LeaseLostError, RegistryDeniedError, RegistryError
from ambcore.fleet import Announcement, Kind, admin_url, encode_program, named, program_key
from ambcore.model import MAX_INSTANCE, check_name, parse_ip, split_host_port
from ambcore.unreachable import Unreachable, fitting
from ambcore.version import VERSION
from ambnet.daemon import background
from ambnet.etcd import Etcd
from ambnet.fleet_options import FleetOptions
from ambnet.lease import LeaseKeeper
from ambnet.options import option
from ambnet.route import Route
from ambnet.saying import Saying

log = logging.getLogger("fleet")

TTL = 10  # seconds that an announcement outlives a program which was killed: as long as a record does, by default
LOOK = 2.0  # seconds between looks whether it is still true: what comes and goes faster need not be told
COMPARE = 60.0  # seconds between looks whether etcd still has it, +- 20 %: it may be deleted, or restored without it
LEASE_WAIT = 60.0  # seconds of one wait for a lease; there is always a next one
AGAIN = 60.0  # seconds before somebody is asked again who denied it
PAUSE = 5.0  # seconds that what cannot be reached stays as it was told: an instance may come and go all the time
GOODBYE = 1.0  # seconds for taking it back
NOT_ANNOUNCED: Mapping[str, str | None] = {"announced": None, "announce_error": None}  # in a status document


def parse_announce(text: str) -> str:
    """`yes`, `no` or `ADDR:PORT`; raises ValueError."""
    if text in ("yes", "no"):
        return text
    return admin_url(*split_host_port(text)).removeprefix("http://")


@dataclass(frozen=True, kw_only=True)
class AnnounceOptions(FleetOptions):
    """Whether a program shows itself to the fleet, and where its admin server is for others."""

    HEADING = "etcd"

    announce: str = option(
        "--announce",
        default="yes",
        help="announce this program in etcd: yes, no, or the ADDR:PORT at which others reach its --admin",
        parse=parse_announce,
        env=["AMB_ANNOUNCE"],
        metavar="WHERE",
    )


async def admin_for_others(options: AnnounceOptions, admin: tuple[str, int] | None, route: Route) -> str | None:
    """The URL by which others reach an admin server that listens at `admin`; None if there is none, or no way known.

    One that listens on all addresses is announced with the one that `route` tells. One on loopback stays what it is: a
    tool on that machine can use it.
    """
    if options.announce not in ("yes", "no"):
        return admin_url(*split_host_port(options.announce))
    if admin is None:
        return None
    host, port = admin
    if _is_wildcard(host):
        if (ip := await route()) is None:
            return None
        host = str(ip)
    try:
        return admin_url(host, port)
    except ValueError as error:
        log.info("the admin server cannot be announced: %s", error)
        return None


def _is_wildcard(host: str) -> bool:
    try:
        return not host or parse_ip(host).is_unspecified
    except ValueError:
        return False


class Announcer:
    """Announces this process as long as `run` does; `keeper` has to be entered.

    `admin` tells its URL for others, `services` what it serves or registers now, `unreachable` what it cannot reach.
    `owner` is set by a registrar that knows whose records it keeps. For status: `key`, None while nothing is announced,
    and `last_error`.
    """

    def __init__(  # noqa: PLR0917 - what it asks, in the order in which it asks them
        self,
        kind: Kind,
        etcd: Etcd,
        keeper: LeaseKeeper,
        fleet: str,
        admin: Callable[[], Awaitable[str | None]],
        services: Callable[[], Iterable[str]],
        *,
        unreachable: Callable[[], Iterable[Unreachable]] = tuple,
        look: float = LOOK,
        compare: float = COMPARE,
        again: float = AGAIN,
        pause: float = PAUSE,
    ) -> None:
        self.owner: str | None = None
        self.key: str | None = None
        self.last_error: str | None = None
        self._etcd, self._keeper = etcd, keeper
        self._fleet = fleet
        self._admin, self._services = admin, services
        self._unreachable = unreachable
        self._look, self._compare_every, self._again, self._pause = look, compare, again, pause
        host = host_name()
        self._program = Announcement(
            kind=kind,
            id=f"{host}-{secrets.token_hex(4)}",
            host=host,
            version=VERSION,
            admin=None,
            services=(),
            since=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )
        self._written: tuple[bytes, int] | None = None  # value and lease
        self._compare_at = 0.0  # monotonic, as is the next
        self._settled = 0.0  # when what cannot be reached may be told anew
        self._saying = Saying(log)

    async def run(self) -> None:
        """Endless."""
        grants = 0
        while True:
            try:
                lease = await self._keeper.held(LEASE_WAIT)
                if grants != self._keeper.grants:  # the way to etcd may be another, too
                    grants = self._keeper.grants
                    self._program = replace(self._program, admin=await self._admin())
                await self._compare()
                await self._write(lease)
            except LeaseLostError:
                self._keeper.lost(lease)
            except RegistryDeniedError as error:
                self.last_error = str(error)
                text = "this etcd user may not write %s: nobody is told of this program"
                self._saying.say("denied", logging.WARNING, text, self._key)
                await asyncio.sleep(self._again)
            except RegistryError as error:
                self.last_error = str(error)
            except Exception as error:  # noqa: BLE001 - a defect of ours is said, and is no reason to end the program
                self._saying.say("defect", logging.CRITICAL, "unforeseen, while announcing this program: %r", error)
            await asyncio.sleep(self._look)

    async def _write(self, lease: int) -> None:
        """Have etcd hold what is true now. Raises RegistryError."""
        program = self._as_it_is()
        value = encode_program(program)
        if self._written == (value, lease):
            return
        await self._etcd.put(self._key.encode(), value, lease)
        was, now = self._program, program
        if (was.unreachable, was.others_unreachable) != (now.unreachable, now.others_unreachable):
            self._settled = time.monotonic() + self._pause
        self._program = program
        self._written = value, lease
        self.key, self.last_error = self._key, None
        self._saying.say("announced", logging.INFO, "announced as %s", self._key)

    async def _compare(self) -> None:
        """Now and then, find out whether etcd still has what was written. Raises RegistryError."""
        if self._written is None or time.monotonic() < self._compare_at:
            return
        self._compare_at = time.monotonic() + self._compare_every * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load
        with contextlib.suppress(RegistryDeniedError):  # who may only write does not know
            found = await self._etcd.get(self._key.encode())
            if found is None or (found.value, found.lease) != self._written:
                self._written = None

    def _as_it_is(self) -> Announcement:
        """What is true now, but for what cannot be reached so soon after it was told."""
        services, more = named(self._services())
        program = replace(self._program, services=services, more=more, owner=self.owner)
        if time.monotonic() < self._settled:
            return program
        unreachable, others = fitting(self._unreachable())
        return replace(program, unreachable=unreachable, others_unreachable=others)

    def status(self) -> dict[str, str | None]:
        """For the status document."""
        return {"announced": self.key, "announce_error": self.last_error}

    async def withdraw(self) -> None:
        """Take it back, if etcd answers; else the lease does."""
        written, self._written, self.key = self._written, None, None
        if written and self._etcd.connected:
            with contextlib.suppress(RegistryError, TimeoutError):
                async with asyncio.timeout(GOODBYE):
                    await self._etcd.delete(self._key.encode())

    @property
    def _key(self) -> str:
        return program_key(self._program.kind, self._program.id, self._fleet)


@contextlib.asynccontextmanager
async def announced(announcer: Announcer | None) -> AsyncIterator[None]:
    """Announce while the body runs; with None do nothing."""
    if announcer is None:
        yield
        return
    try:
        async with background(announcer.run):
            yield
    finally:
        await announcer.withdraw()


def host_name() -> str:
    """This machine's name, or the container's."""
    try:
        return check_name("host", socket.gethostname(), MAX_INSTANCE - len("-01234567"))
    except ValueError:
        return "unnamed"
