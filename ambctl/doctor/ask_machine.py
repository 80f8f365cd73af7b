"""Look at this machine: what its kernel lets us do, and how much of it."""

from __future__ import annotations

import contextlib
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

from ambctl.doctor.judge_machine import Door, Kernel, Limits
from ambnet.machine import NET_ADMIN, capabilities, in_container, setting
from ambnet.nft import Nft, NftError, Trouble

LISTENING = "0A"  # TCP_LISTEN in a table of sockets, man 5 proc_net

# What dynproxy's rules need of nft and the kernel, in its smallest form; RFC 5737 keeps these addresses for examples.
SAMPLE = """\
table ip ambassador_doctor {
  set dead { type mark; flags dynamic,timeout; timeout 5s; }
  chain before {
    type nat hook prerouting priority dstnat - 5;
    tcp dport 1 ct mark set numgen inc mod 2 map { 0 : 1, 1 : 2 }
    ct mark @dead ct mark set ct mark map { 1 : 2, 2 : 1 }
    meta l4proto tcp dnat ip addr . port to ct mark map { 1 : 192.0.2.1 . 1, 2 : 192.0.2.2 . 1 }
  }
  chain after { type nat hook postrouting priority srcnat - 5; ct status dnat masquerade; }
  chain guard {
    type filter hook forward priority mangle;
    ct direction reply tcp flags & (rst|ack) == rst|ack tcp sequence 0 update @dead { ct mark } drop
  }
}
"""


async def kernel() -> Kernel:
    """Whether rules like dynproxy's would be taken; nothing is changed. Never raises."""
    capable = bool(capabilities() & NET_ADMIN)
    forwards = setting("net.ipv4.ip_forward")
    try:
        await Nft().check(SAMPLE)
    except NftError as error:
        missing = error.kind is Trouble.MISSING
        return Kernel(capable, str(error) if capable or missing else None, missing, forwards, in_container())
    return Kernel(capable, "", forwards=forwards, contained=in_container())


def limits() -> Limits:
    """What there is room for. Never raises."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    first, _, last = (setting("net.ipv4.ip_local_port_range") or "").partition("\t")
    return Limits(
        hard,
        somaxconn=_number("net.core.somaxconn"),
        ports=(int(first), int(last)) if first.isdigit() and last.isdigit() else None,
        waiting=_waiting(),
        reuse=setting("net.ipv4.tcp_tw_reuse"),
        tracked=_number("net.netfilter.nf_conntrack_count"),
        trackable=_number("net.netfilter.nf_conntrack_max"),
        memory=_available(),
    )


def _number(name: str) -> int | None:
    text = setting(name) or ""
    return int(text) if text.isdigit() else None


def _waiting() -> int | None:
    """Sockets in TIME_WAIT in this network namespace (man 5 proc_net)."""
    for line in _lines("/proc/thread-self/net/sockstat"):
        words = line.split()
        if words[:1] == ["TCP:"] and "tw" in words:
            return int(words[words.index("tw") + 1])
    return None


def _available() -> int | None:
    """Bytes of memory that can be had without ending anybody."""
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return None


def door(port: int) -> Door:
    """Whether a port can be listened on, on all addresses. Never raises."""
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):  # noqa: S104 - let go at once
        try:
            with socket.socket(family, socket.SOCK_STREAM) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family is socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind((address, port))
                sock.listen(1)
        except OSError as error:
            if family is socket.AF_INET6 and not Path("/proc/thread-self/net/if_inet6").exists():
                continue
            return Door(port, error.strerror or str(error), _holder(port))
    return Door(port)


def _holder(port: int) -> str:
    """Who listens on a port, as `name (pid 1)`; empty when we may not see it."""
    inodes = set(_listening(port))
    for process in Path("/proc").iterdir():
        if inodes and process.name.isdigit():
            with contextlib.suppress(OSError):
                if any(str(fd.readlink()) in inodes for fd in (process / "fd").iterdir()):
                    return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return ""


def _listening(port: int) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        for line in _lines(f"/proc/thread-self/net/{table}")[1:]:
            words = line.split()
            if words[3] == LISTENING and int(words[1].rpartition(":")[2], 16) == port:
                yield f"socket:[{words[9]}]"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
