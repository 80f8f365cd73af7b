"""An etcd that says what a test wants: a real gRPC server on loopback with etcd's services.

It keeps keys and leases as simply as possible. What is to go wrong is set in its attributes; what was asked of it
stands in `calls`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Self

from ambcore.history import KeyDeleted, KeyValue
from ambcore.replay import Reply, Snapshot
from ambnet.etcd.protocol import grpc, rpc, services

Watcher = Callable[[int], Iterable[Reply] | AsyncIterator[Reply]]
HEADER = rpc.ResponseHeader(cluster_id=7, revision=1, raft_term=3)
LEASE_NOT_FOUND = (grpc.StatusCode.NOT_FOUND, "etcdserver: requested lease not found")


class FakeEtcd:
    """An async context manager; `url` is where it listens.

    `snapshot()` answers lists, `watcher(start)` gives the replies on a watch stream, whose end breaks it off; None
    leaves it mute. `renewals` answers keep-alives in order: a TTL, a delay in seconds (float) before TTL 10, or a
    status to end the stream with; afterwards each is answered with TTL 10. `forgotten` are leases that it does not
    know any more. `refusals` are statuses for the next transactions, `answers_lost` counts those that are made and not
    answered. `unreadable` is the status for every list.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.keys: dict[bytes, KeyValue] = {}
        self.revision = 1
        self.snapshot: Callable[[], Snapshot] = self._snapshot
        self.watcher: Watcher | None = None
        self.renewals: list[int | float | tuple[Any, str]] = []
        self.refusals: list[tuple[Any, str]] = []
        self.forgotten: set[int] = set()
        self.answers_lost = 0
        self.unreadable: tuple[Any, str] | None = None
        self._server = grpc.aio.server()
        self._leases = 100
        services.add_KVServicer_to_server(_KV(self), self._server)
        services.add_WatchServicer_to_server(_Watch(self), self._server)
        services.add_LeaseServicer_to_server(_Lease(self), self._server)
        services.add_MaintenanceServicer_to_server(_Maintenance(), self._server)
        self.url = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    async def __aenter__(self) -> Self:
        await self._server.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._server.stop(None)

    def asked(self, name: str) -> list[Any]:
        """The requests of one kind so far."""
        return [request for called, request in self.calls if called == name]

    def header(self) -> Any:
        return rpc.ResponseHeader(cluster_id=7, revision=self.revision, raft_term=3)

    def grant(self) -> int:
        self._leases += 1
        return self._leases

    def _snapshot(self) -> Snapshot:
        return Snapshot(tuple(self.keys.values()), self.revision, 7, 3)

    def transact(self, request: Any) -> Any:
        """The compared put or delete that our client makes, and no other."""
        compare = request.compare[0]
        found = self.keys.get(compare.key)
        succeeded = (found.revision if found else 0) == compare.mod_revision
        if succeeded:
            self.revision += 1
            operation = request.success[0]
            if operation.HasField("request_put"):
                put = operation.request_put
                self.keys[put.key] = KeyValue(put.key, put.value, self.revision, put.lease)
            else:
                del self.keys[operation.request_delete_range.key]
            return rpc.TxnResponse(header=self.header(), succeeded=True, responses=[rpc.ResponseOp()])
        kvs = [_item(found)] if found else []
        look = rpc.ResponseOp(response_range=rpc.RangeResponse(header=self.header(), kvs=kvs))
        return rpc.TxnResponse(header=self.header(), succeeded=False, responses=[look])


def _item(item: KeyValue) -> Any:
    return {"key": item.key, "value": item.value, "mod_revision": item.revision, "lease": item.lease}


def _event(event: KeyValue | KeyDeleted) -> Any:
    if isinstance(event, KeyDeleted):
        return {"type": "DELETE", "kv": {"key": event.key, "mod_revision": event.revision}}
    return {"kv": _item(event)}


def watch_response(reply: Reply) -> Any:
    """The message that `ambnet.watch` reads as this reply."""
    return rpc.WatchResponse(
        header={"cluster_id": reply.cluster_id, "revision": reply.revision, "raft_term": reply.term},
        watch_id=reply.watch_id,
        created=reply.created,
        canceled=reply.canceled,
        compact_revision=reply.compact_revision,
        cancel_reason=reply.cancel_reason,
        fragment=reply.fragment,
        events=[_event(event) for event in reply.events],
    )


class _KV(services.KVServicer):  # type: ignore[misc]
    def __init__(self, fake: FakeEtcd) -> None:
        self.fake = fake

    async def Range(self, request: Any, context: Any) -> Any:
        self.fake.calls.append(("Range", request))
        if self.fake.unreadable:
            await context.abort(*self.fake.unreadable)
        snapshot = self.fake.snapshot()
        header = {"cluster_id": snapshot.cluster_id, "revision": snapshot.revision, "raft_term": snapshot.term}
        items = [item for item in snapshot.items if request.range_end or item.key == request.key]
        return rpc.RangeResponse(header=header, kvs=map(_item, items))

    async def Txn(self, request: Any, context: Any) -> Any:
        self.fake.calls.append(("Txn", request))
        if self.fake.refusals:
            await context.abort(*self.fake.refusals.pop(0))
        if request.success[0].request_put.lease in self.fake.forgotten:
            await context.abort(*LEASE_NOT_FOUND)
        answer = self.fake.transact(request)
        if self.fake.answers_lost:
            self.fake.answers_lost -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "etcdserver: request timed out")
        return answer


class _Watch(services.WatchServicer):  # type: ignore[misc]
    def __init__(self, fake: FakeEtcd) -> None:
        self.fake = fake

    async def Watch(self, requests: Any, context: Any) -> Any:
        start = (await anext(aiter(requests))).create_request.start_revision
        self.fake.calls.append(("Watch", start))
        if self.fake.watcher is None:
            async for request in requests:
                self.fake.calls.append(("Watch", request))
            return
        replies = self.fake.watcher(start)
        async for reply in replies if isinstance(replies, AsyncIterator) else _as_async(replies):
            yield watch_response(reply)


async def _as_async(replies: Iterable[Reply]) -> AsyncIterator[Reply]:
    for reply in replies:
        yield reply


class _Lease(services.LeaseServicer):  # type: ignore[misc]
    def __init__(self, fake: FakeEtcd) -> None:
        self.fake = fake

    async def LeaseGrant(self, request: Any, context: Any) -> Any:
        self.fake.calls.append(("LeaseGrant", request))
        return rpc.LeaseGrantResponse(header=HEADER, ID=self.fake.grant(), TTL=request.TTL)

    async def LeaseRevoke(self, request: Any, context: Any) -> Any:
        self.fake.calls.append(("LeaseRevoke", request))
        return rpc.LeaseRevokeResponse(header=HEADER)

    async def LeaseKeepAlive(self, requests: Any, context: Any) -> Any:
        async for request in requests:
            self.fake.calls.append(("LeaseKeepAlive", request))
            ttl = 0 if request.ID in self.fake.forgotten else 10
            match self.fake.renewals.pop(0) if self.fake.renewals else ttl:
                case int(given):
                    ttl = given
                case float(delay):
                    await asyncio.sleep(delay)
                case (code, text):
                    await context.abort(code, text)
            yield rpc.LeaseKeepAliveResponse(header=HEADER, ID=request.ID, TTL=ttl)


class _Maintenance(services.MaintenanceServicer):  # type: ignore[misc]
    async def Status(self, request: Any, context: Any) -> Any:
        return rpc.StatusResponse(header=HEADER, version="3.5.99")
