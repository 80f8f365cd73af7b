"""Blocking calls in threads that may be abandoned."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(function: Callable[[], T], name: str = "call") -> T:
    """The result of a blocking call, made in a thread of its own; raises what the call raises.

    Raises OSError if no thread can be had. Cancelling leaves the thread to itself, and unlike an executor's it does not
    delay the program's end. For calls that are few: a thread costs about 100 µs.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def deliver(put: Callable[[Any], None], outcome: object) -> None:
        if not future.done():
            put(outcome)

    def work() -> None:
        try:
            parcel = partial(deliver, future.set_result, function())
        except Exception as error:  # noqa: BLE001 - raised where the call is awaited
            parcel = partial(deliver, future.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop is closed, nobody waits any more
            loop.call_soon_threadsafe(parcel)
        del parcel  # the error's traceback holds this frame: a cycle that would keep sockets open until collected

    try:
        threading.Thread(target=work, name=name, daemon=True).start()
    except RuntimeError as error:  # the limit of tasks, or no memory
        raise OSError(errno.EAGAIN, "no thread can be started") from error
    return await future
