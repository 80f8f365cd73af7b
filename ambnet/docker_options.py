"""The options by which a program finds its Docker daemon. Without the SDK, which is loaded only by whoever speaks."""

from __future__ import annotations

from dataclasses import dataclass

from ambnet.options import option, seconds

DEFAULT_URL = "unix:///var/run/docker.sock"
MIN_RESYNC = 1.0  # seconds; below this the daemon would be asked more often than events come


@dataclass(frozen=True, slots=True)
class Tls:
    """How to speak TLS with a daemon: paths of PEM files. Without `ca` it is not asked who it is."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None


def parse_docker_url(text: str) -> str:
    """A daemon's URL as in DOCKER_HOST; raises ValueError."""
    scheme, slashes, rest = text.partition("://")
    if scheme not in ("unix", "tcp", "http", "https") or not slashes or not rest:
        raise ValueError(f"expected unix://PATH or tcp://HOST:PORT, not {text!r}")
    return text


def parse_resync(text: str) -> float:
    """Seconds between two looks at everything; raises ValueError."""
    value = seconds(text)
    if value < MIN_RESYNC:
        raise ValueError(f"expected at least {MIN_RESYNC:g} second, not {text!r}")
    return value


@dataclass(frozen=True, kw_only=True)
class DockerOptions:
    """Which daemon, and how often to look whatever it says."""

    HEADING = "Docker"

    docker: str = option(
        "--docker",
        default=DEFAULT_URL,
        help="the Docker daemon",
        parse=parse_docker_url,
        env=["DOCKER_HOST"],
        metavar="URL",
    )
    resync: float = option(
        "--resync",
        default=30.0,
        help="look at containers this often, whatever the events say",
        parse=parse_resync,
        env=["AMB_RESYNC"],
        metavar="SECONDS",
    )

    @property
    def docker_tls(self) -> Tls | None:
        """None: as the Docker CLI's variables say."""
        return None
