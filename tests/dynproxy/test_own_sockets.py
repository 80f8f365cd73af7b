"""The connections of our own sockets, out of /proc/net/tcp, of both families."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from dynproxy.conntrack import Ends
from dynproxy.own_sockets import connected
from tests.support.netns import Namespace

pytestmark = pytest.mark.netns


@pytest.fixture(autouse=True)
def there() -> Iterator[None]:
    with Namespace() as namespace, namespace.entered():
        yield


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_connections_are_told_by_both_ends_and_listeners_are_none(family: int, host: str) -> None:
    with socket.create_server((host, 0), family=family) as listener:
        assert connected(family) == frozenset()
        port = listener.getsockname()[1]
        with socket.create_connection((host, port)) as client:
            ours = client.getsockname()[1]
            assert connected(family) == {Ends(host, port, host, ours), Ends(host, ours, host, port)}
