"""Names of fixed targets, looked up when somebody connects."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from ambcore.model import Protocol
from ambnet.relay.limits import Limits
from ambnet.relay.loop import Loop
from ambnet.relay.relay import Relay
from simple_amb.targets import FRESH, PATIENCE, Targets, by_name, look_up
from simple_amb.wiring import Forward
from tests.support.relay_peers import Greeter, ask, in_thread


class Resolver:
    """A resolver that answers when it is let."""

    def __init__(self, **answers: list[str]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    def __call__(self, name: str) -> list[str]:
        self.asked.append(name)
        assert self.may_answer.wait(10)
        if name not in self.answers:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return self.answers[name]


@pytest.fixture
def relay() -> Iterator[Relay]:
    loop = Loop()
    relay = Relay(loop, Limits(), 1000, lambda *_: None)
    yield relay
    relay.close()
    loop.close()


def looked_up(relay: Relay, targets: Targets) -> list[tuple[str, int]]:
    """The addresses in order after a client made the names be looked up."""
    assert not targets.prepare()
    done = threading.Timer(10, relay.loop.stop)
    reconsider = relay.reconsider

    def stop(route: object) -> None:
        reconsider(targets)
        assert route is targets
        relay.loop.stop()

    relay.reconsider = stop  # type: ignore[method-assign]
    done.start()
    relay.loop.run()
    done.cancel()
    relay.reconsider = reconsider  # type: ignore[method-assign]
    return addresses(targets)


def addresses(targets: Targets) -> list[tuple[str, int]]:
    return [upstream.address for upstream in targets.order("client", 0.0)]


def test_addresses_need_no_look_up(relay: Relay) -> None:
    resolver = Resolver()
    targets = Targets(relay, [("10.0.0.2", 1), ("2001:db8::1", 2)], resolver)
    assert targets.prepare()
    assert addresses(targets) == [("10.0.0.2", 1), ("2001:db8::1", 2)]
    assert resolver.asked == []


def test_all_addresses_of_a_name_are_asked_in_the_order_of_the_targets(relay: Relay) -> None:
    resolver = Resolver(b=["10.0.0.3", "10.0.0.4"], a=["10.0.0.1"])
    targets = Targets(relay, [("b", 1), ("10.0.0.9", 2), ("a", 3)], resolver)
    assert looked_up(relay, targets) == [("10.0.0.3", 1), ("10.0.0.4", 1), ("10.0.0.9", 2), ("10.0.0.1", 3)]


def test_a_burst_of_clients_asks_once(relay: Relay) -> None:
    resolver = Resolver(a=["10.0.0.1"])
    resolver.may_answer.clear()
    targets = Targets(relay, [("a", 1)], resolver)
    assert [targets.prepare() for _ in range(10)] == [False] * 10
    resolver.may_answer.set()
    relay.loop.call_later(0.3, relay.loop.stop)
    relay.loop.run()
    assert targets.prepare()
    assert resolver.asked == ["a"]


def test_a_later_client_asks_again_and_the_answer_counts(relay: Relay) -> None:
    resolver = Resolver(a=["10.0.0.1"])
    targets = Targets(relay, [("a", 1)], resolver)
    assert looked_up(relay, targets) == [("10.0.0.1", 1)]
    resolver.answers["a"] = ["10.0.0.2"]
    relay.loop.call_later(FRESH, relay.loop.stop)
    relay.loop.run()
    assert looked_up(relay, targets) == [("10.0.0.2", 1)]


def test_a_resolver_that_fails_leaves_the_last_addresses(relay: Relay, caplog: pytest.LogCaptureFixture) -> None:
    resolver = Resolver(a=["10.0.0.1"])
    targets = Targets(relay, [("a", 1), ("b", 2)], resolver)
    assert looked_up(relay, targets) == [("10.0.0.1", 1)]
    del resolver.answers["a"]
    relay.loop.call_later(FRESH, relay.loop.stop)
    relay.loop.run()
    assert looked_up(relay, targets) == [("10.0.0.1", 1)]
    assert [record.message.partition(":")[0] for record in caplog.records] == ["looking up b", "looking up a"]


def test_who_waits_for_a_name_nobody_knows_yet_is_served_when_somebody_does(relay: Relay) -> None:
    """A resolver that starts after us, or a container that has its name from now on."""
    with Greeter("late") as late, socket.create_server(("127.0.0.1", 0)) as listener:
        resolver = Resolver()
        targets = Targets(relay, [("a", late.address[1])], resolver)
        relay.listen(listener.dup(), targets)
        answers: list[str] = []

        def client() -> None:
            answers.append(ask(listener.getsockname()))
            relay.loop.call_soon_threadsafe(relay.loop.stop)

        asking = in_thread(client)
        relay.loop.call_later(FRESH / 2, lambda: resolver.answers.update(a=["127.0.0.1"]))
        relay.loop.call_later(4 * FRESH, relay.loop.stop)
        relay.loop.run()
        relay.reset_all()
        asking.join(5)
        assert answers == ["late"]


@pytest.mark.parametrize("told_before", [True, False])
def test_a_resolver_that_is_silent_keeps_nobody_from_what_is_known(relay: Relay, *, told_before: bool) -> None:
    """For a moment another answer is waited for; an address beside the name is known without any."""
    with Greeter("known") as known, socket.create_server(("127.0.0.1", 0)) as listener:
        resolver = Resolver(a=["127.0.0.1"])
        port = known.address[1]
        targets = Targets(relay, [("a", port)] if told_before else [("a", 1), ("127.0.0.1", port)], resolver)
        if told_before:
            looked_up(relay, targets)
            relay.loop.call_later(FRESH, relay.loop.stop)
            relay.loop.run()
        resolver.may_answer.clear()
        asked = len(resolver.asked)
        relay.listen(listener.dup(), targets)
        answers: list[str] = []

        def clients() -> None:
            answers.extend(ask(listener.getsockname()) for _ in range(3))
            relay.loop.call_soon_threadsafe(relay.loop.stop)

        asking = in_thread(clients)
        relay.loop.call_later(5 * PATIENCE, relay.loop.stop)
        relay.loop.run()
        relay.reset_all()
        asking.join(5)
        resolver.may_answer.set()
        assert answers == ["known"] * 3
        assert len(resolver.asked) == asked + 1


def test_without_a_thread_the_last_addresses_are_used(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    targets = Targets(relay, [("a", 1), ("127.0.0.1", 2)], Resolver(a=["127.0.0.1"]))
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        assert targets.prepare()
    assert [each.address for each in targets.takers] == [("127.0.0.1", 2)]


def test_the_system_s_resolver_knows_localhost() -> None:
    assert "127.0.0.1" in look_up("localhost")


def test_a_link_is_followed_by_its_name_while_that_means_its_address() -> None:
    """A name that nobody knows here, or that is another's, is not worth more than the address."""
    link = Forward(6379, Protocol.TCP, (("10.0.0.1", 6380),), alias="redis")
    resolver = Resolver(redis=["10.0.0.1"])
    assert by_name(link, resolver).targets == (("redis", 6380),)
    assert by_name(link, Resolver(redis=["10.0.0.2"])) == link
    assert by_name(link, Resolver()) == link
    unlinked = replace(link, alias=None)
    assert by_name(unlinked, resolver) == unlinked


@pytest.mark.parametrize("name", ["a..b", "a" * 64, "no-such-host.invalid"])
def test_a_name_that_cannot_be_one_is_as_unknown_as_any(name: str) -> None:
    with pytest.raises(OSError, match=r".") as caught:
        look_up(name)
    assert caught.value.strerror
