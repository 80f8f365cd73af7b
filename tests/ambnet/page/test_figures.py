"""Numbers over time: samples, rates, plots, and how they are written."""

from __future__ import annotations

import pytest

from ambcore.history import KeyValue
from ambcore.model import Address, Instance
from ambnet.page.flows import flows
from ambnet.page.fragments import Snapshot, changes
from ambnet.page.gather import fleet
from ambnet.page.history import KEPT, MOST, STEP, Counts, History, Rates, Totals
from ambnet.page.model import Record, Said, Sight
from ambnet.page.plots import HEIGHT, plot
from ambnet.page.wording import age, figure, size
from tests.ambnet.page.documents import dynproxy, instance, service


def test_a_history_is_fifteen_minutes_of_rates() -> None:
    history = History()
    for step in range(3):
        history.sample(100 + step * STEP, {"web": Counts(step, step * 30, step * 15, 0)})
    series = history.series("web")
    assert series is not None
    assert len(series.active) == KEPT
    assert series.active[-3:] == (0, 1, 2)
    assert series.begun[-3:] == (None, 2, 2)
    assert series.bytes[-2:] == (1, 1)
    assert set(series.begun[:-2]) == {None}


def test_a_counter_that_began_anew_gives_no_negative_rate() -> None:
    history = History()
    for step, begun in enumerate((50, 3)):
        history.sample(step * STEP, {"web": Counts(0, begun, 0, 0)})
    series = history.series("web")
    assert series is not None
    assert series.begun[-1] == 0


def test_a_service_that_is_gone_is_forgotten_after_its_fifteen_minutes() -> None:
    history = History()
    history.sample(0, {"web": Counts(1, 1, 1, 1)})
    for step in range(1, KEPT):
        history.sample(step * STEP, {})
        assert history.series("web") is not None
    history.sample(KEPT * STEP, {})
    assert history.series("web") is None


def test_a_history_has_a_limit() -> None:
    history = History()
    history.sample(0, {f"s{n}": Counts(1, 1, 1, 1) for n in range(MOST + 10)})
    assert sum(history.series(f"s{n}") is not None for n in range(MOST + 10)) == MOST


def test_a_rate_takes_two_looks_and_looks_that_are_seconds_apart() -> None:
    rates = Rates()
    assert rates.look(0.0, {"web": (0.0,)})("web") == ()
    assert rates.look(0.5, {"web": (5.0,)})("web") == ()
    assert rates.look(2.0, {"web": (20.0,)})("web") == (10.0,)
    assert rates.look(2.5, {"web": (20.0,), "new": (7.0,)})("new") == ()


def test_rates_move_until_they_are_zero_again() -> None:
    """While nothing happens nobody renders: `still` says whether somebody has to."""
    rates = Rates()
    rates.look(0.0, {"web": (0.0,)})
    assert rates.still(0.5)  # not known yet
    rates.look(1.0, {"web": (0.0,)})
    assert not rates.still(1.5)
    rates.look(2.0, {"web": (8.0,)})
    moved = [rates.still(2.0 + step / 2) for step in range(1, 20)]
    assert moved[0]
    assert not moved[-1]
    assert moved == sorted(moved, reverse=True)


def test_a_program_that_is_heard_again_is_no_burst() -> None:
    """What it did in all its life, and while nobody heard it, was not done within this moment."""
    totals, history = Totals(), History()
    old = Counts(2, 1e6, 1e9, 1e3)
    heard = [
        {("web", "a"): Counts(1, 30 * step, 15 * step, 0), ("web", "b"): old._replace(begun=1e6 + 15 * step)}
        for step in range(5)
    ]
    del heard[2]["web", "b"]
    for step, counts in enumerate(heard):
        history.sample(step * STEP, totals.take(counts))
    series = history.series("web")
    assert series is not None
    assert series.active[-5:] == (3, 3, 1, 3, 3)
    assert series.begun[-5:] == (None, 3, 2, 2, 3)
    assert series.bytes[-4:] == (1, 1, 1, 1)
    assert series.failed[-4:] == (0, 0, 0, 0)


def test_totals_keep_nothing_of_a_service_that_nobody_tells_of() -> None:
    totals = Totals()
    totals.take({("web", "a"): Counts(1, 10, 10, 10)})
    assert totals.take({("web", "a"): Counts(1, 30, 10, 10)}) == {"web": Counts(1, 20, 0, 0)}
    assert totals.take({}) == {}
    assert totals.take({("web", "a"): Counts(1, 70, 10, 10)}) == {"web": Counts(1, 0, 0, 0)}


def test_the_page_s_rates_are_of_those_who_are_heard() -> None:
    """A proxy that misses a question, and answers the next with all that it ever carried, is no burst either."""
    rates = Rates()

    def look(now: float, **begun: int) -> tuple[float, float]:
        said = tuple(
            Said(name, dynproxy(service("web", instance("one", connections_total=count))), host=name)
            for name, count in begun.items()
        )
        record = Record(KeyValue(b"/services/web/one", b"", 1), Instance("web", "one", Address("10.0.0.1", 80)))
        rate = flows(rates, now, fleet(Sight(now, said, (record,))))
        known = rate("web"), rate(("web", "one"))
        return known[0][0] if known[0] else -1, known[1][0] if known[1] else -1

    assert look(0.0, a=100, b=10**9) == (-1, -1)
    assert look(1.0, a=120, b=10**9 + 10) == (30, 30)
    assert look(2.0, a=140) == (20, -1)
    assert look(3.0, a=160, b=10**9 + 30) == (30, 30)
    assert look(5.5, a=210, b=10**9 + 80) == (20, -1)
    assert look(7.0, a=240, b=10**9 + 110) == (40, 40)


def test_after_a_long_time_without_a_look_a_rate_is_not_known() -> None:
    rates = Rates()
    rates.look(0.0, {"web": (0.0,)})
    assert rates.look(3600.0, {"web": (9e9,)})("web") == ()


def test_a_plot_is_a_line_from_zero_with_gaps() -> None:
    drawn = plot([None, 0.0, 2.0, None, 1.0])
    assert (drawn.peak, drawn.last) == (2.0, 1.0)
    assert drawn.line.count("M") == 2
    assert drawn.line.startswith(f"M30.0 {HEIGHT - 1.5:.1f}L60.0 1.5")
    assert plot([None, None]).line == ""
    assert plot([]).last is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "\u2013"),
        (0, "0"),
        (0.03, "<0.1"),
        (0.5, "0.5"),
        (7, "7"),
        (42.4, "42"),
        (999.7, "1.0k"),
        (1.25e6, "1.2M"),
    ],
)
def test_figures_have_few_digits(value: float | None, words: str) -> None:
    assert figure(value) == words


def test_sizes_and_ages_have_units() -> None:
    assert [size(each) for each in (0, 12, 3400, 5e9)] == ["0 B", "12 B", "3.4 kB", "5.0 GB"]
    assert [age(each) for each in (-1, 0, 119, 120, 7200, 200000)] == ["0 s", "0 s", "119 s", "2 min", "2 h", "2 d"]


def test_only_what_changed_is_sent() -> None:
    before = Snapshot({"a": "1", "b": "2"}, {"list": ("a", "b")})
    after = Snapshot({"a": "1", "b": "3", "c": "4"}, {"list": ("c", "a", "b")})
    assert changes(before, after) == {"set": {"b": "3", "c": "4"}, "lists": {"list": ["c", "a", "b"]}}
    assert changes(after, after) is None
    assert changes(Snapshot(), before) == {"set": {"a": "1", "b": "2"}, "lists": {"list": ["a", "b"]}}
