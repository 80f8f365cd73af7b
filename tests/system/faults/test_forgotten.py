"""Etcd forgets what is well: leases end all at once, or it comes back with an older state. Clients do not notice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ambctl.common import DONE
from tests.support.etcd_cluster import EtcdCluster
from tests.support.programs import Program
from tests.support.waiting import eventually
from tests.system.faults.fleet import NAMES, PREFIX, SERVICE, Fleet, fleet, own_address

pytestmark = [pytest.mark.etcd, pytest.mark.system]

Figure = Callable[[str], None]


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet with a cluster of its own, as its registrar is killed and its etcd restored."""
    with ExitStack() as stack:
        etcd = stack.enter_context(EtcdCluster(tmp_path / "etcd", heartbeat=100, election=1000))
        address = stack.enter_context(own_address())
        yield stack.enter_context(fleet(etcd, address, tmp_path))


def instances(fleet: Fleet) -> dict[str, dict[str, Any]]:
    """What the proxy says of its instances, by the name of the server that answers there."""
    names = {f"{fleet.address}:{server.port}": server.name for server in fleet.servers}
    return {names.get(item["address"], "?"): item for item in fleet.proxy_service()["instances"] or []}


def held(fleet: Fleet) -> str:
    """The names of those that are served though their records are gone."""
    return "".join(sorted(name for name, item in instances(fleet).items() if item["held"]))


def end_leases(fleet: Fleet) -> None:
    """As etcd does when their time is over: in one revision all that hangs on them is gone."""
    for lease in {record.lease for record in fleet.held().values()}:
        fleet.etcd.etcdctl("lease", "revoke", f"{lease:x}")


def test_A5_every_lease_ends_at_once(one: Fleet, figure: Figure) -> None:
    """While the registrar cannot see to it. Clients are served on by who answers; the records are back in seconds."""
    before = one.held()
    with one.load() as load:
        one.registrar.signal(signal.SIGSTOP)
        end_leases(one)
        eventually(lambda: held(one) == "abc", 15, "all are held")
        one.registrar.signal(signal.SIGCONT)
        woken = time.monotonic()
        one.wait_true(len(NAMES), seconds=15)
        back = time.monotonic() - woken
        eventually(lambda: held(one) == "", 10, "nobody is held any more")
        load.stop()
    assert load.failures == []
    assert one.removals == []
    assert {record.lease for record in one.held().values()}.isdisjoint(record.lease for record in before.values())
    eventually(lambda: "nobody is served beyond their records any more" in one.proxy.log, 10)
    assert one.proxy.log.count("nobody deleted them (its lease ended)") == 1
    figure(f"{load.figure}; held, and registered again {back:.1f} s after the registrar was woken")


@pytest.mark.long
@pytest.mark.parametrize("how", ["killed", "asleep"])
def test_A5_an_outage_longer_than_the_lease(one: Fleet, how: str, figure: Figure) -> None:
    """All members are gone for 25 s, the lease is 10 s: whatever etcd does with its leases on its return."""
    before = one.held()
    with one.load() as load:
        for member in one.etcd.members:
            member.kill() if how == "killed" else member.suspend()
        time.sleep(25)
        for member in one.etcd.members:
            member.start() if how == "killed" else member.resume()
        one.etcd.wait_healthy()
        returned = time.monotonic()
        one.wait_true(len(NAMES), seconds=15)
        back = time.monotonic() - returned
        eventually(lambda: held(one) == "", 10, "nobody is held any more")
        load.stop()
    assert load.failures == []
    assert one.removals == []
    assert back < 3
    kept = {record.lease for record in one.held().values()} == {record.lease for record in before.values()}
    leases = "etcd gave the leases their time anew" if kept else "all leases had ended"
    figure(f"members {how} for 25 s: {load.figure}; {leases}, all registered {back:.1f} s after its return")


@pytest.mark.long
def test_A5_a_registrar_cut_off_for_longer_than_its_lease(one: Fleet, figure: Figure) -> None:
    """It sleeps for 20 s; leases end by themselves, here, and nobody revoked them."""
    with one.load() as load:
        one.registrar.signal(signal.SIGSTOP)
        eventually(lambda: one.held() == {}, 25, "every lease has ended")
        eventually(lambda: held(one) == "abc", 5, "all are held")
        time.sleep(5)
        one.registrar.signal(signal.SIGCONT)
        woken = time.monotonic()
        one.wait_true(len(NAMES), seconds=15)
        back = time.monotonic() - woken
        load.stop()
    assert load.failures == []
    assert one.removals == []
    assert back < 3
    figure(f"leases ran out: {load.figure}; registered again {back:.1f} s after the registrar was woken")


def test_A5_who_is_held_goes_when_it_stops_to_answer(one: Fleet, figure: Figure) -> None:
    """With no registrar to come back: who answers is served, who dies goes, and what is held says so."""
    one.registrar.kill()
    end_leases(one)
    eventually(lambda: held(one) == "abc", 15, "all are held")
    assert one.held() == {}
    item = instances(one)["a"]
    assert item["held"]["why"] == "its lease ended"
    assert abs(item["held"]["since"] - time.time()) < 60
    one.servers[0].kill()
    killed = time.monotonic()
    with one.load(held=0) as load:
        eventually(lambda: held(one) == "bc", 15, "the dead one is not held any more")
        took = time.monotonic() - killed
        load.stop()
    assert load.failures == []
    figure(f"killed while it was held: let go after {took:.1f} s; {load.figure}")


