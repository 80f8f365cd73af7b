"""Netlink to the kernel's packet filter: framing, questions and answers.

Follows include/uapi/linux/netlink.h and linux/netfilter/nfnetlink.h. Written out here because the library for it costs
8.6 MiB of memory, and a dozen structures are all we need. Blocking, each wait bounded: see `conntrack` for who calls it
where. Needs CAP_NET_ADMIN in the network namespace of the thread that opens it.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Self

from ambcore.errors import AmbassadorError

NETLINK_NETFILTER = 12
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLMSG_NOOP, NLMSG_ERROR, NLMSG_DONE = 1, 2, 3
NLA_TYPE = 0x3FFF  # without the flags for "nested" and "network byte order"

HEADER = struct.Struct("=LHHLL")  # nlmsghdr: length, type, flags, sequence, port
FAMILY = struct.Struct("=BBH")  # nfgenmsg: family, version 0, resource 0
ATTRIBUTE = struct.Struct("=HH")  # nlattr: length with this head, type
ERRNO = struct.Struct("=l")
BODY = HEADER.size + FAMILY.size  # where a message's attributes begin

READ = 65536  # the kernel fills 32 KiB at most into one answer of a dump
BATCH = 64  # orders a send takes: their refusals fit into the smallest receive buffer
PATIENCE = 5.0  # seconds the kernel may let us wait for a single answer
LONGEST = 30.0  # seconds a whole dump may take; a million entries take about ten


class NetlinkError(AmbassadorError):
    """The kernel refused, did not answer, or answered with something odd. `errno` is 0 where it gave none."""

    def __init__(self, doing: str, why: str, number: int = 0) -> None:
        super().__init__(f"{doing}: {why}")
        self.errno = number


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to the next multiple of four."""
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(payload), kind) + payload + bytes(-len(payload) % 4)


def attributes(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The type, first byte and end of every attribute's payload in `data[start:end]`; ValueError when one overruns."""
    while start + ATTRIBUTE.size <= end:
        length, kind = ATTRIBUTE.unpack_from(data, start)
        if not ATTRIBUTE.size <= length <= end - start:
            raise ValueError("an attribute overruns its message")
        yield kind & NLA_TYPE, start + ATTRIBUTE.size, start + length
        start += (length + 3) & ~3


def messages(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """The type, sequence, start and end of every message in one answer; ValueError when one overruns."""
    start = 0
    while start < len(data):
        if len(data) - start < HEADER.size:
            raise ValueError("an answer was cut short")
        length, kind, _, sequence, _ = HEADER.unpack_from(data, start)
        if not HEADER.size <= length <= len(data) - start:
            raise ValueError("an answer was cut short")
        yield kind, sequence, start, start + length
        start += (length + 3) & ~3


class Netlink:
    """One conversation: `with Netlink("connection tracking") as kernel: …`. Every error is a NetlinkError.

    `doing` begins each error's text.
    """

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._sequence = count(1)
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        except OSError as error:
            raise self._failed(error.errno or 0) from error
        self._socket.settimeout(PATIENCE)
        self._socket.connect((0, 0))  # hear the kernel alone

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._socket.close()

    def dump(self, kind: int, family: int, body: bytes = b"") -> Iterator[tuple[bytes, int, int]]:
        """Every message of a list, as the bytes it is in, the start of its attributes and its end.

        The next ones are fetched as the iterator advances, so a long list takes little memory.
        """
        return self._answers(kind, NLM_F_DUMP, family, body)

    def ask(self, kind: int, family: int = socket.AF_UNSPEC, body: bytes = b"") -> Iterator[tuple[bytes, int, int]]:
        """The answer to one question, in the form in which `dump` gives many."""
        return self._answers(kind, NLM_F_ACK, family, body)

    def _answers(self, kind: int, flags: int, family: int, body: bytes) -> Iterator[tuple[bytes, int, int]]:
        deadline = time.monotonic() + LONGEST
        sequence = next(self._sequence)
        self._send(self._message(kind, flags, family, body, sequence))
        while True:
            data = self._receive()
            try:
                for answer, to, start, end in messages(data):
                    if to != sequence or answer == NLMSG_NOOP:
                        continue
                    if answer in {NLMSG_DONE, NLMSG_ERROR}:
                        if number := self._errno(data, start, end):
                            raise self._failed(number)
                        return
                    yield data, start + BODY, end
            except ValueError as error:
                raise NetlinkError(self._doing, str(error)) from error
            if time.monotonic() > deadline:
                raise NetlinkError(self._doing, f"the list was not complete after {LONGEST:.0f} s")

    def order(self, kind: int, family: int, bodies: Sequence[bytes], absorbed: Iterable[int] = ()) -> int:
        """Have the kernel do something once for each body; how many times it did.

        A refusal whose errno is in `absorbed` is only not counted; any other one raises, after all were tried.
        """
        fine, refusals = frozenset(absorbed), []
        for first in range(0, len(bodies), BATCH):
            refusals += self._batch(kind, family, bodies[first : first + BATCH])
        for number in refusals:
            if number not in fine:
                raise self._failed(number)
        return len(bodies) - len(refusals)

    def _batch(self, kind: int, family: int, bodies: Sequence[bytes]) -> list[int]:
        """The errno of each refusal. Success is silent but for the last order's, which ends the answers."""
        numbers = [next(self._sequence) for _ in bodies]
        parcel = [
            self._message(kind, NLM_F_ACK if number == numbers[-1] else 0, family, body, number)
            for number, body in zip(numbers, bodies, strict=True)
        ]
        self._send(b"".join(parcel))
        refusals = []
        while True:
            data = self._receive()
            try:
                for answer, to, start, end in messages(data):
                    if answer != NLMSG_ERROR or to not in numbers:
                        continue
                    if number := self._errno(data, start, end):
                        refusals.append(number)
                    if to == numbers[-1]:
                        return refusals
            except ValueError as error:
                raise NetlinkError(self._doing, str(error)) from error

    @staticmethod
    def _message(kind: int, flags: int, family: int, body: bytes, sequence: int) -> bytes:
        head = HEADER.pack(BODY + len(body), kind, flags | NLM_F_REQUEST, sequence, 0)
        return head + FAMILY.pack(family, 0, 0) + body

    @staticmethod
    def _errno(data: bytes, start: int, end: int) -> int:
        """What an error or a list's end says: 0 for success."""
        if end - start < HEADER.size + ERRNO.size:
            return 0
        return -int(ERRNO.unpack_from(data, start + HEADER.size)[0])

    def _send(self, parcel: bytes) -> None:
        try:
            self._socket.send(parcel)
        except OSError as error:
            raise self._failed(error.errno or 0) from error

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(READ)
        except TimeoutError as error:
            raise NetlinkError(self._doing, f"no answer from the kernel within {PATIENCE:.0f} s") from error
        except OSError as error:
            raise self._failed(error.errno or 0) from error

    def _failed(self, number: int) -> NetlinkError:
        hint = {errno.EPERM: " (it needs CAP_NET_ADMIN)", errno.EINVAL: " (is it in this kernel?)"}.get(number, "")
        return NetlinkError(self._doing, f"{os.strerror(number)}{hint}", number)
