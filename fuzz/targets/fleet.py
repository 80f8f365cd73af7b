"""What stands in etcd under `/ambassadors/`: programs that announce themselves, and operators' markers."""

from __future__ import annotations

import json

from ambcore.drains import Drains, emptied, fold
from ambcore.errors import RecordError
from ambcore.fleet import decode_drain, decode_program, drain_key, encode_drain, encode_program, program_key
from ambcore.history import Changed, KeyValue, Listed
from ambcore.model import Address, Instance, parse_ip
from fuzz.feed import Feed

PROGRAM = {
    "host": "core-02",
    "version": "0.2.0",
    "since": "2026-01-31T12:00:00Z",
    "admin": "http://10.0.0.2:9901",
    "services": ["redis-A"],
    "more": 1,
    "owner": "core-02:4J2K",
    "unreachable": [{"service": "redis-A", "instance": "one", "why": "refused", "since": "2026-01-31T12:00:00Z"}],
    "others_unreachable": 2,
}
INSTANCES = (
    Instance("redis-A", "one", Address("10.0.0.2", 80), owner="core-01:4J2K"),
    Instance("redis-A", "core-02:two:80", Address("2001:db8::7", 80)),
)


def fleet(data: bytes) -> None:
    """An announcement, then a few markers, laid over two instances."""
    feed = Feed(data)
    key = feed.pick((b"/ambassadors/programs/dynproxy/a", b"/ambassadors/programs/" + feed.piece(), feed.piece()))
    value = json.dumps(feed.changed(PROGRAM)).encode() if feed.byte() % 4 else feed.piece(255)
    try:
        program = decode_program(key, value)
    except RecordError:
        pass
    else:
        again = decode_program(program_key(program.kind, program.id).encode(), encode_program(program))
        assert again == program
        _hold_admin(program.admin_from("elsewhere"))
        assert f"{program}".isprintable()
        f"{program.more + len(program.services)}"
    markers = tuple(_marker(feed, number) for number in range(feed.below(4)))
    message = Listed(markers, 9) if feed.byte() % 2 else Changed(markers, 9)
    drains = fold(Drains(), message)
    assert len(drains.over(INSTANCES)) == len(INSTANCES)
    emptied(INSTANCES, Drains(), drains)
    for marker in drains:
        assert decode_drain(drain_key(marker).encode(), encode_drain(marker)) == marker
        assert str(marker).isprintable()


def _hold_admin(url: str | None) -> None:
    """Nobody is sent to his own machine, nor to the clouds' metadata servers."""
    if url is None:
        return
    host = url.removeprefix("http://").rpartition(":")[0].strip("[]")
    assert host != "localhost"
    try:
        ip = parse_ip(host)
    except ValueError:
        return
    assert not (ip.is_loopback)
    assert not (ip.is_link_local)
    assert not (ip.is_multicast)
    assert not (ip.is_unspecified)


def _marker(feed: Feed, number: int) -> KeyValue:
    parts = ("instances/", "hosts/", "redis-A/", "one", "core-01", "10.0.0.2", "/", "::ffff:10.0.0.2", "\x00")
    key = b"/ambassadors/drains/" + "".join(feed.pick(parts) for _ in range(feed.below(5))).encode()
    key = feed.pick((key, key + feed.piece(8)))
    said = {"why": "kernel", "since": "2026-01-31T12:00:00Z", "by": "me"}
    return KeyValue(key, json.dumps(feed.changed(said)).encode() if feed.byte() % 2 else feed.piece(), number)
