"""Tables that nobody keeps any more, in a kernel with others that somebody does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator

import pytest

from ambcore.model import Protocol
from ambnet.nft import Nft
from dynproxy.cleanup import forgotten_tables, our_tables
from dynproxy.ruleset import Front, Port, Ruleset, removal, replacement, table_name
from tests.support.netns import Namespace

pytestmark = pytest.mark.netns


@pytest.fixture(autouse=True)
def there() -> Iterator[None]:
    with Namespace() as namespace, namespace.entered():
        yield


async def left(
    *numbers: int, listen: str | None = None, family: str = "ip", protocols: Iterable[Protocol] = Protocol
) -> str:
    """Have a table there as a dynproxy with these ports leaves it; returns its name."""
    name = table_name(listen, numbers)
    await Nft().apply(replacement(Ruleset(family, name, listen, dict.fromkeys(both(*numbers, of=protocols), Front()))))
    return name


def both(*numbers: int, of: Iterable[Protocol] = Protocol) -> set[Port]:
    """These ports, of both protocols or of some."""
    return {Port(protocol, number) for number in numbers for protocol in of}


def texts(names: Iterable[str]) -> str:
    return "".join(removal("ip", name) for name in names)


async def test_a_table_is_forgotten_that_has_a_port_which_somebody_listens_on_now() -> None:
    """None is the address of every listener that does not say one, and includes them all."""
    old, other = await left(80, 81), await left(90)
    here, elsewhere = await left(82, listen="10.0.0.1"), await left(80, listen="10.0.0.2")
    await Nft().apply("add table ip somebody_elses\n")
    for listen, ports, gone in (
        (None, {81}, [old]),
        (None, {81, 95}, [old]),
        (None, {80}, [old, elsewhere]),
        (None, {91}, []),
        (None, {90}, [other]),
        ("10.0.0.1", {80}, [old]),
        ("10.0.0.1", {82}, [here]),
        ("10.0.0.3", {82}, []),
    ):
        assert await forgotten_tables(Nft(), listen, both(*ports)) == texts(gone), (listen, ports)
    assert await forgotten_tables(Nft(), None, both(80, 81), but=old) == texts([elsewhere])


async def test_a_port_of_the_other_protocol_is_somebody_elses() -> None:
    other = await left(53, protocols=[Protocol.UDP])
    assert await forgotten_tables(Nft(), None, both(53, of=[Protocol.TCP])) == ""
    assert await forgotten_tables(Nft(), None, both(53)) == texts([other])


async def test_a_table_that_only_looks_like_ours_is_left_alone() -> None:
    await Nft().apply(
        "add table ip ambassador_80\nadd table ip ambassador_81\n"
        "add set ip ambassador_81 tcp_ports { type ipv4_addr; }\nadd set ip ambassador_81 udp_ports { type mark; }\n"
        "add element ip ambassador_81 tcp_ports { 10.0.0.1 }\n"
    )
    assert await forgotten_tables(Nft(), None, both(80, 81)) == ""


async def test_the_tables_of_both_families_are_ours_and_no_others() -> None:
    await left(80)
    await left(81, family="ip6")
    await Nft().apply("add table ip somebody_elses\nadd table inet ambassador_80\n")
    assert sorted(await our_tables(Nft())) == [("ip", "ambassador_80"), ("ip6", "ambassador_81")]


def cleanup(*prefix: str) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, "-m", "dynproxy", "--cleanup"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


async def test_the_command_removes_every_table_of_ours_and_says_which() -> None:
    await left(80)
    await left(81, family="ip6")
    await Nft().apply("add table ip somebody_elses\n")
    done = cleanup()
    assert (done.returncode, done.stdout) == (0, "removed: ip ambassador_80, ip6 ambassador_81\n")
    assert await our_tables(Nft()) == []
    done = cleanup()
    assert (done.returncode, done.stdout, done.stderr) == (0, "there was nothing to remove\n", "")


async def test_the_command_says_in_one_line_why_it_cannot() -> None:
    await left(80)
    done = cleanup("setpriv", "--bounding-set", "-net_admin")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("dynproxy: nothing was removed: nft refused: ")
    assert done.stderr.count("\n") == 1
    assert await our_tables(Nft()) == [("ip", "ambassador_80")]
