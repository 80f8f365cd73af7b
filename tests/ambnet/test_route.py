"""By which address of ours others reach us, be names resolved or not."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from ambcore.model import parse_ip
from ambnet.route import route_to


@pytest.fixture
def mute_resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No name is resolved, nor refused, for 20 s."""
    over = threading.Event()

    def getaddrinfo(*_: object, **__: object) -> None:
        over.wait(20)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield
    over.set()


async def test_the_first_url_with_a_route_decides() -> None:
    assert await route_to(("http://name.invalid:2379", "http://127.0.0.1:2379"))() == parse_ip("127.0.0.1")
    assert await route_to(())() is None


@pytest.mark.usefixtures("mute_resolver")
async def test_a_resolver_that_does_not_answer_is_not_waited_for() -> None:
    """Who asks for the way has a container to look at meanwhile."""
    route = route_to(("http://etcd.example:2379",))
    began = time.monotonic()
    assert await route() is None
    assert time.monotonic() - began < 5
