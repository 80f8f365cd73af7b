"""An etcd whose members are hosts of their own, so that one can be cut off."""

from __future__ import annotations

import base64
import http.client
import json
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.support.etcd_cluster import EtcdCluster, Member
from tests.support.hosts import Host

CLIENT_PORT, PEER_PORT = 2379, 2380


class Etcd(EtcdCluster):
    """A cluster whose members are hosts of their own; `etcdctl` runs on the first."""

    def __init__(self, folder: Path, hosts: Sequence[Host]) -> None:
        self.tls = None
        self.environment: dict[str, str] = {}
        self.hosts = {f"m{number}": host for number, host in enumerate(hosts)}
        wrapper = folder / "etcdctl"
        wrapper.write_text(f'#!/bin/sh\nexec {" ".join(hosts[0].prefix)} etcdctl "$@"\n')
        wrapper.chmod(0o755)
        self._etcdctl = str(wrapper)
        self.members = []
        peers = {name: f"http://{host.ipv4}:{PEER_PORT}" for name, host in self.hosts.items()}
        for name, host in self.hosts.items():
            home = folder / name
            home.mkdir()
            client = f"http://{host.ipv4}:{CLIENT_PORT}"
            command = [
                *(*host.prefix, "etcd", "--name", name, "--data-dir", str(home / "data"), "--logger", "zap"),
                *("--listen-client-urls", client, "--advertise-client-urls", client),
                *("--listen-peer-urls", peers[name], "--initial-advertise-peer-urls", peers[name]),
                *("--initial-cluster", ",".join(f"{each}={url}" for each, url in peers.items())),
                *("--auto-compaction-mode", "periodic", "--auto-compaction-retention", "5m", "--log-level", "error"),
            ]
            self.members.append(Member(name, command, client, home))

    @property
    def addresses(self) -> list[str]:
        """`HOST:PORT` of each member."""
        return [url.removeprefix("http://") for url in self.endpoints]

    def records(self, prefix: str) -> dict[str, str]:
        """All keys and values under a prefix; an AssertionError while etcd cannot be asked."""
        lines = self.etcdctl("get", "--prefix", prefix).splitlines()
        return dict(zip(lines[::2], lines[1::2], strict=True))


class Gateway:
    """Writes whatever one likes, over one connection to a member's JSON gateway from a host."""

    def __init__(self, host: Host, address: str) -> None:
        name, _, port = address.rpartition(":")
        self._http = http.client.HTTPConnection(name, int(port))
        self._http.sock = host.connect((name, int(port)))
        self._http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # head and body are two small writes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._http.close()

    def put(self, key: str, value: bytes) -> None:
        """One record, of any bytes."""
        self._ask("put", {"key": _base64(key.encode()), "value": _base64(value)})

    def delete(self, prefix: str) -> None:
        """All keys of a prefix."""
        start = prefix.encode()
        end = start[:-1] + bytes([start[-1] + 1])
        self._ask("deleterange", {"key": _base64(start), "range_end": _base64(end)})

    def _ask(self, what: str, body: dict[str, str]) -> None:
        self._http.request("POST", f"/v3/kv/{what}", json.dumps(body))
        answer = self._http.getresponse()
        text = answer.read()
        assert answer.status == http.client.OK, text


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
