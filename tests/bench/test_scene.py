"""The stage that everything is measured on."""

from __future__ import annotations

import json
import subprocess

import pytest

from bench.hosts import FRONT, SERVER, CannotRunError, scene, wait_for
from bench.subjects import IPERF, PEERS, REDIS, SUBJECTS, accepts
from bench.workloads import WORKLOADS
from bench.workloads.requests import parse

CSV = '"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms"\n'


def namespaces() -> set[str]:
    listed = subprocess.run(["ip", "-json", "netns", "list"], capture_output=True, check=True).stdout
    return {item["name"] for item in json.loads(listed or "[]") if item["name"].startswith("ambbench-")}


@pytest.mark.netns
def test_the_client_reaches_the_server_through_the_proxys_host_and_nothing_stays_behind() -> None:
    before = namespaces()
    with scene() as made:
        server = made.server.start("redis-server", "--port", str(REDIS), "--save", "", "--protected-mode", "no")

        def answered() -> bytes:
            with made.client.connect((SERVER, REDIS), 1) as client:
                client.sendall(b"PING\r\n")
                return client.recv(100)

        assert wait_for(answered, 10, "redis answers") == b"+PONG\r\n"
        with made.client.connect(("10.77.1.2", REDIS), 1) as client:  # one of the server's many addresses
            assert client.getpeername() == ("10.77.1.2", REDIS)
        with pytest.raises(OSError, match="refused"):
            accepts(made.client, REDIS)  # at FRONT, where nobody listens
        assert len(namespaces() - before) == 3
    assert namespaces() <= before
    assert server.poll() is not None


@pytest.mark.netns
def test_a_command_that_fails_says_why() -> None:
    with scene() as made, pytest.raises(CannotRunError, match="does not exist"):
        made.proxy.run("ip", "link", "show", "nothing0")


def test_every_workload_visits_subjects_that_exist() -> None:
    assert all(set(workload.subjects) <= set(SUBJECTS) for workload in WORKLOADS.values())
    assert all(subject.rival in SUBJECTS for subject in SUBJECTS.values())


def test_warnings_of_redis_benchmark_are_no_figures() -> None:
    text = f'WARNING: Could not fetch server CONFIG\n{CSV}"GET","72463.77","0.4","0.1","0.399","0.5","0.727"\n'
    assert parse(text)["p99_latency_ms"] == 0.727
    with pytest.raises(CannotRunError, match="Connection refused"):
        parse("Could not connect: Connection refused\n")


def test_peers_are_configured_for_the_addresses_of_the_scene() -> None:
    for name in ("haproxy.cfg", "nginx.conf"):
        text = (PEERS / name).read_text()
        assert all(f"{host}:{port}" in text for host in (FRONT, SERVER) for port in (REDIS, IPERF))
