"""What a Docker daemon answers is checked once, where it comes in."""

from __future__ import annotations

from typing import Any

import pytest

from ambcore import shape
from tests.support.inspections import binding, container, stopped


@pytest.mark.parametrize("document", [container(), container(binding()), stopped(), {"Id": "a"}])
def test_an_inspection_is_what_it_is(document: dict[str, Any]) -> None:
    assert shape.container(document) is document


@pytest.mark.parametrize("part", ["State", "Config", "HostConfig", "NetworkSettings", "Name", "Created"])
@pytest.mark.parametrize("nothing", [None, "", 0, [], {}])
def test_what_is_empty_is_read_as_nothing(part: str, nothing: object) -> None:
    shape.container({**container(binding()), part: nothing})


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ([], "a container is a list"),
        (None, "a container is nothing"),
        ({}, "a container without an Id"),
        ({"Id": "\x1b[2J"}, "a container without an Id"),
        ({"Id": 7}, "a container's Id is a int"),
        ({"Id": "a", "State": "running"}, "a container's State is a text"),
        ({"Id": "a", "State": {"Health": {"Log": [None]}}}, "one of a container's State's Health's Log is nothing"),
        ({"Id": "a", "Config": {"Labels": {"b": ["c"]}}}, "one of a container's Config's Labels is a list"),
        ({"Id": "a", "Config": {"Env": {"b": "c"}}}, "a container's Config's Env is an object"),
        ({"Id": "a", "NetworkSettings": {"Ports": {"80/tcp": ["x"]}}}, "Ports is a text"),
        ({"Id": "a", "NetworkSettings": {"Networks": {"n": {"IPAddress": 7}}}}, "IPAddress is a int"),
    ],
)
def test_what_has_another_shape_is_refused_with_the_place(document: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        shape.container(document)


@pytest.mark.parametrize("read", [shape.containers, shape.networks])
@pytest.mark.parametrize("document", [None, {}, "x", [None], [[]]])
def test_a_list_is_one_of_objects(read: Any, document: Any) -> None:
    with pytest.raises(ValueError, match=r"list|is nothing"):
        read(document)


def test_a_network_needs_no_id_and_texts_where_addresses_stand() -> None:
    assert shape.networks([{"Name": "bridge", "IPAM": {"Config": [{"Subnet": "172.17.0.0/16"}]}}])
    with pytest.raises(ValueError, match="Subnet is a int"):
        shape.networks([{"IPAM": {"Config": [{"Subnet": 5}]}}])
