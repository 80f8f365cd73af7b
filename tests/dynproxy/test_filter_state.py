"""What is asked of the packet filter by netlink is what nft says of it."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from ambcore.model import Address
from dynproxy.filter_state import Counted, digest, marks, take_counts
from dynproxy.netlink import NetlinkError
from dynproxy.ruleset import mark
from tests.support.hosts import Host, Hosts
from tests.support.kernel_table import TCP80, KernelTable
from tests.support.listing import counters

pytestmark = pytest.mark.netns

A = Address("10.78.0.1", 80)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with Hosts() as hosts:
        yield hosts


def served(host: Host) -> KernelTable:
    """A table with one instance behind port 80."""
    table = KernelTable(host)
    table.serve(TCP80, A)
    return table


def test_marks_are_the_elements_of_a_set(hosts: Hosts) -> None:
    table = served(hosts.proxy)
    name = table.held.table
    assert hosts.proxy.call(lambda: marks("ip", name, "dead")) == frozenset()
    several = frozenset(mark(number) for number in range(1, 5000, 7))
    hosts.proxy.nft(f"add element ip {name} dead {{ {', '.join(map(hex, several))} }}")
    assert hosts.proxy.call(lambda: marks("ip", name, "dead")) == several


def test_counts_are_taken_once_and_are_those_that_nft_shows(hosts: Hosts) -> None:
    table = served(hosts.proxy)
    name = table.held.table
    with hosts.server.listen((A.host, A.port)), hosts.client.connect((hosts.proxy.ipv4, 80)):
        shown = counters(table.items())
        taken = hosts.proxy.call(lambda: take_counts("ip", name))
        assert sorted((each.name, each.packets, each.bytes) for each in taken) == sorted(shown)
        assert Counted("tcp_80_new", 1, 60) in taken
        again = hosts.proxy.call(lambda: take_counts("ip", name))
        assert {each.packets for each in again} == {0}


def test_the_digest_stays_until_somebody_touches_a_chain_or_a_rule(hosts: Hosts) -> None:
    """Elements, counts, and what others do in tables of their own are no news."""
    table = served(hosts.proxy)
    name, where = table.held.table, f"ip {table.held.table}"

    def told() -> int:
        return hosts.proxy.call(lambda: digest("ip", name))

    seen = [told()]
    table.serve(TCP80, A, Address("10.78.0.2", 80))
    seen.append(told())
    hosts.proxy.nft(f"add element {where} dead {{ {mark(7):#x} }}\nadd table ip other\nadd chain ip other {name}\n")
    with hosts.server.listen((A.host, A.port)), hosts.client.connect((hosts.proxy.ipv4, 80)):
        assert told() == seen[-1]
    for harm in (
        f"add rule {where} tcp_80 drop",
        f"flush chain {where} guard",
        f"add chain {where} another",
        f"delete table {where}",
    ):
        hosts.proxy.nft(harm + "\n")
        seen.append(told())
    assert len(set(seen)) == len(seen)


def test_a_table_that_is_not_there_is_said_so(hosts: Hosts) -> None:
    with pytest.raises(NetlinkError) as caught:
        hosts.proxy.call(lambda: marks("ip", "ambassador_1", "dead"))
    assert caught.value.errno == errno.ENOENT
    assert hosts.proxy.call(lambda: take_counts("ip", "ambassador_1")) == []
