"""--max-per-instance through a whole dynproxy: it is the relay that counts, and who waits is served in the end."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.support.waiting import eventually
from tests.system.kernel_hosts import Stage

pytestmark = [pytest.mark.etcd, pytest.mark.netns, pytest.mark.system]


def test_a_full_service_has_its_clients_wait_and_says_who_serves_and_why(stage: Stage) -> None:
    one, two, _ = stage.servers
    stage.put(one, two)
    with stage.proxy("--plane", "auto", "--workers", "2", "--max-per-instance", "4") as proxy, ExitStack() as stack:
        proxy.wait_serving(stage.service, one.host, two.host, plane="relay")
        assert proxy.service(stage.service)["plane_why"].startswith("--max-per-instance needs to count")
        talks = [stack.enter_context(stage.talk()) for _ in range(12)]
        eventually(lambda: proxy.service(stage.service)["parked"] >= 4, what="those for whom there is no room wait")
        instances = [proxy.instance(stage.service, each.host) for each in (one, two)]
        assert all(each["connections"] <= 4 for each in instances)
        assert proxy.metric("amb_relay_events_total", service=stage.service, event="instance_full") >= 1
        for talk in talks:
            talk.close()
        assert {stage.ask() for _ in range(4)} <= {one.host, two.host}
