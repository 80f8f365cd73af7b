"""Labels and variables by registrator's conventions: what counts when two say different things, and tags."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambcore.registration.metadata import Metadata, metadata, split_tags


def said(*variables: str, port: int = 80, **labels: str) -> Metadata:
    return metadata({"Env": list(variables), "Labels": labels}, port)


def test_pain_19_what_has_a_meaning_is_read_and_the_rest_is_an_attribute() -> None:
    found = said(
        *("SERVICE_NAME=web", "SERVICE_TAGS=a,b", "SERVICE_ID=one", "SERVICE_REGION=us-east", "PATH=/bin"),
        SERVICE_Check_HTTP="/health",
        com_example="x",
    )
    assert (found.name, found.tags, found.id, found.ignored) == ("web", ("a", "b"), "one", False)
    assert found.attributes == (("check_http", "/health"), ("region", "us-east"))


GENERAL_ENV, GENERAL_LABEL = "SERVICE_NAME=general-env", {"SERVICE_NAME": "general-label"}
PORT_ENV, PORT_LABEL = "SERVICE_80_NAME=port-env", {"SERVICE_80_NAME": "port-label"}


@pytest.mark.parametrize(
    ("variables", "labels", "name", "own"),
    [
        ([GENERAL_ENV], {}, "general-env", False),
        ([GENERAL_ENV], GENERAL_LABEL, "general-label", False),
        ([GENERAL_ENV, PORT_ENV], GENERAL_LABEL, "port-env", True),
        ([PORT_ENV, GENERAL_ENV], GENERAL_LABEL, "port-env", True),
        ([GENERAL_ENV, PORT_ENV], GENERAL_LABEL | PORT_LABEL, "port-label", True),
        (["SERVICE_443_NAME=other"], {}, "", False),
        (["SERVICE_80_NAME=", GENERAL_ENV], {}, "", False),
    ],
)
def test_the_port_beats_the_general_and_the_label_the_variable(
    variables: list[str], labels: dict[str, str], name: str, own: bool
) -> None:
    found = metadata({"Env": variables, "Labels": labels}, 80)
    assert (found.name, found.own_name) == (name, own)


@pytest.mark.parametrize("value", ["true", "1", "false", "no", " "])
def test_whatever_ignore_says_it_ignores_unless_it_is_empty(value: str) -> None:
    """`false`, too: registrator reads it so, and who comes from there has it so in his labels."""
    assert said(f"SERVICE_IGNORE={value}").ignored
    assert not said("SERVICE_IGNORE=").ignored
    assert not said(f"SERVICE_IGNORE={value}", "SERVICE_80_IGNORE=").ignored
    assert not said(f"SERVICE_443_IGNORE={value}").ignored


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("", ()),
        ("foobar", ("foobar",)),
        ("foo,bar", ("foo", "bar")),
        (r"foo\,bar", ("foo,bar",)),
        (r"foo,bar\,baz", ("foo", "bar,baz")),
        (r"\,foobar\,", (",foobar,",)),
        (",,,,foo,,,bar,,,", ("foo", "bar")),
        (",,,,", ()),
        (r",,\,,", (",",)),
        ("a,b,a", ("a", "b")),
    ],
)
def test_tags_are_split_at_commas_that_are_not_escaped(text: str, tags: tuple[str, ...]) -> None:
    """The cases of registrator's own tests, and equal ones once."""
    assert split_tags(text) == tags


texts = st.text(st.characters(exclude_characters="\\", exclude_categories=["Cs"]), min_size=1)


@given(st.lists(texts, unique=True))
def test_tags_that_were_escaped_come_back(tags: list[str]) -> None:
    assert split_tags(",".join(tag.replace(",", r"\,") for tag in tags)) == tuple(tags)


keys = st.sampled_from(["NAME", "TAGS", "ID", "IGNORE", "REGION", "80_NAME", "80_REGION", "443_NAME", "80", "x_80"])
pairs = st.dictionaries(keys.map("SERVICE_".__add__), st.text(max_size=3))


@given(pairs, pairs)
def test_of_two_that_say_the_same_key_one_counts_by_rank(variables: dict[str, str], labels: dict[str, str]) -> None:
    """The rule in one line: the last of these to have the key."""
    found = metadata({"Env": [f"{key}={value}" for key, value in variables.items()], "Labels": labels}, 80)
    ranked = [(variables, "SERVICE_"), (labels, "SERVICE_"), (variables, "SERVICE_80_"), (labels, "SERVICE_80_")]

    def last(name: str) -> str:
        values = [source[head + name] for source, head in ranked if head + name in source]
        return values[-1] if values else ""

    assert found.name == last("NAME")
    assert found.id == last("ID")
    assert found.ignored == bool(last("IGNORE"))
    assert dict(found.attributes).get("region", "") == last("REGION")


anything = st.text() | st.sampled_from(["SERVICE_", "SERVICE_=", "SERVICE_80_=x", "SERVICE__=x", "SERVICE_\u0663_A=x"])


@given(st.lists(anything), st.dictionaries(st.text(), st.text()))
def test_nothing_that_a_container_says_breaks_it(variables: list[str], labels: dict[str, str]) -> None:
    found: Any = metadata({"Env": variables, "Labels": labels}, 80)
    assert isinstance(found, Metadata)
    assert metadata({"Env": None, "Labels": None}, 80) == Metadata()
