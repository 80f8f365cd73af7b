"""Which of this machine's addresses no record may lead to, asked of a real kernel."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from dynproxy.proxy import docker_bridge
from tests.support.netns import Namespace

pytestmark = pytest.mark.netns


def test_this_hosts_address_on_dockers_bridge_is_known_whatever_it_is() -> None:
    with Namespace() as there:
        assert there.call(docker_bridge) == frozenset()
        there.run("ip", "link", "add", "docker0", "type", "bridge")
        assert there.call(docker_bridge) == frozenset()
        there.run("ip", "address", "add", "172.31.0.1/16", "dev", "docker0")
        assert there.call(docker_bridge) == {ip_address("172.31.0.1")}
