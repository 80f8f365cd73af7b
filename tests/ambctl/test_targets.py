"""What Prometheus is told to scrape."""

from __future__ import annotations

import pytest

from ambcore.fleet import Announcement, Kind
from ambctl.targets import is_near, target_groups


def program(name: str, admin: str | None, host: str = "a") -> Announcement:
    return Announcement(Kind.DYNPROXY, name, host, "1.2.3", admin, ("pg", "redis-A"), "2026-01-31T12:00:00Z")


def test_each_program_is_a_group_with_what_it_announced() -> None:
    assert target_groups([program("one", "http://10.1.2.3:9100")], "elsewhere") == [
        {
            "targets": ["10.1.2.3:9100"],
            "labels": {
                "__meta_amb_program": "dynproxy",
                "__meta_amb_id": "one",
                "__meta_amb_host": "a",
                "__meta_amb_version": "1.2.3",
                "__meta_amb_since": "2026-01-31T12:00:00Z",
                "__meta_amb_services": ",pg,redis-A,",
            },
        }
    ]


def test_what_cannot_be_reached_is_no_target() -> None:
    """Without an admin server, or with one on another machine's loopback."""
    near, far = program("near", "http://127.0.0.1:9100"), program("far", "http://127.0.0.1:9100", host="b")
    groups = target_groups([near, far, program("none", None), program("v6", "http://[2001:db8::1]:9100", "b")], "a")
    assert [group["targets"] for group in groups] == [["127.0.0.1:9100"], ["[2001:db8::1]:9100"]]


def test_from_anywhere_loopback_is_no_target() -> None:
    groups = target_groups([program("near", "http://127.0.0.1:9100"), program("wide", "http://10.1.2.3:9100")], "")
    assert [group["targets"] for group in groups] == [["10.1.2.3:9100"]]


@pytest.mark.parametrize(
    ("peer", "own", "near"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", True),
        ("::1", "::1", True),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", True),
        ("10.1.2.3", "10.1.2.3", True),  # by the machine's own address
        ("10.1.2.4", "10.1.2.3", False),
        ("fe80::1%eth0", "fe80::2%eth0", False),
    ],
)
def test_who_asks_from_the_same_machine_reaches_its_loopback(peer: str, own: str, *, near: bool) -> None:
    assert is_near(peer, own) is near
