"""What the kernel sees of a connection for the first time in its middle: it was not tracked when it was begun."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.kernel_scene import Scene
from tests.support.kernel_table import TCP80, KernelTable

pytestmark = pytest.mark.netns


@pytest.fixture(params=[4, 6])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with Scene(request.param, table=False) as scene:
        yield scene


def test_C9_what_the_relay_took_while_there_were_no_rules_stays_the_relays(scene: Scene) -> None:
    """Without a rule that asks for it nothing is tracked. When the rules are back, a packet of a connection that the
    relay carries is the first of it that is; an instance that got it would reset the connection.
    """
    with scene.connect() as conversation:
        assert conversation.at == scene.relay
        scene.table = KernelTable(scene.proxy, scene.family)
        scene.table.serve(TCP80, scene.instance(1))
        assert conversation.echoes()
        assert conversation.echoes()
        assert scene.ask() == scene.host(1)
        assert scene.table.counted(TCP80)["new"][0] == 1
