"""Members of a cluster of three hosts that die, stand still or are cut off, under a whole fleet with clients."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from ambnet.etcd.endpoint import Endpoint, TlsFiles
from ambnet.etcd.protocol import grpc, rpc
from tests.support.etcd_fixtures import need_etcd
from tests.support.etcd_hosts import EtcdHosts
from tests.system.faults.fleet import SERVICE, Fleet, fleet

pytestmark = [pytest.mark.etcd, pytest.mark.system, pytest.mark.netns]

Figure = Callable[[str], None]
PLAIN = TlsFiles(None, None, None)


@dataclass(frozen=True)
class Site:
    hosts: EtcdHosts
    fleet: Fleet


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    need_etcd()
    folder = tmp_path_factory.mktemp("members")
    with EtcdHosts(folder / "etcd") as hosts, fleet(hosts.etcd, hosts.address, folder) as made:
        yield Site(hosts, made)


@pytest.fixture
def site(started: Site) -> Iterator[Site]:
    """The site as it should be, also after the test before."""
    yield started
    started.hosts.heal()
    for member in started.hosts.etcd.members:
        if member.suspended:
            member.resume()
    started.hosts.etcd.start()
    started.fleet.without_spare()


@pytest.mark.long
def test_A2_leader_kill_in_a_fleet(site: Site, figure: Figure) -> None:
    """No client notices, nothing registered goes away, and a new instance is known within five seconds."""
    before = site.fleet.held()
    with site.fleet.load() as load:
        site.hosts.etcd.leader().kill()
        took = site.fleet.wait_spare(seconds=5)
        load.stop()
    assert load.failures == []
    assert site.fleet.removals == []
    assert before.items() <= site.fleet.held().items()
    figure(f"{load.figure}; a new instance was known after {took:.1f} s; nothing was removed")


@pytest.mark.long
def test_A6_minority_partition_in_a_fleet(site: Site, figure: Figure) -> None:
    """One member after the other loses the others and not us, ours too: what is new is known within six seconds."""
    waits = []
    with site.fleet.load() as load:
        for member in site.hosts.etcd.members:
            site.hosts.part(member)
            waits.append(site.fleet.wait_spare(seconds=6))
            assert site.hosts.reaches(member)
            assert not site.hosts.etcd.healthy(member)
            assert site.fleet.removals == []
            site.hosts.heal()
            site.hosts.etcd.wait_healthy()
            site.fleet.without_spare()
        load.stop()
    assert load.failures == []
    figure(f"each member once: a new instance known after at most {max(waits):.1f} s; {load.figure}")


@pytest.mark.long
async def test_A6_control_without_asking_for_a_leader(site: Site, figure: Figure) -> None:
    """What we are spared: a watch that does not say `hasleader` hangs on the cut-off member, without a word."""
    alone = site.hosts.etcd.members[0]
    endpoint = Endpoint(alone.url, PLAIN)
    streams = {}
    for said, metadata in {"hasleader": (("hasleader", "true"),), "nothing": ()}.items():
        streams[said] = endpoint.watch.Watch(metadata=metadata)
        await streams[said].write(rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"/services/")))
        assert (await streams[said].read()).created
    site.hosts.part(alone)
    parted = time.monotonic()
    reading = {said: asyncio.create_task(stream.read()) for said, stream in streams.items()}
    done, _ = await asyncio.wait(reading.values(), timeout=30, return_when=asyncio.FIRST_COMPLETED)
    ended = time.monotonic() - parted
    assert done == {reading["hasleader"]}
    with pytest.raises(grpc.aio.AioRpcError, match="no leader"):
        await reading["hasleader"]
    await asyncio.sleep(30 - ended)  # the rule is that nothing comes
    assert not reading["nothing"].done()
    figure(f"control: with hasleader told after {ended:.1f} s, without it silent for 30 s")
    reading["nothing"].cancel()
    await asyncio.wait(reading.values())
    await endpoint.close()


@pytest.mark.long
def test_A3_all_members_stand_still_for_eight_seconds(site: Site, figure: Figure) -> None:
    """Less than the lease of ten: the same records under the same lease, and nothing but an older view."""
    before = site.fleet.held()
    with site.fleet.load() as load:
        for member in site.hosts.etcd.members:
            member.suspend()
        time.sleep(8)
        assert len(site.fleet.shown()) == 3
        for member in site.hosts.etcd.members:
            member.resume()
        took = site.fleet.wait_spare(seconds=10)
        load.stop()
    assert load.failures == []
    assert site.fleet.removals == []
    assert before.items() <= site.fleet.held().items()
    figure(f"{load.figure}; the same records under the same lease; a new instance known {took:.1f} s after the return")


@pytest.mark.long
def test_A7_blackhole_of_packets(site: Site, figure: Figure) -> None:
    """Packets between us and one member after the other are dropped: the watch moves within 16 s, the lease stays."""
    before = site.fleet.held()
    waits = []
    with site.fleet.load() as load:
        for member in site.hosts.etcd.members:
            site.hosts.swallow(member)
            waits.append(site.fleet.wait_spare(seconds=16))
            assert not site.hosts.reaches(member)
            time.sleep(max(0.0, 12 - waits[-1]))  # a lease that was lost would be by then
            assert site.fleet.removals == []
            site.hosts.heal()
            site.fleet.without_spare()
        load.stop()
    assert load.failures == []
    assert site.fleet.held() == before
    waited = ", ".join(f"{wait:.1f}" for wait in waits)
    figure(f"each member once: a new instance known after {waited} s, leases kept; {load.figure}")


@pytest.mark.long
def test_A11_a_member_that_slept_for_30_s_is_all_there_is(site: Site, figure: Figure) -> None:
    """It misses a hundred changes, wakes, and is the only one that can be reached: the view never goes back."""
    sleeper = site.hosts.etcd.members[0]
    revisions: list[int] = []
    watching = threading.Event()

    def look() -> None:
        while not watching.wait(0.05):
            revisions.append(site.fleet.proxy_service()["revision"])

    looking = threading.Thread(target=look)
    with site.fleet.load() as load:
        looking.start()
        sleeper.suspend()
        slept = time.monotonic()
        for number in range(100):
            record = {"host": site.fleet.address, "port": site.fleet.servers[0].port, "weight": number % 9 + 1}
            site.hosts.etcd.etcdctl("put", f"/services/{SERVICE}/changing", "--", json.dumps(record))
        time.sleep(max(0.0, 30 - (time.monotonic() - slept)))
        for member in site.hosts.etcd.members:
            if member is not sleeper:
                site.hosts.swallow(member)
        sleeper.resume()
        took = site.fleet.wait_spare(seconds=25)
        site.hosts.heal()
        site.hosts.etcd.etcdctl("del", f"/services/{SERVICE}/changing")
        site.fleet.wait_true(4, seconds=20)
        load.stop()
    watching.set()
    looking.join()
    assert load.failures == []
    assert revisions == sorted(revisions)
    ran = f"{revisions[0]} to {revisions[-1]}"
    figure(f"{len(revisions)} looks, the revision never lower than before ({ran})")
    figure(f"alone with it, a new instance known after {took:.1f} s; {load.figure}")
