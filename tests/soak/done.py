"""What a fault is: it does something to the scene, undoes it, and says what it excuses."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.soak.judging import TCP, Excuse
from tests.soak.scene import Scene


@dataclass(frozen=True)
class Done:
    """To whom it was done, and which failures that explains: none, as a rule."""

    to: str
    excuses: tuple[Excuse, ...] = ()


Fault = Callable[[Scene, random.Random], Done]  # its docstring's first line says what it does
FAULTS: dict[str, Fault] = {}


def fault(function: Fault) -> Fault:
    """Enter a function under its name."""
    FAULTS[function.__name__.replace("_", "-")] = function
    return function


def opened(
    *moments: float, proxy: str | None = None, instances: set[str] | None = None, loads: frozenset[str] = TCP
) -> tuple[Excuse, ...]:
    """Excuses what was open between the first and the last of these moments."""
    names = None if instances is None else frozenset(instances)
    return (Excuse(min(moments), max(moments), proxy, names, loads),)
