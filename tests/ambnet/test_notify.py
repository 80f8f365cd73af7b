"""What systemd is told, by the sd_notify protocol."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ambnet.notify import notify, watchdog_interval


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_the_manager_gets_one_datagram_a_message(tmp_path: Path, abstract: bool) -> None:
    name = f"@ambassador-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if abstract else name)
        manager.settimeout(5)
        assert notify("READY=1", "STATUS=größe", environ={"NOTIFY_SOCKET": name})
        assert notify("STOPPING=1", environ={"NOTIFY_SOCKET": name})
        assert manager.recv(1000).decode() == "READY=1\nSTATUS=größe"
        assert manager.recv(1000) == b"STOPPING=1"


def test_outside_systemd_nothing_is_told() -> None:
    assert not notify("READY=1", environ={})
    assert not notify("READY=1", environ={"NOTIFY_SOCKET": ""})


def test_a_manager_that_is_gone_harms_nobody(tmp_path: Path) -> None:
    assert not notify("READY=1", environ={"NOTIFY_SOCKET": str(tmp_path / "gone")})


def test_a_manager_that_does_not_read_holds_up_nobody(tmp_path: Path) -> None:
    """simple-amb tells its watchdog from the loop that carries the bytes."""
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name)
        told = [notify("WATCHDOG=1", environ={"NOTIFY_SOCKET": name}) for _ in range(10_000)]
    assert told[0]
    assert not told[-1]


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": ""}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid() + 1)}, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_asked_and_only_by_the_watched_process(
    environ: dict[str, str], interval: float | None
) -> None:
    assert watchdog_interval(environ) == interval
