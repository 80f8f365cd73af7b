"""What programs and etcd say becomes what the page shows; whatever they say, it is one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambcore.findings import Level
from ambcore.history import KeyValue
from ambcore.model import Address, Instance, Readiness
from ambcore.unreachable import Unreachable
from ambnet.page.essence import essence
from ambnet.page.gather import fleet
from ambnet.page.model import EtcdSight, Fleet, Record, Said, Sight, State, Work
from ambnet.page.picture import MOST_BOXES, picture
from tests.ambnet.page.documents import dynproxy, instance, service


def seen(*documents: Any, **more: Any) -> Fleet:
    return fleet(Sight(2000.0, tuple(Said(f"p{n}", each, host=f"h{n}") for n, each in enumerate(documents)), **more))


def record(name: str, **more: Any) -> Record:
    found = Instance("web", name, Address("10.0.0.1", 80), **more)
    return Record(KeyValue(f"/services/web/{name}".encode(), b"", 5, 77), found)


def test_a_proxy_alone_shows_its_own_view() -> None:
    found = seen(dynproxy(service("web", instance("a"), instance("b", state="draining"))))
    (web,) = found.services
    assert [(seat.id, seat.state, seat.host, seat.since) for seat in web.seats] == [
        ("a", State.UP, "core-01", 1000),
        ("b", State.DRAINING, "core-01", 1000),
    ]
    assert (web.work, web.level, found.notices) == (Work(2, 20, 4, 600), Level.AMBER, ())


def test_what_two_proxies_carried_is_one_sum_and_either_ejects() -> None:
    """Beside etcd's records a proxy adds what it carries and whom it ejects; what only it knows is not shown."""
    one = dynproxy(service("web", instance("a"), instance("stranger")))
    two = dynproxy(service("web", instance("a", state="ejected", check={"why": "no answer in 1 s"})))
    (web,) = seen(one, two, records=(record("a"),), leases={77: 2009.6}).services
    (seat,) = web.seats
    assert (seat.state, seat.why, seat.work) == (State.EJECTED, "no answer in 1 s (h1)", Work(2, 20, 4, 600))
    assert (seat.until, seat.leased) == (2010, True)


def test_the_kernels_connections_and_clients_without_an_instance_count() -> None:
    traffic = {"kernel": {"connections": 5, "packets": 9, "bytes": 900}, "counters": {"park_expired": 3, "accepted": 9}}
    (web,) = seen(dynproxy(service("web", instance("a"), **traffic))).services
    assert web.work == Work(1, 15, 5, 1200)


def test_a_refused_record_is_a_line_beside_the_good_ones() -> None:
    refused = Record(KeyValue(b"/services/web/bad", b"x", 5), "malformed: no port")
    (web,) = seen(records=(record("a", readiness=Readiness.DRAINING), refused)).services
    assert [(seat.id, seat.state) for seat in web.seats] == [("a", State.DRAINING), ("bad", State.REFUSED)]
    assert web.level is Level.RED


def test_a_removed_instance_stays_while_its_connections_go_on() -> None:
    (web,) = seen(dynproxy(service("web", removed=[{"id": "old", "connections": 3}]))).services
    assert [(seat.id, seat.state, seat.work) for seat in web.seats] == [("old", State.REMOVED, Work(3))]


def test_etcd_away_or_a_view_that_is_old_is_said_first() -> None:
    away = dynproxy(etcd={"endpoint": "http://e", "connected": False, "last_error": "refused", "view_age": 40.0})
    assert [(each.level, each.since) for each in seen(away).notices] == [(Level.RED, 1960)]
    stale = EtcdSight("http://e", connected=True, age=25.0)
    assert [each.level for each in seen(etcd=stale).notices] == [Level.AMBER]
    assert seen(etcd=EtcdSight("http://e", connected=True, age=12.0)).notices == ()


def test_who_cannot_be_asked_is_named() -> None:
    said = (Said("p", None, "no answer in 1 s", "dynproxy", "h"), Said("new", None))
    found = fleet(Sight(0.0, said))
    assert [each.level for each in found.programs] == [Level.RED, Level.UNKNOWN]
    assert "no answer" in found.notices[0].text
    assert len(found.notices) == 1


