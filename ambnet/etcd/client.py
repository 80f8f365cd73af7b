"""A client of etcd's v3 API: a channel per member, failover, users, TLS whose files may change.

The protocol's messages are aetcd's generated ones; the behaviour is ours. Reads are repeated on other members until
their time is over; a write is repeated only when it certainly had no effect, otherwise its outcome is the caller's to
find out. Every failure is one of `ambcore.errors`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from types import TracebackType
from typing import Any, Literal, Self

from ambcore.backoff import backoff
from ambcore.errors import (
    CompactedError,
    ConfigError,
    RegistryDeniedError,
    RegistryError,
    RegistryRefusedError,
    RegistryUnavailableError,
)
from ambcore.history import KeyValue, Listed
from ambcore.replay import Snapshot, range_end
from ambnet.daemon import cancel
from ambnet.etcd import transactions
from ambnet.etcd.config import EtcdConfig
from ambnet.etcd.endpoint import Endpoint, TlsFiles, state_of
from ambnet.etcd.errors import AUTH_OFF, NotSentError, TokenRejectedError, translate
from ambnet.etcd.protocol import grpc, rpc
from ambnet.etcd.stream import Stream, cancelled_on_purpose
from ambnet.etcd.token import Token
from ambnet.saying import Saying

log = logging.getLogger("etcd")

CALL_SECONDS = 5.0  # a whole call with its repetitions; a leader election takes one to two
LEAST_ATTEMPT = 1.0  # seconds, however many members share CALL_SECONDS
LEAST_LEFT = 0.2  # an attempt with less time would fail whatever the member does, and the member be blamed for it
FIRST_PAUSE, LAST_PAUSE = 0.025, 3.0  # between rounds over all members
FRESH_TOKEN = 1.0  # a stream starts with a token not older than this: its rejection may look like a denial
PAGE = 500  # records; 500 of the largest allowed size are 4 MiB
OPERATIONS = 100  # of one transaction; etcd allows 128
CHECK_FILES = 10.0  # seconds between looks at the TLS files
OLD_CHANNEL_GRACE = 5.0  # seconds for calls under way when the TLS files changed


class Etcd:
    """The client; an async context manager.

    For status and metrics: `endpoint` (URL in use), `connected`, `last_error` (one line or None), and the counters
    `failovers`, `reauths` and `reloads` (of TLS files).

    That etcd is away or lets nobody in is said here, in one line however many use the client: so they are silent while
    it is not `connected`, and put into `comfort` what the operator should know of their part in it.
    """

    def __init__(self, config: EtcdConfig, *, check_files: float = CHECK_FILES) -> None:
        self.connected = False
        self.last_error: str | None = None
        self.failovers = 0
        self.reloads = 0
        self.comfort: set[str] = set()
        self._config = config
        self._check_files = check_files
        self._urls = random.sample(config.endpoints, len(config.endpoints))
        self._endpoints: list[Endpoint] = []
        self._current = 0
        self._token = Token(config.user, config.password_file, self._authenticate)
        self._saying = Saying(log)
        self._files = state_of(config)
        self._background: set[asyncio.Task[None]] = set()

    @property
    def endpoint(self) -> str:
        """The URL of the member in use."""
        return self._urls[self._current]

    @property
    def members(self) -> int:
        """How many endpoints there are."""
        return len(self._urls)

    @property
    def reauths(self) -> int:
        """How often a token was fetched."""
        return self._token.fetched

    async def __aenter__(self) -> Self:
        try:
            tls = TlsFiles.read(self._config)
        except OSError as error:
            raise ConfigError("--etcd-ca/--etcd-cert/--etcd-key", f"cannot be used: {error}") from error
        self._endpoints = [Endpoint(url, tls) for url in self._urls]
        if self._files:
            self._spawn(self._follow_files())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Break off what is under way and close the channels. Closing twice is fine."""
        tasks, endpoints = set(self._background), self._endpoints
        self._endpoints = []
        await cancel(*tasks)
        for endpoint in endpoints:
            await endpoint.close()

    # Keys

    async def get(self, key: bytes) -> KeyValue | None:
        """A key's value, as the cluster's majority knows it."""
        reply = await self._call("kv", "Range", rpc.RangeRequest(key=key), repeat=True)
        return _key_value(reply.kvs[0]) if reply.kvs else None

    async def list(self, prefix: bytes, limit: int = PAGE) -> Listed:
        """Everything under a prefix at one revision, read in pages of `limit`."""
        snapshot = await self.snapshot(prefix, limit)
        return Listed(snapshot.items, snapshot.revision)

    async def snapshot(self, prefix: bytes, limit: int = PAGE, *, stale: bool = False) -> Snapshot:
        """`list` with what the answers say about the cluster. With `stale`, one member's knowledge is enough."""
        while True:
            try:
                return await self._pages(prefix, limit, stale=stale)
            except CompactedError:  # between two pages: begin anew
                continue

    async def _pages(self, prefix: bytes, limit: int, *, stale: bool) -> Snapshot:
        items: list[KeyValue] = []
        key, revision, cluster_id = prefix, 0, None
        while True:
            request = rpc.RangeRequest(
                key=key, range_end=range_end(prefix), limit=limit, revision=revision, serializable=stale
            )
            try:
                reply = await self._call("kv", "Range", request, repeat=True, leader=not stale)
            except RegistryRefusedError:  # others write larger records than we: a page may be more than a message holds
                if limit == 1:
                    raise
                limit //= 2
                continue
            if cluster_id not in {None, reply.header.cluster_id}:
                raise RegistryUnavailableError("two endpoints belong to different clusters")
            cluster_id = reply.header.cluster_id
            revision = revision or reply.header.revision
            items += map(_key_value, reply.kvs)
            if not reply.more or not reply.kvs:
                return Snapshot(tuple(items), revision, cluster_id, reply.header.raft_term)
            key = reply.kvs[-1].key + b"\x00"

    async def put(self, key: bytes, value: bytes, lease: int = 0) -> int:
        """Write a key whatever it holds; returns the revision. A lease of 0 also takes the key off any lease."""
        reply = await self._call("kv", "Put", rpc.PutRequest(key=key, value=value, lease=lease))
        return int(reply.header.revision)

    async def delete(self, key: bytes) -> bool:
        """Delete a key whatever it holds; whether there was one."""
        reply = await self._call("kv", "DeleteRange", rpc.DeleteRangeRequest(key=key))
        return bool(reply.deleted)

    async def put_if(self, key: bytes, value: bytes, lease: int, *, revision: int) -> int | KeyValue | None:
        """Write a key if its mod_revision is still `revision`; 0 stands for "if it does not exist".

        Returns the new revision, else the key as it is (None: it does not exist).
        """
        reply = await self._call("kv", "Txn", transactions.put_if(key, value, lease, revision))
        if reply.succeeded:
            return int(reply.header.revision)
        found = reply.responses[0].response_range.kvs
        return _key_value(found[0]) if found else None

    async def delete_if(self, key: bytes, *, revision: int) -> bool:
        """Delete a key if its mod_revision is still `revision`; whether it was deleted."""
        reply = await self._call("kv", "Txn", transactions.delete_if(key, revision))
        return bool(reply.succeeded)

    # Leases

    async def grant(self, ttl: int) -> tuple[int, int]:
        """A new lease: its id and the TTL that the server chose. One granted in vain runs out by itself."""
        reply = await self._call("lease", "LeaseGrant", rpc.LeaseGrantRequest(TTL=ttl), repeat=True)
        return int(reply.ID), int(reply.TTL)

    async def revoke(self, lease: int, within: float = 2.0) -> None:
        """End a lease and delete its keys. Raises RegistryError; the TTL does it in any case."""
        await self._call("lease", "LeaseRevoke", rpc.LeaseRevokeRequest(ID=lease), total=within)

    async def empty(self, lease: int, within: float = 2.0) -> None:
        """Delete the keys of a lease, and leave it to run out: whoever asks for it learns that this was on purpose.

        Raises RegistryError.
        """
        request = rpc.LeaseTimeToLiveRequest(ID=lease, keys=True)
        keys = (await self._call("lease", "LeaseTimeToLive", request, repeat=True, total=within)).keys
        for start in range(0, len(keys), OPERATIONS):
            txn = transactions.delete_under(keys[start : start + OPERATIONS], lease)
            if not (await self._call("kv", "Txn", txn, total=within)).succeeded:  # one has another lease by now
                await self.revoke(lease, within)

    async def time_to_live(self, lease: int) -> int | None:
        """Seconds that a lease has left; None when it does not exist."""
        request = rpc.LeaseTimeToLiveRequest(ID=lease)
        reply = await self._call("lease", "LeaseTimeToLive", request, repeat=True)
        return int(reply.TTL) if reply.TTL > 0 else None

    # Streams and the rest

    async def open(self, kind: Literal["watch", "lease"]) -> Stream:
        """A Watch or LeaseKeepAlive stream on the member in use, to be entered with `async with`."""
        token = await self._token_or_failure(FRESH_TOKEN)
        current = self._use()
        method = current.watch.Watch if kind == "watch" else current.lease.LeaseKeepAlive

        def failed(error: RegistryError) -> None:
            self._failed(current, error, token)

        return Stream(method(metadata=_metadata(token)), current.url, failed)

    async def server_version(self) -> tuple[int, int, int] | None:
        """The version of the member in use, or None when it does not say."""
        try:
            reply = await self._call("maintenance", "Status", rpc.StatusRequest(), total=2.0, leader=False)
            major, minor, patch = map(int, reply.version.split("-")[0].split("."))
        except (RegistryError, ValueError):
            return None
        return major, minor, patch

    def answered(self) -> None:
        """Note that the member in use has answered, on a stream or a call."""
        if not self.connected:
            self.connected = True
            self.last_error = None
            self._saying.say("connected", logging.INFO, "connected to etcd at %s", self.endpoint)

    def avoid(self, error: RegistryUnavailableError) -> None:
        """Go on with another member than the one in use: it answers, but not as it should."""
        self._failed(self._use(), error, None)

    # How a call is made

    async def _call(
        self,
        service: str,
        method: str,
        request: Any,
        *,
        repeat: bool = False,
        leader: bool = True,
        total: float = CALL_SECONDS,
    ) -> Any:
        """One unary call with failover. `repeat`: it may be sent again after an unknown outcome."""
        deadline = time.monotonic() + total
        pauses = backoff(FIRST_PAUSE, LAST_PAUSE, random.random)
        failures = rejections = 0
        while True:
            left = deadline - time.monotonic()
            try:
                reply = await self._attempt(service, method, request, leader=leader, total=total, left=left)
            except TokenRejectedError as error:
                rejections += 1
                if rejections > 1 or not self._config.user:
                    denial = RegistryDeniedError(str(error))
                    self._nobody_let_in(denial)
                    raise denial from error
            except RegistryUnavailableError as error:
                failures += 1
                pause = next(pauses) if failures % self.members == 0 else 0.0
                if not (repeat or isinstance(error, NotSentError)) or time.monotonic() + pause > deadline - LEAST_LEFT:
                    raise
                await asyncio.sleep(pause)
            else:
                if leader:  # a member without the others answers, too, but that is not etcd
                    self.answered()
                return reply

    async def _attempt(
        self, service: str, method: str, request: Any, *, leader: bool, total: float, left: float
    ) -> Any:
        token = await self._token_or_failure()
        current = self._use()
        stub = getattr(getattr(current, service), method)
        limit = min(max(LEAST_ATTEMPT, total / self.members), max(left, LEAST_LEFT))
        try:
            return await stub(request, timeout=limit, metadata=_metadata(token, leader=leader))
        except grpc.aio.AioRpcError as error:
            failure = translate(error)
            self._failed(current, failure, token)
            raise failure from error
        except asyncio.CancelledError:
            if cancelled_on_purpose():
                raise
            raise RegistryUnavailableError("the connection was closed") from None  # by a reload of the TLS files

    def _use(self) -> Endpoint:
        if not self._endpoints:
            raise RegistryError("the client is closed")
        return self._endpoints[self._current]

    async def _token_or_failure(self, max_age: float = float("inf")) -> str | None:
        """The token; a member that could not give one has failed, and the call it was for was not sent."""
        current = self._use()
        try:
            return await self._token.get(max_age)
        except RegistryUnavailableError as error:
            self._failed(current, error, None)
            raise NotSentError(str(error)) from error
        except RegistryDeniedError as error:
            self._nobody_let_in(error)
            raise

    async def _authenticate(self, name: str, password: str) -> str | None:
        request = rpc.AuthenticateRequest(name=name, password=password)
        limit = max(LEAST_ATTEMPT, CALL_SECONDS / self.members)
        try:
            reply = await self._use().auth.Authenticate(request, timeout=limit)
        except grpc.aio.AioRpcError as error:
            if error.details() == AUTH_OFF:
                return None
            raise translate(error) from error
        except asyncio.CancelledError:
            if cancelled_on_purpose():
                raise
            raise RegistryUnavailableError("the connection was closed") from None
        return str(reply.token)

    def _failed(self, endpoint: Endpoint, error: RegistryError, token: str | None) -> None:
        """Draw the conclusions of a failure: another token, another member, or none."""
        if isinstance(error, TokenRejectedError):
            self._token.reject(token)
            return
        if not isinstance(error, RegistryUnavailableError):
            self.answered()
            self.last_error = f"{endpoint.url}: {error}"
            return
        self.last_error = f"{endpoint.url}: {error}"
        if self._endpoints and endpoint is self._endpoints[self._current]:
            self._say_away("lost", logging.WARNING, error)
            self._current = (self._current + 1) % self.members
            self.failovers += 1

    def _nobody_let_in(self, error: RegistryDeniedError) -> None:
        """It is the user that is denied, not one of their rights: that concerns every caller."""
        self.last_error = f"{self.endpoint}: {error}"
        self._say_away("denied", logging.ERROR, error)

    def _say_away(self, state: str, level: int, error: RegistryError) -> None:
        self.connected = False
        text = "; ".join((str(error), *sorted(self.comfort)))
        self._saying.say(state, level, "etcd at %s: %s", self.endpoint, text)

    # TLS files that change

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _follow_files(self) -> None:
        while True:
            await asyncio.sleep(self._check_files)
            state = state_of(self._config)
            if state != self._files:
                self._reload(state)

    def _reload(self, state: tuple[object, ...]) -> None:
        """New channels with the new files. While those cannot be used, perhaps half written, the old ones stay."""
        try:
            tls = TlsFiles.read(self._config)
        except OSError as error:
            self._saying.say("bad files", logging.ERROR, "changed TLS files cannot be used yet: %s", error)
            return
        old, self._endpoints = self._endpoints, [Endpoint(url, tls) for url in self._urls]
        self._files = state
        self.reloads += 1
        log.info("TLS files have changed: new connections to etcd")
        for endpoint in old:
            self._spawn(endpoint.close(OLD_CHANNEL_GRACE))


def _key_value(item: Any) -> KeyValue:
    return KeyValue(item.key, item.value, item.mod_revision, item.lease)


def _metadata(token: str | None, *, leader: bool = True) -> tuple[tuple[str, str], ...]:
    """Without `hasleader`, a member cut off from the others keeps its streams open and mute."""
    required = (("hasleader", "true"),) if leader else ()
    return required if token is None else (*required, ("token", token))
