"""Each option written once: its name on the command line, in the environment, its default and its help.

A program's settings are one frozen dataclass whose fields are made by `option()` and `positional()`, or are none of the
operator's business and keep their defaults; `read_settings`
fills it from the command line, then the environment, then the defaults (`ambnet.command` does so for a program with
verbs). It is read once, in `__main__`. On argparse, which costs simple-amb under a megabyte.

A settings class says in EXAMPLES what `--help` shows at its end, and a class of options that many share says in
HEADING under which title they stand there.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from ambcore.errors import ConfigError
from ambcore.text import visible
from ambcore.version import VERSION

T = TypeVar("T")


def option(
    flag: str,
    *,
    default: Any,
    help: str,  # noqa: A002 - the field's own name for it
    parse: Callable[[str], Any] = str,
    env: Sequence[str] = (),
    metavar: str | None = None,
) -> Any:
    """A field read from `flag`, else the first variable of `env` that is set and not empty, else `default`.

    A flag with one dash, as older programs have them, may be given with two.
    `parse` turns text into the value and raises ValueError with a reason fit for the operator.
    """
    spec = {"flag": flag, "help": help, "parse": parse, "env": tuple(env), "metavar": metavar}
    return dataclasses.field(default=default, metadata=spec)


def repeated(
    flag: str,
    *,
    help: str,  # noqa: A002
    parse: Callable[[str], Any] = str,
    env: Sequence[str] = (),
    metavar: str | None = None,
) -> Any:
    """A field read from `flag` as often as it is given, as a tuple; a variable holds a list with commas."""
    spec = {"flag": flag, "help": help, "parse": parse, "env": tuple(env), "metavar": metavar, "repeated": True}
    return dataclasses.field(default=(), metadata=spec)


def switch(flag: str, *, help: str) -> Any:  # noqa: A002
    """A field that is True when `flag` is given."""
    return dataclasses.field(default=False, metadata={"flag": flag, "help": help, "switch": True})


def positional(name: str, *, help: str, parse: Callable[[str], Any] = str, required: bool = True) -> Any:  # noqa: A002
    """A field for an argument; None when it is not required and was not given."""
    spec = {"name": name, "help": help, "parse": parse, "nargs": None if required else "?"}
    return dataclasses.field(metadata=spec) if required else dataclasses.field(default=None, metadata=spec)


def positionals(name: str, *, help: str, required: bool = True) -> Any:  # noqa: A002
    """A field for all remaining arguments, as a tuple of texts, at least one if `required`."""
    spec = {"name": name, "help": help, "parse": str, "nargs": "+" if required else "*"}
    return dataclasses.field(metadata=spec)


class _Help(argparse.HelpFormatter):
    """argparse's own, which leaves a text of several lines as it is."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return "\n".join(f"{indent}{line}".rstrip() for line in text.splitlines())
        return super()._fill_text(text, width, indent)


class Parser(argparse.ArgumentParser):
    """argparse with an option for each field of a settings class, whose errors are one line and name the option."""

    def __init__(self, settings: type, *, prog: str, description: str, closing: str = "", **more: Any) -> None:
        """`closing` stands at the end of the help, after the class's EXAMPLES.

        `declared` holds each field with its action, for whoever completes a command line.
        """
        examples: Sequence[str] = getattr(settings, "EXAMPLES", ())
        shown = "\n".join(["examples:", *(f"  {example}" for example in examples)]) if examples else ""
        super().__init__(
            prog=prog,
            description=description,
            epilog="\n\n".join(filter(None, (shown, closing))) or None,
            formatter_class=_Help,
            allow_abbrev=False,
            **more,
        )
        self.add_argument("--version", action="version", version=f"{prog.partition(' ')[0]} {VERSION}")
        self.declared: list[tuple[dataclasses.Field[Any], argparse.Action]] = []
        for heading, fields in grouped(settings):
            group = self.add_argument_group(heading) if heading else self
            self.declared += [(field, _declare(group, field)) for field in fields]

    def error(self, message: str) -> NoReturn:
        """Raises ConfigError, for an option that does not exist with the one that may be meant."""
        name, why = _name_and_reason(message)
        if why.startswith("unrecognized"):
            typed = name.split(" ")[0].partition("=")[0]
            why += meant(typed, (flag for _, action in self.declared for flag in action.option_strings))
        raise ConfigError(name, why)


