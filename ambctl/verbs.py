"""ambctl's verbs. A new one is a module and a line here.

The module holds the verb's settings, a class called as the verb with a capital, which extends `Common`, and the verb's
coroutine, called as the verb: it does what was asked and returns the exit code. It raises ConfigError, RegistryError
and DockerError.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ambctl.common import PROG, Common
from ambnet.command import read_command


@dataclass(frozen=True, slots=True)
class Verb:
    """Where a verb is at home, and what it does in one line of help."""

    module: str
    help: str

    def settings(self, name: str) -> type[Common]:
        """The class of its settings; loads the module."""
        found: type[Common] = getattr(importlib.import_module(self.module), name.capitalize())
        return found

    def run(self, name: str) -> Callable[[Any], Awaitable[int]]:
        """Its coroutine; loads the module."""
        found: Callable[[Any], Awaitable[int]] = getattr(importlib.import_module(self.module), name)
        return found


VERBS: Mapping[str, Verb] = {
    "ls": Verb("ambctl.ls", "list every record, the refused ones with the reason"),
    "show": Verb("ambctl.show", "show everything about a service"),
    "watch": Verb("ambctl.watch", "say what there is, then every change, until interrupted"),
    "top": Verb("ambctl.top", "show what services and instances carry now, the busiest first"),
    "explain": Verb("ambctl.explain.verb", "say why a service, an instance or a container is reached, or is not"),
    "doctor": Verb("ambctl.doctor", "check the whole chain from this machine: what is wrong, and what to do"),
    "ui": Verb("ambctl.ui", "serve a page that shows the fleet and follows it"),
    "put": Verb("ambctl.put", "write a record by hand"),
    "rm": Verb("ambctl.rm", "remove a record"),
    "drain": Verb("ambctl.drain", "give an instance, or all of a host, no new connections"),
    "undrain": Verb("ambctl.drain", "let them have new connections again"),
    "drains": Verb("ambctl.drain", "list what operators drained"),
    "env": Verb("ambctl.env", "print link variables for docker run --env-file"),
    "sd": Verb("ambctl.sd", "print what Prometheus shall scrape"),
    "completion": Verb("ambctl.completion", "print a script by which a shell completes all this"),
}

DESCRIPTION = "See what is registered in etcd, ask why something is as it is, and change it."

EXIT_CODES = """\
exit codes:
  0    done, and all is well
  1    it is not so: what was asked for does not exist, or is not well
  2    wrong arguments
  3    could not be asked: etcd, Docker or a program did not answer, or refused to
  130  interrupted
  141  nobody reads the output any more"""


def read(argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> tuple[str, Common]:
    """The verb that was typed and its settings; raises ConfigError naming what is wrong."""
    return read_command(
        {name: verb.help for name, verb in VERBS.items()},
        lambda name: VERBS[name].settings(name),
        Common,
        prog=PROG,
        description=DESCRIPTION,
        closing=EXIT_CODES,
        argv=argv,
        environ=environ,
    )


async def perform(name: str, settings: Common) -> int:
    """Do what was asked; returns the exit code. Raises RegistryError, DockerError and ConfigError."""
    return await VERBS[name].run(name)(settings)
