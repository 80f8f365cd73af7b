"""What etcd and gRPC say when something fails, translated into our own errors.

A status counts together with its text, since etcd gives one code to failures of several kinds. The texts are those of
`api/v3rpc/rpctypes/error.go` in etcd's sources.
"""

from __future__ import annotations

from typing import Any

from ambcore.errors import (
    CompactedError,
    LeaseLostError,
    RegistryDeniedError,
    RegistryError,
    RegistryRefusedError,
    RegistryUnavailableError,
)
from ambnet.etcd.protocol import grpc

Code: Any = grpc.StatusCode

BAD_TOKEN = frozenset(
    {
        "etcdserver: invalid auth token",
        "etcdserver: revision of auth store is old",
        "etcdserver: user name is empty",
    }
)
AUTH_OFF = "etcdserver: authentication is not enabled"
BAD_PASSWORD = "etcdserver: authentication failed"  # noqa: S105 - the text of an error
NO_LEASE = "etcdserver: requested lease not found"
# Said before a request was looked at: by gRPC of a connection or an address that could not be had, by etcd of a member
# that knows no leader.
NEVER_SENT = (
    "failed to connect to all addresses",
    "errors resolving",
    "DNS resolution failed",
    "etcdserver: no leader",
)


class NotSentError(RegistryUnavailableError):
    """The request certainly had no effect, so that even a write may be sent again elsewhere."""


class TokenRejectedError(RegistryError):
    """Our token is old or unknown to this member: authenticate again."""


def translate(error: grpc.aio.AioRpcError) -> RegistryError:
    """Our error for gRPC's; its text is one line fit for a log."""
    code, text = error.code(), _one_line(error)
    kind = _kind(code, error.details() or "")
    return kind(text)


def _kind(code: grpc.StatusCode, details: str) -> type[RegistryError]:
    if details in BAD_TOKEN:
        return TokenRejectedError
    if details.startswith(NEVER_SENT):
        return NotSentError
    match code:
        case Code.PERMISSION_DENIED | Code.UNAUTHENTICATED:
            return RegistryDeniedError
        case Code.INVALID_ARGUMENT:
            return RegistryDeniedError if details.startswith(BAD_PASSWORD) else RegistryRefusedError
        case Code.NOT_FOUND if details == NO_LEASE:
            return LeaseLostError
        case Code.OUT_OF_RANGE:
            return CompactedError
        case Code.RESOURCE_EXHAUSTED:
            return RegistryRefusedError
        case _:  # UNKNOWN "not a primary lessor", FAILED_PRECONDITION of a learner, DATA_LOSS: others may serve
            return RegistryUnavailableError


def _one_line(error: grpc.aio.AioRpcError) -> str:
    code, details = error.code(), " ".join((error.details() or "").split())
    if code is Code.DEADLINE_EXCEEDED:
        return "no answer in time"
    if code is Code.UNIMPLEMENTED:
        return "this server does not speak etcd v3"
    if "CERTIFICATE_VERIFY_FAILED" in details or "certificate verify failed" in details:
        why = details.rpartition("CERTIFICATE_VERIFY_FAILED: ")[2].removesuffix(": OK")  # OpenSSL's words, then gRPC's
        return f"its certificate is not trusted: {why[-200:]}"
    # gRPC tells the story of each attempt, the reason last: "failed to connect to all addresses; last error: …: reason"
    reason = details.rpartition("Failed to connect to remote host: ")[2] or code.name.lower()
    return reason[:300]