def test_A5_what_somebody_takes_away_goes_at_once(one: Fleet) -> None:
    """Though it answers, and though its record had a lease: `ambctl rm` of the last, a registrar that is stopped."""
    records = sorted(one.held())
    for name in records[:-1]:
        one.etcd.etcdctl("del", f"{PREFIX}{name}")
    eventually(lambda: len(one.shown()) == 1, 10)
    where = ("--etcd", one.etcd.endpoints[0])
    with Program("ambctl", "rm", SERVICE, records[-1], *where) as rm:
        assert rm.process.wait(30) == DONE
    eventually(lambda: one.shown() == {}, 10, "the last one is gone")
    assert "nobody deleted them" not in one.proxy.log


def test_A5_a_registrar_that_takes_its_records_back_is_believed(one: Fleet) -> None:
    """Its containers run on and answer, but somebody has stopped it, not lost it."""
    before = {record.lease for record in one.held().values()}
    one.registrar.kill()
    with Program(*_again(one, "--on-exit", "deregister")) as registrar:
        eventually(lambda: before.isdisjoint(record.lease for record in one.held().values()), 20, "it has adopted all")
        one.wait_true(len(NAMES), seconds=20)
        assert registrar.stop() == 0
        eventually(lambda: one.shown() == {}, 10, "all are gone")
    assert "nobody deleted them" not in one.proxy.log


def test_A10_an_older_state_is_restored(one: Fleet, tmp_path: Path, figure: Figure) -> None:
    """From a snapshot before anything was registered, by the same members: nothing vanishes for clients, and registrar
    writes everything anew.
    """
    with_nothing = tmp_path / "nothing"
    records = one.held()
    one.registrar.signal(signal.SIGSTOP)
    for name in records:  # a moment without records, to be taken a snapshot of
        one.etcd.etcdctl("del", f"{PREFIX}{name}")
    save(one.etcd, with_nothing)
    go_on(one)
    one.registrar.signal(signal.SIGCONT)
    one.etcd.etcdctl("lease", "revoke", f"{next(iter(records.values())).lease:x}")
    one.wait_true(len(NAMES), seconds=20)
    one.proxy.lines.clear()
    with one.load() as load:
        restore(one.etcd, with_nothing)
        returned = time.monotonic()
        one.wait_true(len(NAMES), seconds=20)
        back = time.monotonic() - returned
        one.proxy.wait_for("etcd has another past than it had", 20)
        one.wait_true(len(NAMES), seconds=20)
        load.stop()
    assert load.failures == []
    assert one.removals == []
    figure(f"restored to before the registration: {load.figure}; all registered {back:.1f} s after its return")


def test_A10_records_that_come_back_from_the_past_are_put_right(one: Fleet, tmp_path: Path, figure: Figure) -> None:
    """The snapshot knows the registrar's lease, so that is not lost: but one instance that has ended is back, and one
    that began since is missing.
    """
    save(one.etcd, tmp_path / "before")
    go_on(one)
    one.wait_spare(seconds=15)
    ended = one.servers[0]
    one.docker.remove(f"web-{ended.name}")
    one.wait_true(len(NAMES), seconds=15)
    expected = one.shown()
    restore(one.etcd, tmp_path / "before")
    returned = time.monotonic()
    eventually(lambda: one.shown() == expected and one.true(), 30, "the registry is right again")
    figure(f"restored to other records under the same lease: put right {time.monotonic() - returned:.1f} s later")


def save(etcd: EtcdCluster, to: Path) -> None:
    """A snapshot of what the cluster holds now."""
    environment = etcd.etcdctl_environment(etcd.endpoints[:1])
    subprocess.run(["etcdctl", "snapshot", "save", str(to)], env=environment, check=True, capture_output=True)


def go_on(fleet: Fleet) -> None:
    """Changes that tell nobody anything, so that the past of a snapshot taken before is told by its revision."""
    for number in range(30):
        fleet.etcd.etcdctl("put", f"{PREFIX}nothing", str(number))
    revision = fleet.etcd.etcdctl_json("del", f"{PREFIX}nothing")["header"]["revision"]
    eventually(lambda: fleet.proxy_service()["revision"] >= revision, 15, "it has seen them")


def restore(etcd: EtcdCluster, snapshot: Path) -> None:
    """Have every member begin anew from a snapshot, as its operator would."""
    etcd.stop()
    for member in etcd.members:
        said = dict(pairwise(member.command))
        same = ("--initial-cluster", "--initial-cluster-token", "--initial-advertise-peer-urls", "--name", "--data-dir")
        options = [f"{name}={said[name]}" for name in same]
        shutil.rmtree(said["--data-dir"])
        command = ["etcdctl", "snapshot", "restore", str(snapshot), *options]
        subprocess.run(command, env=os.environ | {"ETCDCTL_API": "3"}, check=True, capture_output=True)
    etcd.start()


def _again(fleet: Fleet, *options: str) -> tuple[str, ...]:
    """The registrar of the same host, once more."""
    return (fleet.registrar.name, *fleet.registrar.arguments, *options)
