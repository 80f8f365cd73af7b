"""What stands in etcd under `/services/`: keys and values, folded into the table that proxies go by."""

from __future__ import annotations

import json
from ipaddress import ip_address

from ambcore import remembered
from ambcore.admission import NEVER, Admission, parse_networks
from ambcore.errors import RecordError
from ambcore.history import Changed, KeyDeleted, KeyValue, Listed
from ambcore.model import Address, Instance
from ambcore.replay import Snapshot
from ambcore.schema import MAX_KEY, decode_record, encode_record, record_key
from ambcore.table import Reader, Table, diff, fold
from fuzz.feed import Feed

REASONS = {"key", "too_long", "not_utf8", "malformed", "address_denied", "own_listener", "too_many"}
KEY = b"/services/redis-A/one"
GOOD = Instance("redis-A", "one", Address("10.9.9.9", 9))
OWN = Address("10.0.0.1", 6379)
BRIDGE = ip_address("172.17.0.1")
MOST = 3  # instances of a service: few, so that there are soon too many
READERS = (
    Reader(admission=Admission(own=frozenset({OWN}), bridge=frozenset({BRIDGE})), most=MOST),
    Reader(admission=Admission(parse_networks("10.0.0.0/8,2001:db8::/32"), frozenset({OWN})), most=MOST),
)


def record(data: bytes) -> None:
    """One to four events, the last value the bytes themselves, over a table with one good instance."""
    feed = Feed(data)
    reader = feed.pick(READERS)
    listed = feed.byte() % 4 == 0
    events = [_event(feed, number, deletes=not listed) for number in range(feed.below(4))]
    events.append(KeyValue(KEY, feed.rest(), 9))
    before = Table.of([GOOD])
    message = Listed(tuple(e for e in events if isinstance(e, KeyValue)), 9) if listed else Changed(tuple(events), 9)
    after, refused = fold(before, message, reader)
    for rejection in refused:
        assert rejection.error.reason in REASONS
        assert len(str(rejection.error)) <= RecordError.LONGEST + 20
    for instance in after:
        _hold(instance, reader)
    assert all(len(members) <= MOST for members in after.services.values())
    assert Table.parse(str(after)) == Table.of(map(_as_told, after))
    diff(before, after)


def memory(data: bytes) -> None:
    """A file in which an earlier life of a program kept what it knew: the bytes, or one of ours with a change."""
    feed = Feed(data)
    items = tuple(KeyValue(b"/services/" + feed.piece(8) + b"%d" % each, feed.piece(), each, 7) for each in range(2))
    whole = remembered.encode("/services/", Snapshot(items, 9, 1 << 63, 2))
    assert remembered.decode("/services/", whole) == Snapshot(items, 9, 1 << 63, 2)
    changed = json.dumps(feed.changed(json.loads(whole))).encode() if feed.byte() % 4 else feed.rest()
    try:
        found = remembered.decode("/services/", changed)
    except ValueError:
        return
    assert len({item.key for item in found.items}) == len(found.items)
    assert all(item.key.startswith(b"/services/") for item in found.items)
    fold(Table(), Listed(found.items, found.revision), READERS[0])


def _event(feed: Feed, number: int, *, deletes: bool) -> KeyValue | KeyDeleted:
    parts = ("/services/", "redis-A", "/", "one", f"n{number}", "x" * 300)
    key = feed.pick(
        (KEY, b"/services/redis-A/n%d" % number, "".join(feed.pick(parts) for _ in range(5)).encode(), feed.piece())
    )
    if deletes and feed.byte() % 4 == 0:
        return KeyDeleted(key, number + 1)
    whole = {"host": "10.1.2.3", "port": 80, "protocol": "tcp", "weight": 1, "state": "up", "owner": "o", "tags": ["t"]}
    value = feed.changed({**whole, "attributes": {"a": "b"}, "epoch": "e", "container": "c"})
    return KeyValue(
        key, json.dumps(value).encode() if feed.byte() % 4 else feed.text().encode(errors="replace"), number
    )


def _hold(instance: Instance, reader: Reader) -> None:
    """What admission promises of whoever is in the table, and what the record's writer may rely on."""
    allowed = reader.admission.instances_in
    address = instance.address
    if instance is not GOOD:
        assert address != OWN
        assert address.ip != BRIDGE or allowed
        inside = any(address.ip in network for network in allowed)
        assert inside if allowed else not any(address.ip in network for network in NEVER)
    assert instance.service.isprintable()
    assert instance.id.isprintable()
    key = record_key(instance.service, instance.id).encode()
    assert len(key) <= MAX_KEY
    assert decode_record(key, encode_record(instance)) == instance


def _as_told(instance: Instance) -> Instance:
    """What the table's text tells of an instance."""
    return Instance(
        instance.service, instance.id, instance.address, instance.protocol, instance.weight, instance.readiness
    )
