"""The frames of `ambctl top`: what was carried between two looks, by whom, and how it looks."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ambcore.history import KeyValue
from ambcore.model import Address, Instance, Readiness
from ambcore.schema import encode_record, record_key
from ambctl.frame import Frame, Watching, document, lines, notices
from ambctl.paper import MARKS, Paper
from ambnet.page.gather import fleet
from ambnet.page.model import EtcdSight, Record, Said, Sight
from tests.support.golden import golden

AT = 1_795_298_094.0


def record(instance: Instance) -> Record:
    return Record(KeyValue(record_key(instance.service, instance.id).encode(), encode_record(instance), 1), instance)


RECORDS = (
    record(Instance("pg", "pg-1", Address("10.1.2.9", 5432), owner="core-03")),
    record(Instance("redis-A", "redis-1", Address("10.1.2.3", 6379), owner="core-01")),
    record(Instance("redis-A", "redis-2", Address("10.1.2.4", 6379), readiness=Readiness.DRAINING, owner="core-02")),
    Record(KeyValue(b"/services/redis-A/\x1b[2Jevil", b"x", 1), "malformed: x"),
)


def proxy(name: str, *, begun: int, sent: int = 0, plane: str = "relay", kernel: int = 0) -> Said:
    """A dynproxy that began so many connections to redis-1, and lost a client in ten."""
    instance = {
        "id": "redis-1",
        "address": "10.1.2.3:6379",
        "state": "up",
        "connections": 3,
        "connections_total": begun,
        "connect_failures": begun // 10,
        "bytes_in": sent,
        "bytes_out": 0,
    }
    service = {"name": "redis-A", "plane": plane, "kernel": {"connections": kernel}, "instances": [instance]}
    status = {"program": "dynproxy", "uptime": 60, "ready": True, "services": [service]}
    return Said(name, status, "", "dynproxy", "core-01")


MUTE = Said("core-09-1", None, "http://10.1.2.9:9100/status.json: no answer in 1 s", "dynproxy", "core-09")


def looks(*each: tuple[Said, ...]) -> Frame:
    """The frame after looks a second apart, at which these programs were heard."""
    watching = Watching()
    for second, said in enumerate(each):
        etcd = EtcdSight("http://10.1.1.1:2379", connected=True, age=0.0)
        frame = watching.frame(fleet(Sight(AT + second, said, RECORDS, etcd=etcd)), AT + second, 100.0 + second)
    return frame


def service(frame: Frame, name: str = "redis-A") -> dict[str, Any]:
    return next(each for each in document(frame)["services"] if each["name"] == name)


BUSY = looks(
    (proxy("a", begun=100, sent=0), proxy("b", begun=40)),
    (proxy("a", begun=140, sent=1 << 21), proxy("b", begun=50), MUTE),
)


def test_what_several_proxies_carry_is_added_up() -> None:
    found = service(looks((proxy("a", begun=100), proxy("b", begun=40)), (proxy("a", begun=140), proxy("b", begun=50))))
    assert (found["connections"], found["connections_per_second"], found["failures_per_second"]) == (6, 50.0, 5.0)
    first = found["instances"][0]
    assert (first["id"], first["connections"], first["connections_per_second"]) == ("redis-1", 6, 50.0)


def test_a_rate_takes_two_looks() -> None:
    found = service(looks((proxy("a", begun=100),)))
    assert (found["connections"], found["connections_per_second"]) == (3, None)


def test_a_proxy_that_is_heard_again_is_no_burst() -> None:
    a, b = proxy("a", begun=1000), proxy("b", begun=2000)
    gone = Said("b", None, "no answer", "dynproxy", "core-01")
    for after in ((a, gone), (a,)):
        assert service(looks((a, b), after, (a, b)))["connections_per_second"] == 0


def test_a_proxy_that_begins_anew_is_no_burst_and_no_debt() -> None:
    """Its name is another: those of announced programs are drawn for each process."""
    found = service(looks((proxy("a-1", begun=1000),), (proxy("a-2", begun=10),)))
    assert found["connections_per_second"] is None


def test_instances_of_the_kernels_plane_have_no_figures_of_their_own() -> None:
    """The kernel counts what begins, by service; what the relay carries besides would be a part that says nothing."""
    found = service(
        looks(
            (proxy("a", begun=0, plane="kernel", kernel=10),),
            (proxy("a", begun=0, plane="kernel", kernel=30),),
        )
    )
    assert (found["connections_per_second"], found["connections"]) == (20.0, None)
    assert found["instances"][0]["connections"] is None


def test_the_busiest_comes_first() -> None:
    assert [each["name"] for each in document(BUSY)["services"]] == ["redis-A", "pg"]


@pytest.mark.parametrize("width", [60, 100, 200])
@pytest.mark.parametrize("color", [False, True], ids=["plain", "color"])
def test_a_frame_is_as_it_was_when_somebody_looked(width: int, color: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.localtime", time.gmtime)
    golden(f"ambctl_top_{width}{'_color' if color else ''}.txt", lines(BUSY, Paper(width, color, MARKS)))


def test_a_pipe_gets_one_record_a_line_in_words_without_blanks() -> None:
    golden("ambctl_top_pipe.txt", table := lines(BUSY, Paper()))
    assert {len(line.split()) for line in table} == {8}


def test_who_could_not_be_asked_is_said() -> None:
    (said,) = notices(BUSY)
    assert "core-09-1 cannot be asked: http://10.1.2.9:9100/status.json: no answer" in said
    assert [(each["id"], each["asked"]) for each in document(BUSY)["programs"]][-1] == ("core-09-1", False)
    assert "no program has announced itself" in notices(looks(()))[0]


@pytest.mark.parametrize("height", range(1, 12))
def test_a_frame_is_no_higher_than_the_terminal(height: int) -> None:
    shown = lines(BUSY, Paper(80, False, MARKS), height)
    assert len(shown) <= height
    assert len(shown) == height or "more" not in shown[-1]


def test_without_services_that_is_said() -> None:
    empty = Watching().frame(fleet(Sight(AT, (), ())), AT, 1.0)
    assert lines(empty, Paper(80, False, MARKS))[-1] == "no services"
    assert lines(empty, Paper()) == []


def test_whatever_a_program_says_is_survived_and_printable() -> None:
    odd: Any = {"services": [{"name": "\x1b[2J", "instances": [{"id": "\n", "connections": "many"}, 7]}, None, {}]}
    for said in (odd, {"services": "x"}, {"services": [{"name": ["a"], "kernel": 3, "instances": {}}]}):
        shown = lines(looks((Said("x", said, "", "dynproxy", "h"),)), Paper(80, False, MARKS))
        assert "".join(shown).isprintable()
