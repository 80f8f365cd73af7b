"""Options: one declaration, three sources, errors in one line that name the option."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest

from ambcore.errors import ConfigError
from ambcore.model import parse_port
from ambcore.version import VERSION
from ambnet.command import read_command
from ambnet.options import (
    choice,
    count,
    exit_on_config_error,
    option,
    positional,
    positionals,
    read_settings,
    repeated,
    seconds,
    switch,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """Options of every verb."""

    park: float = option("--park", default=10.0, help="how long", parse=seconds, env=["AMB_PARK", "OLD_PARK"])
    loud: bool = switch("--loud", help="say more")
    name: str | None = option("--name", default=None, help="100 % yours")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Common):
    """A program's settings."""

    port: int = positional("PORT", help="a port", parse=parse_port)
    more: tuple[str, ...] = positionals("TARGET", help="where to")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look(Common):
    """look at something"""

    what: str | None = positional("WHAT", help="what to look at", parse=str.upper, required=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Take(Common):
    """take something"""

    what: str = positional("WHAT", help="what to take")
    weight: int = option("--weight", default=1, help="how much", parse=count, env=["AMB_WEIGHT"])


def read(argv: Sequence[str], environ: Mapping[str, str] | None = None) -> Settings:
    return read_settings(Settings, prog="x", description="X.", argv=argv, environ=environ or {})


def command(*argv: str, environ: Mapping[str, str] | None = None) -> Common:
    verbs: dict[str, type[Common]] = {"look": Look, "take": Take}
    helps = {verb: settings.__doc__ or "" for verb, settings in verbs.items()}
    verb, settings = read_command(
        helps, verbs.__getitem__, Common, prog="x", description="X.", argv=argv, environ=environ or {}
    )
    assert type(settings) is verbs[verb]
    return settings


@pytest.mark.parametrize(
    ("argv", "environ", "park"),
    [
        ([], {}, 10.0),
        ([], {"AMB_PARK": ""}, 10.0),
        ([], {"AMB_PARK": "5"}, 5.0),
        ([], {"OLD_PARK": "6"}, 6.0),
        ([], {"AMB_PARK": "5", "OLD_PARK": "6"}, 5.0),
        ([], {"AMB_PARK": "", "OLD_PARK": "6"}, 6.0),
        (["--park", "2"], {"AMB_PARK": "5"}, 2.0),
        (["--park=2"], {"AMB_PARK": "not looked at"}, 2.0),
        (["--park", "1", "--park", "2"], {}, 2.0),
    ],
)
def test_the_command_line_beats_the_environment_beats_the_default(
    argv: list[str], environ: dict[str, str], park: float
) -> None:
    assert read([*argv, "80", "a"], environ).park == park


def test_every_kind_of_field_is_filled() -> None:
    settings = read(["--loud", "80", "a", "b", "--name", "n"])
    assert settings == Settings(loud=True, port=80, more=("a", "b"), name="n")
    assert read(["80", "a"]) == Settings(port=80, more=("a",))


@pytest.mark.parametrize(
    ("argv", "environ", "name"),
    [
        (["80"], {}, "TARGET"),
        ([], {}, "PORT, TARGET"),
        (["http", "a"], {}, "PORT"),
        (["80", "a", "--park", "x"], {}, "--park"),
        (["80", "a", "--park", "nan"], {}, "--park"),
        (["80", "a", "--park"], {}, "--park"),
        (["80", "a"], {"AMB_PARK": "x"}, "AMB_PARK"),
        (["80", "a"], {"OLD_PARK": "x"}, "OLD_PARK"),
        (["80", "a", "--par", "1"], {}, "--par"),
        (["80", "a", "--unknown"], {}, "--unknown"),
        (["80", "a", "--loud=yes"], {}, "--loud"),
    ],
)
def test_what_is_wrong_is_named_as_the_operator_typed_it(argv: list[str], environ: dict[str, str], name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(argv, environ)
    assert caught.value.option.startswith(name)


def test_a_configuration_error_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        raise ConfigError("--park", "no\n  good")

    assert exit_on_config_error("dynproxy", main) == 2
    assert capsys.readouterr().err == "dynproxy: --park: no good\n"
    assert exit_on_config_error("dynproxy", lambda: 7) == 7


def test_help_names_the_default_and_the_variables(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        read(["--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "how long (default 10; environment AMB_PARK, OLD_PARK)" in text
    assert "100 % yours" in text


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Options that many share."""

    HEADING = "elsewhere"

    far: str | None = option("--far", default=None, help="far away")
    near: str | None = option("--near", default=None, help="not far")


@dataclass(frozen=True, kw_only=True)
class Whole(Elsewhere):
    """A program's settings."""

    EXAMPLES = ("x --loud 100%", "x --far it")

    loud: bool = switch("--loud", help="say more")
    near: str | None = option("--near", default=None, help="as we mean it")


def help_of(settings: type, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        read_settings(settings, prog="x", description="X.", argv=["--help"], environ={})
    return capsys.readouterr().out


def test_help_has_headings_and_ends_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """An option that a program declares anew is the program's own."""
    own, elsewhere, examples = help_of(Whole, capsys).replace("\n\nexamples:", "\n\nelsewhere:").split("elsewhere:\n")
    assert "--loud" in own
    assert "as we mean it" in own
    assert "--far" in elsewhere
    assert "--near" not in elsewhere
    assert examples == "  x --loud 100%\n  x --far it\n"


def test_every_program_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        read(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"x {VERSION}\n"


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (["--lout"], "; did you mean '--loud'?"),
        (["--fra=1"], "; did you mean '--far'?"),
        (["--something", "else"], ""),
    ],
)
def test_who_mistypes_an_option_is_told_the_near_one(argv: list[str], hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings(Whole, prog="x", description="X.", argv=argv, environ={})
    assert str(caught.value).endswith(f"unrecognized arguments{hint}")


# Verbs


@pytest.mark.parametrize(
    ("argv", "settings"),
    [
        (["look"], Look()),
        (["look", "here"], Look(what="HERE")),
        (["take", "it"], Take(what="it")),
        (["take", "it", "--weight", "3"], Take(what="it", weight=3)),
        (["--park", "2", "take", "it"], Take(what="it", park=2.0)),
        (["take", "it", "--park", "2"], Take(what="it", park=2.0)),
        (["--park", "1", "take", "--park", "2", "it"], Take(what="it", park=2.0)),
        (["--loud", "look"], Look(loud=True)),
        (["look", "--loud"], Look(loud=True)),
    ],
)
def test_common_options_stand_before_or_after_the_verb(argv: list[str], settings: Common) -> None:
    assert command(*argv) == settings


def test_a_verbs_options_come_from_the_environment_too() -> None:
    assert command("take", "it", environ={"AMB_WEIGHT": "4", "AMB_PARK": "1"}) == Take(what="it", weight=4, park=1.0)


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        ([], "VERB"),
        (["give"], "VERB"),
        (["take"], "WHAT"),
        (["look", "--weight", "3"], "--weight"),
        (["take", "it", "--weight", "0"], "--weight"),
        (["look", "here", "there"], "there"),
    ],
)
def test_a_wrong_command_is_named(argv: list[str], name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        command(*argv)
    assert name in caught.value.option


def test_who_mistypes_a_verb_is_told_the_near_one() -> None:
    with pytest.raises(ConfigError, match=r"there is no 'taek'; did you mean 'take'\?; x --help lists them"):
        command("taek")
    with pytest.raises(ConfigError, match=r"there is no '\\\\x1b\[2J'; x --help"):
        command("\x1b[2J")


def test_help_lists_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "look look at something take take something" in text


# Values


@pytest.mark.parametrize(("text", "value"), [("0", 0.0), ("2.5", 2.5), ("1e3", 1000.0), ("31622400", 31622400.0)])
def test_seconds_are_a_number(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "-1", "nan", "inf", "1e9", "5s", "one"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a number of seconds"):
        seconds(text)


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("007", 7), ("1000000000", 10**9)])
def test_a_count_is_a_whole_number(text: str, value: int) -> None:
    assert count(text) == value


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "1.5", "1000000001", "9" * 5000, "0" * 11 + "1" * 5000, "\u0663", "\u00b2"]
)
def test_other_counts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a whole number"):
        count(text)


def test_a_choice_is_one_of_its_words() -> None:
    parse = choice("auto", "relay")
    assert parse("relay") == "relay"
    for text in ("", "Auto", "auto "):
        with pytest.raises(ValueError, match="expected one of auto, relay"):
            parse(text)


@dataclass(frozen=True, kw_only=True)
class Old:
    """Options with one dash, and one that is given several times."""

    names: tuple[int, ...] = repeated("-name", help="ports", parse=parse_port, env=["NAMES"])
    loud: bool = switch("-loud", help="say more")


@pytest.mark.parametrize(
    ("argv", "environ", "names"),
    [
        ([], {}, ()),
        (["-name", "1", "--name", "2", "-name=3", "--name=4"], {"NAMES": "5"}, (1, 2, 3, 4)),
        ([], {"NAMES": "5, 6"}, (5, 6)),
    ],
)
def test_an_option_with_one_dash_takes_two_and_may_come_several_times(
    argv: list[str], environ: Mapping[str, str], names: tuple[int, ...]
) -> None:
    for loud in ([], ["-loud"], ["--loud"]):
        settings = read_settings(Old, prog="x", description="X.", argv=[*argv, *loud], environ=environ)
        assert (settings.names, settings.loud) == (names, bool(loud))


def test_each_of_several_values_is_read_with_care() -> None:
    with pytest.raises(ConfigError, match=r"^-name: a port is a number"):
        read_settings(Old, prog="x", description="X.", argv=["-name", "1", "-name", "x"], environ={})


@pytest.mark.parametrize("argv", [["-nam", "1"], ["-n", "1"], ["-lou"]])
def test_the_beginning_of_an_option_is_not_the_option(argv: list[str]) -> None:
    with pytest.raises(ConfigError, match="unrecognized"):
        read_settings(Old, prog="x", description="X.", argv=argv, environ={})
