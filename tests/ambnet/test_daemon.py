"""A program's life: signals, stopping, background jobs. Whole processes where the process is the point."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ambnet.daemon import Life, background, cancel

ROOT = Path(__file__).parents[2]

PROGRAM = """
import asyncio, sys
from ambnet.daemon import run

async def story(life):
    print("up", flush=True)
    {before}
    await life.stopping.wait()
    {ending}
    print("down", flush=True)
    return 0

sys.exit(run(story, deadline={deadline}))
"""


def start(ending: str = "pass", deadline: float = 5, before: str = "pass") -> subprocess.Popen[str]:
    source = PROGRAM.format(before=before, ending=ending, deadline=deadline)
    process = subprocess.Popen([sys.executable, "-c", source], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_signal_lets_the_program_end_in_order(name: str) -> None:
    process = start()
    process.send_signal(signal.Signals[name])
    assert process.communicate(timeout=10)[0] == "down\n"
    assert process.returncode == 0


def test_second_signal_ends_at_once() -> None:
    process = start("await asyncio.sleep(60)")
    process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)  # the first one is being honoured
    process.terminate()
    assert process.communicate(timeout=5)[0] == ""
    assert process.returncode == 1


def test_C6_the_first_signal_to_a_program_that_stops_of_its_own_accord_changes_nothing() -> None:
    """Another process has taken over, say, and then a supervisor stops this one."""
    process = start("await asyncio.sleep(1)", before="life.stop('another serves')")
    process.terminate()
    assert process.communicate(timeout=10)[0] == "down\n"
    assert process.returncode == 0


def test_program_that_hangs_is_ended_after_its_deadline() -> None:
    """`deadline` and five seconds more: whoever stops us gets an answer."""
    process = start("await asyncio.sleep(60)", deadline=-4.5)
    process.terminate()
    assert process.communicate(timeout=5)[0] == ""
    assert process.returncode == 1


async def test_waiting_ends_when_the_program_stops() -> None:
    life = Life()
    waiting = asyncio.create_task(life.unless_stopping(asyncio.sleep(60, "slept")))
    await asyncio.sleep(0)
    life.stop("test")
    assert await waiting is None


async def test_waiting_gives_its_result() -> None:
    assert await Life().unless_stopping(asyncio.sleep(0, "slept")) == "slept"


async def test_failing_job_ends_the_body_with_its_own_error() -> None:
    async def job() -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        async with background(job):
            await asyncio.sleep(60)


async def test_error_of_the_body_is_raised_as_itself_and_ends_the_jobs() -> None:
    ended = asyncio.Event()

    async def job() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async def body() -> None:
        async with background(job):
            await asyncio.sleep(0)
            raise KeyError("body")

    with pytest.raises(KeyError):
        await body()
    assert ended.is_set()


async def test_cancelled_tasks_have_ended_on_return() -> None:
    task = asyncio.create_task(asyncio.sleep(60))
    await cancel(task)
    assert task.cancelled()
