"""What somebody who may write the prefix can do to a whole dynproxy: hostile values, and very many of them."""

from __future__ import annotations

import base64
import itertools
import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus

import pytest

from dynproxy.ruleset import PREFIX
from tests.ambcore.test_hostile_records import MAKERS
from tests.support.hosts import Host
from tests.support.programs import fetch
from tests.support.waiting import eventually
from tests.system.kernel_hosts import BATCH, KernelProxy, Stage
from tests.system.kernel_load import Load

pytestmark = [pytest.mark.etcd, pytest.mark.netns, pytest.mark.system]

Figure = Callable[[str], None]

LONG = pytest.mark.long
BOTH = pytest.mark.parametrize("plane", ["kernel", pytest.param("relay", marks=LONG)])
ALLOWED = "10.78.0.0/24"  # where the good instances are

# Counts every packet that begins something with anybody but the allowed, the proxy itself and its etcd.
ORACLE = f"""
table inet oracle {{
    chain out {{
        type filter hook postrouting priority 300; policy accept;
        ip daddr {{ {ALLOWED}, 10.77.1.0/24 }} accept
        oifname "lo" ip daddr {{ 127.0.0.1, 10.77.1.1, 10.77.2.1 }} accept
        icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld2-listener-report }} accept
        tcp flags & (syn | ack) == syn counter comment "forbidden connects"
        meta l4proto udp counter comment "forbidden datagrams"
    }}
}}
"""


@pytest.fixture
def anywhere(stage: Stage) -> Iterator[None]:
    """The proxy has a way to wherever a record may say: else nothing would leave, and nothing be seen."""
    ways = [("-4", stage.hosts.server.ipv4), ("-6", stage.hosts.server.ipv6)]
    for version, via in ways:
        stage.hosts.proxy.run("ip", version, "route", "add", "default", "via", via)
    yield
    for version, via in ways:
        stage.hosts.proxy.run("ip", version, "route", "delete", "default", "via", via)


def forbidden(host: Host) -> int:
    """How many connections were begun where none must be."""
    listing = host.output("nft", "list", "table", "inet", "oracle")
    counts = [int(count) for count in re.findall(r"counter packets (\d+)", listing)]
    assert len(counts) == 2
    return sum(counts)


def write_raw(stage: Stage, values: Mapping[str, bytes]) -> None:
    """Write values under the service, in transactions of at most BATCH."""

    def encoded(data: bytes) -> str:
        return base64.b64encode(data).decode()

    puts = [
        {"requestPut": {"key": encoded(f"/services/{stage.service}/{name}".encode()), "value": encoded(value)}}
        for name, value in values.items()
    ]
    for start in range(0, len(puts), BATCH):
        stage.registry._ask(puts[start : start + BATCH])


def hostile(total: int) -> Iterator[dict[str, bytes]]:
    """So many hostile values in batches, under ever the same few thousand names."""
    lot = random.Random(24)
    names = [f"h{number}" for number in range(100)]
    for _ in range(0, total, BATCH):
        yield {lot.choice(names) + f"-{place}": lot.choice(MAKERS)(lot) for place in range(BATCH)}


@pytest.mark.usefixtures("anywhere")
@BOTH
@pytest.mark.parametrize("total", [2_000, pytest.param(100_000, marks=LONG)])
def test_C24_poison_values(stage: Stage, figure: Figure, plane: str, total: int) -> None:
    """Nobody is connected to outside the allowed network, by checks, by clients or by the kernel; nothing crashes, and
    the good ones' last good records stay.
    """
    proxy_host = stage.hosts.proxy
    good = {each.host: each for each in stage.servers}
    options = ("--instances-in", ALLOWED, "--check-interval", "0.2", "--log-level", "info")
    with stage.serving(*stage.servers, plane=plane, options=options) as proxy:
        proxy_host.nft(ORACLE)
        processes = proxy.status()["plane"]["processes"]
        spoilt = dict.fromkeys(good, b'{"host": "169.254.169.254", "port": 80}')
        with Load(stage.hosts.client, stage.to, 50) as clients:
            for values in hostile(total):
                write_raw(stage, values)
                write_raw(stage, spoilt)
            write_raw(stage, {f"own{n}": json.dumps({"host": host, "port": stage.port}).encode() for n, host in OWN})
            stage.registry.put(stage.service, "last", stage.servers[0].host, 6379)
            eventually(lambda: "last" in names(proxy, stage), 60, "all of it was read")
            time.sleep(1)  # time for checks and clients to go where they must not
        shown = {item["id"]: item["address"] for item in proxy.service(stage.service)["instances"]}
        refused = proxy.metric("amb_records_refused_total", service=stage.service)
        assert {name: shown[name] for name in good} == {name: f"{name}:6379" for name in good}
        assert not any(name.startswith("own") for name in shown)
        assert proxy.status()["plane"]["processes"] == processes
        assert forbidden(proxy_host) == 0
    assert refused > total / 4, "these values are not hostile"
    assert clients.outcome.errors == {}
    figure(f"{plane}: {total:,} hostile values, {refused:,.0f} refused: 0 forbidden connects, no process ended")


