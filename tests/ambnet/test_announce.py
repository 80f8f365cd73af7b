"""What a program tells the fleet of itself, and what it hears of operators' drains, on a real etcd."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from ambcore.drains import Drains
from ambcore.fleet import Announcement, Drain, Kind, drain_key, program_key
from ambcore.history import KeyValue
from ambcore.model import IPAddress, parse_ip
from ambcore.unreachable import Unreachable
from ambcore.version import VERSION
from ambnet.announce import AnnounceOptions, Announcer, admin_for_others, announced, host_name, parse_announce
from ambnet.etcd import Etcd, EtcdConfig
from ambnet.fleet import DrainWatch, drains, programs
from ambnet.lease import LeaseKeeper
from ambnet.merged import merged
from tests.support.etcd_cluster import EtcdCluster
from tests.support.etcd_users import allow, let_in, login, password_in
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.etcd

ADMIN = "http://10.0.0.2:9901"
ONE = Drain("redis-A", "one", why="disk")


@pytest_asyncio.fixture
async def etcd(shared_etcd: EtcdCluster) -> AsyncIterator[Etcd]:
    async with Etcd(EtcdConfig(shared_etcd.endpoints)) as client:
        yield client


class Scene:
    """An announcer that looks often, and what it is asked to tell."""

    def __init__(self, etcd: Etcd, fleet: str) -> None:
        self.services = ["redis-A"]
        self.down: list[Unreachable] = []
        self.keeper = LeaseKeeper(etcd, 2, quiet=True)
        self.announcer = Announcer(
            Kind.DYNPROXY,
            etcd,
            self.keeper,
            fleet,
            self._admin,
            lambda: self.services,
            unreachable=lambda: self.down,
            look=0.05,
            compare=0.2,
            again=0.1,
            pause=1.0,
        )
        self._etcd, self._fleet = etcd, fleet

    async def _admin(self) -> str:
        return ADMIN

    @contextlib.asynccontextmanager
    async def announced(self) -> AsyncIterator[None]:
        async with self.keeper, announced(self.announcer):
            yield

    async def told(self, *services: str) -> Announcement:
        """What the fleet knows, once it knows these services."""

        async def look() -> Announcement | None:
            found = await programs(self._etcd, self._fleet)
            return found[0] if found and found[0].services == services else None

        found = await eventually_async(look)
        assert found is not None
        return found

    async def key(self) -> KeyValue:
        assert self.announcer.key is not None
        found = await self._etcd.get(self.announcer.key.encode())
        assert found is not None
        return found


async def test_a_program_is_told_of_while_it_runs_and_written_again_only_when_it_changes(
    etcd: Etcd, prefix: str
) -> None:
    """Two whole leases pass without a write: an idle fleet causes no watch event."""
    scene = Scene(etcd, prefix)
    async with scene.announced():
        told = await scene.told("redis-A")
        assert (told.kind, told.host, told.version, told.admin) == (Kind.DYNPROXY, host_name(), VERSION, ADMIN)
        first = await scene.key()
        assert first.lease == scene.keeper.lease
        started = time.monotonic()

        async def two_leases_later() -> bool:
            return time.monotonic() - started > 2 * scene.keeper.ttl

        await eventually_async(two_leases_later)
        assert (await scene.key()).revision == first.revision
        scene.services.append("web")
        await scene.told("redis-A", "web")
    assert await programs(etcd, prefix) == ()


async def test_what_cannot_be_reached_is_told_at_once_and_a_flapping_instance_writes_seldom(
    etcd: Etcd, prefix: str
) -> None:
    """At most a write a pause, whatever happens in between; what else changes does not wait for that."""
    scene = Scene(etcd, prefix)
    one = Unreachable("2026-01-31T12:00:00Z", "redis-A", "one", "refused")
    async with scene.announced():
        await scene.told("redis-A")
        scene.down = [one]

        async def told() -> bool:
            return (await programs(etcd, prefix))[0].unreachable == (one,)

        await eventually_async(told)
        began, versions = time.monotonic(), set[int]()
        while time.monotonic() - began < 3:
            scene.down = [] if scene.down else [one]
            versions.add((await scene.key()).revision)
            await asyncio.sleep(0.02)
        assert len(versions) <= 2 + (time.monotonic() - began)  # a second is the pause here
        revision = (await scene.key()).revision
        scene.services.append("web")
        await scene.told("redis-A", "web")
        assert (await scene.key()).revision > revision


async def test_an_announcement_comes_back_with_another_lease(etcd: Etcd, prefix: str) -> None:
    scene = Scene(etcd, prefix)
    async with scene.announced():
        await scene.told("redis-A")
        lost = scene.keeper.lease
        await etcd.revoke(lost)

        async def again() -> bool:
            found = await etcd.get(str(scene.announcer.key).encode())
            return found is not None and found.lease not in (0, lost)

        await eventually_async(again)


@pytest.mark.parametrize("value", [None, b"an older one"])
async def test_an_announcement_that_etcd_lost_comes_back_under_the_same_lease(
    etcd: Etcd, prefix: str, value: bytes | None
) -> None:
    """As by a hand that deletes it, or a backup that is restored: the lease need not notice."""
    scene = Scene(etcd, prefix)
    async with scene.announced():
        await scene.told("redis-A")
        first = await scene.key()
        await (etcd.delete(first.key) if value is None else etcd.put(first.key, value, first.lease))

        async def again() -> bool:
            found = await etcd.get(first.key)
            return found is not None and (found.value, found.lease) == (first.value, first.lease)

        await eventually_async(again)
        assert scene.keeper.grants == 1


async def test_what_is_no_announcement_is_left_out_and_said(
    etcd: Etcd, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    await etcd.put(program_key(Kind.REGISTRAR, "strange", prefix).encode(), b"\x1b[31m")
    assert await programs(etcd, prefix) == ()
    assert "strange is no announcement" in caplog.text
    assert "\x1b" not in caplog.text


@pytest.mark.parametrize(
    ("announce", "admin", "route", "expected"),
    [
        ("yes", None, "10.0.0.2", None),
        ("yes", ("10.0.0.9", 9901), "10.0.0.2", "http://10.0.0.9:9901"),
        ("yes", ("0.0.0.0", 9901), "10.0.0.2", "http://10.0.0.2:9901"),  # noqa: S104
        ("yes", ("::", 9901), "2001:db8::2", "http://[2001:db8::2]:9901"),
        ("yes", ("::", 9901), None, None),
        ("yes", ("127.0.0.1", 9901), "10.0.0.2", "http://127.0.0.1:9901"),
        ("yes", ("core-02", 9901), "10.0.0.2", "http://core-02:9901"),
        ("yes", ("169.254.1.1", 9901), "10.0.0.2", None),
        ("192.0.2.1:80", ("0.0.0.0", 9901), "10.0.0.2", "http://192.0.2.1:80"),  # noqa: S104
        ("ambassador.example:80", None, None, "http://ambassador.example:80"),
    ],
)
async def test_where_others_reach_the_admin_server(
    announce: str, admin: tuple[str, int] | None, route: str | None, expected: str | None
) -> None:
    async def towards_etcd() -> IPAddress | None:
        return None if route is None else parse_ip(route)

    options = AnnounceOptions(announce=parse_announce(announce))
    assert await admin_for_others(options, admin, towards_etcd) == expected


@pytest.mark.parametrize("text", ["maybe", "0.0.0.0:80", "10.0.0.1", "10.0.0.1:0", "169.254.169.254:80", "", "a b:80"])
def test_what_cannot_be_announced_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_announce(text)


async def test_drains_are_known_at_the_start_and_followed(
    etcd: Etcd, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fleet")
    key = drain_key(ONE, prefix).encode()
    await etcd.put(key, b'{"why": "disk"}')
    await etcd.put(f"{prefix}drains/racks/7".encode(), b"")
    async with DrainWatch(etcd, prefix) as watch:
        await watch.settled(10)
        assert watch.known
        assert list(watch.drains) == [ONE]
        async with contextlib.aclosing(watch.changes()) as changes:
            assert list(await anext(changes)) == [ONE]
            await etcd.delete(key)
            assert list(await asyncio.wait_for(anext(changes), 10)) == []
    assert "an operator drains redis-A/one: disk" in caplog.text
    assert "an operator drains redis-A/one no more" in caplog.text
    assert "drains/racks/7 marks nothing" in caplog.text
    assert await drains(etcd, prefix) == Drains(refused=watch.drains.refused)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[EtcdCluster, EtcdConfig]]:
    """One member whose user `proxy` may read what others have, and nothing of the fleet."""
    with EtcdCluster(tmp_path / "etcd", size=1) as cluster:
        let_in(cluster, {"proxy": ["read /services/"]})
        yield cluster, login(cluster, "proxy", password_in(tmp_path))


async def test_who_may_not_take_part_says_so_once_and_recovers_when_allowed(
    guarded: tuple[EtcdCluster, EtcdConfig], caplog: pytest.LogCaptureFixture
) -> None:
    cluster, config = guarded
    cluster.etcdctl("put", drain_key(ONE), '{"why": "disk"}')
    async with Etcd(config) as etcd, DrainWatch(etcd) as watch:
        scene = Scene(etcd, "/ambassadors/")
        async with scene.announced():
            await watch.settled(10)
            assert (watch.known, watch.denied, len(watch.drains)) == (False, True, 0)

            async def refused() -> bool:
                return scene.announcer.last_error is not None

            await eventually_async(refused)
            assert scene.announcer.key is None
            for grant in ("read /ambassadors/drains/", "readwrite /ambassadors/programs/"):
                await asyncio.to_thread(allow, cluster, "proxy", grant)

            async def takes_part() -> bool:
                return scene.announcer.key is not None and list(watch.drains) == [ONE]

            await eventually_async(takes_part, 20)
            assert scene.announcer.last_error is None
    warnings = [record.getMessage() for record in caplog.records if record.name == "fleet" and record.levelno > 20]
    assert sorted(line.partition(" /")[0] for line in warnings) == [
        "this etcd user may not read",
        "this etcd user may not write",
    ]


async def _counted(words: str) -> AsyncIterator[str]:
    for word in words.split():
        yield word
    await asyncio.Event().wait()


async def test_merged_streams_give_what_each_gives() -> None:
    async with contextlib.aclosing(merged(_counted("a b c"), _counted("1 2"))) as stream:
        found = [await asyncio.wait_for(anext(stream), 10) for _ in range(5)]
        assert sorted(found) == ["1", "2", "a", "b", "c"]
        assert [word for word in found if word.isalpha()] == ["a", "b", "c"]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 0.05)


async def test_merged_streams_end_with_the_first_that_ends_or_fails() -> None:
    async def ended() -> AsyncIterator[str]:
        yield "last"

    async def failed() -> AsyncIterator[str]:
        yield "last"
        raise OSError("gone")

    assert [word async for word in merged(_counted(""), ended())] == ["last"]
    with pytest.raises(OSError, match="gone"):
        _ = [word async for word in merged(_counted(""), failed())]
