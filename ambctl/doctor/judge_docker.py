"""PURE: the Docker daemon of this machine, and the address by which its containers would be published."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ambcore.findings import Finding
from ambcore.model import Address
from ambcore.registration.extract import WHAT_TO_SET, Host, on_this_host
from ambctl.doctor.levels import amber, green, red, unknown


@dataclass(frozen=True, slots=True)
class Daemon:
    """What came of asking the daemon at `url`. `usual` is whether nobody named it; `there` whether its socket exists,
    `allowed` whether we may use it and `open_to_all` whether everybody may. Without an `error` it answered.
    """

    url: str
    usual: bool = True
    there: bool = True
    allowed: bool = True
    open_to_all: bool = False
    version: str = ""
    error: str = ""


def judge_daemon(seen: Daemon) -> Iterator[Finding]:
    """Does it answer, and whom?"""
    if not seen.there and seen.usual:
        says = f"there is none at {seen.url}"
        yield unknown(
            "docker",
            says,
            "nothing, unless containers run here: then start it, name it by --docker, or mount its socket here",
        )
        return
    if seen.error:
        if seen.there and not seen.allowed:  # what we may not, registrar's user may
            do = "run as root, or as one of the group that owns the socket (in a unit: SupplementaryGroups=docker)"
            yield amber("docker", seen.error, do)
        else:
            do = "start it (systemctl start docker), or name it by --docker (DOCKER_HOST)"
            yield red("docker", seen.error, do)
        return
    yield green("docker", f"{seen.url} answers, version {seen.version or 'not told'}")
    if seen.open_to_all:
        path = seen.url.removeprefix("unix://")
        says = f"everybody here may use {path}, which is to be root"
        yield amber("docker socket", says, f"chmod o= {path}")
    elif seen.url.startswith(("tcp://", "http://")):
        says = f"{seen.url} is the network's: whoever reaches it without TLS is root here"
        yield amber("docker socket", says, "DOCKER_TLS_VERIFY=1 with certificates, or the socket of this machine")


def judge_address(host: Host, *, contained: bool = False) -> Finding:
    """What registrar publishes for a port that is bound to all addresses, by registrar's own rule. Whether one runs
    here, and what it was told, is not known. In a container (`contained`) the route may be that container's alone.
    """
    if contained and not host.advertise and not host.bridges:
        do = "run the doctor on the host itself, or mount Docker's socket here"
        return unknown("advertised address", "a container cannot tell its host's", do)
    found = on_this_host(1, host)
    if isinstance(found, Address):
        whence = "as --advertise says" if host.advertise else "as the route to etcd leaves from there"
        return green("advertised address", f"{found.host}, {whence}")
    says = f"a registrar here publishes no port that is bound to all addresses: {found.text}"
    return amber("advertised address", says.removesuffix(f": {WHAT_TO_SET}"), WHAT_TO_SET)
