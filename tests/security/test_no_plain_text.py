"""Where TLS was asked for, nothing is ever sent without it: who speaks plain text only hears a greeting of TLS."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.programs import Program
from tests.support.tls import Authority
from tests.support.waiting import eventually

pytestmark = pytest.mark.system

SECRET = "open-sesame"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
GREETING = b"\x16\x03"  # a record of a handshake, of TLS 1.0 to 1.3: RFC 8446, 5.1


@dataclass
class Plain:
    """A server that answers every connection in plain text and keeps what it heard."""

    port: int
    heard: list[bytes] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client, contextlib.suppress(OSError):
                    client.settimeout(5)
                    self.heard.append(client.recv(65536))
                    client.sendall(ANSWER)


@pytest.fixture
def plain() -> Iterator[Plain]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Plain(listener.getsockname()[1])
        threading.Thread(target=made.serve, args=(listener,), daemon=True).start()
        yield made
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the Docker CLI has it, and a password."""
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder)
    pair = authority.issue("client")
    pair.cert.rename(folder / "cert.pem")
    pair.key.rename(folder / "key.pem")
    (folder / "password").write_text(SECRET)
    return folder


def hold(plain: Plain, attempts: int) -> None:
    eventually(lambda: len([each for each in plain.heard if each]) >= attempts, 60, "it tries, and tries again")
    assert {each[:2] for each in plain.heard if each} == {GREETING}
    assert not [each for each in plain.heard if SECRET.encode() in each]


@pytest.mark.parametrize(
    "command",
    ["registrar some 80 a", "dynproxy --links", "dynproxy.grand -name some"],
    ids=lambda text: text.split()[0],
)
def test_docker_behind_tls_is_never_asked_in_plain_text(plain: Plain, trust: Path, command: str) -> None:
    """By the variables of Docker's CLI, or by grand-ambassador's own options; said, and tried again."""
    program, *arguments = command.split()
    env = {"AMB_ETCD": f"http://127.0.0.1:{free_port()}", "AMB_LISTEN": "127.0.0.1"}
    where = f"tcp://127.0.0.1:{plain.port}"
    if program == "dynproxy.grand":
        files = ("-tlscacert", "ca.pem", "-tlscert", "cert.pem", "-tlskey", "key.pem")
        named = [text if text.startswith("-") else str(trust / text) for text in files]
        arguments += ["-sock", where, "-tlsverify", *named]
    else:
        env |= {"DOCKER_HOST": where, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(trust)}
    with Program(program, *arguments, env=env) as runs:
        runs.wait_for("(?i)docker.*(ssl|tls|wrong version)", 40)
        hold(plain, 2)
        assert runs.process.poll() is None


@pytest.mark.parametrize(
    "command", ["registrar some 80 a", "dynproxy a PORT", "ambctl ls"], ids=lambda text: text.split()[0]
)
def test_etcd_behind_tls_is_never_asked_in_plain_text(plain: Plain, trust: Path, command: str) -> None:
    program, *arguments = command.replace("PORT", str(free_port())).split()
    env = {
        "AMB_ETCD": f"https://127.0.0.1:{plain.port}",
        "AMB_ETCD_CA": str(trust / "ca.pem"),
        "AMB_ETCD_USER": "agent",
        "AMB_ETCD_PASSWORD_FILE": str(trust / "password"),
        "AMB_LISTEN": "127.0.0.1",
        "DOCKER_HOST": f"unix://{trust}/none.sock",
    }
    with Program(program, *arguments, env=env) as runs:
        hold(plain, 1)
        if program == "ambctl":
            assert runs.process.wait(60) != 0
        assert SECRET not in runs.log


@pytest.mark.parametrize("program", ["registrar", "dynproxy", "ambctl"])
def test_files_for_tls_and_an_address_without_it_are_an_error(plain: Plain, trust: Path, program: str) -> None:
    arguments = {"registrar": ["some", "80", "a"], "dynproxy": ["a", "80"], "ambctl": ["ls"]}[program]
    env = {"AMB_ETCD": f"http://127.0.0.1:{plain.port}", "AMB_ETCD_CA": str(trust / "ca.pem")}
    with Program(program, *arguments, env=env) as runs:
        assert runs.process.wait(30) == 2
        assert "http" in runs.log
    assert plain.heard == []
