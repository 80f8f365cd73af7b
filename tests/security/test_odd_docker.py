"""A daemon, or a filter before it, that answers something else than containers: said, and nobody ends for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.etcd_cluster import EtcdCluster
from tests.support.fake_docker import FakeDocker
from tests.support.ports import free_port
from tests.support.programs import Program, fetch
from tests.support.waiting import eventually

pytestmark = [pytest.mark.etcd, pytest.mark.system]

ODD: dict[str, Any] = {
    "state": {"State": "running"},
    "labels": {"Config": {"Labels": {"SERVICE_NAME": ["a"]}}},
    "bindings": {"NetworkSettings": {"Ports": {"80/tcp": ["8080"]}}},
    "networks": {"NetworkSettings": {"Networks": {"bridge": {"IPAddress": 7}}}},
    "config": {"Config": [1], "HostConfig": "host"},
    "health": {"State": {"Running": True, "Health": {"Status": "starting", "Log": [None]}}},
}


@pytest.mark.parametrize("program", ["registrar --explicit", "dynproxy --links", "dynproxy.grand"])
def test_one_odd_answer_is_said_and_the_other_containers_are_served(
    program: str, shared_etcd: EtcdCluster, prefix: str, tmp_path: Path
) -> None:
    """Before this was checked where it comes in, each of these answers ended the program that read it."""
    port, admin = free_port(), f"127.0.0.1:{free_port()}"
    command, *arguments = program.split()
    env = {
        "AMB_ETCD": ",".join(shared_etcd.endpoints),
        "AMB_PREFIX": prefix,
        "AMB_ADVERTISE": "192.0.2.1",
        "AMB_ADMIN": admin,
        "AMB_LISTEN": "127.0.0.1",
        "AMB_PLANE": "relay",
        "AMB_RESYNC": "1",
    }
    done = {
        "registrar": "registered web/.* at 192.0.2.1:8080",
        "dynproxy.grand": "it is at 172.17.0.2",
    }
    with FakeDocker(tmp_path) as docker:
        labels = {"SERVICE_NAME": "web", "ambassador.links": f"nobody:{port}"}
        web = docker.start("web", f"8080:{port}/tcp", labels=labels)
        odd = [docker.start(f"odd-{name}", labels=labels) for name in ODD]
        for identity, part in zip(odd, ODD.values(), strict=True):
            docker.containers[identity].update(part)
        if command == "dynproxy.grand":
            arguments += ["-sock", docker.url, "-name", web, "-name", odd[0]]
        with Program(command, *arguments, env=env | {"DOCKER_HOST": docker.url}) as runs:
            runs.wait_for("a container's .* is an? ", 30)
            if command in done:
                runs.wait_for(done[command], 30)
            looks = docker.requests["inspect"]
            eventually(lambda: docker.requests["inspect"] > looks + 2, 30, "it goes on looking")
            assert fetch(f"http://{admin}/healthz")[0] == 200
            assert runs.process.poll() is None
            assert "Traceback" not in runs.log
