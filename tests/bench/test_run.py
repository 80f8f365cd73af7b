"""The order in which subjects are visited, and what becomes of a visit that fails."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bench import run as module
from bench.hosts import CannotRunError
from bench.results import Record
from bench.run import run
from bench.subjects import Subject
from bench.visit import QUICK, Effort, Figure, Steps, Workload

NAMES = ("a", "b", "c")


@pytest.fixture(autouse=True)
def _at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "settle", lambda: True)


class Stage:
    """A workload of two pieces that tells who did what, in `log`; `failing` end in their second piece."""

    def __init__(self, *, in_turns: bool, failing: Sequence[str] = ()) -> None:
        self.log: list[str] = []
        self.failing = failing
        self.workload = Workload("work", NAMES, self.measure, in_turns=in_turns)

    def measure(self, subject: Subject, effort: Effort) -> Steps:
        del effort
        try:
            for piece in (1, 2):
                yield None
                self.log.append(f"{subject.name}{piece}")
                if piece == 2 and subject.name in self.failing:
                    raise CannotRunError("it has ended")
            yield Figure("work", "rate", "1/s", 2.0)
        finally:
            self.log.append(f"{subject.name}.")

    def run(self, rounds: int) -> Record:
        subjects = [Subject(name, name, lambda _: pytest.fail("not started")) for name in NAMES]
        record = Record()
        run([self.workload], subjects, QUICK, rounds, record)
        return record


def test_one_after_the_other_and_in_the_next_round_the_other_way() -> None:
    stage = Stage(in_turns=False)
    record = stage.run(2)
    assert " ".join(stage.log) == "a1 a2 a. b1 b2 b. c1 c2 c. c1 c2 c. b1 b2 b. a1 a2 a."
    assert [(sample.round, sample.subject) for sample in record.samples] == [
        *((1, name) for name in "abc"),
        *((2, name) for name in "cba"),
    ]


def test_side_by_side_a_piece_of_each_in_turn_and_back() -> None:
    stage = Stage(in_turns=True)
    record = stage.run(1)
    assert " ".join(stage.log) == "c1 b1 a1 a2 a. b2 b. c2 c."  # they have begun from a to c
    assert (len(record.samples), record.visits, record.missing) == (3, 1, {})


@pytest.mark.parametrize("in_turns", [True, False])
def test_one_that_fails_is_put_down_and_left_out_after_the_second_time(in_turns: bool) -> None:
    stage = Stage(in_turns=in_turns, failing="b")
    record = stage.run(3)
    assert record.missing == {("work", "b"): ["it has ended"] * 2}
    assert sorted((sample.round, sample.subject) for sample in record.samples) == [
        (number, name) for number in (1, 2, 3) for name in "ac"
    ]


@pytest.mark.parametrize("in_turns", [True, False])
def test_whoever_is_interrupted_leaves_nothing_behind(in_turns: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(in_turns=in_turns, failing="b")
    monkeypatch.setattr(module, "CannotRunError", KeyError)  # nobody foresees it then
    with pytest.raises(CannotRunError):
        stage.run(1)
    begun = {step[0] for step in stage.log}
    assert {step[0] for step in stage.log if step.endswith(".")} == begun
