"""A network namespace of one's own: its own ports, packet filter and limits, with a loopback and nothing else."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
from pathlib import Path
from typing import Self

import pytest

CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h
_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """`with Namespace() as there: there.run("nft", …)`; needs root."""

    def __init__(self) -> None:
        self.name = f"amb-test-{os.getpid()}-{threading.get_ident() % 10**6}"
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

    def server(self, backlog: int) -> socket.socket:
        """A listening socket inside, on 127.0.0.1."""
        made: list[socket.socket] = []

        def make() -> None:  # the namespace is a thread's: one that ends takes the change along
            with Path(f"/run/netns/{self.name}").open() as namespace:
                if _libc.setns(namespace.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            made.append(socket.create_server(("127.0.0.1", 0), backlog=backlog))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        return made[0]
