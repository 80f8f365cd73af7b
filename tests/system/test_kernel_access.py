"""Who is served where the kernel forwards: `--allow` in both planes of one dynproxy."""

from __future__ import annotations

import pytest

from tests.support.hosts import Address, Host
from tests.support.waiting import eventually
from tests.system.kernel_hosts import Stage, Talk

pytestmark = [pytest.mark.etcd, pytest.mark.netns, pytest.mark.system]


def refused(client: Host, to: Address) -> bool:
    """Whether a client is reset, before or after it knows that it was connected."""
    try:
        with Talk(client, to) as talk:
            talk.who()
    except ConnectionError:
        return True
    return False


def test_clients_outside_are_refused_by_the_relay_and_those_inside_served_by_the_kernel(stage: Stage) -> None:
    one, inside, outside = stage.servers[0], stage.hosts.client, stage.hosts.server
    with stage.serving(one, options=("--allow", f"{inside.ipv4}/32")) as proxy:
        assert stage.answers(3) == {one.host}
        assert refused(outside, stage.to)
        assert refused(inside, (stage.hosts.proxy.ipv6, stage.port)), "nobody has IPv6 in the list"
        eventually(lambda: proxy.service(stage.service)["counters"]["not_allowed"] == 2)
        eventually(lambda: proxy.service(stage.service)["kernel"]["connections"] == 3, 10)
        proxy.wait_for(f"a client at {outside.ipv4} is refused, it is outside --allow")
        assert proxy.metric("amb_relay_events_total", service=stage.service, event="not_allowed") == 2


def test_a_list_of_ipv6_networks_is_kept_to_by_the_kernel_too(stage: Stage) -> None:
    two, inside = stage.servers[1], stage.hosts.client
    to = (stage.hosts.proxy.ipv6, stage.port)
    stage.registry.put(stage.service, "six", two.host6)
    with stage.proxy("--plane", "kernel", "--allow", "fd77:1::/64") as proxy:
        proxy.wait_serving(stage.service, "six")
        assert stage.answers(3, to) == {two.host}
        assert refused(stage.hosts.server, to)
        assert refused(inside, stage.to)
        eventually(lambda: proxy.service(stage.service)["counters"]["not_allowed"] == 2)
        eventually(lambda: proxy.service(stage.service)["kernel"]["connections"] == 3, 10)
