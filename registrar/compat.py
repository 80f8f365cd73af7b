"""PURE: registrator's command line in our words, so that whoever runs it changes the image's name alone.

    registrator -internal -ttl 30 -ttl-refresh 10 etcd://10.0.0.1:2379/services

An option may have one dash or two and stand on either side of the URI. What we always do is accepted and said; what we
do not is refused with the name of what we have for it. Nothing is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ambcore.errors import ConfigError

# Options with a value that have another name here, or the same one.
SAME = {"ip": "--advertise", "ttl": "--ttl", "resync": "--resync", "tags": "--tags"}
SWITCHES = ("internal", "explicit", "cleanup")
TRUE, FALSE = {"1", "t", "T", "true", "TRUE", "True"}, {"0", "f", "F", "false", "FALSE", "False"}
OTHERS = ("consul", "consulkv", "consul-tls", "consul-unix", "consulkv-tls", "consulkv-unix", "zookeeper", "skydns2")


@dataclass(frozen=True, slots=True)
class Understood:
    """Arguments as registrar takes them, what to say of those that changed nothing, and whether a URI was given."""

    argv: tuple[str, ...]
    notes: tuple[str, ...] = ()
    by_uri: bool = False


def understand(argv: Sequence[str]) -> Understood:
    """Translate; raises ConfigError naming the option as it was written."""
    given, result, notes, uris = list(argv), list[str](), list[str](), list[str]()
    while given:
        argument = given.pop(0)
        option = re.fullmatch(r"--?([a-zA-Z][a-zA-Z-]+)(?:=(.*))?", argument, re.DOTALL)
        if option is None:
            (uris if "://" in argument else result).append(argument)
            continue
        name, value = option[1], option[2]
        if name in SWITCHES:
            result += _switch(argument, name, value)
        elif name in SAME or name in REPLACED:
            if value is None:
                value = given.pop(0) if given else _missing(argument)
            if name in SAME:
                result += [SAME[name], _plain(argument, name, value)]
            else:
                notes.append(REPLACED[name](argument.partition("=")[0], value))
        else:  # ours
            result.append(argument if argument.startswith("--") else f"-{argument}")
            if value is None and name != "help" and given:
                result.append(given.pop(0))
    for uri in uris:
        result += _from_uri(uri)
    if len(uris) > 1:
        raise ConfigError(uris[1], "one registry is enough")
    return Understood(tuple(result), tuple(notes), bool(uris))


def _switch(argument: str, name: str, value: str | None) -> Iterator[str]:
    """Go's switches may say `=false`."""
    if value is not None and value not in TRUE | FALSE:
        raise ConfigError(argument, "expected true or false")
    if value not in FALSE and name != "cleanup":  # records of containers that have gone are always cleaned up
        yield f"--{name}"


def _missing(argument: str) -> str:
    raise ConfigError(argument, "expected a value")


def _plain(argument: str, name: str, value: str) -> str:
    if name == "tags" and "{{" in value:
        raise ConfigError(argument, "templates are not supported: give the tags themselves, or set SERVICE_TAGS")
    return value


def _from_uri(uri: str) -> Iterator[str]:
    """`etcd://HOST:PORT/PREFIX`; without a host etcd is found as ever, without a path the prefix is ours."""
    scheme, _, rest = uri.partition("://")
    if scheme in OTHERS:
        raise ConfigError(uri, f"records are kept in etcd, not in {scheme}: give etcd://HOST:PORT/PREFIX")
    if scheme != "etcd":
        raise ConfigError(uri, "expected etcd://HOST:PORT/PREFIX, or --etcd with the URLs of a cluster")
    host, _, path = rest.partition("/")
    if host:
        yield from ("--etcd", ",".join(f"http://{each}" for each in host.split(",")))
    if path.strip("/"):
        yield from ("--prefix", f"/{path}")


def _number(option: str, value: str) -> None:
    if not re.fullmatch(r"-?[0-9]{1,9}", value):
        raise ConfigError(option, f"expected a number, not {value!r}")


def _refresh(option: str, value: str) -> str:
    _number(option, value)
    return f"{option} {value}: the lease is kept alive every third of --ttl"


def _retry(option: str, value: str) -> str:
    _number(option, value)
    return f"{option} {value}: etcd is waited for as long as it takes"


def _deregister(option: str, value: str) -> str:
    if value != "always":
        raise ConfigError(option, "a container that has ended is always deregistered: leave it out, or say always")
    return f"{option} {value}: a container that has ended is always deregistered"


def _ip_from_label(option: str, _: str) -> str:
    raise ConfigError(option, "not supported: use --internal with --network NAME, or the label ambassador.network")


REPLACED: dict[str, Callable[[str, str], str]] = {
    "ttl-refresh": _refresh,
    "retry-attempts": _retry,
    "retry-interval": _retry,
    "deregister": _deregister,
    "useIpFromLabel": _ip_from_label,
}
