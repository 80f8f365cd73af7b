"""Pages whose commands are run: `sh` blocks, and what one prints in the `text` block right below it.

    ```sh
    docker start web-1
    ```

    ```text
    web-1
    ```

Of what is printed, `…` stands for anything within its line, and a line of nothing else for any number of lines. How
wide a gap between words is does not matter: columns are as wide as what is in them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$\n*", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """Commands of a shell, and what they print in the end; None: that does not matter."""

    commands: str
    printed: str | None = None


def blocks(text: str) -> tuple[Block, ...]:
    """The commands of a page, or of a part of one, in their order."""
    found: list[Block] = []
    end_of_commands = -1
    for fence in FENCE.finditer(text):
        if fence[1] == "sh":
            found.append(Block(fence[2]))
            end_of_commands = fence.end()
        elif fence[1] == "text" and fence.start() == end_of_commands:
            found[-1] = Block(found[-1].commands, fence[2])
    return tuple(found)


def fits(printed: str, expected: str, replaced: Mapping[str, str]) -> bool:
    """Whether a command printed what its page shows, with what `replaced` names exchanged for what is real here."""
    for documented, real in replaced.items():
        expected = expected.replace(documented, real)
    lines = [" ".join(line.split()) for line in expected.strip("\n").splitlines()]
    pattern = "".join(
        "(?:.*\n)*" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + "\n" for line in lines
    )
    shown = "".join(f"{' '.join(line.split())}\n" for line in printed.strip("\n").splitlines())
    return re.fullmatch(pattern, shown) is not None
