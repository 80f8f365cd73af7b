"""`ambctl completion SHELL`: what a shell needs to complete ambctl's verbs and options."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from ambctl.common import DONE, PROG, Common, print_lines
from ambctl.verbs import VERBS
from ambnet.command import verb_parser
from ambnet.options import Choice, Parser, choice, positional

SHELLS = ("bash", "zsh", "tcsh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion(Common):
    """Print a script that completes ambctl's verbs and options, for one of bash, zsh and tcsh."""

    EXAMPLES = (
        'eval "$(ambctl completion bash)"',
        "ambctl completion zsh > /usr/local/share/zsh/site-functions/_ambctl",
    )

    shell: str = positional("SHELL", help=f"one of {', '.join(SHELLS)}", parse=choice(*SHELLS))


async def completion(settings: Completion) -> int:
    """Print the script."""
    import shtab  # noqa: PLC0415 - nobody else needs it

    print_lines([shtab.complete(every_verb(), settings.shell)])
    return DONE


def every_verb() -> argparse.ArgumentParser:
    """One parser of all verbs with all their options, as argparse knows programs with verbs. Loads them all."""
    parser = Parser(Common, prog=PROG, description="")
    below = parser.add_subparsers(dest="verb", metavar="VERB", parser_class=argparse.ArgumentParser)
    for name, verb in VERBS.items():
        full = verb_parser(verb.settings(name), prog=f"{PROG} {name}")
        _offer_values(full)
        below.add_parser(name, help=verb.help, description=verb.help, parents=[full], add_help=False)
    _offer_values(parser)
    return parser


def _offer_values(parser: Parser) -> None:
    """Say what an option's value may be, as shtab reads it: one of some words, or a file."""
    import shtab  # noqa: PLC0415

    for field, action in parser.declared:
        parse = field.metadata.get("parse")
        if isinstance(parse, Choice):
            action.choices = parse.words
        elif action.metavar == "FILE":
            action.complete = shtab.FILE  # type: ignore[attr-defined]
