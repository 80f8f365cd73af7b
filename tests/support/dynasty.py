"""A dynproxy on the proxy's host whose successors take over from it, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.system.kernel_hosts import KernelProxy, Stage

ADMIN_PORTS = 20000  # above a test's own port, which is its alone


class Dynasty:
    """`with Dynasty(stage, folder, plane) as dynasty: dynasty.succeed()`. `reigning` is the one that serves.

    Its instances are the stage's servers, and those `beside` them that somebody else has registered.
    """

    def __init__(self, stage: Stage, folder: Path, plane: str, *options: str, beside: Sequence[str] = ()) -> None:
        self._stage = stage
        self._plane = plane
        self._names = (*(each.host for each in stage.servers), *beside)
        self._options = ("--plane", plane, *options, "--hand-over", str(folder / "hand-over"))
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stage.put(*self._stage.servers)
        self.reigning = self.start()
        self.wait_serving(self.reigning)
        return self

    def __exit__(self, *failure: object) -> None:
        self._stack.__exit__(None, None, None)

    def start(self, *options: str) -> KernelProxy:
        """Start a process that would take over; its `options` come last."""
        return self._stack.enter_context(self.heir(*options))

    def heir(self, *options: str) -> KernelProxy:
        """The same, not started yet."""
        proxy = self._stage.proxy(*self._options, *options)
        admin = f"127.0.0.1:{self._stage.port + ADMIN_PORTS}"  # one for all of them: it is handed over as well
        proxy.arguments = tuple(admin if argument == proxy.admin else argument for argument in proxy.arguments)
        proxy.admin = admin
        return proxy

    def wait_serving(self, proxy: KernelProxy) -> None:
        """Until it has taken over."""
        proxy.wait_for("listening for", 60)
        proxy.wait_serving(self._stage.service, *self._names, plane=self._plane, seconds=60)

    def succeed(self) -> KernelProxy:
        """Have another process take over; returns the one before it, which finishes what it has and ends."""
        before = self.reigning
        self.reigning = self.start()
        self.wait_serving(self.reigning)
        return before
