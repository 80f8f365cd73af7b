"""Whether the kernel's rules are still those that we wrote: anybody may flush them, or change one in place.

Every transaction, whoever's, adds one to the packet filter's generation number. While it is what it was after ours,
nobody has changed anything, and nothing has to be read.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable, Sequence

from ambnet.nft import Nft, NftError, Trouble
from ambnet.saying import Saying
from dynproxy import adopted
from dynproxy.filter_state import digest, generation
from dynproxy.forwarding import open_door
from dynproxy.kept_table import KeptTable
from dynproxy.netlink import NetlinkError

log = logging.getLogger("kernel")


class FilterWatch:
    """Use: `wrote` after each transaction of ours, `look` now and then."""

    def __init__(self, nft: Nft, families: Sequence[str]) -> None:
        self._nft = nft
        self._families = families
        self._generation: int | None = None  # as of which all tables are known to be as we wrote them
        self._door_seen = False  # whether it was looked at since somebody else changed something
        self._saying = Saying(log)

    def wrote(self, before: int | None, *, anew: bool) -> None:
        """Note a transaction of ours, the generation before it, and whether it made all tables `anew`.

        One that only changed something leaves what somebody else had done since the last look: that is to be found.
        """
        after, alone = generation(), before is not None and before == self._generation
        self._door_seen = self._door_seen and alone
        self._generation = after if before is not None and after == before + 1 and (anew or alone) else None

    async def look(self, tables: Iterable[KeptTable]) -> bool:
        """Whether a table's rules have to be written anew to be known; it is not `ours` until then.

        Raises what is wrong with the tables: NftError, NetlinkError or UnreadableError.
        """
        unknown = False
        if self._generation is None or generation() != self._generation:
            self._door_seen = False
            now = generation()
            for table in tables:
                unknown = await self._verify(table) or unknown
            self._generation = now
        else:
            self._remember(tables)
        if not self._door_seen:
            await self._keep_door_open()
            self._door_seen = True
        return unknown

    async def _verify(self, table: KeptTable) -> bool:
        items = await self._nft.read(f"list table {table.where}")
        found = digest(table.held.family, table.held.table)
        if not adopted.same(items, table.held) or table.rules not in {None, found}:
            raise adopted.UnreadableError(f"table {table.where} is not as it was written")
        if table.rules is None:
            table.ours = False
        return not table.ours

    def _remember(self, tables: Iterable[KeptTable]) -> None:
        """Note what the rules are that we wrote, as long as nobody else changed anything."""
        for table in tables:
            if table.rules is None:
                found = digest(table.held.family, table.held.table)
                table.rules = found if generation() == self._generation else None

    async def _keep_door_open(self) -> None:
        """Whoever changed something may have been Docker, with its chains made anew."""
        if why := await open_door(self._nft, self._families):
            self._saying.say(why, logging.ERROR, "clients of other machines may not get through: %s", why)
        else:
            self._saying.say("", logging.INFO, "nothing is in the way of the kernel's forwarding any more")


def tells_of_a_change(error: Exception) -> bool:
    """Whether the rules are not ours any more, rather than out of sight."""
    if isinstance(error, NftError):
        return error.kind is Trouble.REFUSED
    return not isinstance(error, NetlinkError) or error.errno == errno.ENOENT
