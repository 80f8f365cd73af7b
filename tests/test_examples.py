"""Every program tells its version, and the examples of its help are command lines that it takes."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any

import pytest

from ambcore.version import VERSION
from ambctl.verbs import VERBS
from ambctl.verbs import read as ambctl
from dynproxy.config import Settings as Dynproxy
from dynproxy.config import read as dynproxy
from dynproxy.grand import GrandSettings
from dynproxy.grand import read as grand_ambassador
from registrar.config import Settings as Registrar
from registrar.config import read as registrar
from simple_amb.config import Settings as SimpleAmb
from simple_amb.config import read as simple_amb

READERS: Mapping[str, Callable[[Sequence[str], Mapping[str, str]], Any]] = {
    "ambctl": ambctl,
    "dynproxy": dynproxy,
    "grand-ambassador": grand_ambassador,
    "registrar": registrar,
    "simple-amb": simple_amb,
}
MODULES = ("ambctl", "dynproxy", "dynproxy.grand", "registrar", "simple_amb")


def examples() -> Iterator[str]:
    """Of every program, and of every verb."""
    for settings in (Dynproxy, GrandSettings, Registrar, SimpleAmb, *(VERBS[verb].settings(verb) for verb in VERBS)):
        # What others do with the output is none of a program's own examples.
        yield from (each for each in settings.EXAMPLES if command_of(each)[1] in READERS)  # type: ignore[attr-defined]


def command_of(example: str) -> tuple[dict[str, str], str, list[str]]:
    """What a shell would make of an example: variables, program, arguments; a pipe or a redirection ends them."""
    inner = example.removeprefix('eval "$(').removesuffix(')"')
    words = list(takewhile(lambda word: word not in {"|", ">"}, shlex.split(inner, comments=True)))
    variables = list(takewhile(lambda word: "=" in word, words))
    return dict(each.split("=", 1) for each in variables), words[len(variables)], words[len(variables) + 1 :]


@pytest.mark.parametrize("example", list(examples()))
def test_an_example_is_a_command_line_that_its_program_takes(example: str) -> None:
    variables, program, arguments = command_of(example)
    READERS[program](arguments, variables)


@pytest.mark.parametrize("module", MODULES)
def test_every_program_tells_its_version(module: str) -> None:
    command = [sys.executable, "-m", module, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split()[1:] == [VERSION]
