"""PURE: the checks by name, in the order in which one thing depends on another.

The first red line is the cause, what follows may be its consequence: so certificates stand before the etcd that is
reached by them, and programs before what they serve.
"""

from __future__ import annotations

from collections.abc import Mapping

CHECKS: Mapping[str, str] = {
    "tls": "certificates, and files that should be secret",
    "etcd": "members, leader, space, clocks",
    "access": "whether etcd lets us in",
    "versions": "known bad versions of etcd",
    "docker": "the daemon of this machine",
    "address": "what registrar would tell others of this machine",
    "kernel": "nftables, capability, forwarding",
    "limits": "files, ports, backlog, tracked connections, memory",
    "ports": "the ports that --port names",
    "programs": "whether they answer, their versions",
    "proxies": "planes, limits, and whether they see what etcd has",
    "records": "records that nobody keeps or reads",
    "drains": "what operators drained",
}
