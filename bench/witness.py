"""Who says when a plane has applied a change. Both cost the machine next to nothing.

    kernel   The kernel itself multicasts every transaction on a ruleset after it is committed (NFNLGRP_NFTABLES of
             linux/netfilter/nfnetlink.h). The witness waits for the one that carries the instance's new address, four
             bytes that occur nowhere else, whatever the rules look like.
    relay    `bench.timed_dynproxy` says when the plane's `apply` returned, that is, when every worker had confirmed it.

A status document of 10,000 instances would take the control process longer to write than the change to apply.
"""

from __future__ import annotations

import ipaddress
import queue
import socket
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from typing import Any, Protocol

from bench.hosts import CannotRunError, Host

NETLINK_NETFILTER, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES = 12, 270, 1, 7
SO_RCVBUFFORCE = 33  # include/uapi/asm-generic/socket.h
ROOM = 64 * 1024 * 1024  # bytes of notifications that wait for us: those of a table of 10,000 are a tenth of it


class Witness(Protocol):
    """Saw when an address came into use."""

    def saw(self, address: str, seconds: float) -> float:
        """The moment on the monotonic clock; raises CannotRunError when it did not within `seconds`."""

    def quiet(self, silent: float, seconds: float) -> None:
        """Wait until nothing was applied for `silent` seconds; raises CannotRunError after `seconds`."""


class _Queue(ABC):
    """What is common to both: a thread that notes the moments, and a queue of what it noted."""

    def __init__(self) -> None:
        self._noted: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

    def _start(self) -> None:
        threading.Thread(target=self._note, daemon=True).start()

    @abstractmethod
    def _note(self) -> None:
        """Put what comes into the queue, with its moment; endless."""

    def saw(self, address: str, seconds: float) -> float:
        """See Witness."""
        deadline = time.monotonic() + seconds
        wanted = self._form(address)
        while True:
            try:
                moment, text = self._noted.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise CannotRunError(f"{address} was not applied within {seconds:.0f} s") from None
            if wanted in text:
                return moment

    def quiet(self, silent: float, seconds: float) -> None:
        """See Witness."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                self._noted.get(timeout=silent)
            except queue.Empty:
                return
        raise CannotRunError(f"changes are still being applied after {seconds:.0f} s")

    @abstractmethod
    def _form(self, address: str) -> bytes:
        """An address as it stands in what is noted."""


class KernelWitness(_Queue):
    """`KernelWitness(host)` listens in a host's namespace, as root."""

    def __init__(self, host: Host) -> None:
        super().__init__()
        self._socket = host.inside(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
        self._socket.bind((0, 0))
        self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES)
        self._start()

    def _note(self) -> None:
        while True:
            text = self._socket.recv(1 << 20)
            self._noted.put((time.monotonic(), text))

    def _form(self, address: str) -> bytes:
        return ipaddress.ip_address(address).packed


class RelayWitness(_Queue):
    """Reads what `bench.timed_dynproxy` says."""

    def __init__(self, process: subprocess.Popen[Any]) -> None:
        super().__init__()
        self._process = process
        self._start()

    def _note(self) -> None:
        for line in self._process.stdout or ():
            moment, _, addresses = str(line).partition(" ")
            self._noted.put((float(moment), f" {addresses.strip()} ".encode()))

    def _form(self, address: str) -> bytes:
        return f" {address} ".encode()
