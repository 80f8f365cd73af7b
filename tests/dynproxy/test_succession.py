"""Who writes when one dynproxy follows another: never two."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import cast

from ambnet.daemon import Life
from ambnet.handover.heir import arrive, say_ready
from ambnet.handover.words import PACKET, YOURS
from ambnet.threads import in_thread
from dynproxy.plane import DataPlane
from dynproxy.succession import succession
from tests.support.waiting import eventually_async


class Charge:
    """As much of a DataPlane as changes hands: `said` is what it was asked for, and it gives when it is let."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.may_give = asyncio.Event()

    async def give_charge(self) -> None:
        self.said.append("give")
        await self.may_give.wait()

    async def take_charge(self) -> None:
        self.said.append("take")


async def test_C6_one_that_is_told_to_end_takes_nothing_back_when_its_heir_gets_ready_at_that_moment(
    tmp_path: Path,
) -> None:
    """The heir was told that it is its turn: from then on it is the one that writes."""
    path = str(tmp_path / "hand-over")
    charge = Charge()
    plane = cast("DataPlane", charge)

    async def has_said(*what: str) -> bool:
        return charge.said == list(what)

    async with succession(path) as turns:
        turns.serve(list, plane, Life())
        heir = await in_thread(partial(arrive, path))
        assert heir.holder is not None
        leaving = asyncio.create_task(turns.leave(plane))
        await eventually_async(partial(has_said, "give"))
        say_ready(heir.holder)
        await eventually_async(partial(has_said, "give", "give"))
        charge.may_give.set()
        await leaving
        assert await in_thread(partial(heir.holder.recv, PACKET)) == YOURS
        for _ in range(10):  # whatever was begun by then goes on
            await asyncio.sleep(0)
        assert charge.said == ["give", "give"]
        assert turns.over
        heir.close()


async def test_one_whose_heir_goes_while_it_ends_has_to_clear_away_itself(tmp_path: Path) -> None:
    path = str(tmp_path / "hand-over")
    charge = Charge()
    plane = cast("DataPlane", charge)
    async with succession(path) as turns:
        turns.serve(list, plane, Life())
        heir = await in_thread(partial(arrive, path))
        assert heir.holder is not None
        leaving = asyncio.create_task(turns.leave(plane))
        await asyncio.sleep(0)
        heir.close()
        assert turns._holder is not None

        async def gone() -> bool:
            return turns._holder is not None and not turns._holder.has_heir

        await eventually_async(gone)
        charge.may_give.set()
        await leaving
        assert charge.said == ["give", "take"]
        assert not turns.over
