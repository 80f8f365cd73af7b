"""Who is ejected, and that it never makes anything worse: the way back, and checks that fail for a reason of ours."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.waiting import eventually
from tests.system.kernel_hosts import KernelProxy, Redis, Stage
from tests.system.kernel_load import Load

pytestmark = [pytest.mark.etcd, pytest.mark.netns, pytest.mark.system, pytest.mark.long]

Figure = Callable[[str], None]
BOTH = pytest.mark.parametrize("plane", ["kernel", "relay"])

# On the servers' host. The second lets a SYN in when it is sent again, a second later: a check has given up by then.
HOLE = (
    "add table ip lost\nadd chain ip lost input {{ type filter hook input priority 0; }}\n"
    "add rule ip lost input ip daddr {host} tcp flags & (syn | ack) == syn drop\n"
)
LATE = (
    "add table ip lost\nadd chain ip lost input { type filter hook input priority 0; }\n"
    "add set ip lost seen { type ipv4_addr . inet_service . ipv4_addr; flags dynamic,timeout; timeout 20s; }\n"
    "add rule ip lost input tcp flags & (syn | ack) == syn ip daddr 10.78.0.0/16 "
    "ip saddr . tcp sport . ip daddr @seen accept\n"
    "add rule ip lost input tcp flags & (syn | ack) == syn ip daddr 10.78.0.0/16 "
    "add @seen { ip saddr . tcp sport . ip daddr } drop\n"
)


def is_ejected(proxy: KernelProxy, stage: Stage, server: Redis) -> bool:
    state: str = proxy.instance(stage.service, server.host)["state"]
    return state == "ejected"


@BOTH
def test_C3_an_instance_that_speaks_again_is_asked_again(stage: Stage, plane: str) -> None:
    one, two, three = stage.servers
    with stage.serving(one, two, three, plane=plane) as proxy:
        stage.hosts.server.nft(HOLE.format(host=one.host))
        eventually(lambda: is_ejected(proxy, stage, one), 15)
        assert stage.answers(6) == {two.host, three.host}
        stage.hosts.server.nft("delete table ip lost\n")
        eventually(lambda: stage.answers(6) == {one.host, two.host, three.host}, 15)


@BOTH
def test_C3_without_checks_clients_find_the_way_back_for_each_other(stage: Stage, plane: str) -> None:
    one, two, _ = stage.servers
    with stage.serving(one, two, plane=plane, options=("--check-interval", "0")):
        one.kill()
        assert {stage.ask() for _ in range(10)} == {two.host}
        one.start()
        eventually(lambda: stage.answers(4) == {one.host, two.host}, 20)


@BOTH
def test_C3_checks_that_all_fail_take_no_service_down(stage: Stage, plane: str, figure: Figure) -> None:
    """Every first SYN is lost, so that every check fails and no client does: they take the second that TCP takes."""
    with stage.serving(*stage.servers, plane=plane) as proxy:
        stage.hosts.server.nft(LATE)
        eventually(lambda: all(is_ejected(proxy, stage, each) for each in stage.servers), 15)
        with Load(stage.hosts.client, stage.to, 20) as clients:
            eventually(lambda: stage.answers(6) == {each.host for each in stage.servers}, 30)
        stage.hosts.server.nft("delete table ip lost\n")
    outcome = clients.outcome
    figure(f"{plane}: all checks fail: {sum(outcome.errors.values())} of {outcome.ended} connections failed")
    assert outcome.errors == {}
