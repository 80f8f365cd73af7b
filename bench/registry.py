"""A real etcd with one member in the proxy's namespace, spoken to over its JSON gateway.

`etcdctl` takes 20 ms to start, which would be most of what the timings show; one open connection does not.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from bench.hosts import CannotRunError, Host, wait_for

URL = "http://127.0.0.1:2379"
BATCH = 100  # operations of one transaction; etcd allows 128


class Registry:
    """`Registry(host)` starts etcd there and returns when it serves; it ends with the host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        host.start(
            *("etcd", "--name", "bench", "--data-dir", str(host.folder / "etcd")),
            *("--listen-client-urls", URL, "--advertise-client-urls", URL),
            *("--listen-peer-urls", "http://127.0.0.1:2380", "--log-level", "error"),
        )
        self._http = wait_for(self._connect, 20, "etcd serves")

    def _connect(self) -> http.client.HTTPConnection:
        self._http = http.client.HTTPConnection("127.0.0.1", 2379)
        self._http.sock = self._host.connect(("127.0.0.1", 2379))
        # Headers and body are two segments: the second must not wait for the first one's acknowledgement, 40 ms.
        self._http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ask("kv/range", {"key": _text("/")})
        return self._http

    def put(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Write records, key to JSON object, in transactions of `BATCH`; one record alone is one plain put."""
        operations: Iterable[dict[str, Any]] = (
            {"key": _text(key), "value": _text(json.dumps(value))} for key, value in records.items()
        )
        if len(records) == 1:
            self._ask("kv/put", next(iter(operations)))
            return
        operations = iter(operations)
        while batch := [{"requestPut": operation} for operation in islice(operations, BATCH)]:
            self._ask("kv/txn", {"success": batch})

    def _ask(self, what: str, body: Mapping[str, Any]) -> None:
        try:
            self._http.request("POST", f"/v3/{what}", json.dumps(body))
            answer = self._http.getresponse()
            text = answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"etcd: {error!r}") from error
        if answer.status != http.client.OK:
            raise CannotRunError(f"etcd {what}: {answer.status} {text[:200].decode(errors='replace')}")


def record(service: str, instance: str, host: str, port: int, **fields: Any) -> dict[str, Mapping[str, Any]]:
    """One instance's key and value, as docs/keys.md describes them."""
    return {f"/services/{service}/{instance}": {"host": host, "port": port, **fields}}


def _text(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
