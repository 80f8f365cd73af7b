"""What the probe says of machines that can and machines that cannot, each of them real."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ambnet.nft import Nft
from dynproxy.probe import NO_IPV6, Probe, probe, sample, summary
from dynproxy.ruleset import replacement
from tests.support.hosts import Hosts
from tests.support.netns import Namespace

ROOT = Path(__file__).parents[2]
BOTH = Probe(("ip", "ip6"), "the kernel forwards IPv4 and IPv6")
NO_RIGHT = Probe((), "no CAP_NET_ADMIN: run with --cap-add NET_ADMIN")


@pytest.fixture
def machine() -> Iterator[Namespace]:
    """One that forwards both families and filters nothing."""
    with Namespace() as made:
        for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            made.setting(name, "1")
        yield made


def probed(machine: Namespace, listen: str | None = None, nft: Nft | None = None) -> Probe:
    return machine.call(lambda: asyncio.run(probe(nft or Nft(), listen)))


def fake(folder: Path, script: str, patience: float = 0.5) -> Nft:
    """Injected fault: a program of root's in nft's place."""
    path = folder / "nft"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return Nft(places=(str(path),), patience=patience)


def test_a_machine_that_forwards_has_both_families(machine: Namespace) -> None:
    assert probed(machine) == BOTH
    assert probed(machine, "::") == BOTH


@pytest.mark.parametrize(
    ("listen", "families", "why"),
    [
        ("192.0.2.1", ("ip",), "the kernel forwards IPv4"),
        ("0.0.0.0", ("ip",), "the kernel forwards IPv4"),  # noqa: S104 - what an operator may write
        ("2001:db8::1", ("ip6",), "the kernel forwards IPv6"),
        ("127.0.0.1", (), "nothing to forward: 127.0.0.1 is reached from this machine only"),
        ("::1", (), "nothing to forward: ::1 is reached from this machine only"),
    ],
)
def test_only_the_family_that_is_listened_on_is_asked_for(
    machine: Namespace, listen: str, families: tuple[str, ...], why: str
) -> None:
    assert probed(machine, listen) == Probe(families, why)


@pytest.mark.parametrize(
    ("settings", "outcome"),
    [
        (
            {"net.ipv4.ip_forward": "0"},
            Probe(("ip6",), "the kernel forwards IPv6; not IPv4: net.ipv4.ip_forward is 0"),
        ),
        (
            {"net.ipv6.conf.all.forwarding": "0"},
            Probe(("ip",), "the kernel forwards IPv4; not IPv6: net.ipv6.conf.all.forwarding is 0"),
        ),
        (
            {"net.ipv6.conf.all.disable_ipv6": "1"},
            Probe(("ip",), f"the kernel forwards IPv4; not IPv6: {NO_IPV6}"),
        ),
        (
            {"net.ipv4.ip_forward": "0", "net.ipv6.conf.all.disable_ipv6": "1"},
            Probe((), "net.ipv4.ip_forward is 0"),
        ),
    ],
)
def test_a_family_that_the_machine_does_not_forward_is_named(
    machine: Namespace, settings: dict[str, str], outcome: Probe
) -> None:
    for name, value in settings.items():
        machine.setting(name, value)
    assert probed(machine) == outcome


def test_somebody_elses_forward_policy_is_named_and_an_operator_who_insists_is_believed(machine: Namespace) -> None:
    """What the operator lets through it cannot be seen from outside."""
    machine.run(
        "nft", "add table inet wall; add chain inet wall c { type filter hook forward priority 0; policy drop; }"
    )
    assert probed(machine) == Probe(
        (), "the forward policy of table inet wall is drop; allow connections marked 0xa3b00000/0xfff00000"
    )
    assert machine.call(lambda: asyncio.run(probe(Nft(), None, insist=True))) == BOTH


def test_asking_leaves_nothing_behind(machine: Namespace) -> None:
    assert probed(machine) == BOTH
    listed = subprocess.run(
        [*machine.prefix, "nft", "list", "ruleset"], capture_output=True, text=True, check=True, timeout=30
    )
    assert listed.stdout == ""


@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_what_is_asked_about_is_what_could_be_applied(family: str) -> None:
    """`--check` is as strict as the real thing: the sample is a whole ruleset that the kernel takes."""
    with Hosts() as hosts:
        hosts.proxy.nft(replacement(sample(family)))
        assert "jhash" in hosts.proxy.output("nft", "list", "ruleset")


def _as_user(machine: Namespace, *capabilities: str) -> str:
    """What a probe by the user nobody prints, with these capabilities, as a systemd unit would give them."""
    given = [f"--inh-caps={','.join(capabilities)}", f"--ambient-caps={','.join(capabilities)}"] if capabilities else []
    program = (
        "import asyncio, ambnet.nft as nft, dynproxy.probe as probe;print(asyncio.run(probe.probe(nft.Nft(), None)))"
    )
    user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", *given)
    done = subprocess.run(
        [*machine.prefix, *user, sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


def test_another_user_has_no_right_to_it(machine: Namespace) -> None:
    assert _as_user(machine) == str(NO_RIGHT)


def test_another_user_with_the_capability_can(machine: Namespace) -> None:
    assert _as_user(machine, "+net_admin") == str(BOTH)


def test_nft_that_is_missing_is_said_once(machine: Namespace) -> None:
    assert probed(machine, nft=Nft(places=("/nowhere/nft",))) == Probe(
        (), "nft missing: no program of root's at /nowhere/nft; install nftables"
    )


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'syntax error, unexpected jhash' >&2; exit 1", "nft refused: syntax error, unexpected jhash"),
        ("exit 3", "nft refused: exit code 3"),
        ("kill -SEGV $$", "nft crashed: SIGSEGV"),
        ("exec sleep 60", "nft timed out: killed after 0.5 s"),
    ],
)
def test_nft_that_fails_is_quoted(machine: Namespace, tmp_path: Path, script: str, why: str) -> None:
    """Injected faults: C10's nft that is old, broken or hangs."""
    assert probed(machine, nft=fake(tmp_path, script)) == Probe((), why)


def test_a_kernel_without_timeouts_for_connections_does_without(machine: Namespace, tmp_path: Path) -> None:
    """Injected fault: such a kernel refuses just that. Everything else goes to the real nft."""
    refuse = "{ echo 'Could not process rule: Not supported' >&2; exit 1; }"
    script = f"""text=$0.$$; cat >$text; grep -q 'ct timeout' $text && {refuse}; exec /usr/sbin/nft "$@" <$text"""
    nft = fake(tmp_path, script, patience=5.0)
    assert probed(machine, nft=nft) == replace(BOTH, forgets=False)


def test_an_nft_that_hangs_is_waited_for_once_not_once_a_family(machine: Namespace, tmp_path: Path) -> None:
    nft = fake(tmp_path, "exec sleep 60", patience=3.0)
    began = time.monotonic()
    assert probed(machine, nft=nft).families == ()
    assert time.monotonic() - began < 5.5


@pytest.mark.parametrize(
    ("reasons", "why"),
    [
        ({"ip": "a", "ip6": "a"}, "a"),
        ({"ip": "a", "ip6": "b"}, "a; b"),
        ({"ip": "a", "ip6": NO_IPV6}, "a"),
        ({"ip6": NO_IPV6}, NO_IPV6),
    ],
)
def test_reasons_are_said_once_and_no_ipv6_only_where_it_matters(reasons: dict[str, str | None], why: str) -> None:
    assert summary(reasons) == Probe((), why)
