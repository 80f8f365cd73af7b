"""Can this machine run the kernel plane, and if not, why?"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count

from ambcore.model import Address, Protocol, parse_ip
from ambnet.machine import NET_ADMIN, capabilities, setting
from ambnet.nft import Nft, NftError
from dynproxy.forwarding import open_door
from dynproxy.ruleset import DRAWS, PREFIX, Front, Port, Ruleset, replacement

NAMES = {"ip": "IPv4", "ip6": "IPv6"}
SETTINGS = {"ip": "net.ipv4.ip_forward", "ip6": "net.ipv6.conf.all.forwarding"}
IPV6_OFF = "net.ipv6.conf.all.disable_ipv6"
NO_IPV6 = "this machine has no IPv6"

# One of each family that is nobody's: RFC 5737 and RFC 3849 keep them for examples.
EXAMPLES = {"ip": "192.0.2.1", "ip6": "2001:db8::1"}


@dataclass(frozen=True, slots=True)
class Probe:
    """The families that work ("ip", "ip6"), and in one line for people why those and no others.

    `forgets` as in Ruleset.
    """

    families: tuple[str, ...]
    why: str
    forgets: bool = True


async def probe(nft: Nft, listen: str | None, *, insist: bool = False) -> Probe:
    """Ask this machine; `listen` is the one address to serve, None for all. Never raises.

    Somebody else's forward policy of drop keeps a family from working, unless the operator insists: an exception from
    it cannot be seen. Lets our connections through Docker's, for only then is it known that this can be done. Nothing
    else is changed.
    """
    if why := _in_general(listen):
        return Probe((), why)
    families = _families(listen)
    reasons = await asyncio.gather(*(_why_not(nft, family, insist) for family in families))
    found = summary(dict(zip(families, reasons, strict=True)))
    forgets = [await _refused(nft, sample(family)) is None for family in found.families]
    return replace(found, forgets=all(forgets))


def summary(reasons: Mapping[str, str | None]) -> Probe:
    """What the outcome is, given what keeps each family from working; None for nothing."""
    works = tuple(family for family, why in reasons.items() if why is None)
    others = {why: family for family, why in reasons.items() if why is not None}  # one reason for both is said once
    if not works:
        return Probe((), "; ".join([why for why in others if why != NO_IPV6] or others))
    forwards = f"the kernel forwards {' and '.join(NAMES[family] for family in works)}"
    return Probe(works, "; ".join([forwards, *(f"not {NAMES[family]}: {why}" for why, family in others.items())]))


def _families(listen: str | None) -> tuple[str, ...]:
    if listen in {None, "::"}:
        return ("ip", "ip6")
    return ("ip" if parse_ip(str(listen)).version == 4 else "ip6",)


def _in_general(listen: str | None) -> str | None:
    """What keeps any family from working."""
    if not capabilities() & NET_ADMIN:
        return "no CAP_NET_ADMIN: run with --cap-add NET_ADMIN"
    if listen is not None and parse_ip(listen).is_loopback:
        return f"nothing to forward: {listen} is reached from this machine only"
    return None


async def _why_not(nft: Nft, family: str, insist: bool) -> str | None:
    """What keeps one family from working; the first thing found. Whatever a kernel may lack is not asked for here."""
    if why := _forwards_not(family) or await _refused(nft, sample(family, forgets=False)):
        return why
    why = await open_door(nft, [family])
    return None if insist else why


def _forwards_not(family: str) -> str | None:
    if family == "ip6" and setting(IPV6_OFF) != "0":
        return NO_IPV6
    value = setting(SETTINGS[family])
    return None if value == "1" else f"{SETTINGS[family]} is {value or 'missing'}"


async def _refused(nft: Nft, rules: Ruleset) -> str | None:
    """Why the kernel or nft does not take such rules, None if they do; nothing stays."""
    try:
        await nft.check(replacement(rules))
    except NftError as error:
        return str(error)
    return None


def sample(family: str, *, forgets: bool = True) -> Ruleset:
    """A ruleset with everything that one of ours may have: TCP and UDP, every policy, two instances each."""
    number = count(1)
    fronts = {
        Port(protocol, at): Front(policy, (next(number), next(number)), int(policy == "round-robin"))
        for protocol in Protocol
        for at, policy in enumerate(DRAWS, 1)
    }
    endpoints = {each: Address(EXAMPLES[family], each) for front in fronts.values() for each in front.slots}
    clients = (ipaddress.ip_network(EXAMPLES[family]),)
    return Ruleset(family, f"{PREFIX}probe", None, fronts, endpoints, forgets, clients)
