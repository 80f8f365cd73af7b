"""grand-ambassador and a Docker daemon behind TLS that lets nobody in without a certificate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.docker_engine import Docker, OwnEngine, need_docker
from tests.support.programs import Program
from tests.support.tls import Authority, Pair

pytestmark = [pytest.mark.docker, pytest.mark.system, pytest.mark.netns]

URL = "tcp://127.0.0.1:2376"


@dataclass(frozen=True)
class Remote:
    """An engine with a container called `web`, reached from its own network alone, and who it trusts."""

    engine: OwnEngine
    authority: Authority
    client: Pair

    def ambassador(self, *options: str) -> Program:
        """grand-ambassador beside the engine."""
        beside = ("nsenter", f"--net=/run/netns/{self.engine.namespace}")
        where = ("-sock", URL, "--listen", "127.0.0.1", "--drain", "1")
        return Program("dynproxy.grand", "-name", "web", *where, *options, prefix=beside)


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    need_docker()
    authority = Authority(tmp_path_factory.mktemp("tls"))
    server, client = authority.issue("server"), authority.issue("client")
    tls = ("--tlsverify", "--tlscacert", str(authority.ca), "--tlscert", str(server.cert), "--tlskey", str(server.key))
    with OwnEngine("-H", URL, *tls) as engine, Docker(engine.url) as docker:
        docker.run("--expose", "80", name="web")
        yield Remote(engine, authority, client)


def test_certificates_open_the_way_to_a_remote_daemon(remote: Remote) -> None:
    ours = ("-tlscert", str(remote.client.cert), "-tlskey", str(remote.client.key))
    for options in (("-tlsverify", "-tlscacert", str(remote.authority.ca), *ours), ("-tls", *ours)):
        with remote.ambassador(*options) as program:
            program.wait_for("web: it is at .*, with 80/tcp", 20)
            program.wait_for("web: listening on 80/tcp", 20)
            assert program.stop() == 0


@pytest.mark.parametrize("whose", ["another daemon", "another client"])
def test_who_is_not_trusted_is_said_and_tried_again(remote: Remote, whose: str, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "a stranger")
    ca = stranger.ca if whose == "another daemon" else remote.authority.ca
    client = remote.client if whose == "another daemon" else stranger.issue("client")
    ours = ("-tlscert", str(client.cert), "-tlskey", str(client.key))
    with remote.ambassador("-tlsverify", "-tlscacert", str(ca), *ours) as program:
        program.wait_for("docker is away, what is known stays: .*(certificate|unknown ca)", 20)
        assert program.stop() == 0
