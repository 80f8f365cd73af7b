"""Another cluster at one of our addresses: when it is believed."""

from __future__ import annotations

from ambcore.strangers import STRANGE, Strangers


def test_A10_at_one_address_of_two_it_is_believed_after_a_time() -> None:
    strangers = Strangers()
    assert not strangers.believed("http://a", 2, 100.0)
    assert not strangers.believed("http://a", 2, 99.9 + STRANGE)
    assert strangers.believed("http://a", 2, 100.0 + STRANGE)


def test_A10_at_every_address_it_is_believed_at_once() -> None:
    strangers = Strangers()
    assert strangers.believed("http://only", 1, 100.0)
    strangers = Strangers()
    assert not strangers.believed("http://a", 2, 100.0)
    assert strangers.believed("http://b", 2, 100.0)


def test_A10_an_answer_of_ours_has_it_wait_anew() -> None:
    strangers = Strangers()
    assert not strangers.believed("http://a", 2, 100.0)
    strangers.forget()
    assert not strangers.believed("http://a", 2, 100.0 + STRANGE)
    assert not strangers.believed("http://a", 2, 101.0 + STRANGE)
