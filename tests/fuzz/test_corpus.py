"""The kept inputs: what guided fuzzing found worth keeping, and whatever once broke something."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.targets import TARGETS

CORPUS = Path(__file__).parents[2] / "fuzz/corpus"
MOST_FILES, MOST_BYTES = 400, 1 << 20


@pytest.mark.parametrize("target", TARGETS)
def test_every_kept_input_is_read_or_refused(target: str) -> None:
    inputs = sorted((CORPUS / target).iterdir())
    assert inputs
    for each in inputs:
        TARGETS[target](each.read_bytes())


def test_the_corpus_is_of_known_targets_and_small() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)
    files = [each for each in CORPUS.rglob("*") if each.is_file()]
    assert len(files) <= MOST_FILES
    assert sum(each.stat().st_size for each in files) <= MOST_BYTES
