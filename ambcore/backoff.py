"""Jittered, growing delays as an iterator: `for delay in backoff(0.025, 3.0, random.random): …`."""

from __future__ import annotations

from collections.abc import Callable, Iterator


def backoff(first: float, cap: float, chance: Callable[[], float], factor: float = 2.0) -> Iterator[float]:
    """Endless delays in seconds: from `first`, times `factor` each, never above `cap`.

    `chance` gives numbers in [0, 1). Each delay is drawn from the upper half of its step, so that a thousand clients of
    a server that came back do not return together, and none returns at once. Start over with a new iterator.
    """
    step = min(cap, first)
    while True:
        yield step * (0.5 + chance() / 2)
        step = min(cap, step * factor)
