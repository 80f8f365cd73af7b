"""Very many containers: by the engine's API, since a docker command costs more than the container that it starts."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from docker import APIClient
from docker.errors import APIError, NotFound

from tests.support.docker_engine import HOST_SOCKET, IMAGE, unique

AT_ONCE = 4


class Crowd:
    """`count` containers by the names `names`: the first `published` publish port 80, the others have it open in the
    host's network, which costs an engine a third of the time. Created on entry, not started; gone at the end.
    """

    def __init__(self, count: int, published: int) -> None:
        tag = unique("crowd")
        self.names = [f"{tag}-{number}" for number in range(count)]
        self._published = {*self.names[:published]}
        self._local = threading.local()
        self._clients: list[APIClient] = []

    def __enter__(self) -> Self:
        self._pool = concurrent.futures.ThreadPoolExecutor(AT_ONCE)
        try:
            self._each(self.names, self._create)
        except BaseException:
            self._remove_all()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove_all()

    def start(self, names: Sequence[str]) -> None:
        """Start these, a few at a time."""
        self._each(names, lambda name: self._client().start(name))

    def kill(self, names: Sequence[str]) -> None:
        """End these at once, a few at a time."""
        self._each(names, lambda name: self._client().kill(name))

    def _create(self, name: str) -> None:
        client = self._client()
        where = {"port_bindings": {80: None}} if name in self._published else {"network_mode": "host"}
        settings = client.create_host_config(**where)
        client.create_container(IMAGE, ["sleep", "600"], name=name, ports=[80], host_config=settings)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(NotFound):
            self._client().remove_container(name, force=True)

    def _remove_all(self) -> None:
        try:
            with contextlib.suppress(APIError):
                self._each(self.names, self._remove)
        finally:
            self._pool.shutdown()
            for client in self._clients:
                client.close()

    def _each(self, names: Sequence[str], act: Callable[[str], None]) -> None:
        for done in [self._pool.submit(act, name) for name in names]:
            done.result()

    def _client(self) -> APIClient:
        """One for each thread."""
        if not hasattr(self._local, "client"):
            self._local.client = APIClient(HOST_SOCKET, version="auto", timeout=60)
            self._clients.append(self._local.client)
        found: APIClient = self._local.client
        return found
