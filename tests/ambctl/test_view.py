"""What an operator is told: every record with its fate, every change once."""

from __future__ import annotations

from ambcore.errors import RecordError
from ambcore.history import Changed, KeyDeleted, KeyValue, Listed
from ambcore.model import Address, Instance
from ambcore.table import Diff, Reader, Table
from ambctl.view import News, View, entries

READER = Reader()
ONE = KeyValue(b"/services/redis-A/one", b"10.1.2.3:80", 2)
EVIL = KeyValue(b"/services/redis-A/evil", b"127.0.0.1:80", 3)
INSTANCE = Instance("redis-A", "one", Address("10.1.2.3", 80))


def test_every_record_is_listed_in_the_order_of_keys_with_its_fate() -> None:
    evil, one = entries(Listed((ONE, EVIL), 3), READER)
    assert one.found == INSTANCE
    assert isinstance(evil.found, RecordError)
    assert evil.found.reason == "address_denied"


def test_the_first_message_says_how_much_is_known_even_if_it_is_nothing() -> None:
    assert View().digest(Listed((), 1), READER)[1] == News(Diff(), known=0)
    view, news = View().digest(Listed((ONE,), 2), READER)
    assert view.table == Table.of([INSTANCE])
    assert news == News(Diff(added=(INSTANCE,)), known=1)


def test_later_messages_bring_only_what_changed() -> None:
    view, _ = View().digest(Listed((ONE,), 2), READER)
    view, news = view.digest(Listed((ONE,), 3), READER)
    assert news == News(Diff())
    view, news = view.digest(Changed((KeyDeleted(ONE.key, 4),), 4), READER)
    assert news == News(Diff(removed=(INSTANCE,)))


def test_a_refusal_is_news_once_until_the_record_changes() -> None:
    def refusals(news: News) -> list[str]:
        return [rejection.error.reason for rejection in news.refused]

    view, news = View().digest(Listed((EVIL,), 3), READER)
    assert refusals(news) == ["address_denied"]
    view, news = view.digest(Listed((EVIL,), 3), READER)
    assert refusals(news) == []
    view, news = view.digest(Changed((ONE,), 4), READER)
    assert refusals(news) == []
    view, news = view.digest(Changed((KeyValue(EVIL.key, b"nonsense", 5),), 5), READER)
    assert refusals(news) == ["malformed"]
    view, _ = view.digest(Changed((KeyDeleted(EVIL.key, 6),), 6), READER)
    assert view.refused == {}
    _, news = view.digest(Changed((EVIL,), 7), READER)
    assert refusals(news) == ["address_denied"]
