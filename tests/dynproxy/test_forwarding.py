"""Other people's forward chains, met for real: Docker's own rules in a namespace, and the real ones of this machine."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ambcore.model import Address, Protocol
from ambnet.daemon import background
from ambnet.nft import Nft
from dynproxy.endpoints import Want
from dynproxy.filter_state import generation
from dynproxy.forwarding import OURS, RULE, close_door, filters, open_door
from dynproxy.kernel_tables import KernelTables
from dynproxy.ruleset import Front, Port, Ruleset, replacement, table_name
from tests.support.docker_engine import Docker
from tests.support.hosts import Host, Hosts

ROOT = Path(__file__).parents[2]
PORT = 6379
DROPPED = 1.0  # seconds without an answer that tell a drop; an answer takes 0.1 ms here

# What Docker 20.10 makes of the table `filter`, in either family.
DOCKERS = """*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
"""
TOOLS = {"ip": "iptables", "ip6": "ip6tables"}


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with Hosts() as made:
        yield made


def opened(host: Host, *families: str) -> str | None:
    return host.call(lambda: asyncio.run(open_door(Nft(), families or ("ip", "ip6"))))


def closed(host: Host) -> str | None:
    return host.call(lambda: asyncio.run(close_door(Nft())))


def docker_was_here(host: Host, *tools: str) -> None:
    for tool in tools or TOOLS.values():
        host.output(f"{tool}-restore", text=DOCKERS)


def rules(host: Host, tool: str = "iptables") -> list[str]:
    """The chain for the operator, as iptables shows it."""
    return host.output(tool, "-S", "DOCKER-USER").splitlines()


def door(host: Host, tool: str = "iptables") -> int:
    """How many rules of ours there are."""
    return sum(OURS in rule for rule in rules(host, tool))


def gets_through(host: Host, to: tuple[str, int], seconds: float = 10) -> bool:
    """Whether a connection from this host is answered in this time."""
    command = ("timeout", str(seconds), "bash", "-c", f"exec 3<>/dev/tcp/{to[0]}/{to[1]}")
    done = subprocess.run([*host.prefix, *command], capture_output=True, check=False, timeout=30)
    assert done.returncode in {0, 124}, done.stderr
    return done.returncode == 0


@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_what_docker_drops_gets_through_once_the_door_is_open_and_nothing_else_does(hosts: Hosts, family: str) -> None:
    """A client on another machine, an instance on a third; the control is the same instance without our mark."""
    version = 4 if family == "ip" else 6
    instance = hosts.instance(1, version)
    front = {Port(Protocol.TCP, PORT): Front("round-robin", (1,))}
    hosts.proxy.nft(replacement(Ruleset(family, "ambassador_6379", None, front, {1: Address(instance, PORT)})))
    proxy = (hosts.proxy.ipv4 if version == 4 else hosts.proxy.ipv6, PORT)
    with hosts.server.listen((instance, PORT)):
        assert gets_through(hosts.client, proxy)
        docker_was_here(hosts.proxy)
        assert not gets_through(hosts.client, proxy, DROPPED)
        assert opened(hosts.proxy) is None
        assert gets_through(hosts.client, proxy)
        assert not gets_through(hosts.client, (instance, PORT), DROPPED)
        assert closed(hosts.proxy) is None
        assert not gets_through(hosts.client, proxy, DROPPED)


@pytest.mark.parametrize("tool", TOOLS.values())
def test_the_rule_is_first_and_there_once_however_often_it_is_asked_for(hosts: Hosts, tool: str) -> None:
    docker_was_here(hosts.proxy)
    for _ in range(3):
        assert opened(hosts.proxy) is None
    assert [OURS in rule for rule in rules(hosts.proxy, tool)] == [False, True, False]  # -N, ours, Docker's RETURN


def test_a_door_that_docker_or_a_firewall_took_away_is_opened_again(hosts: Hosts) -> None:
    docker_was_here(hosts.proxy)
    assert opened(hosts.proxy) is None
    docker_was_here(hosts.proxy)
    assert door(hosts.proxy) == 0
    assert opened(hosts.proxy) is None
    assert door(hosts.proxy) == 1


def test_who_keeps_the_kernels_tables_keeps_the_door_open_too(hosts: Hosts) -> None:
    """Docker starts, or starts anew, while dynproxy runs: its next look at the kernel puts the rule back."""

    async def story() -> None:
        port = Port(Protocol.TCP, PORT)
        tables = KernelTables(Nft(), [Ruleset("ip", table_name(None, [PORT]))], [port])
        async with background(tables.run):
            await tables.settled(tables.want({"ip": {port: Want("round-robin", {Address("192.0.2.1", PORT): 100})}}))
            await tables.look()
            for _ in range(2):
                docker_was_here(hosts.proxy, "iptables")
                assert door(hosts.proxy) == 0
                await tables.look()
                assert door(hosts.proxy) == 1
        assert tables.repairs == 0

    hosts.proxy.call(lambda: asyncio.run(story()))


def test_what_is_open_already_is_not_written_again(hosts: Hosts) -> None:
    """A change by us would look like one by somebody else to whoever watches the kernel's rules for such."""
    docker_was_here(hosts.proxy)
    assert opened(hosts.proxy) is None
    before = hosts.proxy.call(generation)
    assert before is not None
    assert opened(hosts.proxy) is None
    assert hosts.proxy.call(generation) == before


def test_closing_takes_every_copy_and_leaves_dockers_rules_as_they_were(hosts: Hosts) -> None:
    """Two processes that start at once may both have put it in."""
    docker_was_here(hosts.proxy)
    before = hosts.proxy.output("nft", "list", "ruleset")
    assert opened(hosts.proxy) is None
    for tool in TOOLS.values():
        hosts.proxy.run(tool, "-I", "DOCKER-USER", *RULE)
        assert door(hosts.proxy, tool) == 2
    assert closed(hosts.proxy) is None
    assert closed(hosts.proxy) is None
    assert hosts.proxy.output("nft", "list", "ruleset") == before


