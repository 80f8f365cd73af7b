"""Waiting for what should happen, with a deadline and without sleeping longer than needed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
PAUSE = 0.02  # seconds between two looks


def eventually(look: Callable[[], T], seconds: float = 10.0, what: str = "") -> T:
    """The first true value that `look()` gives; an AssertionError in it counts as "not yet".

    Fails with the last reason after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        reason: object = None
        try:
            if value := look():
                return value
            reason = value
        except AssertionError as error:
            reason = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or look}; last seen: {reason}")
        time.sleep(PAUSE)


async def eventually_async(look: Callable[[], Awaitable[T]], seconds: float = 10.0, what: str = "") -> T:
    """`eventually` for an awaitable look."""
    deadline = time.monotonic() + seconds
    while True:
        reason: object = None
        try:
            if value := await look():
                return value
            reason = value
        except AssertionError as error:
            reason = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or look}; last seen: {reason}")
        await asyncio.sleep(PAUSE)
