"""One relay worker, seen from its parent: a process, its control channel, and what it last said."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ambnet.log import LEVELS
from ambnet.relay.doors import hand_in
from ambnet.relay.protocol import (
    Applied,
    Close,
    Configure,
    Drain,
    Endpoints,
    Event,
    Frames,
    Message,
    Ready,
    RouteSetup,
    Stats,
    changes,
    encode,
    merge,
)

log = logging.getLogger("relay")

READ = 65536  # bytes a read of the control channel takes at most; statistics of a hundred instances


@dataclass
class Worker:
    """Runs from `launch` until `ended` is set. All of its words arrive through `on_word`, after they are recorded here.

    `applied` holds the last generation of each service that new connections see, `silent` for how many seconds nothing
    was heard of it.
    """

    on_word: Callable[[Message], None]
    ready: bool = False
    stats: Stats = field(default_factory=lambda: Stats(0, {}))
    applied: dict[str, int] = field(default_factory=dict)
    words: int = 0
    silent: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    _newest: dict[str, Endpoints] = field(default_factory=dict)
    _told: dict[str, Endpoints] = field(default_factory=dict)
    _unsaid: list[Message] = field(default_factory=list)
    _writer: asyncio.StreamWriter | None = None

    def launch(self, configure: Configure, listeners: Sequence[socket.socket]) -> None:
        """Start the process by exec, never by fork: gRPC's threads do not survive one (grpc `doc/fork_support.md`).

        Raises OSError when the machine has no room for it.
        """
        ours, theirs = socket.socketpair()
        self._door, their_door = socket.socketpair(type=socket.SOCK_SEQPACKET)
        self._door.setblocking(False)
        with theirs, their_door:
            control, doors = theirs.fileno(), their_door.fileno()
            command = [sys.executable, "-P", "-m", "ambnet.relay.worker"]
            command += ["--control", str(control), "--doors", str(doors)]
            fds = (control, doors, *(listener.fileno() for listener in listeners))
            try:
                # Popen blocks for the milliseconds of a vfork; asyncio's own would add a thread a process on 3.11.
                self._process = subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL)  # noqa: S603
            except OSError:
                ours.close()
                self._door.close()
                raise
        self._say(configure)
        self._listening = asyncio.create_task(self._listen(ours))

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def tell(self, endpoints: Endpoints) -> None:
        """Make these a service's instances, as soon as those told before are.

        So one snapshot of each service is on its way at most: a worker that hangs does not fill our memory.
        """
        self._newest[endpoints.service] = endpoints
        self._tell_newest(endpoints.service)

    def introduce(self, setup: RouteSetup) -> None:
        """Tell it of a route, in order with the route's instances; the sockets follow by their own way."""
        self._say(replace(setup, listeners=()))

    def open(self, setup: RouteSetup) -> None:
        """Have it serve more sockets, which `setup` names by our own numbers. Raises OSError when it takes none now."""
        if not self.ended.is_set():
            hand_in(self._door, setup)

    def close(self, service: str, host: str, port: int) -> None:
        """Have it close a route's listener on this address. Raises OSError when it takes no orders now."""
        if not self.ended.is_set():
            hand_in(self._door, Close(service, host, port))

    def drain(self, seconds: float, *, handed_over: bool = False) -> None:
        """Have it end with its last connection, or after `seconds`; see Drain for what is `handed_over`."""
        self._say(Drain(seconds, handed_over))

    def _tell_newest(self, service: str) -> None:
        newest, told = self._newest[service], self._told.get(service)
        if told is None:
            self._say(newest)
        elif told.generation == self.applied.get(service) and told.generation < newest.generation:
            self._say(changes(service, newest.generation, told.endpoints or (), newest.endpoints or ()))
        else:
            return
        self._told[service] = newest

    def _say(self, message: Message) -> None:
        """Queue a message; a worker that has ended hears nothing."""
        if self._writer is None:
            self._unsaid.append(message)
        elif not self.ended.is_set():
            self._writer.write(encode(message))

    def kill(self) -> None:
        """End the process now. Killing a dead one is fine."""
        self._process.kill()

    async def _listen(self, ours: socket.socket) -> None:
        """Take the worker's words until its end of the channel closes, which is when it has ended."""
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=READ)
        for message in self._unsaid:
            self._say(message)
        self._unsaid.clear()
        frames = Frames()
        try:
            with contextlib.suppress(ConnectionError):
                while piece := await reader.read(READ):
                    for message in frames.feed(piece):
                        self._heard(message)
        except ValueError:
            log.exception("worker %d speaks nonsense", self.pid)
        finally:
            self._process.kill()
            self._writer.close()
            self._door.close()
            self.ready = False
            self.ended.set()

    def _heard(self, message: Message) -> None:
        self.words += 1
        self.silent = 0
        match message:
            case Ready():
                self.ready = True
            case Stats():
                self.stats = merge(self.stats, message)
            case Applied(service, generation):
                self.applied[service] = generation
                self._tell_newest(service)
            case Event(level, text):
                log.log(LEVELS[level], "%s", text)
        self.on_word(message)

    async def exit_code(self) -> int:
        """How the process ended; waits for it."""
        await self.ended.wait()
        return await asyncio.to_thread(self._process.wait)