def test_what_a_proxy_that_cannot_be_asked_announces_not_to_reach_is_shown_as_such() -> None:
    down = Unreachable("2026-01-31T12:00:00Z", "web", "one", "refused")
    mute = Said("p", None, "it has no --admin", "dynproxy", "h1", unreachable=(down, replace(down, instance="gone")))
    sight = Sight(2000.0, (mute,), (record("one"), record("two")))
    one, two = fleet(sight).services[0].seats
    assert (one.state, one.why, two.state) == (State.EJECTED, "refused (h1)", State.UP)
    assert essence(sight) != essence(replace(sight, said=(replace(mute, unreachable=()),)))


def test_a_registrar_shows_what_it_keeps_and_what_it_does_not() -> None:
    held = {
        "service": "web",
        "id": "a",
        "address": "10.0.0.1:80",
        "state": "up",
        "protocol": "udp",
        "container": "web-1",
    }
    left = {"container": "db", "state": "no_port", "why": "port 5432 is not published"}
    found = seen({"program": "registrar", "uptime": 1, "registered": [held], "not_registered": [left], "ready": True})
    (web,) = found.services
    assert [(seat.id, seat.container, seat.protocol, seat.work) for seat in web.seats] == [("a", "web-1", "udp", None)]
    assert [(each.name, each.why) for each in found.unregistered] == [("db", "port 5432 is not published")]
    assert found.programs[0].says == "keeps 1 record"
    one = {"name": "db", "state": "no_port", "why": "it is not there"}
    alone = seen({"program": "registrar", "service": "db", "container": one, "held": None, "ready": False})
    assert [(each.name, each.why) for each in alone.unregistered] == [("db", "it is not there")]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(max_size=8), each, max_size=4),
    max_leaves=20,
)


@st.composite
def bent(draw: st.DrawFn) -> Any:
    """A status document with anything in some places."""
    document = json.loads(json.dumps(dynproxy(service("web", instance("a"), instance("b")))))
    for _ in range(draw(st.integers(1, 4))):
        place: Any = document
        while True:
            key = draw(st.sampled_from(sorted(place))) if isinstance(place, dict) else 0
            if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
                place = place[key]
                continue
            place[key] = draw(JSON)
            break
    return document


@given(bent())
def test_whatever_a_program_says_there_is_something_to_show(document: Any) -> None:
    """Missing, of other types, infinite, unprintable: nothing raises, and every text is printable."""
    sight = Sight(2000.0, (Said("p", document),), records=None)
    found = fleet(sight)
    essence(sight)
    picture(found)
    for each in found.services:
        texts = [each.name, *(text for seat in each.seats for text in (seat.id, seat.address, seat.why, seat.host))]
        assert all(text.isprintable() for text in texts)


@pytest.mark.parametrize("odd", [["watching"], {"watching": True}])
def test_a_list_in_the_place_of_a_word_is_no_word(odd: Any) -> None:
    """One program that says so must not take the page, and `ambctl top`, from all others."""
    found = seen(dynproxy(service("web", watch=odd)), dynproxy(service("db", instance("a"))))
    assert {each.name: each.stands[0].watching for each in found.services} == {"web": False, "db": True}
    assert found.etcd is not None
    assert not found.etcd.watching


def test_ages_alone_are_no_news() -> None:
    def at(age: float, **more: Any) -> object:
        document = dynproxy(service("web", instance("a"), view_age=age), uptime=age, **more)
        return essence(Sight(age, (Said("p", document),)))

    assert at(1.0) == at(3.0)
    assert at(1.0) != at(30.0)
    assert at(1.0) != at(1.0, ready=False)


def test_a_large_fleet_is_drawn_by_hosts_and_its_rest_counted() -> None:
    """However many there are, the drawing has few boxes."""
    many = [service(f"s{n:03}", *(instance(f"i{k}", owner=f"host{k}:X") for k in range(80))) for n in range(40)]
    drawn = picture(seen(dynproxy(*many)))
    assert drawn is not None
    assert len(drawn.boxes) <= 4 * MOST_BOXES
    assert "more services" in drawn.left_out
    ends = {(box.x, box.name) for box in drawn.boxes}
    assert len(ends) > 3


def test_each_wire_joins_two_boxes_of_a_small_fleet() -> None:
    drawn = picture(seen(dynproxy(service("web", instance("a"), instance("b", connections=0)))))
    assert drawn is not None
    assert [box.name for box in drawn.boxes] == ["h0", "web", "a", "b", "core-01"]
    assert len(drawn.wires) == 1 + 2 + 2
    assert sum(wire.busy for wire in drawn.wires) == 3
