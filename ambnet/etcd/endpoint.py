"""One etcd member: a gRPC channel of its own with etcd's services on it.

A channel per member and failover in our own code, instead of one channel with a list of addresses: the choice is ours,
can be tested, and each member keeps its own name for TLS.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from ambnet.etcd.config import EtcdConfig
from ambnet.etcd.protocol import grpc, services

MIB = 1 << 20

OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", 10_000),  # etcd refuses pings more often than every 5 s
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 0),  # etcd answers GOAWAY otherwise
    ("grpc.http2.max_pings_without_data", 0),  # the default stops after two pings on an idle watch
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 1_000),  # the default is two minutes; with 3 s, records came back after 3.4 s
    ("grpc.min_reconnect_backoff_ms", 3_000),  # in truth the connect timeout
    ("grpc.max_receive_message_length", 64 * MIB),
    ("grpc.max_send_message_length", 2 * MIB),
    ("grpc.enable_retries", 0),  # a write must not be repeated behind our back
    ("grpc.enable_http_proxy", 0),  # http_proxy in the environment is not meant for etcd
    ("grpc.use_local_subchannel_pool", 1),  # a new channel is a new connection
    ("grpc.dns_ares_query_timeout", 3_000),  # the default is two minutes
)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The contents of the TLS files at one moment."""

    ca: bytes | None
    cert: bytes | None
    key: bytes | None

    @classmethod
    def read(cls, config: EtcdConfig) -> Self:
        """Read them all and check that they fit together. Raises OSError (ssl.SSLError is one).

        Without a CA the system's roots count, not those that gRPC brings along.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ca = config.ca
        if ca:
            context.load_verify_locations(ca)
        elif any(url.startswith("https:") for url in config.endpoints):
            ca = ssl.get_default_verify_paths().cafile
        if config.cert and config.key:
            context.load_cert_chain(config.cert, config.key)
        return cls(*(Path(path).read_bytes() if path else None for path in (ca, config.cert, config.key)))


class Endpoint:
    """A member's channel and stubs. Make it inside the running loop."""

    def __init__(self, url: str, tls: TlsFiles) -> None:
        self.url = url
        parts = urlsplit(url)
        target = _target(parts.hostname or "", parts.port or 0)
        if parts.scheme == "https":
            secrets = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.cert)
            self._channel = grpc.aio.secure_channel(target, secrets, options=OPTIONS)
        else:
            self._channel = grpc.aio.insecure_channel(target, options=OPTIONS)
        self.kv: Any = services.KVStub(self._channel)
        self.lease: Any = services.LeaseStub(self._channel)
        self.watch: Any = services.WatchStub(self._channel)
        self.auth: Any = services.AuthStub(self._channel)
        self.maintenance: Any = services.MaintenanceStub(self._channel)
        self.cluster: Any = services.ClusterStub(self._channel)

    async def close(self, grace: float = 0.0) -> None:
        """Let calls finish for `grace` seconds, then break them off."""
        await self._channel.close(grace)


def _target(host: str, port: int) -> str:
    """An address literal goes past name resolution, a name through gRPC's own."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"dns:///{host}:{port}"
    return f"ipv4:{host}:{port}" if address.version == 4 else f"ipv6:[{host}]:{port}"


def state_of(config: EtcdConfig) -> tuple[object, ...]:
    """Changes when a TLS file does; empty without any."""
    state: list[object] = []
    for path in filter(None, (config.ca, config.cert, config.key)):
        try:
            found: os.stat_result | None = Path(path).stat()
        except OSError:
            found = None
        state.append((path, found and (found.st_ino, found.st_mtime_ns, found.st_size)))
    return tuple(state)
