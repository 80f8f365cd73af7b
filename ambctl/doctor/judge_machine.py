"""PURE: what this machine lets a proxy do, and for how many clients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ambcore.findings import Finding
from ambctl.doctor.levels import amber, green, red, unknown

BACKLOG = 4096  # of our listeners; the kernel cuts it down to net.core.somaxconn
FEW_CONNECTIONS = 2000  # that the limit of open files has room for
FEW_PORTS = 10_000  # connections from here to one instance at a time
CROWDED, FULL = 0.75, 0.95  # of the table of tracked connections
LITTLE = 128 << 20  # bytes of memory: dynproxy and two workers with 1,000 connections take as much
RESERVED, A_CONNECTION = 200, 2  # open files of a relay: its own, and those of each connection


@dataclass(frozen=True, slots=True)
class Kernel:
    """`capable` is whether we have CAP_NET_ADMIN; `nft` why rules like dynproxy's are not taken, empty when they are,
    None when that could not be tried; `missing` whether there is no nft at all; `forwards` net.ipv4.ip_forward.
    `contained` is whether we run in a container, which has programs of its own.
    """

    capable: bool
    nft: str | None
    missing: bool = False
    forwards: str | None = "1"
    contained: bool = False


def judge_kernel(seen: Kernel) -> Iterator[Finding]:
    """Could a dynproxy here leave the bytes to the kernel?"""
    do = "or leave it: the relay serves without"
    if seen.missing and seen.contained:
        yield unknown("nft", "there is none in this container", "run the doctor on the host itself")
    elif seen.missing:
        yield amber("nft", f"{seen.nft}: dynproxy's kernel plane needs it", f"install nftables, {do}")
    elif not seen.capable:
        yield unknown("nft", "cannot be tried without CAP_NET_ADMIN", "run the doctor as root")
    elif seen.nft:
        yield amber("nft", f"this kernel does not take our rules: {seen.nft}", f"a newer kernel or nftables, {do}")
    else:
        yield green("nft", "takes rules like dynproxy's")
    if seen.forwards == "1":
        yield green("forwarding", "net.ipv4.ip_forward is 1")
    else:
        says = f"net.ipv4.ip_forward is {seen.forwards or 'not to be seen'}: the kernel forwards nothing"
        yield amber("forwarding", says, f"sysctl -w net.ipv4.ip_forward=1, {do}")


@dataclass(frozen=True, slots=True)
class Limits:
    """As the kernel tells them; None where it does not. `files` is the hard limit, to which our programs raise theirs.

    `ports` are the first and the last that connections leave from, `waiting` how many sockets are in TIME_WAIT;
    `tracked` and `trackable` connections; `memory` and `swap` the bytes still to be had.
    """

    files: int
    somaxconn: int | None = None
    ports: tuple[int, int] | None = None
    waiting: int | None = None
    reuse: str | None = None
    tracked: int | None = None
    trackable: int | None = None
    memory: int | None = None


def judge_limits(seen: Limits) -> Iterator[Finding]:
    """For how many clients is there room?"""
    fit = max(0, seen.files - RESERVED) // A_CONNECTION
    if fit < FEW_CONNECTIONS:
        do = "raise it where dynproxy is started: LimitNOFILE= in a unit, --ulimit nofile= for a container"
        yield amber("open files", f"the limit here is {seen.files}: room for {fit} connections a worker", do)
    else:
        yield green("open files", f"the limit here is {seen.files}: room for {fit} connections a worker")
    if seen.somaxconn is not None and seen.somaxconn < BACKLOG:
        says = f"net.core.somaxconn is {seen.somaxconn}: a burst of more clients is turned away"
        yield amber("backlog", says, f"sysctl -w net.core.somaxconn={BACKLOG}")
    elif seen.somaxconn is not None:
        yield green("backlog", f"net.core.somaxconn is {seen.somaxconn}")
    if seen.ports is not None:
        yield _ports(seen.ports, seen.waiting or 0, seen.reuse)
    if seen.tracked is not None and seen.trackable:
        yield _tracking(seen.tracked, seen.trackable)
    if seen.memory is not None:
        says = f"{seen.memory >> 20} MiB are to be had"
        if seen.memory < LITTLE:
            yield amber("memory", says, "make room before the kernel does, by ending a program")
        else:
            yield green("memory", says)


def _ports(ports: tuple[int, int], waiting: int, reuse: str | None) -> Finding:
    first, last = ports
    width = last - first + 1
    says = f"{width} for connections to one instance, {waiting} sockets in TIME_WAIT"
    wider = "sysctl -w net.ipv4.ip_local_port_range='1024 65000'"
    if width < FEW_PORTS:
        return amber("local ports", says, wider)
    if waiting > width // 2 and reuse != "1":
        return amber("local ports", says, f"sysctl -w net.ipv4.tcp_tw_reuse=1, or {wider}")
    return green("local ports", says)


def _tracking(tracked: int, trackable: int) -> Finding:
    says = f"{tracked} of {trackable} are tracked"
    do = "sysctl -w net.netfilter.nf_conntrack_max=…, twice as much"
    if tracked >= FULL * trackable:
        return red("connections", f"{says}: new ones are dropped", do)
    return amber("connections", says, do) if tracked >= CROWDED * trackable else green("connections", says)


@dataclass(frozen=True, slots=True)
class Door:
    """A port that shall be listened on: `error` is why it cannot be, else empty; `holder` who has it, if seen."""

    port: int
    error: str = ""
    holder: str = ""


def judge_door(seen: Door) -> Finding:
    """Would a dynproxy get it?"""
    topic = f"port {seen.port}"
    if not seen.error:
        return green(topic, "is free here")
    if seen.holder:
        return red(topic, f"is taken by {seen.holder}", "end that, or choose another port")
    return red(
        topic, f"cannot be had: {seen.error}", "see who has it: ss -ltnup; below 1024 it takes CAP_NET_BIND_SERVICE"
    )
