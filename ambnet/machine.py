"""What this machine says of itself: its kernel's settings, and what the kernel lets this process do."""

from __future__ import annotations

from pathlib import Path

NET_ADMIN = 1 << 12  # CAP_NET_ADMIN in include/uapi/linux/capability.h


def capabilities() -> int:
    """Those that this thread has in effect, a bit each."""
    for line in Path("/proc/thread-self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def setting(name: str) -> str | None:
    """A kernel setting as `sysctl` prints it; None where the kernel has none of that name, or shows it to others only.

    A setting of the network is that of this network namespace.
    """
    try:
        return Path("/proc/sys", *name.split(".")).read_text().strip()
    except OSError:
        return None


def in_container() -> bool:
    """Whether this is a container of Docker's or Podman's, whose programs and files are not those of its host."""
    return any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv"))
