"""etcd's errors in our words: the status and the text together say what to do."""

from __future__ import annotations

import pytest

from ambcore.errors import (
    CompactedError,
    LeaseLostError,
    RegistryDeniedError,
    RegistryError,
    RegistryRefusedError,
    RegistryUnavailableError,
)
from ambnet.etcd.errors import NotSentError, TokenRejectedError, translate
from ambnet.etcd.protocol import grpc

Code = grpc.StatusCode


def failure(code: grpc.StatusCode, details: str) -> RegistryError:
    return translate(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details))


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        (Code.UNAVAILABLE, "etcdserver: no leader", NotSentError),
        (Code.UNAVAILABLE, "failed to connect to all addresses; last error: …", NotSentError),
        (Code.UNAVAILABLE, "etcdserver: leader changed", RegistryUnavailableError),
        (Code.UNAVAILABLE, "etcdserver: request timed out", RegistryUnavailableError),
        (Code.UNKNOWN, "not a primary lessor", RegistryUnavailableError),
        (Code.DEADLINE_EXCEEDED, "Deadline Exceeded", RegistryUnavailableError),
        (Code.INTERNAL, "Received RST_STREAM", RegistryUnavailableError),
        (Code.FAILED_PRECONDITION, "etcdserver: rpc not supported for learner", RegistryUnavailableError),
        (Code.DATA_LOSS, "etcdserver: corrupt cluster", RegistryUnavailableError),
        (Code.UNIMPLEMENTED, "unknown service etcdserverpb.KV", RegistryUnavailableError),
        (Code.UNAUTHENTICATED, "etcdserver: invalid auth token", TokenRejectedError),
        (Code.INVALID_ARGUMENT, "etcdserver: revision of auth store is old", TokenRejectedError),
        (Code.INVALID_ARGUMENT, "etcdserver: user name is empty", TokenRejectedError),
        (Code.INVALID_ARGUMENT, "etcdserver: authentication failed, invalid user ID or password", RegistryDeniedError),
        (Code.PERMISSION_DENIED, "etcdserver: permission denied", RegistryDeniedError),
        (Code.NOT_FOUND, "etcdserver: requested lease not found", LeaseLostError),
        (Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted", CompactedError),
        (Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision", CompactedError),
        (Code.RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded", RegistryRefusedError),
        (Code.INVALID_ARGUMENT, "etcdserver: request is too large", RegistryRefusedError),
    ],
)
def test_each_failure_has_its_kind(code: grpc.StatusCode, details: str, kind: type[RegistryError]) -> None:
    error = failure(code, details)
    assert type(error) is kind
    assert str(error)


def test_an_error_is_one_line_of_bounded_length() -> None:
    text = str(failure(Code.UNAVAILABLE, "one\ntwo\r\n" + "x" * 10_000))
    assert text.startswith("one two x")
    assert len(text) <= 300


def test_a_certificate_is_told_by_what_is_wrong_with_it() -> None:
    details = (
        "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:2379: Tls handshake failed "
        "(TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: error:1000007d:SSL routines:OPENSSL_internal:"
        "CERTIFICATE_VERIFY_FAILED: certificate has expired: OK"
    )
    assert str(failure(Code.UNAVAILABLE, details)) == "its certificate is not trusted: certificate has expired"
