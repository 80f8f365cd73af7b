"""How patient a relay is and how much it takes on. Durations in seconds."""

from __future__ import annotations

import gc
import resource
from dataclasses import dataclass, replace

RESERVED_FILES = 200  # listeners, epoll, control, log, and two for each of `pipes.MOST` pipes


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one relay promises; the defaults are the documented ones.

    `connect_timeout` is for one instance, `connect_budget` for all that one client is tried with, `retry` how long a
    client is kept when every instance refused, and `rest` the pause before it asks all of them again. `idle_timeout` 0
    means never. `max_connections` None means as many as the limit of open files allows. `max_per_source` are the
    connections of one client address, `max_per_instance` those of one instance, None for any number. `udp_sessions` are
    the UDP clients known at once.
    """

    connect_timeout: float = 3.0
    connect_budget: float = 10.0
    retry: float = 1.0
    rest: float = 0.1
    idle_timeout: float = 0.0
    half_open_timeout: float = 30.0
    park: float = 10.0
    park_max: int = 1024
    max_connections: int | None = None
    max_per_source: int | None = None
    max_per_instance: int | None = None
    udp_sessions: int = 4096


def raise_file_limit() -> int:
    """Raise the soft limit of open files to the hard one; returns what it is now."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def client_files(files: int) -> int:
    """How many of `files` open files clients may take; some are kept back."""
    return files - min(RESERVED_FILES, files // 4)


def connection_cap(asked: int | None, files: int) -> int:
    """How many connections fit into `files` open files, at most `asked`: two sockets each."""
    fit = max(1, client_files(files) // 2)
    return fit if asked is None else min(asked, fit)


def shared(limits: Limits, workers: int, slot: int) -> Limits:
    """One worker's limits, of `workers` numbered from 0, which together keep to those.

    What an instance can take is divided among them, and never exceeded. What a client address may have is not: its
    connections come to whichever worker is free, and none shall be refused that is within the limit.
    """
    if limits.max_per_instance is None:
        return limits
    each, more = divmod(limits.max_per_instance, workers)
    return replace(limits, max_per_instance=max(1, each + (slot < more)))


def calm_collector() -> None:
    """Let the garbage collector look seldom: closed connections leave it nothing, 10,000 open ones take it 10 ms."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
