"""docs/migrating.md, every command of it, on two hosts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hosts.conftest import Hosts
from tests.hosts.console import Step, perform, sections, steps
from tests.hosts.machine import ROOT
from tests.support.waiting import eventually

DOCUMENT = sections((ROOT / "docs/migrating.md").read_text())
EXECUTED = {title: found for title, text in DOCUMENT.items() if (found := steps(text))}
RENAMED = {
    "svendowideit/ambassador": "etcd-ambassadors/ambassador",
    "polvi/simple-amb": "etcd-ambassadors/simple-amb",
    "polvi/docker-register": "etcd-ambassadors/registrar",
    "polvi/dynamic-etcd-amb": "etcd-ambassadors/dynproxy",
    "cpuguy83/docker-grand-ambassador": "etcd-ambassadors/grand-ambassador",
    "gliderlabs/registrator": "etcd-ambassadors/registrar",
    ":4001": ":2379",  # etcd's old port, which its v2 API went with
}


def _renamed(step: Step) -> str:
    command = step.command
    for old, new in RENAMED.items():
        command = command.replace(old, new)
    return command


@pytest.mark.parametrize("title", [title for title, text in DOCUMENT.items() if steps(text, "text")])
def test_the_new_commands_are_the_old_ones_with_other_names(title: str) -> None:
    """What the document shows as run before, run with our images: nothing else about it changes."""
    before, now = steps(DOCUMENT[title], "text"), steps(DOCUMENT[title])
    assert [_renamed(step) for step in before] == [step.command for step in now][: len(before)]


def test_output_is_told_from_commands_and_commands_may_be_continued() -> None:
    """The reader of the blocks itself: a mistake in it would let a wrong document pass."""
    text = "```console\na$ one \\\n    two\nb$ three\nprinted\nlike …\n```\n```text\na$ old\n```\n"
    assert steps(text) == [Step("a", "one two"), Step("b", "three", ("printed", "like …"))]
    assert steps(text, "text") == [Step("a", "old")]


@pytest.fixture
def empty(hosts: Hosts) -> Iterator[Hosts]:
    """Both hosts with the images that the document names, without a container before and after."""
    for host in (hosts.a, hosts.b):
        host.run("docker", "tag", "etcd-ambassadors/demo-redis", "redis")
        eventually(lambda: host.run("docker", "ps", "--all", "--quiet") == "", 20, "others' containers are gone")  # noqa: B023
    yield hosts
    for host in (hosts.a, hosts.b):
        host.remove_containers()
    hosts.a.run("etcdctl", "del", "--prefix", "/services/")


@pytest.mark.docker
@pytest.mark.hosts
@pytest.mark.parametrize("title", EXECUTED)
def test_the_document_does_what_it_says(empty: Hosts, title: str) -> None:
    addresses = {"192.168.1.52": empty.a.address, "192.168.1.53": empty.b.address}
    for step in EXECUTED[title]:
        perform(step, {"host-a": empty.a, "host-b": empty.b}, addresses)
