"""A long-lived call in both directions, with time limits beside the reader instead of around it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from ambcore.errors import RegistryError, RegistryUnavailableError
from ambnet.daemon import cancel
from ambnet.etcd.errors import translate
from ambnet.etcd.protocol import grpc

SEND_SECONDS = 5.0  # includes connecting


def cancelled_on_purpose() -> bool:
    """Whether it is the current task that is being cancelled.

    Otherwise a CancelledError is gRPC's way of saying that a channel was closed, and must not end anybody's loop.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Stream:
    """A Watch or LeaseKeepAlive call on one endpoint; leaving its `async with` cancels it.

    Every way in which it can end is a RegistryError from `send` or `receive`: also an end without an error, and the
    closing of its channel. `failed` hears of each first.
    """

    def __init__(self, call: Any, url: str, failed: Callable[[RegistryError], None]) -> None:
        self.url = url
        self._call = call
        self._failed = failed
        self._reading: asyncio.Task[Any] | None = None
        self._sending = asyncio.Lock()  # gRPC takes one message at a time
        self._blameless = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call.cancel()
        if self._reading is not None:
            await cancel(self._reading)  # a broken stream must not complain again when it is collected

    async def send(self, request: Any) -> None:
        """Hand a request to the connection, within five seconds."""
        try:
            async with asyncio.timeout(SEND_SECONDS), self._sending:
                await self._call.write(request)
        except TimeoutError:
            raise self.fail(RegistryUnavailableError("the connection takes no more data")) from None
        except asyncio.CancelledError:
            if cancelled_on_purpose():
                raise
            raise self.fail(RegistryUnavailableError("the connection was closed")) from None
        except grpc.aio.AioRpcError as error:
            raise self.fail(translate(error)) from error
        except asyncio.InvalidStateError:  # the call has ended; the reader knows why
            await self.receive()
            raise self.fail(RegistryUnavailableError("the stream ended")) from None

    async def receive(self, within: float | None = None) -> Any | None:
        """The next reply, or None when there is none for `within` seconds.

        The reader goes on after such a None: gRPC cancels the whole call when a read is cancelled.
        """
        if self._reading is None:
            self._reading = asyncio.create_task(self._call.read())
        done, _ = await asyncio.wait({self._reading}, timeout=within)
        if not done:
            return None
        reading, self._reading = self._reading, None
        if reading.cancelled():
            raise self.fail(RegistryUnavailableError("the connection was closed"))
        try:
            reply = reading.result()
        except grpc.aio.AioRpcError as error:
            raise self.fail(translate(error)) from error
        if reply is grpc.aio.EOF:
            raise self.fail(RegistryUnavailableError("the stream ended without an error"))
        return reply

    def fail(self, error: RegistryError) -> RegistryError:
        """Give the stream up for a reason that only its user sees, such as silence; returns the error to raise."""
        if not self._blameless:
            self._failed(error)
        return error

    def abandon(self) -> None:
        """Break the stream off from another task: a waiting `receive` raises, and nobody is blamed."""
        self._blameless = True
        self._call.cancel()
