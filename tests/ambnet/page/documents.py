"""Status documents for tests, as dynproxy writes them."""

from __future__ import annotations

from typing import Any


def instance(name: str, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "address": "10.0.0.1:80",
        "protocol": "tcp",
        "state": "up",
        "refusing": False,
        "check": {"state": "up", "seconds": 0.002, "why": None},
        "weight": 1,
        "owner": "core-01:4J2K",
        "since": 1000,
        "drained": None,
        "connections": 1,
        "connections_total": 10,
        "connect_failures": 2,
        "bytes_in": 100,
        "bytes_out": 200,
        **more,
    }


def service(name: str, *instances: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "ports": [6379],
        "plane": "relay",
        "plane_why": "asked for",
        "policy": "round-robin",
        "watch": "watching",
        "view_age": 1.0,
        "revision": 7,
        "parked": 0,
        "kernel": {"connections": 0, "packets": 0, "bytes": 0},
        "counters": {},
        "instances": list(instances),
        "removed": [],
        "refused": [],
        **more,
    }


def dynproxy(*services: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "program": "dynproxy",
        "uptime": 12.0,
        "ready": True,
        "plane": {"name": "relay", "why": "asked for", "kernel": None},
        "etcd": {"endpoint": "http://10.0.0.9:2379", "connected": True, "last_error": None, "view_age": 1.0},
        "services": list(services),
        **more,
    }
