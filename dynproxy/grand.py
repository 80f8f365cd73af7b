"""`grand-ambassador -name CONTAINER`: `dynproxy --container NAME` with docker-grand-ambassador's command line.

Options have one dash or two, and switches may be given as `-tls=true`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ambcore.admission import IPNetwork
from ambcore.errors import ConfigError
from ambcore.fleet import DEFAULT_FLEET
from ambcore.schema import DEFAULT_PREFIX
from ambnet.docker_options import DEFAULT_URL, Tls
from ambnet.log import LEVELS
from ambnet.options import exit_on_config_error, option, read_settings, repeated, switch
from dynproxy.__main__ import run_with
from dynproxy.config import Settings, parse_container

PROG = "grand-ambassador"
DESCRIPTION = "Ambassador for containers of this host: listens on every port that they expose, wherever they are now."

SWITCHES = ("tls", "tlsverify", "wait")
WORDS: Mapping[str, bool] = {  # what Go's flag package takes for a boolean
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}
LEVEL_NAMES = {**dict.fromkeys(LEVELS), "warn": "warning", "fatal": "error", "panic": "error"}


def parse_sock(text: str) -> str:
    """A path, or unix://PATH or tcp://HOST:PORT, as a URL; raises ValueError."""
    scheme, slashes, rest = text.partition("://")
    if not slashes and text:
        return f"unix://{text}"
    if scheme not in ("unix", "tcp", "http", "https") or not rest:
        raise ValueError(f"expected a path, unix://PATH or tcp://HOST:PORT, not {text!r}")
    return text


def parse_level(text: str) -> str:
    """One of our levels, also by its other names; raises ValueError."""
    if text not in LEVEL_NAMES:
        raise ValueError(f"expected one of {', '.join(LEVEL_NAMES)}, not {text!r}")
    return LEVEL_NAMES[text] or text


@dataclass(frozen=True, kw_only=True)
class GrandSettings(Settings):
    """The original's options, and dynproxy's own, but for those that only a registry or a link needs."""

    EXAMPLES = (
        "grand-ambassador -name redis-demo",
        "grand-ambassador -name redis-demo -name web -sock /run/docker.sock",
    )

    services: tuple[str, ...] = ()
    links: bool = False
    etcd: str | None = None
    etcd_ca: str | None = None
    etcd_cert: str | None = None
    etcd_key: str | None = None
    etcd_user: str | None = None
    etcd_password_file: str | None = None
    prefix: str = DEFAULT_PREFIX
    fleet_prefix: str = DEFAULT_FLEET
    announce: str = "no"
    relist: float = 300.0
    instances_in: tuple[IPNetwork, ...] = ()
    containers: tuple[str, ...] = repeated(
        "-name",
        help="name or id of a container to stand for, which need not exist yet; several times",
        parse=parse_container,
        metavar="CONTAINER",
    )
    docker: str = option(
        "-sock", default=DEFAULT_URL, help="the Docker daemon: a path, or tcp://HOST:PORT", parse=parse_sock
    )
    tls: bool = switch("-tls", help="speak TLS with the daemon")
    tlsverify: bool = switch("-tlsverify", help="speak TLS, and make sure that it is the daemon")
    tlscacert: str | None = option("-tlscacert", default=None, help="CA certificates; default: ~/.docker/ca.pem")
    tlscert: str | None = option("-tlscert", default=None, help="our certificate; default: ~/.docker/cert.pem")
    tlskey: str | None = option("-tlskey", default=None, help="its key; default: ~/.docker/key.pem")
    wait: bool = switch("-wait", help="it always waits for containers that do not exist yet")
    log_level: str = option(
        "-log-level", default="info", help=f"one of {', '.join(LEVEL_NAMES)}", parse=parse_level, env=["AMB_LOG_LEVEL"]
    )

    @property
    def docker_tls(self) -> Tls | None:
        """What the options say; None where they ask for no TLS."""
        if not (self.tls or self.tlsverify) or self.docker.startswith("unix://"):
            return None
        return Tls(self.tlscacert if self.tlsverify else None, self.tlscert, self.tlskey)


def read(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> GrandSettings:
    """The settings of this run; raises ConfigError naming the option that is wrong."""
    arguments = tuple(_plain(sys.argv[1:] if argv is None else argv))
    settings = read_settings(GrandSettings, prog=PROG, description=DESCRIPTION, argv=arguments, environ=environ)
    if not settings.containers and not settings.cleanup:
        raise ConfigError("-name", "missing: which container shall clients reach?")
    return _with_files(settings, environ)


def _plain(argv: Sequence[str]) -> Iterator[str]:
    """The arguments with `-tls=true` as `-tls`, and without `-tls=false`."""
    for argument in argv:
        flag, equals, word = argument.partition("=")
        if not equals or flag.lstrip("-") not in SWITCHES:
            yield argument
        elif word not in WORDS:
            raise ConfigError(flag, f"expected true or false, not {word!r}")
        elif WORDS[word]:
            yield flag


def _with_files(settings: GrandSettings, environ: Mapping[str, str]) -> GrandSettings:
    """The settings with the files that TLS needs, from their usual place unless named; ours need not exist there."""
    if settings.docker_tls is None:
        return settings
    usual = Path(environ.get("DOCKER_CERT_PATH") or Path(environ.get("HOME") or "/root") / ".docker")
    ca, cert, key = (
        getattr(settings, name) or str(usual / file)
        for name, file in (("tlscacert", "ca.pem"), ("tlscert", "cert.pem"), ("tlskey", "key.pem"))
    )
    ours = any(map(_is_there, (cert, key))) or settings.tlscert or settings.tlskey
    for flag, path, needed in (
        ("-tlscacert", ca, settings.tlsverify),
        ("-tlscert", cert, ours),
        ("-tlskey", key, ours),
    ):
        if needed and not _is_there(path):
            raise ConfigError(flag, f"there is no file {path}")
    return replace(settings, tlscacert=ca, tlscert=cert if ours else None, tlskey=key if ours else None)


def _is_there(path: str) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - Path raises where a folder may not be entered


def main() -> int:
    """Run grand-ambassador with the process's arguments; returns its exit code."""

    def start() -> int:
        settings = read()
        path = settings.docker.removeprefix("unix://")
        if path != settings.docker and not os.path.exists(path):  # noqa: PTH110 - likewise
            hint = f"grand-ambassador: there is no {path} (yet): in a container, run it with -v {path}:{path}\n"
            sys.stderr.write(hint)
        return run_with(settings)

    return exit_on_config_error(PROG, start)


if __name__ == "__main__":
    sys.exit(main())
