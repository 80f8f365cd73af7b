"""The PROXY protocol through a whole dynproxy: what trusted clients say in pieces, and what others make up."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest

from ambcore.proxy_protocol import encode, local
from tests.support.hosts import Address, Host
from tests.support.relay_peers import receive_all, was_reset
from tests.support.waiting import eventually
from tests.system.kernel_hosts import KernelProxy, Stage

pytestmark = [pytest.mark.etcd, pytest.mark.netns, pytest.mark.system]

Figure = Callable[[str], None]

SOMEBODY, ASKED = ("203.0.113.7", 4711), ("198.51.100.1", 80)
WORDS = {version: encode(version, SOMEBODY, ASKED) for version in (1, 2)}
HEARD = WORDS[1]  # what an instance is told with --send-proxy v1


class Told:
    """An instance whose connections the test accepts, behind a dynproxy that trusts the client's host and no other."""

    def __init__(self, stage: Stage, proxy: KernelProxy, listener: socket.socket) -> None:
        self.stage, self.proxy, self._listener = stage, proxy, listener

    def client(self, host: Host | None = None) -> socket.socket:
        """A new one, trusted unless its host is another."""
        to: Address = self.stage.to if host is None else ("127.0.0.1", self.stage.port)
        made = (host or self.stage.hosts.client).connect(to)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def heard(self) -> bytes:
        """All that the next connection to the instance says."""
        connection, _ = self._listener.accept()
        with connection:
            connection.settimeout(10)
            return receive_all(connection)

    def counter(self, name: str) -> int:
        count: int = self.proxy.service(self.stage.service)["counters"][name]
        return count


@pytest.fixture
def told(stage: Stage) -> Iterator[Told]:
    at: Address = (stage.hosts.instance(42), 5000)
    stage.registry.put(stage.service, "one", *at)
    options = ("--accept-proxy", stage.hosts.client.ipv4, "--send-proxy", "v1", "--check-interval", "0")
    with stage.hosts.server.listen(at, 1024) as listener, stage.proxy("--plane", "relay", *options) as proxy:
        proxy.wait_serving(stage.service, "one", plane="relay")
        yield Told(stage, proxy, listener)


def test_C27_proxy_protocol_forged_split_and_oversized(told: Told, figure: Figure) -> None:
    """Read exactly wherever it is split, refused when it is not one, and nobody's word but a trusted one's counts."""
    whole = 0
    for words in WORDS.values():
        for at in range(1, len(words)):
            with told.client() as client:
                client.sendall(words[:at])
                time.sleep(0.001)
                client.sendall(words[at:] + b"PING")
                client.shutdown(socket.SHUT_WR)
                assert told.heard() == HEARD + b"PING"
                whole += 1
    wrong = [b"PROXY TCP4 " + b"9" * 200, b"GET / HTTP/1.0\r\n\r\n", WORDS[2][:12] + b"\x21\x11\xff\xff" + bytes(3000)]
    for words in wrong:
        with told.client() as client:
            client.sendall(words)
            assert was_reset(client)
    spoofed = [words + b"PING" for words in WORDS.values()]
    own = told.stage.hosts.proxy
    for words in spoofed:
        with told.client(own) as client:
            client.sendall(words)
            client.shutdown(socket.SHUT_WR)
            heard = told.heard()
        assert heard.startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 ")
        assert heard.endswith(b"\r\n" + words), "what a stranger says is data"
    with told.client() as client:
        client.sendall(local(2) + b"PING")
        client.shutdown(socket.SHUT_WR)
        assert told.heard().startswith(f"PROXY TCP4 {told.stage.hosts.client.ipv4} ".encode())
    eventually(lambda: told.counter("proxy_header_refused") == len(wrong), 5)
    figure(f"{whole} headers read exactly when split, {len(wrong)} refused, 0 of {len(spoofed)} spoofs believed")
