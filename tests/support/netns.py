"""A network namespace of one's own: its own ports, packet filter and limits, with a loopback and nothing else."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Self, TypeVar

import pytest

T = TypeVar("T")

CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count()


def _change_to(namespace: IO[str]) -> None:
    if _libc.setns(namespace.fileno(), CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Namespace:
    """`with Namespace() as there: there.run("nft", …)`; needs root."""

    def __init__(self) -> None:
        self.name = f"amb-test-{os.getpid()}-{next(_numbers)}"
        self.prefix = ("nsenter", f"--net=/run/netns/{self.name}")

    def __enter__(self) -> Self:
        if os.geteuid():
            pytest.fail("needs root for a network namespace", pytrace=False)
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.run("ip", "link", "set", "lo", "up")
        return self

    def __exit__(self, *failure: object) -> None:
        subprocess.run(["ip", "netns", "delete", self.name], check=True)

    def run(self, *command: str) -> None:
        """Run a command inside, to its end."""
        subprocess.run([*self.prefix, *command], check=True)

    def setting(self, name: str, value: str) -> None:
        """Set one of its own settings, as in `net.ipv4.ip_local_port_range`."""
        path = Path("/proc/sys", *name.split("."))
        self.run("sh", "-c", 'printf %s "$1" > "$2"', "sh", value, str(path))

    def call(self, function: Callable[[], T]) -> T:
        """What `function()` gives or raises, run inside: a socket that it makes stays there, whoever uses it."""
        made: list[T] = []
        failed: list[BaseException] = []

        def work() -> None:  # the namespace is a thread's: one that ends takes the change along
            try:
                self._enter()
                made.append(function())
            except BaseException as error:  # noqa: BLE001 - raised below, in the caller's thread
                failed.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if failed:
            raise failed.pop()
        return made[0]

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread inside for the length of a block, and with it every thread and process that it starts."""
        with Path("/proc/thread-self/ns/net").open() as before:
            self._enter()
            try:
                yield
            finally:
                _change_to(before)

    def _enter(self) -> None:
        with Path(f"/run/netns/{self.name}").open() as namespace:
            _change_to(namespace)

    def server(self, backlog: int) -> socket.socket:
        """A listening socket inside, on 127.0.0.1."""
        return self.call(lambda: socket.create_server(("127.0.0.1", 0), backlog=backlog))
