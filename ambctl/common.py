"""What every verb shares: its options, its patience with etcd, and how it prints."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ambcore.admission import Admission, IPNetwork, parse_networks
from ambcore.errors import ConfigError, RegistryUnavailableError
from ambcore.table import Reader
from ambctl.paper import Paper, paper
from ambnet.etcd.options import EtcdOptions
from ambnet.fleet_options import FleetOptions
from ambnet.log import log_option
from ambnet.options import choice, option, seconds, switch

if TYPE_CHECKING:
    from ambnet.etcd import Etcd

PROG = "ambctl"

# Exit codes, as `ambctl --help` says.
DONE = 0
NOT_SO = 1  # what was asked for does not exist, or is not well
NOT_ASKED = 3  # who could tell did not answer; 2 is for wrong arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class Common(EtcdOptions, FleetOptions):
    """What every verb understands."""

    HEADING = "options of every verb"

    json: bool = switch("--json", help="write JSON: one document, or one a line for what goes on")
    color: str = option(
        "--color",
        default="auto",
        help="colours: always, never, or auto: on a terminal, unless NO_COLOR or TERM=dumb say no",
        parse=choice("auto", "always", "never"),
        metavar="WHEN",
    )
    timeout: float = option(
        "--timeout",
        default=5.0,
        help="give up after so long without etcd",
        parse=seconds,
        env=["AMB_TIMEOUT"],
        metavar="SECONDS",
    )
    instances_in: tuple[IPNetwork, ...] = option(
        "--instances-in",
        default=(),
        help="networks that the proxies accept instances in, as they were told",
        parse=parse_networks,
        env=["AMB_INSTANCES_IN"],
        metavar="CIDR[,CIDR…]",
    )
    # What goes wrong for good is said by ambctl itself, in one line.
    log_level: str = log_option("error")

    @property
    def reader(self) -> Reader:
        """Reads records as a proxy with the same options does."""
        return Reader(self.prefix, Admission(self.instances_in))

    @property
    def paper(self) -> Paper:
        """What standard output is written on."""
        if sys.stdout is None:
            return Paper()
        terminal = sys.stdout.isatty()
        columns = shutil.get_terminal_size().columns if terminal else 0
        return paper(self.color, os.environ, terminal=terminal, columns=columns, encoding=sys.stdout.encoding)


@contextlib.asynccontextmanager
async def patience(settings: Common, etcd: Etcd) -> AsyncIterator[None]:
    """Raises RegistryUnavailableError, naming the member, when it fails or takes longer than the operator waits."""
    try:
        async with asyncio.timeout(settings.timeout):
            yield
    except RegistryUnavailableError as error:
        raise RegistryUnavailableError(etcd.last_error or str(error)) from error
    except TimeoutError as error:
        why = etcd.last_error or f"{etcd.endpoint}: no answer"
        raise RegistryUnavailableError(f"{why} (waited {settings.timeout:g} s)") from error


def print_lines(lines: Iterable[str]) -> None:
    """Lines on standard output, at once; whatever they quote of others has to be printable.

    Raises BrokenPipeError when nobody reads it, ConfigError when it cannot be written for another reason.
    """
    if sys.stdout is None:
        raise ConfigError("standard output", "it is closed")
    try:
        for line in lines:
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        drop_output()
        raise
    except OSError as error:
        drop_output()
        raise ConfigError("standard output", str(error.strerror)) from error


def drop_output() -> None:
    """What is still buffered has nowhere to go; Python would complain about it at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_json(document: Mapping[str, Any] | list[Any]) -> None:
    """One document on standard output."""
    print_lines([json.dumps(document, indent=2)])


def complain(text: str) -> None:
    """One line on standard error; what it quotes of others has to be printable."""
    sys.stderr.write(f"{PROG}: {text}\n")
