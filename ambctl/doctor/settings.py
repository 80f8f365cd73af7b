"""The options of `ambctl doctor`."""

from __future__ import annotations

from dataclasses import dataclass

from ambcore.model import IPAddress, parse_ip, parse_port
from ambctl.doctor.names import CHECKS
from ambctl.nearby import Nearby
from ambnet.options import choice, option, repeated, switch


@dataclass(frozen=True, slots=True, kw_only=True)
class Doctor(Nearby):
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