@pytest.mark.usefixtures("anywhere")
def test_C24_the_oracle_sees_a_connect_where_none_must_be(stage: Stage) -> None:
    """The control: without an allow-list a record leads the checks to wherever it says."""
    with stage.serving(stage.servers[0], options=("--check-interval", "0.2")):
        stage.hosts.proxy.nft(ORACLE)
        assert forbidden(stage.hosts.proxy) == 0
        stage.registry.put(stage.service, "steered", "10.1.2.3", 80)
        eventually(lambda: forbidden(stage.hosts.proxy) > 0, 20, "the check is seen")


OWN = tuple(enumerate(("10.77.1.1", "10.77.2.1", "127.0.0.1", "::ffff:10.77.1.1", "fd77:1::1")))


def names(proxy: KernelProxy, stage: Stage) -> set[str]:
    return {item["id"] for item in proxy.service(stage.service)["instances"] or ()}


@BOTH
@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=LONG)])
def test_C26_event_storm_of_5000_changes_a_second(stage: Stage, figure: Figure, plane: str, seconds: int) -> None:
    """At most 20 updates of the plane a second, a prompt event loop, right a second after the end, and no client error
    of those who talk to what stays.
    """
    instances, batch = 500, 125
    homes, places = itertools.cycle(range(100, 105)), itertools.cycle(range(instances))

    def updates() -> dict[str, dict[str, object]]:
        home = next(homes)
        some = [next(places) for _ in range(batch)]
        return {f"{stage.service}/i{n}": {"host": f"10.78.{home}.{n % 250}", "port": 1000 + n} for n in some}

    with stage.proxy("--plane", plane, "--check-interval", "0") as proxy:
        for _ in range(instances // batch):
            stage.registry.write(updates())
        eventually(lambda: len(names(proxy, stage)) == instances, 20)
        asking = Asking(proxy)
        before, started, lag = applies(proxy, plane), time.monotonic(), 0.0
        last: dict[str, str] = {}
        for number in range(seconds * 5000 // batch):
            time.sleep(max(0.0, started + number * batch / 5000 - time.monotonic()))
            some = updates()
            stage.registry.write(some)
            last |= {name.partition("/")[2]: f"{value['host']}:{value['port']}" for name, value in some.items()}
            if number % 400 == 399:  # every ten seconds: it remembers the worst of the last fifteen
                lag = max(lag, proxy.metric("amb_loop_lag_seconds"))
        ended = time.monotonic()
        answered = asking.ended()
        eventually(lambda: serves(proxy, stage, plane) == last, 20, "converged")
        converged = time.monotonic() - ended
        lag = max(lag, proxy.metric("amb_loop_lag_seconds"))
        count = applies(proxy, plane) - before
    took = ended - started
    figure(
        f"{plane}: {seconds * 5000 / took:,.0f} changes a second for {took:.0f} s: {count / took:.1f} updates a "
        f"second, {answered * 1000:.0f} ms until its loop answers (p99), at most {lag * 1000:.0f} ms late, "
        f"right {converged:.2f} s after the end"
    )
    assert took < (3 if seconds < 60 else 1.5) * seconds, "this was no storm"
    assert count <= 20 * took + 5
    brief = seconds < 60  # beside other work, as tests often are
    assert converged < (3 if brief else 1 + 0.5)  # the look itself takes a while
    assert answered < (1 if brief else 0.1)


class Asking:
    """Asks a program's event loop for a sign of life, fifty times a second, until `ended`."""

    def __init__(self, proxy: KernelProxy) -> None:
        self._url = f"http://{proxy.admin}/healthz"
        self._over = threading.Event()
        self._times: list[float] = []
        self._thread = threading.Thread(target=proxy.host.call, args=(self._ask,), daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        while not self._over.wait(0.02):
            began = time.monotonic()
            assert fetch(self._url)[0] == HTTPStatus.OK
            self._times.append(time.monotonic() - began)

    def ended(self) -> float:
        """The seconds within which 99 of 100 answers came."""
        self._over.set()
        self._thread.join(10)
        assert len(self._times) > 20, "it was hardly asked"
        return sorted(self._times)[len(self._times) * 99 // 100]


def applies(proxy: KernelProxy, plane: str) -> float:
    """How often the plane was told something new."""
    return proxy.kernel()["transactions"] if plane == "kernel" else proxy.metric("amb_plane_updates_total")


def serves(proxy: KernelProxy, stage: Stage, plane: str) -> dict[str, str]:
    """Where the plane sends clients, by instance."""
    shown = {item["id"]: item["address"] for item in proxy.service(stage.service)["instances"]}
    if plane == "kernel":
        listed = stage.hosts.proxy.output("nft", "list", "map", "ip", f"{PREFIX}{stage.port}", "to")
        held = {f"{host}:{port}" for host, port in re.findall(r": ([0-9.]+) \. (\d+)", listed)}
        return shown if held == set(shown.values()) else {}
    return shown
