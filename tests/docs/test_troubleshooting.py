"""docs/troubleshooting.md: for each symptom a real cause of it, and the page's command has to name that cause."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.docs.conftest import ROOT, Started
from tests.docs.pages import blocks
from tests.docs.shell import Shell
from tests.hosts.console import sections

PAGE = sections((ROOT / "docs/troubleshooting.md").read_text())
ETCD = "-e AMB_ETCD=http://$HOST:2379"


@dataclass(frozen=True, slots=True)
class Cause:
    """Commands that bring a symptom about, and those that end it, where others would be in its way."""

    begin: str = "true"
    end: str = "true"


# Causes that stand while others are looked for: containers take their time.
STANDING = f"""
docker run -d --name web-amb-2 {ETCD} -e AMB_ADMIN=0.0.0.0:9402 -e AMB_INSTANCES_IN=198.51.100.0/24 \\
    etcd-ambassadors/dynproxy web 80
docker run -d --init --name mail --label SERVICE_NAME=mail -p $HOST::8000 \\
    --health-cmd false --health-interval 1s --health-retries 1 hello
docker run -d --init --name shop --label SERVICE_NAME=shop hello
"""
CAUSES = {
    "A container is not registered": Cause(),
    "It was registered, and is gone": Cause(),
    "It is registered at the wrong address": Cause(),
    "Connection refused": Cause("ambctl put chat by-hand $HOST:9", "ambctl rm chat by-hand"),
    "It hangs for ten seconds, then it is reset": Cause(),
    "An instance gets no new connections": Cause(
        "name=$(ambctl ls --json | grep -o '[^\"]*:web-2:8000' | head -n 1) && ambctl drain web $name --why tired",
        "ambctl undrain web $name",
    ),
    "It is slow, and the kernel does not forward": Cause(),
    "A program ends at once": Cause(),
    "Etcd does not answer, the view is old": Cause("docker pause etcd", "docker unpause etcd"),
}


@pytest.fixture(scope="module")
def typed(started: Started) -> Iterator[Shell]:
    """The machine of the first page, with what is wrong on it."""
    try:
        started.shell.type(STANDING)
        yield started.shell
    finally:
        started.shell.type("docker rm --force --volumes shop mail web-amb-2 || true")


def test_every_symptom_that_the_page_has_a_command_for_is_brought_about() -> None:
    assert [title for title, text in PAGE.items() if blocks(text)] == list(CAUSES)


@pytest.mark.docker
@pytest.mark.parametrize("title", CAUSES)
def test_the_command_names_the_cause(typed: Shell, title: str) -> None:
    cause = CAUSES[title]
    typed.type(cause.begin)
    try:
        for block in blocks(PAGE[title]):
            assert block.printed is not None
            typed.perform(block)
    finally:
        typed.type(cause.end)