def meant(typed: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for what is nearly one of the known names, else nothing."""
    import difflib  # noqa: PLC0415 - only for who made a mistake

    near = difflib.get_close_matches(typed, list(known), n=1)
    return f"; did you mean {visible(near[0])!r}?" if near else ""


def grouped(settings: type) -> Iterator[tuple[str, list[dataclasses.Field[Any]]]]:
    """The fields that an operator can give, under the HEADING of the class that declares them: first, under "", those
    of classes without one, then the other classes' in the order in which `settings` names them.
    """
    given = [field for field in dataclasses.fields(settings) if field.metadata]
    groups: dict[str, list[dataclasses.Field[Any]]] = {"": []}
    for each in settings.__mro__:
        own = [field for field in given if _declares(each, field)]
        groups.setdefault(each.__dict__.get("HEADING", ""), []).extend(own)
    return ((heading, fields) for heading, fields in groups.items() if fields)


def _declares(some: type, field: dataclasses.Field[Any]) -> bool:
    """Whether a class has a field, and none of its bases has this very one."""
    with_it = [each for each in some.__mro__ if each.__dict__.get("__dataclass_fields__", {}).get(field.name) is field]
    return with_it == [some]


def _name_and_reason(message: str) -> tuple[str, str]:
    """Argparse's `argument --x: why` and `the following arguments are required: X` as (option, why)."""
    if message.startswith("argument "):
        name, _, why = message.removeprefix("argument ").partition(": ")
        return name, why
    head, _, names = message.partition(": ")
    return names or "arguments", "missing" if head.endswith("are required") else head


def read_settings(
    settings: type[T],
    *,
    prog: str,
    description: str,
    argv: Sequence[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> T:
    """The settings of a program. Raises ConfigError; `--help` prints and leaves by SystemExit(0)."""
    parser = Parser(settings, prog=prog, description=description)
    given = _two_dashes(sys.argv[1:] if argv is None else argv, settings)
    return filled(settings, vars(parser.parse_args(given)), os.environ if environ is None else environ)


def filled(settings: type[T], given: Mapping[str, Any], environ: Mapping[str, str]) -> T:
    """Settings from what argparse found, the environment and the defaults. Raises ConfigError."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(settings):  # type: ignore[arg-type]
        if not (spec := field.metadata):
            continue
        text, said_by = given.get(field.name), spec.get("flag") or spec["name"]
        if text is None:
            text, said_by = _from_environment(spec.get("env", ()), environ)
        if text is None:
            values[field.name] = field.default
        elif spec.get("switch"):
            values[field.name] = text
        elif spec.get("repeated"):
            texts, parse = text.split(",") if isinstance(text, str) else text, spec["parse"]
            values[field.name] = tuple(_parsed(lambda item: parse(item.strip()), item, said_by) for item in texts)  # noqa: B023
        elif spec.get("nargs") in ("+", "*"):
            values[field.name] = tuple(text)
        else:
            values[field.name] = _parsed(spec["parse"], text, said_by)
    return settings(**values)


def _declare(parser: argparse._ActionsContainer, field: dataclasses.Field[Any]) -> argparse.Action:
    spec = field.metadata
    flag = f"--{spec['flag'].lstrip('-')}" if "flag" in spec else ""
    if not flag:
        return parser.add_argument(field.name, metavar=spec["name"], help=spec["help"], nargs=spec["nargs"])
    if spec.get("switch"):
        return parser.add_argument(flag, dest=field.name, help=spec["help"], action="store_true")
    notes = [f"default {default}"] if (default := shown_default(field)) else []
    notes += [f"environment {', '.join(spec['env'])}"] if spec["env"] else []
    text = f"{spec['help']} ({'; '.join(notes)})" if notes else spec["help"]
    metavar = spec["metavar"] or spec["flag"].lstrip("-").upper()
    action = "append" if spec.get("repeated") else "store"
    return parser.add_argument(flag, dest=field.name, help=text.replace("%", "%%"), metavar=metavar, action=action)


def shown_default(field: dataclasses.Field[Any]) -> str:
    """An option's default as an operator would type it; empty where there is none, or nothing to say about it."""
    value = field.default
    if value in (None, (), "", 0, dataclasses.MISSING):
        return ""
    if isinstance(value, float):
        return f"{value:g}"
    return ":".join(map(str, value)) if type(value) is tuple else str(value)  # a host and its port


def _two_dashes(argv: Sequence[str], settings: type) -> list[str]:
    """The arguments with `-name` as `--name`, where that is an option declared with one dash. Argparse would take any
    beginning of it, too.
    """
    old = {flag for field in dataclasses.fields(settings) if _is_old(flag := field.metadata.get("flag", ""))}
    return [f"-{argument}" if argument.partition("=")[0] in old else argument for argument in argv]


def _is_old(flag: str) -> bool:
    return flag.startswith("-") and not flag.startswith("--")


def _from_environment(names: Sequence[str], environ: Mapping[str, str]) -> tuple[str | None, str]:
    for name in names:
        if environ.get(name):
            return environ[name], name
    return None, ""


def _parsed(parse: Callable[[str], Any], text: object, said_by: str) -> Any:
    if not isinstance(text, str):  # argparse makes a list of `--option=--`
        raise ConfigError(said_by, "expected a value")
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigError(said_by, str(error)) from error


def exit_on_config_error(prog: str, main: Callable[[], int]) -> int:
    """Run a program's `main`; a ConfigError becomes one line on standard error and exit code 2.

    What standard output cannot spell, it gets as escapes, as standard error does anyway.
    """
    if reconfigure := getattr(sys.stdout, "reconfigure", None):
        reconfigure(errors="backslashreplace")
    try:
        return main()
    except ConfigError as error:
        sys.stderr.write(f"{prog}: {' '.join(str(error).split())}\n")
        return 2


def seconds(text: str) -> float:
    """A duration: a number of seconds, not negative, at most a year."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 366 * 86400:
        raise ValueError(f"expected a number of seconds, not {text!r}")
    return value


def count(text: str) -> int:
    """A whole number, 1 to a billion."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and 1 <= int(text) <= 10**9):
        raise ValueError(f"expected a whole number of at least 1, not {text!r}")
    return int(text)


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """A `parse` that takes one of a few words."""

    words: tuple[str, ...]

    def __call__(self, text: str) -> str:
        """The word; raises ValueError for another."""
        if text not in self.words:
            raise ValueError(f"expected one of {', '.join(self.words)}, not {text!r}")
        return text


def choice(*words: str) -> Choice:
    """One of a few words."""
    return Choice(words)
