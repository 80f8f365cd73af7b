"""The command line of a program with verbs: `ambctl VERB …`.

Only the verb that was typed is loaded: the others are a name and a line of help.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from ambcore.errors import ConfigError
from ambcore.text import visible
from ambnet.options import Parser, filled, meant

T = TypeVar("T")


def read_command(
    verbs: Mapping[str, str],
    load: Callable[[str], type[T]],
    common: type,
    *,
    prog: str,
    description: str,
    closing: str = "",
    argv: Sequence[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> tuple[str, T]:
    """The verb that was given and its settings; otherwise like `read_settings`.

    `verbs` are names with a line of help; `load` gives a verb's class, which extends `common`, whose options may stand
    before the verb or after it; the later one counts. A class's docstring describes its verb.
    """
    width = max(map(len, verbs))
    listed = "\n".join(f"  {verb.ljust(width)}  {text}" for verb, text in verbs.items())
    parser = Parser(
        common,
        prog=prog,
        description=f"{description}\n\nverbs, each with a --help of its own:\n{listed}",
        usage=f"{prog} [OPTION…] VERB …",
        closing=closing,
    )
    parser.add_argument("rest", nargs=argparse.PARSER, metavar="VERB", help=argparse.SUPPRESS)
    given = vars(parser.parse_args(argv))
    verb, *rest = given.pop("rest")
    if verb not in verbs:
        raise ConfigError("VERB", f"there is no {visible(verb)!r}{meant(verb, verbs)}; {prog} --help lists them")
    settings = load(verb)
    below = verb_parser(settings, prog=f"{prog} {verb}", argument_default=argparse.SUPPRESS)
    # Absent defaults leave standing what was said before the verb.
    given |= vars(below.parse_args(rest))
    return verb, filled(settings, given, os.environ if environ is None else environ)


def verb_parser(settings: type, *, prog: str, argument_default: object = None) -> Parser:
    """The parser of one verb."""
    description = " ".join((settings.__doc__ or "").split())
    return Parser(settings, prog=prog, description=description, argument_default=argument_default)
