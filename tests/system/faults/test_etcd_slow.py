"""An etcd that is slow, full, away for long, or not asked for anything: what becomes of leases and of clients."""

from __future__ import annotations

import contextlib
import http.server
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.etcd_cluster import EtcdCluster
from tests.support.etcd_fixtures import need_etcd
from tests.support.fault_proxy import FaultProxy, Toxic
from tests.support.frozen_disk import FrozenDisk
from tests.support.ports import free_port
from tests.support.programs import Program, status
from tests.support.waiting import eventually
from tests.system.faults.fleet import SERVICE, fleet, own_address

pytestmark = [pytest.mark.etcd, pytest.mark.system]

Figure = Callable[[str], None]
SLOW = Toxic(latency=0.5, jitter=0.2)


def cluster_at(folder: Path, *options: str) -> EtcdCluster:
    """Three members with etcd's own times."""
    need_etcd()
    return EtcdCluster(folder, heartbeat=100, election=1000, options=options)


@pytest.mark.long
def test_A18_half_a_second_each_way(tmp_path: Path, figure: Figure) -> None:
    """500 ms +- 200 ms in each direction, for four leases: the same lease, and an instance that comes is seen."""
    with ExitStack() as stack:
        address = stack.enter_context(own_address())
        etcd = stack.enter_context(cluster_at(tmp_path / "etcd"))
        between = [stack.enter_context(FaultProxy(url)) for url in etcd.endpoints]
        made = stack.enter_context(fleet(etcd, address, tmp_path, endpoints=[proxy.url for proxy in between]))
        before = made.held()
        with made.load() as load:
            for proxy in between:
                proxy.both_ways(SLOW)
            slow = time.monotonic()
            took = made.wait_spare(seconds=15)
            time.sleep(max(0.0, 40 - (time.monotonic() - slow)))
            load.stop()
        assert load.failures == []
        assert made.removals == []
        assert before.items() <= made.held().items()
        assert "is gone" not in made.registrar.log
    figure(f"latency: lease of 10 s held for 40 s; a new instance known after {took:.1f} s; {load.figure}")


@pytest.mark.long
def test_A18_a_disk_that_stands_still_for_five_seconds(tmp_path: Path, figure: Figure) -> None:
    """All members' data on a file system that is frozen: neither fsync nor write returns. No lease is lost."""
    with ExitStack() as stack:
        address = stack.enter_context(own_address())
        disk = stack.enter_context(FrozenDisk(tmp_path))
        etcd = stack.enter_context(cluster_at(disk.path / "etcd"))
        made = stack.enter_context(fleet(etcd, address, tmp_path))
        before = made.held()
        with made.load() as load:
            for _ in range(2):
                writing = threading.Thread(target=etcd.etcdctl, args=("put", "/written", "through the stall"))
                with disk.frozen():
                    writing.start()
                    time.sleep(5)
                    assert writing.is_alive(), "the disk did not stand still"
                writing.join()
                time.sleep(8)  # a lease that was lost would be by then
            took = made.wait_spare(seconds=10)
            load.stop()
        assert load.failures == []
        assert made.removals == []
        assert before.items() <= made.held().items()
    figure(f"disk: two stalls of 5 s, the same leases; a new instance known after {took:.1f} s; {load.figure}")


@pytest.mark.long
def test_A19_no_space_left_under_a_registrar(tmp_path: Path, figure: Figure) -> None:
    """What is registered stays for two leases, a new container cannot be, which is said; with room again it is."""
    quota = ("--quota-backend-bytes", str(8 << 20))
    with ExitStack() as stack:
        address = stack.enter_context(own_address())
        etcd = stack.enter_context(cluster_at(tmp_path / "etcd", *quota))
        made = stack.enter_context(fleet(etcd, address, tmp_path))
        with made.load() as load:
            before = made.held()
            for number in range(16):
                with contextlib.suppress(AssertionError):
                    etcd.etcdctl("put", f"/filler/{number}", stdin="x" * (1 << 20))
            assert "NOSPACE" in etcd.etcdctl("alarm", "list")
            made.run(made.spare)
            made.registrar.wait_for("(?i)space exceeded")
            time.sleep(20)
            assert made.held() == before
            make_room(etcd)
            eventually(lambda: made.true() and len(made.shown()) == len(before) + 1, 35, "the spare instance")
            load.stop()
            assert load.failures == []
            assert made.removals == []
            said = next(line for line in made.registrar.lines if "space exceeded" in line)
    figure(f"records held for 20 s without space; said: {said.strip()[:110]}; {load.figure}")


def make_room(etcd: EtcdCluster) -> None:
    """As the manual of etcd has it: delete, compact, defragment, take the alarm back."""
    answer = etcd.etcdctl_json("del", "--prefix", "/filler/")
    etcd.etcdctl("compaction", str(answer["header"]["revision"]), "--physical")
    etcd.etcdctl("defrag")
    etcd.etcdctl("alarm", "disarm")


