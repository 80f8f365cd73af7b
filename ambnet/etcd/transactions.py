"""The transactions that we make: writes on the condition that nobody else has changed what they are about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ambnet.etcd.protocol import rpc


def put_if(key: bytes, value: bytes, lease: int, revision: int) -> Any:
    """Write a key whose mod_revision is `revision`, else read it."""
    put = rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value, lease=lease))
    look = rpc.RequestOp(request_range=rpc.RangeRequest(key=key))
    return rpc.TxnRequest(compare=[_unchanged(key, revision)], success=[put], failure=[look])


def delete_if(key: bytes, revision: int) -> Any:
    """Delete a key whose mod_revision is `revision`."""
    return rpc.TxnRequest(compare=[_unchanged(key, revision)], success=[_delete(key)])


def delete_under(keys: Sequence[bytes], lease: int) -> Any:
    """Delete keys, if every one of them has this lease."""
    return rpc.TxnRequest(compare=[_under(key, lease) for key in keys], success=list(map(_delete, keys)))


def _delete(key: bytes) -> Any:
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key))


def _unchanged(key: bytes, revision: int) -> Any:
    """The condition that a key's mod_revision is `revision`; that of a key which does not exist is 0."""
    return rpc.Compare(key=key, target=rpc.Compare.MOD, result=rpc.Compare.EQUAL, mod_revision=revision)


def _under(key: bytes, lease: int) -> Any:
    """The condition that a key has this lease."""
    return rpc.Compare(key=key, target=rpc.Compare.LEASE, result=rpc.Compare.EQUAL, lease=lease)
