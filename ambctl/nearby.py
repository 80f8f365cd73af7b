"""The options of the verbs that look for a fault: the Docker daemon here, and programs that etcd does not tell of."""

from __future__ import annotations

from dataclasses import dataclass

from ambcore.fleet import admin_url
from ambcore.model import split_host_port
from ambctl.common import Common
from ambnet.docker_options import DEFAULT_URL, parse_docker_url
from ambnet.options import option, repeated


def parse_place(text: str) -> tuple[str, int]:
    """An admin server as its program was told it, or as its URL; raises ValueError."""
    bare = text.removeprefix("http://").rstrip("/")
    host, port = split_host_port(f"127.0.0.1:{bare.lstrip(':')}" if bare.lstrip(":").isdigit() else bare)
    admin_url(host, port)
    return host, port


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearby(Common):
    """Where to look besides etcd."""

    docker: str = option(
        "--docker",
        default=DEFAULT_URL,
        help="the Docker daemon of this machine",
        parse=parse_docker_url,
        env=["DOCKER_HOST"],
        metavar="URL",
    )
    ask: tuple[tuple[str, int], ...] = repeated(
        "--ask",
        help="ask this admin server, too: a program that is cut off from etcd is not announced there; several times",
        parse=parse_place,
        metavar="ADDR:PORT",
    )
