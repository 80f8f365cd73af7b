"""Console blocks of a document: commands behind a host's prompt, and below each what it prints.

    ```console
    host-b$ docker run --rm --link redis_ambassador:redis \\
        redis redis-cli -h redis ping
    PONG
    ```

Of what is printed, `…` stands for anything within its line. A command without output below it may print what it likes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.hosts.machine import Machine
from tests.support.waiting import eventually

PROMPT = re.compile(r"(\S+)\$ (.*)")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SECONDS = 40  # for a command to print what it should: containers start in any order, and two cores have much to do


@dataclass(frozen=True, slots=True)
class Step:
    """A command, where to run it, and the lines that it prints in the end."""

    host: str
    command: str
    printed: tuple[str, ...] = ()


def sections(document: str) -> Mapping[str, str]:
    """The text of each `## ` section by its title."""
    parts = re.split(r"^## (.*)\n", document, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def steps(text: str, language: str = "console") -> list[Step]:
    """The steps of all blocks of a language; raises ValueError for a line before the first prompt."""
    found: list[Step] = []
    for kind, body in BLOCK.findall(text):
        if kind != language:
            continue
        for line in body.replace("\\\n", "").splitlines():
            if prompt := PROMPT.fullmatch(line):
                found.append(Step(prompt[1], " ".join(prompt[2].split())))
            elif found:
                found[-1] = Step(found[-1].host, found[-1].command, (*found[-1].printed, line))
            else:
                raise ValueError(f"output of no command: {line!r}")
    return found


def perform(step: Step, machines: Mapping[str, Machine], addresses: Mapping[str, str]) -> None:
    """Run a step's command where it belongs, the document's addresses replaced by real ones.

    One that prints something is asked again until it does: a person would, too.
    """
    machine = machines[step.host]
    command = _replaced(step.command, addresses)
    if not step.printed:
        machine.run("sh", "-c", command)
        return
    expected = re.compile("\n".join(".*".join(map(re.escape, line.split("…"))) for line in _real(step, addresses)))

    def prints() -> bool:
        printed = machine.run("sh", "-c", command)
        assert expected.fullmatch(printed), f"it prints {printed!r}"
        return True

    eventually(prints, SECONDS, f"{step.host}$ {command}")


def _real(step: Step, addresses: Mapping[str, str]) -> Sequence[str]:
    return [_replaced(line, addresses) for line in step.printed]


def _replaced(text: str, addresses: Mapping[str, str]) -> str:
    for documented, real in addresses.items():
        text = text.replace(documented, real)
    return text
