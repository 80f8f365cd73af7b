"""What is level, and what is not."""

from __future__ import annotations

from tests.soak.levels import HOUR, Sample, complaints, course, slope


def life(pid: int, start: float, level: float, per_hour: float, seconds: float = HOUR, **fixed: int) -> list[Sample]:
    """Samples every 5 s of a process whose memory grows."""
    things = {"files": 20, "threads": 3, "tasks": 9, **fixed}
    moments = [start + 5 * number for number in range(int(seconds / 5))]
    return [Sample(at, pid, int(level + (at - start) / HOUR * per_hour), cpu=0.0, **things) for at in moments]


def test_a_slope_is_found_whatever_the_level_of_each_life() -> None:
    lives = [[(at, 100 + at) for at in range(0, 60, 5)], [(at, 7000 + at) for at in range(600, 660, 5)]]
    assert round(slope(lives) / HOUR, 6) == 1
    assert slope([]) == slope([[(0, 5)]]) == 0


def test_what_happens_during_the_warm_up_does_not_count() -> None:
    samples = [*life(1, 0, 1000, 500_000, 600), *life(1, 600, 90_000, 0)]
    found = course(samples, 600)
    assert found is not None
    assert (found.lives, found.slope, found.first, found.most) == (1, 0, 90_000, 90_000)
    assert course(samples, 1e9) is None


def test_memory_that_grows_is_complained_of() -> None:
    for per_hour, said in ((900.0, 0), (1300.0, 1)):
        found = course(life(1, 0, 50_000, per_hour), 0)
        assert found is not None
        assert len(complaints("x", found)) == said, found


def test_over_a_short_time_only_what_grew_counts() -> None:
    for per_hour, said in ((20_000.0, 0), (60_000.0, 1)):
        found = course(life(1, 0, 50_000, per_hour, seconds=300), 0)
        assert found is not None
        assert len(complaints("x", found)) == said, found


def test_files_threads_and_tasks_that_pile_up_are_complained_of() -> None:
    for thing in ("files", "threads", "tasks"):
        samples = [
            *life(1, 0, 50_000, 0, 600),
            *life(1, 600, 50_000, 0, 600),
            *life(1, 1200, 50_000, 0, 600, **{thing: 60}),
        ]
        found = course(samples, 0)
        assert found is not None
        (said,) = complaints("x", found)
        assert thing in said
