"""Tables that nobody keeps any more: found by name and by the ports they hold, and removed."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Set

from ambcore.model import Protocol
from ambnet.nft import Nft, NftError
from dynproxy import adopted
from dynproxy.forwarding import close_door
from dynproxy.ruleset import PREFIX, Port, are_rivals, removal, table_name

FAMILIES = ("ip", "ip6")


async def our_tables(nft: Nft) -> list[tuple[str, str]]:
    """Family and name of every table that a dynproxy made. Raises NftError."""
    return [
        (family, name)
        for family, name in adopted.tables(await nft.read("list tables"))
        if family in FAMILIES and name.startswith(PREFIX)
    ]


async def forgotten_tables(
    nft: Nft, listen: str | None, ports: Set[Port], *, but: str | None = None, own: str | None = None
) -> str:
    """The text that removes what a former self left on these ports: whoever listens there is us now.

    `but` names a table that stays, `own` one that goes whatever its ports. Raises NftError.
    """
    ours = own or but or table_name(listen, (port.number for port in ports))
    return "".join(
        [
            removal(family, name)
            for family, name in await our_tables(nft)
            if name == own or (name != but and are_rivals(name, ours) and await _ports(nft, family, name) & ports)
        ]
    )


async def _ports(nft: Nft, family: str, name: str) -> set[Port]:
    """The ports that a table serves; none if it does not look like ours.

    Each set is asked for by itself: of two in one call, nft 1.0.6 finds only the second.
    """
    with contextlib.suppress(NftError, adopted.UnreadableError):
        sets = {each: await nft.read(f"list set {family} {name} {each.value}_ports") for each in Protocol}
        return {Port(protocol, number) for protocol, items in sets.items() for number in adopted.numbers(items)}
    return set()


async def clean_up() -> int:
    """Remove everything, say what it was, and return the exit code."""
    nft = Nft()
    try:
        found = await our_tables(nft)
        if found:
            await nft.apply("".join(removal(family, name) for family, name in found))
        await close_door(nft)
    except NftError as error:
        sys.stderr.write(f"dynproxy: nothing was removed: {error}\n")
        return 1
    names = ", ".join(f"{family} {name}" for family, name in found)
    sys.stdout.write(f"removed: {names}\n" if found else "there was nothing to remove\n")
    return 0
