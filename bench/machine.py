"""The machine: what it is, and how busy it is."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from pathlib import Path

from bench.hosts import interpreter

TICKS = os.sysconf("SC_CLK_TCK")
VERSIONS = {
    "haproxy": ("/usr/sbin/haproxy", "-v"),
    "nginx": ("/usr/sbin/nginx", "-v"),
    "socat": ("socat", "-V"),
    "docker": ("dockerd", "--version"),
    "redis": ("redis-server", "--version"),
    "iperf3": ("iperf3", "--version"),
    "etcd": ("etcd", "--version"),
    "nft": ("/usr/sbin/nft", "--version"),
}
NUMBER = re.compile(r"\d+\.\d+[\w.+-]*")


def busy_seconds() -> float:
    """CPU seconds that all cores together have spent on anything but idling, interrupts included, since boot.

    The fields of /proc/stat are those of proc(5); time stolen by a hypervisor is nobody's work and left out, and guest
    time is in user time already.
    """
    user, nice, system, _idle, _iowait, irq, softirq = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + softirq) / TICKS


def settle(share: float = 0.1, seconds: float = 1.0) -> bool:
    """Wait until the machine is at rest: under `share` of its cores for 0.1 s. False if it was not in `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        started, busy = time.monotonic(), busy_seconds()
        time.sleep(0.1)
        if busy_seconds() - busy < share * (os.cpu_count() or 1) * (time.monotonic() - started):
            return True
    return False


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, all its threads and those of its children that have ended included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def private_kib(pid: int) -> int:
    """Memory that a process shares with nobody, in KiB; 0 of one that has ended."""
    return sum(_rollup(pid, "Private_Clean", "Private_Dirty"))


def resident_kib(pid: int) -> int:
    """A process's resident set, shared pages counted in full, in KiB; 0 of one that has ended."""
    return sum(_rollup(pid, "Rss"))


def _rollup(pid: int, *names: str) -> list[int]:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(line.split()[1]) for line in lines if line.partition(":")[0] in names]


def facts() -> dict[str, object]:
    """What a reader has to know of the machine to judge a figure."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", cpuinfo)
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory[1]) / 2**20) if memory else None,
        "kernel": platform.release(),
        "python": _version((*interpreter(), "--version")),
        "versions": {name: _version(command) for name, command in VERSIONS.items()},
    }


def _version(command: tuple[str, ...]) -> str | None:
    """The first thing that looks like a version in what a program says; None when it is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)  # noqa: S603
    except OSError:
        return None
    found = NUMBER.search(done.stdout + done.stderr)
    return found[0] if found else None