@pytest.mark.long
@pytest.mark.waits
def test_A4_ten_minutes_without_etcd(tmp_path: Path, figure: Figure) -> None:
    """Clients of living instances notice nothing, the status tells the age; 5 s after the return all is new."""
    with cluster_at(tmp_path / "etcd") as etcd, own_address() as address, fleet(etcd, address, tmp_path) as made:
        with made.load(rate=20) as load:
            etcd.stop()
            time.sleep(600)
            age = made.proxy_service()["view_age"]
            assert len(made.shown()) == 3
            etcd.start()
            took = made.wait_spare(seconds=5)
            load.stop()
        assert load.failures == []
        assert age > 590
    figure(f"view {age:.0f} s old; a new instance known {took:.1f} s after the return; {load.figure}")


@pytest.mark.long
@pytest.mark.waits
def test_A17_fifteen_minutes_of_silence(tmp_path: Path, figure: Figure) -> None:
    """Nothing changes, nothing is asked: no connection is sent away for its pings, and none is made anew."""
    with ExitStack() as stack:
        address = stack.enter_context(own_address())
        etcd = stack.enter_context(cluster_at(tmp_path / "etcd"))
        between = [stack.enter_context(FaultProxy(url)) for url in etcd.endpoints]
        made = stack.enter_context(fleet(etcd, address, tmp_path, endpoints=[proxy.url for proxy in between]))
        before, connections = made.held(), sum(proxy.accepted for proxy in between)
        lines = len(made.proxy.lines), len(made.registrar.lines)
        time.sleep(900)
        assert sum(proxy.accepted for proxy in between) == connections
        assert made.held() == before
        assert (made.proxy.lines[lines[0] :], made.registrar.lines[lines[1] :]) == ([], [])
        assert "too_many_pings" not in "".join((member.folder / "log").read_text() for member in etcd.members)
    figure(f"15 minutes: the same {connections} connections, not a line in either log")


@pytest.mark.long
def test_A21_two_endpoints_of_three_are_garbage(tmp_path: Path, figure: Figure) -> None:
    """No name, and HTTP/1.1: all is known from the third within three seconds of a start, and there is no busy loop.

    What both programs cost is shown beside what they cost with good endpoints only.
    """
    need_etcd()
    shares = {}
    with ExitStack() as stack:
        address = stack.enter_context(own_address())
        etcd = stack.enter_context(EtcdCluster(tmp_path / "etcd", size=1))
        bad = ["http://nowhere.invalid:2379", stack.enter_context(http_server())]
        garbage = [bad[0], *etcd.endpoints, bad[1]]
        for kind, endpoints in {"good": [], "garbage": garbage}.items():
            folder = tmp_path / kind
            folder.mkdir()
            with fleet(etcd, address, folder, endpoints=endpoints) as made:
                made.wait_spare(seconds=5)
                programs = {"dynproxy": made.proxy.pid, "registrar": made.registrar.pid}
                before, began = {name: processor_seconds(pid) for name, pid in programs.items()}, time.monotonic()
                time.sleep(40)
                passed = time.monotonic() - began
                for name, pid in programs.items():
                    shares[name, kind] = (processor_seconds(pid) - before[name]) / passed
        starts = [time_to_know(garbage) for _ in range(5)]
    said = "; ".join(f"{name} with {kind} endpoints {share:.2%}" for (name, kind), share in shares.items())
    figure(f"from a start to instances at most {max(starts):.1f} s of 5; of a core: {said}")
    assert max(starts) < 3
    assert max(shares["dynproxy", "garbage"], shares["registrar", "garbage"]) < 0.02


def time_to_know(endpoints: Sequence[str]) -> float:
    """Seconds from listening to knowing the service, which may be empty, of a dynproxy; the order is shuffled."""
    admin = f"127.0.0.1:{free_port()}"
    where = ("--etcd", ",".join(endpoints), "--admin", admin, "--listen", "127.0.0.1")
    with Program("dynproxy", SERVICE, str(free_port()), *where) as proxy:
        proxy.wait_for("listening for")
        listening = time.monotonic()
        eventually(lambda: status(admin)["services"][0]["instances"] is not None, 15, "the service is known")
        return time.monotonic() - listening


class SpeakHttp(http.server.BaseHTTPRequestHandler):
    """Answers whatever comes as a server of HTTP/1.1 does; the beginning of HTTP/2 is a bad request to it."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def http_server() -> Iterator[str]:
    """The URL of a server that speaks HTTP/1.1 only."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), SpeakHttp) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            serving.join()


def processor_seconds(pid: int) -> float:
    """What a process has spent of a core so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
