"""Who is served, and who is believed about whom it stands for; the rest is the relay's, and tested there."""

from __future__ import annotations

from tests.simple_amb.conftest import Start
from tests.support.relay_peers import Greeter, Instance, ask, connect, receive, was_reset


def refused(address: tuple[str, int]) -> bool:
    """Whether a client is reset, be it before it knows that it was connected."""
    try:
        return was_reset(connect(address))
    except ConnectionResetError:
        return True


def test_clients_outside_the_networks_that_are_allowed_are_reset(start: Start) -> None:
    with Greeter("one") as one:
        target = f"127.0.0.1:{one.address[1]}"
        assert refused(start("--allow", "192.0.2.0/24", target).address)
        assert ask(start("--allow", "192.0.2.0/24,127.0.0.0/8", target).address) == "one"


def test_a_trusted_proxys_header_is_read_and_passed_on_in_the_version_asked_for(start: Start) -> None:
    with Instance() as instance:
        options = ("--accept-proxy", "127.0.0.0/8", "--send-proxy", "v1")
        ambassador = start(*options, f"127.0.0.1:{instance.address[1]}")
        client = connect(ambassador.address)
        words = b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 6379\r\nPING"
        client.sendall(words)
        assert receive(instance.accept(), len(words)) == words
