"""Where etcd is and how to prove who we are, from options and environment."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ambcore.errors import ConfigError
from ambcore.model import join_host_port

log = logging.getLogger("etcd")

DEFAULT_URL = "http://127.0.0.1:2379"
DEFAULT_PORT = 2379
LINK = re.compile(r"ETCD_PORT_([0-9]{1,5})_TCP")
# A linked etcd may expose several ports. Its client port first, then an ambassador's, then the old client port; its
# peer port (2380) speaks another protocol and comes last.
LINK_ORDER = {2379: 0, 10000: 1, 4001: 2, 2380: 9}


@dataclass(frozen=True, slots=True)
class EtcdConfig:
    """Endpoints as URLs with a port, in the order given; everything else names files or a user.

    The files are read when they are needed and again when they change, so this value holds no secret.
    """

    endpoints: tuple[str, ...]
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    user: str | None = None
    password_file: str | None = None


def etcd_config(  # noqa: PLR0917 - the seven common options, in the order of the help
    etcd: str | None,
    ca: str | None,
    cert: str | None,
    key: str | None,
    user: str | None,
    password_file: str | None,
    environ: Mapping[str, str],
) -> EtcdConfig:
    """The configuration that the common options (`--etcd …`) describe; None stands for "not given".

    Without `etcd`, a Docker link named etcd is looked for in `environ`, then etcd on this host is taken. Raises
    ConfigError naming the option.
    """
    for option, path in {"--etcd-ca": ca, "--etcd-cert": cert, "--etcd-key": key}.items():
        _readable(option, path)
    _readable("--etcd-password-file", password_file)
    _together("--etcd-cert", cert, "--etcd-key", key)
    _together("--etcd-user", user, "--etcd-password-file", password_file)
    endpoints = _urls(etcd) if etcd else (_linked(environ, secure=bool(ca)) or DEFAULT_URL,)
    plain = [url for url in endpoints if url.startswith("http:")]
    if (ca or cert) and plain:
        raise ConfigError("--etcd", f"{plain[0]} is plain text, but TLS files are given: write https://")
    if user and plain:
        log.warning("the password of %s goes to %s in plain text: use https:// beyond this host", user, plain[0])
    return EtcdConfig(endpoints, ca, cert, key, user, password_file)


def _readable(option: str, path: str | None) -> None:
    if path is not None:
        try:
            Path(path).read_bytes()
        except OSError as error:
            raise ConfigError(option, f"{path} cannot be read: {error.strerror}") from error


def _together(option: str, value: str | None, other_option: str, other: str | None) -> None:
    if bool(value) != bool(other):
        missing, given = (other_option, option) if value else (option, other_option)
        raise ConfigError(missing, f"is needed with {given}")


def _urls(text: str) -> tuple[str, ...]:
    parts = _without_user(text).split(",")
    urls = tuple(dict.fromkeys(_url(part.strip()) for part in parts if part.strip()))
    if not urls:
        raise ConfigError("--etcd", "names no endpoint")
    return urls


def _without_user(text: str) -> str:
    """The text itself. Raises ConfigError that does not quote it: a password may hold what ends a host, or a URL."""
    if "@" in text:
        raise ConfigError("--etcd", "a URL has no room for a user: see --etcd-user and --etcd-password-file")
    return text


def _url(text: str) -> str:
    """One endpoint with scheme and port; `host:port` alone means http, as for etcdctl."""
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname, parts.port if parts.port is not None else DEFAULT_PORT
    except ValueError as error:
        raise ConfigError("--etcd", f"{text!r}: {error}") from error
    if parts.scheme not in {"http", "https"} or not host or not port or parts.path.strip("/") or parts.query:
        raise ConfigError("--etcd", f"expected http://HOST:PORT or https://HOST:PORT, not {text!r}")
    return f"{parts.scheme}://{join_host_port(host, port)}"


def _linked(environ: Mapping[str, str], *, secure: bool) -> str | None:
    """The URL of a Docker link named etcd, or None."""
    found = [(int(match[1]), value) for name, value in environ.items() if (match := LINK.fullmatch(name)) and value]
    if not found:
        return None
    port, value = min(found, key=lambda item: (LINK_ORDER.get(item[0], 5), item[0]))
    if not _without_user(value).startswith("tcp://"):
        raise ConfigError(f"ETCD_PORT_{port}_TCP", f"expected tcp://ADDRESS:PORT, not {value!r}")
    return _url(f"{'https' if secure else 'http'}://{value.removeprefix('tcp://')}")
