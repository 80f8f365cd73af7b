"""Others at the packet filter: a firewall that reloads, a tool that replaces a rule, an nft that is none."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dynproxy.ruleset import PREFIX
from tests.support.waiting import eventually
from tests.system.kernel_hosts import KernelProxy, Stage
from tests.system.kernel_load import Load

pytestmark = [pytest.mark.etcd, pytest.mark.netns, pytest.mark.system]

Figure = Callable[[str], None]

LONG = pytest.mark.long

# As Debian's nftables.conf begins, and what a firewall's reload amounts to: all goes, theirs comes. It translates,
# as firewalls of hosts with containers do; where nobody does, the kernel forgets how to for those who are connected.
RELOAD = """flush ruleset
table inet firewall {
    chain input { type filter hook input priority 0; policy accept; ct state established,related accept; }
    chain forward { type filter hook forward priority 0; policy accept; }
    chain postrouting { type nat hook postrouting priority 100; policy accept; ip saddr 192.0.2.0/24 masquerade; }
}
"""


def rules(stage: Stage) -> str:
    """Our own table, without counts."""
    return stage.hosts.proxy.output("nft", "--stateless", "list", "table", "ip", f"{PREFIX}{stage.port}")


def has_ours(stage: Stage, written: str) -> bool:
    return PREFIX in stage.rules() and rules(stage) == written


def repaired_after(stage: Stage, written: str) -> float:
    """The seconds until our table is again as it was written."""
    began = time.monotonic()
    eventually(lambda: has_ours(stage, written), 10, "the rules are back")
    return time.monotonic() - began


@pytest.mark.parametrize("times", [2, pytest.param(20, marks=LONG)])
def test_C9_nft_reloaded_by_a_firewall_again_and_again(stage: Stage, figure: Figure, times: int) -> None:
    """Its file begins with `flush ruleset`: our table goes, the relay serves until it is back, nobody fails."""
    with stage.serving(*stage.servers) as proxy:
        written = rules(stage)
        with Load(stage.hosts.client, stage.to, 200) as clients:
            took = []
            for _ in range(times):
                stage.hosts.proxy.nft(RELOAD)
                took.append(repaired_after(stage, written))
                eventually(lambda: proxy.kernel()["error"] is None)
            assert len(stage.answers(6)) == 3
        outcome = clients.outcome
        assert proxy.kernel()["repairs"] == times
        assert "table inet firewall" in stage.rules(), "theirs is none of our business"
    failed = sum(outcome.errors.values())
    figure(f"{failed} of {outcome.ended} connections failed over {times} reloads, repaired within {max(took):.1f} s")
    assert failed == 0


@LONG
def test_C9_nft_rule_replaced_in_place(stage: Stage, figure: Figure) -> None:
    """A rule of ours that says something else, with every count and every element as before."""
    with stage.serving(*stage.servers) as proxy:
        eventually(lambda: proxy.kernel()["error"] is None)
        time.sleep(5)  # a look or two: what the rules look like has been read back
        written = rules(stage)
        chain = f"ip {PREFIX}{stage.port} tcp_{stage.port}"
        listing = stage.hosts.proxy.output("nft", "--handle", "list", "chain", *chain.split())
        found = re.search(r"dnat .*# handle (\d+)", listing)
        assert found
        stage.hosts.proxy.nft(f"replace rule {chain} handle {found[1]} tcp dport {stage.port} drop\n")
        assert rules(stage) != written
        took = repaired_after(stage, written)
        eventually(lambda: proxy.kernel()["error"] is None)
        assert len(stage.answers(6)) == 3
    figure(f"a rule replaced in place was put right after {took:.1f} s")


# nft as dynproxy may find it when it starts: what it does, and what dynproxy says of it.
USELESS = {
    "missing": None,
    "old": '#!/bin/sh\ncat >/dev/null\necho "Error: syntax error, unexpected string" >&2\nexit 1\n',
    "crashing": "#!/bin/sh\nkill -SEGV $$\n",
}


@pytest.mark.parametrize("kind", ["missing", *(pytest.param(kind, marks=LONG) for kind in ("old", "crashing"))])
def test_C10_nft_error_from_the_start(stage: Stage, tmp_path: Path, figure: Figure, kind: str) -> None:
    """Where nft is of no use, the relay serves everybody, and the reason is said."""
    script = USELESS[kind]
    if script is not None:
        (tmp_path / "nft").write_text(script)
        (tmp_path / "nft").chmod(0o755)
    mounted = ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /usr/sbin && exec "$@"', str(tmp_path))
    stage.put(*stage.servers)
    with stage.proxy("--plane", "auto", prefix=mounted) as proxy:
        proxy.wait_serving(stage.service, *(each.host for each in stage.servers), plane="relay")
        with Load(stage.hosts.client, stage.to, 100) as clients:
            assert len(stage.answers(6)) == 3
        why = proxy.status()["plane"]["why"]
    assert clients.outcome.errors == {}
    assert PREFIX not in stage.rules()
    assert "nft" in why, why
    figure(f"nft {kind}: {why}")


def test_C10_nft_error_of_a_bad_element_from_the_registry(stage: Stage, figure: Figure) -> None:
    """Nothing that a record can say becomes something that nft refuses: names, weights and addresses at their edges."""
    one = stage.servers[0]
    edges = {
        f"{stage.service}/w1": {"host": one.host, "port": 6379, "weight": 1},
        f"{stage.service}/w2": {"host": stage.servers[1].host, "port": 6379, "weight": 256},
        f"{stage.service}/v6": {"host": one.host6, "port": 6379, "weight": 255},
        f"{stage.service}/{'x' * 100}; flush ruleset": {"host": stage.servers[2].host, "port": 6379, "weight": 3},
        f"{stage.service}/high": {"host": "223.255.255.254", "port": 65535, "state": "draining"},
    }
    with stage.proxy("--plane", "kernel", "--check-interval", "0") as proxy:
        stage.registry.write(edges)
        eventually(lambda: served(proxy, stage) >= 3, 15, "the kernel serves them")
        eventually(lambda: len(stage.answers(20)) >= 2, 10, "clients come to them")
        assert proxy.kernel()["error"] is None
        assert proxy.metric("amb_kernel_transactions_total", outcome="failed") == 0
    figure(f"{len(edges)} records at the edges of what is allowed: no transaction failed")


def served(proxy: KernelProxy, stage: Stage) -> int:
    return len(proxy.service(stage.service)["instances"] or ())
