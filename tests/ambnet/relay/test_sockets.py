"""Listening on all addresses: of both families, of one where the other is off, and never on half of them in silence."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator

import pytest

from ambnet.relay.sockets import open_datagrams, open_listeners
from tests.support.netns import Namespace

pytestmark = pytest.mark.netns

Open = Callable[[str | None, int], list[socket.socket]]
BOTH = pytest.mark.parametrize(
    ("open_all", "kind"),
    [(open_listeners, socket.SOCK_STREAM), (open_datagrams, socket.SOCK_DGRAM)],
    ids=["tcp", "udp"],
)


@pytest.fixture(autouse=True)
def there() -> Iterator[Namespace]:
    with Namespace() as namespace, namespace.entered():
        yield namespace


@BOTH
def test_a_port_that_another_has_in_one_family_is_taken(open_all: Open, kind: socket.SocketKind) -> None:
    """Half of the addresses would be another program's, and nobody told."""
    with socket.socket(socket.AF_INET6, kind) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("::", 7000))
        if kind is socket.SOCK_STREAM:
            other.listen()
        with pytest.raises(OSError, match="in use") as caught:
            open_all(None, 7000)
    assert caught.value.errno == errno.EADDRINUSE


@BOTH
def test_where_ipv6_is_off_there_is_ipv4(there: Namespace, open_all: Open, kind: socket.SocketKind) -> None:
    there.setting("net.ipv6.conf.all.disable_ipv6", "1")
    (made,) = open_all(None, 7000)
    with made, socket.socket(socket.AF_INET, kind) as client:
        client.connect(("127.0.0.1", 7000))
        client.send(b"x")
