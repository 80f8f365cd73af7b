"""Other people's forward chains: see whether they drop what we forward, and ask Docker's for a way through.

Docker sets the policy of `FORWARD` to drop, so that a client of another machine would not get through to an instance on
a third. It leaves one chain to the operator, DOCKER-USER, and that is where our one rule goes: it accepts connections
that bear our mark, and only those. iptables itself writes it, for iptables refuses to work on a table with rules that
nft wrote, and Docker with it. A restart of Docker or of a firewall may take the rule away, so the door is opened again
now and then.

Only a policy can be seen. Whether one of a firewall's many rules drops a connection of ours (firewalld ends its chain
with such a rule) is known when it comes, and not before.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ambcore.errors import AmbassadorError
from ambnet.nft import Item, Nft, NftError, first_line
from ambnet.threads import in_thread
from dynproxy.ruleset import PREFIX, SIGNATURE, SIGNATURE_MASK

FAMILIES = ("ip", "ip6")
DOOR = "DOCKER-USER"
OURS = f"{SIGNATURE:#x}/{SIGNATURE_MASK:#x}"
RULE = ("-m", "connmark", "--mark", OURS, "-m", "comment", "--comment", f"{PREFIX}door", "-j", "ACCEPT")

FOLDERS = ("/usr/sbin", "/sbin", "/usr/bin")  # where distributions install it; PATH is not asked
PATIENCE = 10.0  # seconds a call may take; 2 ms are usual
WAIT = ("-w", "5")  # seconds for the lock that the older kind takes
MANY = 100  # processes that may have put the rule in at the same moment

# iptables comes in two kinds, whose rules the kernel keeps apart; nft sees those of the first.
NFT, LEGACY = "nft", "legacy"


class DoorError(AmbassadorError):
    """iptables is not there, refused or hung; the text says which, in its own words where it had any."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A table of somebody else's that packets pass on their way through this machine.

    `policy` is that of its forward chain; `door` says whether it has Docker's chain for the operator.
    """

    kind: str
    family: str
    table: str
    policy: str
    door: bool


async def open_door(nft: Nft, families: Iterable[str] = FAMILIES) -> str | None:
    """Let our connections through; None if they get through, else what is in the way. Idempotent, never raises."""
    try:
        listed = await nft.read("list chains")
    except NftError as error:
        return str(error)
    for family in families:
        for found in [*filters(listed, family), *await _legacy(family)]:
            if why := await _pass(found):
                return why
    return None


async def close_door(nft: Nft) -> str | None:
    """Take the rule away, as often as it is there; None if none is left, else why it may be. Never raises."""
    try:
        listed = await nft.read("list chains")
        for family in FAMILIES:
            for found in [*filters(listed, family), *await _legacy(family)]:
                if found.door:
                    await _take_out(found)
    except (NftError, DoorError) as error:
        return str(error)
    return None


def filters(listed: Iterable[Item], family: str) -> Iterator[Filter]:
    """The tables of a family that filter what is forwarded, out of nft's list of chains."""
    chains = [item["chain"] for item in listed if "chain" in item]
    doors = {(chain.get("family"), chain.get("table")) for chain in chains if chain.get("name") == DOOR}
    for chain in chains:
        table = str(chain.get("table"))
        forwards = (chain.get("type"), chain.get("hook")) == ("filter", "forward")
        if forwards and chain.get("family") in {family, "inet"} and not table.startswith(PREFIX):
            policy = str(chain.get("policy", "accept"))
            yield Filter(NFT, str(chain["family"]), table, policy, (chain["family"], table) in doors)


async def _legacy(family: str) -> list[Filter]:
    """The table that the older iptables has, if any: to ask is to make it, so the kernel says first whether it is."""
    if not _has_legacy(family):
        return []
    try:
        said = await _run(_program(LEGACY, family), *WAIT, "-S")
    except DoorError:  # unknown is not accept
        return [Filter(LEGACY, family, "filter", "not known", door=False)]
    lines = said.splitlines()
    policy = next((line.split()[-1].lower() for line in lines if line.startswith("-P FORWARD ")), "accept")
    return [Filter(LEGACY, family, "filter", policy, f"-N {DOOR}" in lines)]


def _has_legacy(family: str) -> bool:
    try:
        return "filter" in Path(f"/proc/thread-self/net/{family}_tables_names").read_text().split()
    except PermissionError:  # root's alone; that the module is loaded shows that somebody somewhere uses it
        return Path(f"/sys/module/{family}table_filter/initstate").exists()
    except OSError:
        return False


async def _pass(found: Filter) -> str | None:
    """Let our connections through one filter; None if they get through."""
    trouble = None
    if found.door:
        try:
            await _put_in(found)
        except DoorError as error:
            trouble = str(error)
        else:
            return None
    if found.policy == "accept":
        return None
    where = "of legacy iptables" if found.kind == LEGACY else f"of table {found.family} {found.table}"
    return f"the forward policy {where} is {found.policy}; allow connections marked {OURS}" + (
        f" ({trouble})" if trouble else ""
    )


async def _put_in(found: Filter) -> None:
    """Have the rule first in Docker's chain, and Docker's chain in use; raises DoorError."""
    program = _program(found.kind, found.family)
    try:
        await _run(program, *WAIT, "-C", "FORWARD", "-j", DOOR)
    except DoorError as error:
        raise DoorError(f"no rule leads to {DOOR}: {error}") from error
    try:
        await _run(program, *WAIT, "-C", DOOR, *RULE)
    except DoorError:
        await _run(program, *WAIT, "-I", DOOR, *RULE)


async def _take_out(found: Filter) -> None:
    """Delete the rule until it is not there; raises DoorError."""
    program = _program(found.kind, found.family)
    for _ in range(MANY):
        try:
            await _run(program, *WAIT, "-C", DOOR, *RULE)
        except DoorError:
            return
        await _run(program, *WAIT, "-D", DOOR, *RULE)


def _program(kind: str, family: str) -> str:
    """Where the iptables of a kind is; raises DoorError."""
    name = "iptables" if family == "ip" else "ip6tables"
    places = [f"{folder}/{each}" for each in (f"{name}-{kind}", name) for folder in FOLDERS]
    found = next((place for place in places if os.access(place, os.X_OK)), None)
    if found is None:
        raise DoorError(f"{name} is not installed")
    return found


async def _run(program: str, *arguments: str) -> str:
    """What iptables prints; raises DoorError unless it ends well."""

    def call() -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(  # noqa: S603 - a fixed program, and arguments of ours
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            env={},
            cwd="/",
            check=False,
        )

    try:
        done = await in_thread(call, "iptables")
    except subprocess.TimeoutExpired as error:
        raise DoorError(f"{program} did not end in {PATIENCE:g} s") from error
    except OSError as error:
        raise DoorError(f"{program} cannot be started: {error.strerror}") from error
    if done.returncode:
        raise DoorError(first_line(done.stderr) or f"{program} ended with {done.returncode}")
    return done.stdout.decode(errors="replace")
