"""What a worker's end of the socket to its parent promises to those who send."""

from __future__ import annotations

import socket

from ambnet.relay.control import Control
from ambnet.relay.loop import Loop
from ambnet.relay.protocol import Event


def test_that_the_parent_has_gone_is_told_once_and_to_nobody_in_the_middle_of_a_send() -> None:
    """A log line is sent from wherever it is said, and what the end brings about closes what is worked on there."""
    loop = Loop()
    ended: list[bool] = []
    ours, theirs = socket.socketpair()
    control = Control(loop, ours, lambda _: None, lambda: ended.append(True))
    theirs.close()
    for _ in range(2):
        control.send(Event("info", "to nobody"))
    assert not ended
    loop.call_later(0.1, loop.stop)
    loop.run()
    assert ended == [True]
    loop.close()
