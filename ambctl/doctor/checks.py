"""The checks at work. A new one is a coroutine, a line in the map below, and one in `names`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ambcore.errors import AmbassadorError, RegistryDeniedError, RegistryError
from ambcore.findings import Finding
from ambcore.fleet import Kind
from ambcore.version import VERSION
from ambctl.doctor import ask_docker, ask_etcd, ask_fleet, ask_machine, ask_tls
from ambctl.doctor.judge_access import judge_access
from ambctl.doctor.judge_docker import judge_address, judge_daemon
from ambctl.doctor.judge_etcd import Seen, judge_clocks, judge_cluster, judge_endpoints, judge_space, judge_versions
from ambctl.doctor.judge_machine import judge_door, judge_kernel, judge_limits
from ambctl.doctor.judge_programs import Asked, judge_programs
from ambctl.doctor.judge_proxies import differs, judge_proxy, reached
from ambctl.doctor.judge_records import Place, by_service, judge_drains, judge_records
from ambctl.doctor.judge_tls import judge_certificate, judge_plain, judge_secret
from ambctl.doctor.levels import unknown
from ambctl.doctor.names import CHECKS
from ambctl.doctor.scene import Scene
from ambnet.machine import in_container
from ambnet.threads import in_thread

PATIENCE = 20.0  # seconds for one check; what each asks has a shorter time of its own
AGAIN = (
    1.0  # seconds until a proxy that disagrees with etcd is asked again: a change takes it some tens of milliseconds
)

Check = Callable[[Scene], Awaitable[Iterable[Finding]]]


@dataclass(frozen=True, slots=True)
class Done:
    """What a check found."""

    check: str
    findings: tuple[Finding, ...]


async def examine(scene: Scene) -> Sequence[Done]:
    """Every check that was asked for, all at once; what they found in the order of the checks."""
    chosen = [name for name in CHECKS if not scene.settings.only or name in scene.settings.only]
    return await asyncio.gather(*(one(name, scene) for name in chosen))


async def one(name: str, scene: Scene) -> Done:
    """A check that fails itself says nothing about what it looked at."""
    try:
        async with asyncio.timeout(PATIENCE):
            return Done(name, tuple(await BY_NAME[name](scene)))
    except TimeoutError:
        return Done(name, (unknown(name, f"no answer in {PATIENCE:g} s"),))
    except RegistryDeniedError as error:
        return Done(name, (unknown(name, str(error), "let our etcd user read --prefix and --fleet-prefix"),))
    except AmbassadorError as error:
        return Done(name, (unknown(name, str(error)),))
    except Exception as error:  # noqa: BLE001 - a defect of one check must not hide what the others found
        do = "tell us: this is a defect of the doctor"
        return Done(name, (unknown(name, f"the check failed: {type(error).__name__}: {error}", do),))


async def tls(scene: Scene) -> Iterable[Finding]:
    """Certificates in use, ours and the servers', and the files that should be secret."""
    config, now = scene.config, time.time()
    secure = [url for url in config.endpoints if url.startswith("https:")]
    servers = await asyncio.gather(*(in_thread(lambda url=url: ask_tls.of_server(url, config)) for url in secure))  # type: ignore[misc]
    ours = await in_thread(lambda: list(ask_tls.of_ours(config)))
    secrets = await in_thread(lambda: list(ask_tls.secrets(config)))
    found = [finding for each in (*servers, *ours) for finding in judge_certificate(each, now)]
    found += [judge_plain(each.url) for each in await scene.endpoints() if await _is_secret(each)]
    return [*found, *(finding for each in secrets if (finding := judge_secret(each)))]


async def _is_secret(seen: Seen) -> bool:
    """Whether an endpoint that did not answer in plain text speaks TLS."""
    plain = seen.url.startswith("http:") and seen.status is None
    return plain and await in_thread(lambda: ask_tls.speaks_tls(seen.url))


async def etcd(scene: Scene) -> Iterable[Finding]:
    """Members one by one, and what they say of one another."""
    seen = await scene.endpoints()
    cluster = await ask_etcd.of_cluster(scene.config, seen)
    return [
        *judge_endpoints(seen),
        *judge_cluster(seen, cluster.members),
        *judge_space(seen, cluster.alarms, cluster.error),
        *judge_clocks(seen),
    ]


async def access(scene: Scene) -> Iterable[Finding]:
    """Login, reading, writing."""
    return judge_access(await scene.access())


async def versions(scene: Scene) -> Iterable[Finding]:
    """Known bad versions of etcd."""
    return judge_versions(await scene.endpoints(), (await scene.access()).guarded)


async def docker(scene: Scene) -> Iterable[Finding]:
    """This machine's daemon."""
    return judge_daemon(await ask_docker.daemon(scene.settings.docker))


async def address(scene: Scene) -> Iterable[Finding]:
    """What registrar would tell others of this machine."""
    settings = scene.settings
    host = await ask_docker.host(settings.docker, settings.advertise, scene.config.endpoints)
    return [judge_address(host, contained=in_container())]


async def kernel(_: Scene) -> Iterable[Finding]:
    """nftables, capability, forwarding."""
    return judge_kernel(await ask_machine.kernel())


async def limits(_: Scene) -> Iterable[Finding]:
    """For how many clients there is room here."""
    return judge_limits(ask_machine.limits())


async def ports(scene: Scene) -> Iterable[Finding]:
    """Those that --port names."""
    return [judge_door(ask_machine.door(port)) for port in scene.settings.ports]


async def programs(scene: Scene) -> Iterable[Finding]:
    """Everybody who announced themselves."""
    return judge_programs(await scene.asked(), VERSION, scene.unreadable)


async def proxies(scene: Scene) -> Iterable[Finding]:
    """Dynproxies beside etcd. When one disagrees, etcd is read again, then all are asked again."""
    asked = _proxies(await scene.asked())
    try:
        known = by_service(await scene.instances())
        if any(differs(each.document, known) for each in asked if each.document):
            await asyncio.sleep(AGAIN)
            known = by_service(await scene.instances(anew=True))
            asked = _proxies(await scene.asked(anew=True))
    except RegistryError as error:
        return [
            unknown("proxies", f"beside etcd: {error}"),
            *(one for each in asked for one in judge_proxy(each, None)),
        ]
    return [finding for each in asked for finding in judge_proxy(each, known)]


def _proxies(asked: Iterable[Asked]) -> list[Asked]:
    return [each for each in asked if each.document and each.program.kind is Kind.DYNPROXY]


async def records(scene: Scene) -> Iterable[Finding]:
    """Records that nobody keeps or reads."""
    found = await ask_fleet.read(await scene.records(), scene.settings.reader)
    try:
        owners = frozenset(each.owner for each in await scene.programs() if each.owner)
    except RegistryError:
        owners = frozenset()
    return judge_records(found, owners or None, await _reached(scene))


async def _reached(scene: Scene) -> frozenset[Place]:
    """Whom the checks of proxies that can be asked reach."""
    try:
        asked = _proxies(await scene.asked())
    except RegistryError:
        return frozenset()
    return frozenset(place for each in asked for place in reached(each.document or {}))


async def drains(scene: Scene) -> Iterable[Finding]:
    """What operators drained."""
    return judge_drains(await scene.drains(), await scene.instances())


BY_NAME: Mapping[str, Check] = {
    "tls": tls,
    "etcd": etcd,
    "access": access,
    "versions": versions,
    "docker": docker,
    "address": address,
    "kernel": kernel,
    "limits": limits,
    "ports": ports,
    "programs": programs,
    "proxies": proxies,
    "records": records,
    "drains": drains,
}
