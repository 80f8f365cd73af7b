"""Questions to the kernel's packet filter over netlink."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from dynproxy.conntrack import DELETE
from dynproxy.filter_state import generation
from dynproxy.netlink import BATCH, Netlink, NetlinkError, attribute
from tests.support.netns import Namespace

pytestmark = pytest.mark.netns

# A connection that nobody has, as connection tracking names one: addresses, and then protocol and ports.
NOBODYS = attribute(
    1,
    attribute(1, attribute(1, b"\x0a\0\0\1") + attribute(2, b"\x0a\0\0\2"))
    + attribute(2, attribute(1, bytes([socket.IPPROTO_UDP])) + attribute(2, b"\0\1") + attribute(3, b"\0\2")),
)


def test_the_generation_changes_with_everybodys_every_transaction_and_only_then() -> None:
    """So one question, instead of reading all rules, tells that nobody touched them."""
    with Namespace() as there:
        first = there.call(generation)
        assert first is not None
        assert there.call(generation) == first
        there.run("nft", "add", "table", "ip", "somebodys")
        second = there.call(generation)
        assert second is not None
        assert second > first
        there.run("nft", "--check", "add", "table", "ip", "nobodys")
        there.run("nft", "list", "ruleset")
        assert there.call(generation) == second
        there.run("nft", "flush", "ruleset")
        assert there.call(generation) != second


def test_each_network_namespace_is_asked_for_itself() -> None:
    with Namespace() as one, Namespace() as other:
        before = other.call(generation)
        one.run("nft", "add", "table", "ip", "somebodys")
        assert other.call(generation) == before


def test_what_the_kernel_does_not_know_is_an_error_with_its_number() -> None:
    with Namespace() as there:

        def ask() -> None:
            with Netlink("a question") as kernel:
                list(kernel.ask(0xFF01))

        with pytest.raises(NetlinkError, match="a question") as caught:
            there.call(ask)
    assert caught.value.errno == errno.EINVAL


def test_refused_orders_of_several_batches_are_not_counted_and_do_not_fill_the_buffer() -> None:
    """Each refusal is an answer; more of them than a receive buffer holds must not be sent for at once."""
    with Namespace() as there:

        def orders(absorbed: set[int]) -> int:
            with Netlink("orders") as kernel:
                return kernel.order(DELETE, socket.AF_INET, [NOBODYS] * (10 * BATCH + 1), absorbed)

        assert there.call(lambda: orders({errno.ENOENT})) == 0
        with pytest.raises(NetlinkError, match=os.strerror(errno.ENOENT)):
            there.call(lambda: orders(set()))
