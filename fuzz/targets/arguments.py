"""What operators type and what the environment holds: settings, or one line that says what is wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ambcore.errors import ConfigError
from ambcore.registration.extract import parse_advertised
from dynproxy import config as dynproxy
from dynproxy import grand
from fuzz.feed import TEXTS, Feed
from registrar import config as registrar
from simple_amb import config as simple_amb

Read = Callable[[Sequence[str], Mapping[str, str]], Any]

PROGRAMS: Sequence[tuple[type, Read]] = (
    (dynproxy.Settings, dynproxy.read),
    (registrar.Settings, registrar.read),
    (grand.GrandSettings, grand.read),
    (simple_amb.Settings, simple_amb.read),
)
VALUES = (
    *TEXTS,
    *(
        "redis-A:6379",
        "redis-A",
        "10.0.0.0/8",
        "::ffff:10.0.0.0/104",
        "10.0.0.0/8,fd00::/8",
        "0.0.0.0/33",
        "1e3",
        "nan",
    ),
    *("drain=5", "drain=-1", "cut", "v1", "v2", "round-robin", "kernel", "relay", "true", "-", "--", "=", "inf", "-1"),
    *(
        "http://10.0.0.1:2379",
        "https://[::1]:2379",
        "etcd://10.0.0.1:2379/services",
        "tcp://10.0.0.1:6379",
        "udp://ns:53",
    ),
    *("unix:///run/docker.sock", "-name", "-tls=true", "consul://x", ":9100", "[::]:9100", "/services/", "a,b", "info"),
)
VARIABLES = ("REDIS_PORT_6379_TCP", "DNS_PORT_53_UDP", "A_ENV_B_PORT_1_TCP", "REDIS_PORT_6379_TCP_ADDR", "REDIS_NAME")


def arguments(data: bytes) -> None:
    """A command line and an environment for one of the programs."""
    feed = Feed(data)
    settings, read = feed.pick(PROGRAMS)
    fields = [field.metadata for field in dataclasses.fields(settings) if field.metadata]
    flags = [spec["flag"] for spec in fields if "flag" in spec]
    names = [name for spec in fields for name in spec.get("env", ())]
    environ = {feed.pick((*names, *VARIABLES)): _value(feed) for _ in range(feed.below(5))}
    argv: list[str] = []
    while feed.more and len(argv) < 12:
        match feed.below(4):
            case 0:
                argv.append(_value(feed))
            case 1:
                argv.append(f"{feed.pick(flags)}={_value(feed)}")
            case _:
                argv += [feed.pick(flags), _value(feed)]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            found = read(argv, environ)
    except ConfigError as error:
        assert error.option
        return
    except SystemExit as left:
        assert left.code == 0
        return
    _hold(found)


def _value(feed: Feed) -> str:
    """A word as a shell can hand it over: no NUL, and what is not UTF-8 as Python spells it."""
    text = feed.pick(VALUES) if feed.byte() % 4 else feed.piece(40).decode(errors="surrogateescape")
    return text.replace("\x00", "").replace("\ud800", "")


def _hold(found: Any) -> None:
    """What was accepted can be used."""
    if isinstance(found, dynproxy.Settings):
        assert found.cleanup or found.fronts or found.containers or found.links
        assert found.limits.park >= 0
    elif isinstance(found, registrar.Settings):
        assert found.wish is None or found.wish.port
        assert found.advertise is None or parse_advertised(str(found.advertise))
    elif isinstance(found, tuple):
        _, wiring = found
        assert all(1 <= forward.port <= 65535 and forward.targets for forward in wiring.forwards)
