"""What the Engine API says of containers, as far as registrar reads it (shapes seen on Docker 20.10 and 28)."""

from __future__ import annotations

from typing import Any

ID = "4f" * 32
OTHER_ID = "7a" * 32
STARTED = "2026-01-02T03:04:05.123456789Z"
STARTED_NS = 1767323045_123456789
NEVER_STARTED = "0001-01-01T00:00:00Z"
ALL = "0.0.0.0"  # noqa: S104 - what the API says for "all addresses"


def binding(host: str = ALL, port: int = 49155) -> dict[str, str]:
    return {"HostIp": host, "HostPort": str(port)}


def container(
    *bindings: dict[str, str],
    name: str = "redis-demo",
    identity: str = ID,
    started: str = STARTED,
    state: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    host_config: dict[str, Any] | None = None,
    port: str = "6379/tcp",
) -> dict[str, Any]:
    """A running container whose port is published at these bindings; the keywords change details."""
    return {
        "Id": identity,
        "Name": f"/{name}",
        "State": {"Status": "running", "Running": True, "Paused": False, "StartedAt": started, **(state or {})},
        "Config": {"StopSignal": "SIGTERM", **(config or {})},
        "HostConfig": {"NetworkMode": "default", "PortBindings": {}, **(host_config or {})},
        "NetworkSettings": {"Ports": {port: list(bindings)} if bindings else {}},
    }


def stopped(**more: Any) -> dict[str, Any]:
    return container(state={"Status": "exited", "Running": False}, **more)