def test_where_nobody_filters_there_is_no_door_and_nothing_is_made(hosts: Hosts) -> None:
    assert opened(hosts.proxy) is None
    assert closed(hosts.proxy) is None
    assert hosts.proxy.output("nft", "list", "ruleset") == ""


@pytest.mark.parametrize(
    ("made", "families", "where"),
    [
        ("add table ip6 mine", ("ip6",), "of table ip6 mine"),
        ("add table inet firewall", ("ip",), "of table inet firewall"),
        ("add table inet firewall", ("ip6",), "of table inet firewall"),
    ],
)
def test_a_policy_of_drop_that_has_no_door_is_named(
    hosts: Hosts, made: str, families: tuple[str, ...], where: str
) -> None:
    table = made.removeprefix("add table ")
    hosts.proxy.nft(f"{made}\nadd chain {table} any {{ type filter hook forward priority 10; policy drop; }}\n")
    docker_was_here(hosts.proxy)  # whose door leads through Docker's table only
    assert opened(hosts.proxy, *families) == f"the forward policy {where} is drop; allow connections marked {OURS}"


def test_the_policy_of_the_other_family_is_no_matter(hosts: Hosts) -> None:
    hosts.proxy.nft("add table ip6 t\nadd chain ip6 t c { type filter hook forward priority 0; policy drop; }\n")
    assert opened(hosts.proxy, "ip") is None


def test_ours_and_those_that_filter_something_else_are_not_in_the_way(hosts: Hosts) -> None:
    hosts.proxy.nft(
        "add table ip ambassador_80\n"
        "add chain ip ambassador_80 c { type filter hook forward priority 0; policy drop; }\n"
        "add table inet other\n"
        "add chain inet other c { type filter hook input priority 0; policy drop; }\n"
        "add chain inet other d { type filter hook forward priority 0; policy accept; }\n"
    )
    assert opened(hosts.proxy) is None


def test_a_chain_for_the_operator_that_no_rule_leads_to_is_no_door(hosts: Hosts) -> None:
    docker_was_here(hosts.proxy, "iptables")
    hosts.proxy.run("iptables", "-D", "FORWARD", "-j", "DOCKER-USER")
    why = opened(hosts.proxy, "ip")
    assert why is not None
    assert why.startswith("the forward policy of table ip filter is drop")
    assert "no rule leads to DOCKER-USER" in why
    hosts.proxy.run("iptables", "-P", "FORWARD", "ACCEPT")
    assert opened(hosts.proxy, "ip") is None


def test_without_iptables_the_policy_is_in_the_way(hosts: Hosts) -> None:
    """Fault: the program is not there. Its file is covered, in a mount namespace that only this call sees."""
    docker_was_here(hosts.proxy, "iptables")
    program = (
        "import asyncio, dynproxy.forwarding as door, ambnet.nft as nft;"
        "print(asyncio.run(door.open_door(nft.Nft(), ['ip'])))"
    )
    cover = 'mount --bind /dev/null "$(readlink -f /usr/sbin/iptables-nft)" && exec "$0" -c "$1"'
    said = hosts.proxy.output("unshare", "--mount", "env", "-C", str(ROOT), "sh", "-c", cover, sys.executable, program)
    assert said.strip() == (
        f"the forward policy of table ip filter is drop; allow connections marked {OURS} (iptables is not installed)"
    )
    assert door(hosts.proxy) == 0


def test_legacy_iptables_is_seen_and_has_its_own_door(hosts: Hosts) -> None:
    """The kernel keeps its rules where nft does not see them."""
    hosts.proxy.run("iptables-legacy", "-P", "FORWARD", "DROP")
    assert opened(hosts.proxy) == f"the forward policy of legacy iptables is drop; allow connections marked {OURS}"
    hosts.proxy.run("iptables-legacy", "-N", "DOCKER-USER")
    hosts.proxy.run("iptables-legacy", "-A", "FORWARD", "-j", "DOCKER-USER")
    assert opened(hosts.proxy) is None
    assert door(hosts.proxy, "iptables-legacy") == 1
    assert closed(hosts.proxy) is None
    assert door(hosts.proxy, "iptables-legacy") == 0


def test_nft_that_is_missing_is_said(hosts: Hosts) -> None:
    why = hosts.proxy.call(lambda: asyncio.run(open_door(Nft(places=("/nowhere/nft",)))))
    assert why is not None
    assert "nft missing" in why


def test_an_odd_listing_filters_nothing() -> None:
    """nft's answers are not ours to trust: what has not the form of a chain is passed by."""
    assert list(filters([{"chain": {}}, {"table": {"name": "t"}}, {"chain": {"hook": "forward"}}], "ip")) == []


@pytest.mark.docker
def test_the_engines_own_chain_is_left_as_it_was_and_docker_works_meanwhile(docker: Docker) -> None:
    """This machine's real rules, with a real engine that goes on writing to the same table."""

    def listed() -> list[str]:
        done = subprocess.run(["iptables", "-S", "DOCKER-USER"], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    others = [rule for rule in listed() if OURS not in rule]
    assert asyncio.run(open_door(Nft(), ["ip"])) is None
    try:
        assert sum(OURS in rule for rule in listed()) == 1
        name = docker.run("-p", "127.0.0.1::80")
        assert docker.port(name)
        docker("rm", "-f", name)
    finally:
        assert asyncio.run(close_door(Nft())) is None
    assert listed() == others
