"""Ask etcd's members, each by itself, what can be told of them without being let in, and what only with it."""

from __future__ import annotations

import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import urlsplit

import aiohttp

from ambcore.errors import RegistryDeniedError, RegistryError, RegistryRefusedError, RegistryUnavailableError
from ambcore.members import Alarm, ListedMember
from ambctl.doctor.judge_access import Access
from ambctl.doctor.judge_etcd import Seen
from ambnet.addresses import source_address_towards
from ambnet.asking import connector
from ambnet.etcd import EtcdConfig
from ambnet.etcd.member import Member
from ambnet.threads import in_thread

T = TypeVar("T")

PATIENCE = 4.0  # seconds for one answer
LONGEST = 1 << 20  # bytes of a page of metrics; etcd's has a tenth
QUOTA = b"etcd_server_quota_backend_bytes "
PROBE_SECONDS = 5  # of the lease under which a key is written to see whether that is allowed
PROBE_KEY = "doctor-probe"  # below the prefix, and no service's: no reader takes it for a record


async def see(config: EtcdConfig, url: str) -> Seen:
    """One endpoint. Never raises."""
    try:
        async with Member(config, url, PATIENCE) as member:
            await member.status()  # connects
            began = time.monotonic()
            status = await member.status()
            latency = time.monotonic() - began
    except RegistryError as error:
        return Seen(url, error=str(error))
    local = await in_thread(lambda: stays_here(url), "route")
    clock, quota = await _over_http(config, url)
    return Seen(url, status, latency=latency, clock=clock, quota=quota, local=local)


def stays_here(url: str) -> bool:
    """Whether what we send to this URL stays on this machine: the kernel then takes the very address to send from."""
    host = urlsplit(url).hostname or ""
    source = source_address_towards(host)
    return source is not None and (source.is_loopback or str(source) == host)


async def _over_http(config: EtcdConfig, url: str) -> tuple[float | None, int | None]:
    """What only its HTTP side tells: the seconds its clock is ahead, and its quota in bytes; each None if it does not.

    That side may be closed, or somewhere else, which is nobody's fault.
    """
    clock = quota = None
    try:
        verify = _context(config) if url.startswith("https:") else True
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        async with aiohttp.ClientSession(
            connector=connector(), timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
        ) as session:
            began = time.time()
            async with session.get(f"{url}/version", ssl=verify, allow_redirects=False) as answer:
                middle = (began + time.time()) / 2
                if said := answer.headers.get("Date"):
                    clock = parsedate_to_datetime(said).timestamp() + 0.5 - middle  # whole seconds, cut off
            async with session.get(f"{url}/metrics", ssl=verify, allow_redirects=False) as answer:
                quota = await _quota(answer.content)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return clock, quota
    return clock, quota


async def _quota(page: aiohttp.StreamReader) -> int | None:
    """Out of a page of metrics, of which no more than LONGEST is read."""
    read = 0
    async for line in page:
        if line.startswith(QUOTA):
            return int(float(line.removeprefix(QUOTA)))
        if (read := read + len(line)) > LONGEST:
            break
    return None


def _context(config: EtcdConfig) -> ssl.SSLContext:
    """As our gRPC channels do it: the given authority alone, else the system's."""
    context = ssl.create_default_context(cafile=config.ca)
    if config.cert and config.key:
        context.load_cert_chain(config.cert, config.key)
    return context


@dataclass(frozen=True, slots=True)
class Cluster:
    """The list of members and the alarms, each None where nobody told; `error` is why not of the alarms."""

    members: tuple[ListedMember, ...] | None
    alarms: tuple[Alarm, ...] | None
    error: str = ""


async def of_cluster(config: EtcdConfig, seen: Sequence[Seen]) -> Cluster:
    """What members tell of all of them. Never raises."""
    alive = [each.url for each in seen if each.status]
    members, _ = await _told(config, alive, Member.members)
    alarms, error = await _told(config, alive, Member.alarms)
    return Cluster(members, alarms, error)


async def _told(
    config: EtcdConfig, urls: Sequence[str], question: Callable[[Member], Awaitable[T]]
) -> tuple[T | None, str]:
    """The first answer to a question, and why there is none."""
    error = ""
    for url in urls:
        try:
            async with Member(config, url, PATIENCE) as member:
                await member.authenticate()
                return await question(member), ""
        except RegistryError as trouble:
            error = str(trouble)
    return None, error


async def of_access(config: EtcdConfig, seen: Sequence[Seen], prefix: str, *, write: bool) -> Access:
    """Whether we are let in and may read, and with `write` whether we may write. Never raises."""
    plain = tuple(each.url for each in seen if each.status and not each.local and each.url.startswith("http:"))
    access = Access(prefix, config.user, plain_to=plain)
    alive = [each.url for each in seen if each.status]
    failed = "no member answers"
    for url in alive:
        guarded = await _guarded(config, url, prefix)
        try:
            async with Member(config, url, PATIENCE) as member:
                await member.authenticate()
                records = await member.count(prefix)
                writing = await _try_writing(member, prefix) if write else None
        except RegistryDeniedError as error:
            return replace(access, guarded=guarded, denied=str(error))
        except RegistryError as error:
            failed = f"{url}: {error}"
        else:
            return replace(access, guarded=guarded, records=records, writing=writing)
    return replace(access, failed=failed)


async def _try_writing(member: Member, prefix: str) -> str:
    """Empty if it worked, else why not; raises RegistryUnavailableError."""
    try:
        await member.try_writing(f"{prefix}{PROBE_KEY}", PROBE_SECONDS)
    except (RegistryDeniedError, RegistryRefusedError) as error:
        return str(error)
    return ""


async def _guarded(config: EtcdConfig, url: str, prefix: str) -> bool | None:
    """Whether authentication is on. Never raises."""
    try:
        async with Member(config, url, PATIENCE) as member:
            await member.authenticate()
            try:
                return await member.guarded()
            except RegistryUnavailableError:  # older than 3.5
                pass
        async with Member(config, url, PATIENCE) as nobody:
            await nobody.count(prefix)
    except RegistryDeniedError:
        return True
    except RegistryError:
        return None
    return None if config.cert else False  # a certificate's name may be a user's
