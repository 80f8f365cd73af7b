"""Whether what processes take stays level: slopes by least squares, over one life or several. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

HOUR = 3600.0
Points = Sequence[tuple[float, float]]

MEMORY = 1024.0  # KiB an hour: what a process's memory may grow
SHORT = 1800.0  # seconds: over less than that an hour's slope is not measured but guessed
SHORT_MEMORY = 3072.0  # KiB that memory may grow in all over a shorter time
LEVEL = 0.1  # share by which the later files and tasks may be more than the earlier ones
FEW = 4  # files or tasks that they may be more in any case


@dataclass(frozen=True)
class Sample:
    """One look at a process: `at` in seconds, memory in KiB, processor time in seconds; `tasks` is None where it could
    not be asked, or has none.
    """

    at: float
    pid: int
    resident: int
    files: int
    threads: int
    cpu: float
    tasks: int | None = None


@dataclass(frozen=True)
class Course:
    """How a process fared after its warm-up, over all its lives: memory in KiB, slopes in KiB an hour."""

    lives: int
    seconds: float
    first: float
    last: float
    most: float
    slope: float
    cpu: float
    files: tuple[float, float]
    threads: tuple[float, float]
    tasks: tuple[float, float]


def slope(lives: Iterable[Points]) -> float:
    """The common slope of several lives' points (seconds, value), an hour; each life has a level of its own."""
    above = below = 0.0
    for points in lives:
        if len(points) < 2:
            continue
        middle = statistics.fmean(at for at, _ in points)
        level = statistics.fmean(value for _, value in points)
        above += sum((at - middle) * (value - level) for at, value in points)
        below += sum((at - middle) ** 2 for at, _ in points)
    return above / below * HOUR if below else 0.0


def course(samples: Sequence[Sample], after: float) -> Course | None:
    """What samples from the moment `after` on come to; None if there are none."""
    kept = [sample for sample in samples if sample.at >= after]
    if not kept:
        return None
    lives = [[sample for sample in kept if sample.pid == pid] for pid in dict.fromkeys(each.pid for each in kept)]
    seconds = sum(life[-1].at - life[0].at for life in lives)
    tasks = [sample.tasks for sample in kept if sample.tasks is not None]
    return Course(
        lives=len(lives),
        seconds=seconds,
        first=kept[0].resident,
        last=kept[-1].resident,
        most=max(sample.resident for sample in kept),
        slope=slope([(sample.at, float(sample.resident)) for sample in life] for life in lives),
        cpu=sum(life[-1].cpu - life[0].cpu for life in lives) / seconds if seconds else 0.0,
        files=_thirds([sample.files for sample in kept]),
        threads=_thirds([sample.threads for sample in kept]),
        tasks=_thirds(tasks),
    )


def _thirds(values: Sequence[int]) -> tuple[float, float]:
    """The medians of the first and of the last third."""
    third = max(1, len(values) // 3)
    return (statistics.median(values[:third]), statistics.median(values[-third:])) if values else (0.0, 0.0)


def complaints(name: str, found: Course) -> list[str]:
    """What is not level about a process that lived through the whole run."""
    said = []
    grown = found.slope * found.seconds / HOUR
    if found.seconds < SHORT:
        if grown > SHORT_MEMORY:
            said.append(f"{name}: memory grew by {grown:.0f} KiB in {found.seconds:.0f} s")
    elif found.slope > MEMORY:
        said.append(f"{name}: memory grows by {found.slope:.0f} KiB an hour")
    for what, (earlier, later) in (("files", found.files), ("threads", found.threads), ("tasks", found.tasks)):
        if later > earlier * (1 + LEVEL) + FEW:
            said.append(f"{name}: {what} went from {earlier:.0f} to {later:.0f}")
    return said
