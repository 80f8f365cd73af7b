"""The figures that the documents quote, measured on the running demo: one line each, `name value unit`.

`python -m bench.figures [NAME…]` measures all, or those named. `make figures` starts the demo first if need be.
IDLE is the length of the idle watch in seconds (60).
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import os
import select
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import cast

from ambnet.etcd import Etcd, EtcdConfig
from bench.demo_host import (
    ETCD,
    HOST_A,
    docker,
    dynproxy,
    inspect,
    published,
    redis,
    registrar,
    rss_mib,
    tree,
    wait_until,
)
from bench.load import Outcome, Target, burst, steady_load

ROUNDS = 50
RATE = 200  # new connections a second
IDLE = float(os.environ.get("IDLE", "60"))
SERVICE = "amb-figures"
PING = b"PING\r\n"

Lines = list[tuple[str, float, str]]


@contextlib.asynccontextmanager
async def events() -> AsyncIterator[list[tuple[float, str, str]]]:
    """Every change under the prefix while the block runs: wall clock, PUT or DELETE, key. Watched by etcdctl."""
    process = await asyncio.create_subprocess_exec(
        "etcdctl", "--endpoints", ETCD, "watch", "--prefix", "/services/", "--write-out", "json",
        stdout=subprocess.PIPE, env={**os.environ, "ETCDCTL_API": "3"},
    )  # fmt: skip
    seen: list[tuple[float, str, str]] = []
    output = cast("asyncio.StreamReader", process.stdout)  # it was asked for

    async def read() -> None:
        while line := await output.readline():
            for event in json.loads(line).get("Events") or ():
                kind = "DELETE" if event.get("type") == 1 else "PUT"
                seen.append((time.time(), kind, event["kv"]["key"]))

    task = asyncio.create_task(read())
    await asyncio.sleep(1.0)  # etcdctl does not say when its watch stands
    try:
        yield seen
    finally:
        process.terminate()
        await process.wait()
        await task


async def start_to_key() -> Lines:
    """From the moment Docker says the container started to its key in etcd, over restarts."""
    with redis("start") as target, registrar("start-reg", target, SERVICE):
        times = []
        async with events() as seen:
            await asyncio.sleep(3)
            for _ in range(ROUNDS):
                await asyncio.to_thread(docker, "stop", "--time", "1", target)
                await asyncio.to_thread(wait_until, lambda: seen and seen[-1][1] == "DELETE", 10, "the key is gone")
                before = len(seen)
                await asyncio.to_thread(docker, "start", target)
                await asyncio.to_thread(wait_until, lambda before=before: len(seen) > before, 10, "the key is there")
                started = dt.datetime.fromisoformat(inspect(target)["State"]["StartedAt"][:26] + "+00:00")
                times.append(1000 * (seen[before][0] - started.timestamp()))
    return [("start_to_key_ms", statistics.median(times), "ms")]


async def key_to_route() -> Lines:
    """From a key's put to the first answer over a new connection: the client is waiting for an instance."""
    key = f"/services/{SERVICE}/first".encode()
    times = []
    with redis("route") as target, dynproxy("route-dyn", SERVICE) as proxy:
        value = json.dumps({"host": HOST_A, "port": published(target, 6379)}).encode()
        async with Etcd(EtcdConfig((ETCD,))) as etcd:
            for _ in range(ROUNDS):
                await asyncio.to_thread(proxy.wait_instances, 0)
                with await asyncio.to_thread(socket.create_connection, (proxy.address, proxy.port), 10) as client:
                    client.sendall(PING)
                    await asyncio.to_thread(wait_until, lambda: proxy.status()["parked"] == 1, 5, "parked")
                    started = time.monotonic()
                    await etcd.put(key, value)
                    answer = await asyncio.to_thread(client.recv, 100)
                    times.append(1000 * (time.monotonic() - started))
                    if answer != b"+PONG\r\n":
                        raise RuntimeError(f"unexpected answer {answer!r}")
                await etcd.delete(key)
    return [("key_to_route_ms", statistics.median(times), "ms")]


async def idle() -> Lines:
    """Watch events while nothing happens, with 20 registered containers."""
    with contextlib.ExitStack() as stack:
        for number in range(20):
            target = stack.enter_context(redis(f"idle-{number}"))
            stack.enter_context(registrar(f"idle-reg-{number}", target, SERVICE))
        proxy = stack.enter_context(dynproxy("idle-dyn", SERVICE))
        await asyncio.to_thread(proxy.wait_instances, 20)
        async with events() as seen:
            await asyncio.sleep(IDLE)
    return [("idle_watch_events", sum(event[2] != "" for event in seen), f"events in {IDLE:.0f} s")]


@contextlib.asynccontextmanager
async def three_under_load(*, like_another_host: bool = True) -> AsyncIterator[tuple[list[str], Outcome]]:
    """Three registered instances behind a dynproxy under a steady load: their containers, and what clients meet."""
    with contextlib.ExitStack() as stack:
        names = [stack.enter_context(redis(f"three-{number}")) for number in range(3)]
        for name in names:
            stack.enter_context(registrar(f"{name.rpartition('figures-')[2]}-reg", name, SERVICE))
        proxy = stack.enter_context(dynproxy("three-dyn", SERVICE, like_another_host=like_another_host))
        await asyncio.to_thread(proxy.wait_instances, 3)
        async with steady_load(Target(proxy.port, proxy.address, PING), RATE) as outcome:
            await asyncio.sleep(2)
            yield names, outcome
            await asyncio.sleep(3)


