"""PURE: certificates and the files that should be secret -> how it stands with them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from ambcore.findings import Finding
from ambctl.doctor.levels import amber, green, plural, red, some, unknown

DAY = 86400.0
SOON = 14 * DAY  # seconds before a certificate's end


@dataclass(frozen=True, slots=True)
class Certificate:
    """One that somebody shows: `whose` for people. Its times are seconds since 1970, None where it could not be read;
    `names` those it is good for, as `DNS:a` and `IP Address:b`; `host` the one it is needed for, empty for none.

    `untrusted` is why a client does not believe it (time and name apart), `turns_away` why the server does not want us,
    `silent` why there is no TLS with it, `failed` why it could not be looked at; each empty where it is not so.
    """

    whose: str
    starts: float | None = None
    ends: float | None = None
    names: tuple[str, ...] = ()
    host: str = ""
    untrusted: str = ""
    turns_away: str = ""
    silent: str = ""
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Secret:
    """A file that is nobody else's business: what it is for, and whether others may read it."""

    option: str
    path: str
    open_to_others: bool


def judge_certificate(found: Certificate, now: float) -> Iterator[Finding]:
    """One certificate at the moment `now`."""
    topic = f"certificate {found.whose}"
    if found.failed:
        yield unknown(topic, found.failed)
        return
    if found.silent:
        do = "write http:// in --etcd if it speaks plain text; else look at its log"
        yield red(topic, f"there is none: no TLS with it ({found.silent})", do)
        return
    well = not found.turns_away
    if found.ends is not None and now >= found.ends:
        well = False
        says = f"expired {_ago(now - found.ends)} ago: everybody refuses it"
        yield red(topic, says, "renew it; etcd and our programs take new files up by themselves")
    elif found.starts is not None and now < found.starts:
        well = False
        yield red(topic, f"begins in {_ago(found.starts - now)}", "set this machine's clock, or wait")
    if found.untrusted:
        well = False
        do = "name the authority that signed it by --etcd-ca (AMB_ETCD_CA)"
        yield red(topic, f"is not trusted: {found.untrusted}", do)
    if found.turns_away:
        do = "give a certificate that its authority has signed: --etcd-cert and --etcd-key"
        yield red(topic, f"the server turns us away: {found.turns_away}", do)
    if found.host and found.ends is not None and not good_for(found.names, found.host):
        well = False
        says = f"is good for {some(list(found.names)) or 'no name at all'}, not for {found.host}"
        yield red(topic, says, "write one of its names into --etcd, or issue it anew with that name")
    if well and found.ends is not None:
        left = _ago(found.ends - now)
        if found.ends - now < SOON:
            yield amber(topic, f"ends in {left}", "renew it before")
        else:
            yield green(topic, f"good for another {left}")


def judge_plain(url: str) -> Finding:
    """An http URL of a server that speaks TLS."""
    do = "write https:// in --etcd, with --etcd-ca"
    return red(f"etcd {url}", "speaks TLS, and is asked in plain text", do)


def judge_secret(found: Secret) -> Finding | None:
    """A file with a secret; None where nothing is to be said."""
    if not found.open_to_others:
        return None
    return amber(f"file {found.path}", f"everybody here may read it ({found.option})", f"chmod 600 {found.path}")


def good_for(names: tuple[str, ...], host: str) -> bool:
    """Whether a certificate with these names is good for a host, by RFC 6125: a star stands for one label."""
    kinds = [name.partition(":")[::2] for name in names]
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        wanted = host.lower().rstrip(".")
        parent = wanted.partition(".")[2]
        return any(
            kind == "DNS" and (name.lower() == wanted or (parent and name.lower() == f"*.{parent}"))
            for kind, name in kinds
        )
    return any(kind == "IP Address" and _ip(name) == ip for kind, name in kinds)


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.strip())
    except ValueError:
        return None


def _ago(seconds: float) -> str:
    if seconds < 2 * 3600:
        return plural(int(seconds // 60), "minute")
    return plural(int(seconds // 3600), "hour") if seconds < 2 * DAY else plural(int(seconds // DAY), "day")
