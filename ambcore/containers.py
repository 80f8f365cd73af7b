"""What following a Docker daemon tells its reader: that one may read now, then every change, and when it went away."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ContainerEvent:
    """Something happened to a container. `time` is the daemon's clock in nanoseconds, as is `StartedAt` of inspect.

    `action` is Docker's word without its detail; `health` is that of `health_status`, `signal` and `exit_code` those
    of `kill` and `die`. `name` and `old_name` are empty where the event does not say.
    """

    action: str
    container: str
    name: str = ""
    old_name: str = ""
    signal: str = ""
    exit_code: int | None = None
    health: str = ""
    time: int = 0


@dataclass(frozen=True, slots=True)
class Subscribed:
    """From now on events arrive; whatever happened before has to be read by inspecting."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The daemon cannot be reached; what is known stays as it is. `why` is one line."""

    why: str


EngineMessage = Subscribed | Lost | ContainerEvent


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Which daemon this is: its host's name, its lasting id or nothing, its version."""

    name: str
    id: str
    version: str
