"""The options of `ambctl doctor`."""

from __future__ import annotations

from dataclasses import dataclass

from ambcore.fleet import admin_url
from ambcore.model import IPAddress, parse_ip, parse_port, split_host_port
from ambctl.common import Common
from ambctl.doctor.names import CHECKS
from ambnet.docker_options import DEFAULT_URL, parse_docker_url
from ambnet.options import choice, option, repeated, switch


def _place(text: str) -> tuple[str, int]:
    """Where somebody may be asked; raises ValueError."""
    place = split_host_port(text)
    admin_url(*place)
    return place


@dataclass(frozen=True, slots=True, kw_only=True)
class Doctor(Common):
    """Check the whole chain from this machine: etcd, certificates, Docker, the kernel, every program, every record."""

    EXAMPLES = (
        "ambctl doctor",
        "ambctl doctor --port 6379   # would dynproxy get this port here?",
        "ambctl doctor --only etcd --only access --write-probe",
    )

    only: tuple[str, ...] = repeated(
        "--only",
        help=f"make this check alone; several times: {', '.join(CHECKS)}",
        parse=choice(*CHECKS),
        metavar="CHECK",
    )
    ports: tuple[int, ...] = repeated(
        "--port", help="a port that shall be listened on here; several times", parse=parse_port, metavar="PORT"
    )
    ask: tuple[tuple[str, int], ...] = repeated(
        "--ask",
        help="also ask the program whose --admin is here: one that lost etcd is soon not announced any more",
        parse=_place,
        metavar="ADDR:PORT",
    )
    write_probe: bool = switch(
        "--write-probe", help="also write a key below the prefix, for a moment, to see whether that is allowed"
    )
    advertise: IPAddress | None = option(
        "--advertise",
        default=None,
        help="what this machine's registrar is told to publish; default: the address that reaches etcd",
        parse=parse_ip,
        env=["AMB_ADVERTISE", "COREOS_PRIVATE_IPV4"],
        metavar="IP",
    )
    docker: str = option(
        "--docker",
        default=DEFAULT_URL,
        help="the Docker daemon of this machine",
        parse=parse_docker_url,
        env=["DOCKER_HOST"],
        metavar="URL",
    )