def say(outcome: Outcome, since: float = 0.0) -> None:
    """The first failures, for whoever wants to know why; `since` is a moment of interest on the monotonic clock."""
    for failure in outcome.failures[:5]:
        when = f", begun {1000 * (failure.started - since):+.1f} ms from the event" if since else ""
        sys.stderr.write(f"  of {outcome.total} connections failed: {failure.why}{when}\n")


async def stop_one() -> Lines:
    """`docker stop` of one of three."""
    async with three_under_load() as (names, outcome):
        await asyncio.to_thread(docker, "stop", names[0])
    say(outcome)
    return [("stop_failed_connections", len(outcome.failures), f"of {outcome.total}")]


async def kill_one() -> Lines:
    """`docker kill -s KILL` of one of three: connections that failed though they were begun when it was dead."""
    return [("kill_failed_connections", *await killed(like_another_host=True))]


async def kill_one_behind_docker_proxy() -> Lines:
    """The same on the way that containers of one machine have to each other's published ports."""
    return [("kill_failed_connections_via_docker_proxy", *await killed(like_another_host=False))]


async def killed(*, like_another_host: bool) -> tuple[float, str]:
    """How many connections failed of those begun after the kill, of how many in all."""
    async with three_under_load(like_another_host=like_another_host) as (names, outcome):
        pid = os.pidfd_open(inspect(names[0])["State"]["Pid"])
        dead = asyncio.create_task(asyncio.to_thread(death, pid))
        await asyncio.to_thread(docker, "kill", "--signal", "KILL", names[0])
        died = await dead
    say(outcome, died)
    return len(outcome.failures_since(died)), f"of {outcome.total}"


def death(pidfd: int) -> float:
    """Wait until a process has ended; when that was, on the monotonic clock."""
    select.select([pidfd], [], [])
    ended = time.monotonic()
    os.close(pidfd)
    return ended


async def stale() -> Lines:
    """1,000 new connections, one instance alive beside a closed port and a black hole."""
    # Nobody has this address on the network of host A: its SYNs end in silence.
    hole = f"{HOST_A.rpartition('.')[0]}.250"
    with redis("stale") as target, dynproxy("stale-dyn", SERVICE) as proxy:
        async with Etcd(EtcdConfig((ETCD,))) as etcd:
            records = {"alive": (HOST_A, published(target, 6379)), "closed": (HOST_A, 9), "hole": (hole, 6379)}
            for name, (host, port) in records.items():
                value = json.dumps({"host": host, "port": port}).encode()
                await etcd.put(f"/services/{SERVICE}/{name}".encode(), value)
            await asyncio.to_thread(proxy.wait_instances, 3)
            outcome = await burst(Target(proxy.port, proxy.address, PING), 1000, at_once=20)
            for name in records:
                await etcd.delete(f"/services/{SERVICE}/{name}".encode())
    say(outcome)
    return [("stale_failed_connections", len(outcome.failures), f"of {outcome.total}")]


async def resident() -> Lines:
    """Resident sets of the demo's own containers, after whatever they have been through."""
    pids = {
        name: inspect(f"{unit}.service")["State"]["Pid"]
        for name, unit in {
            "simple_amb": "etcd-amb-redis",
            "registrar": "redis-docker-reg",
            "dynproxy": "redis-dyn-amb",
        }.items()
    }
    return [
        ("rss_simple_amb_mib", rss_mib(pids["simple_amb"]), "MiB"),
        ("rss_dynproxy_control_mib", rss_mib(pids["dynproxy"]), "MiB"),
        ("rss_dynproxy_worker_mib", max(map(rss_mib, tree(pids["dynproxy"]))), "MiB"),
        ("rss_registrar_mib", rss_mib(pids["registrar"]), "MiB"),
    ]


async def images() -> Lines:
    """What each image takes on a host that has none of the others; most of it is shared by all of them."""
    names = ("simple-amb", "registrar", "dynproxy", "ambctl")
    sizes = {name: docker("image", "inspect", "--format", "{{.Size}}", f"etcd-ambassadors/{name}") for name in names}
    return [(f"image_{name.replace('-', '_')}_mb", int(size) / 1e6, "MB") for name, size in sizes.items()]


FIGURES: Mapping[str, Callable[[], Awaitable[Lines]]] = {
    "start_to_key": start_to_key,
    "key_to_route": key_to_route,
    "idle": idle,
    "stop": stop_one,
    "kill": kill_one,
    "kill_proxy": kill_one_behind_docker_proxy,
    "stale": stale,
    "rss": resident,
    "images": images,
}


async def main(names: list[str]) -> None:
    """Measure and print."""
    for name in names or FIGURES:
        for line, value, unit in await FIGURES[name]():
            sys.stdout.write(f"{line} {value:.10g} {unit}\n" if value == int(value) else f"{line} {value:.1f} {unit}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
