"""TLS with verification both ways, and certificates that are replaced under way."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ambcore.errors import ConfigError, RegistryUnavailableError
from ambcore.states import Watch
from ambnet.etcd import Etcd, EtcdConfig
from ambnet.watch import PrefixWatch
from tests.support.etcd_cluster import EtcdCluster, Tls
from tests.support.following import Following
from tests.support.tls import Authority, Pair
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.etcd


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[EtcdCluster]:
    """One member that wants certificates from its clients."""
    tls = Tls(authority, authority.issue("server"), mutual=True)
    with EtcdCluster(tmp_path_factory.mktemp("tls"), size=1, tls=tls) as cluster:
        yield cluster


def config(cluster: EtcdCluster, ca: Path | None, pair: Pair | None) -> EtcdConfig:
    files = (str(pair.cert), str(pair.key)) if pair else (None, None)
    return EtcdConfig(cluster.endpoints, str(ca) if ca else None, *files)


async def test_pain_12_mutual_tls(secure: EtcdCluster, authority: Authority, prefix: str) -> None:
    settings = config(secure, authority.ca, authority.issue("client"))
    async with Etcd(settings) as etcd, Following(PrefixWatch(etcd, prefix)) as seen:
        await etcd.put(prefix.encode() + b"a", b"1")
        await seen.until({prefix.encode() + b"a": b"1"})


async def test_a_client_without_certificate_is_turned_away(secure: EtcdCluster, authority: Authority) -> None:
    async with Etcd(config(secure, authority.ca, None)) as etcd:
        with pytest.raises(RegistryUnavailableError):
            await etcd.get(b"k")


@pytest.mark.parametrize("trusted", ["another authority", "the system's"])
async def test_a_server_of_another_authority_is_not_trusted(
    secure: EtcdCluster, authority: Authority, tmp_path: Path, trusted: str
) -> None:
    ca = Authority(tmp_path).ca if trusted == "another authority" else None
    async with Etcd(config(secure, ca, authority.issue("client"))) as etcd:
        with pytest.raises(RegistryUnavailableError, match=r"(?i)certificate"):
            await etcd.get(b"k")


async def test_plain_text_is_never_fallen_back_to(secure: EtcdCluster) -> None:
    """And an http URL to a TLS port is an error, not a riddle."""
    async with Etcd(EtcdConfig((secure.endpoints[0].replace("https", "http"),))) as etcd:
        with pytest.raises(RegistryUnavailableError):
            await etcd.get(b"k")
        assert etcd.last_error


async def test_A20_expired_server(tmp_path: Path, authority: Authority) -> None:
    """An expired certificate is refused, and the message says certificate."""
    tls = Tls(authority, authority.issue("late", expired=True))
    cluster = EtcdCluster(tmp_path / "etcd", size=1, tls=tls)
    cluster.members[0].start()
    try:
        async with Etcd(config(cluster, authority.ca, None)) as etcd:

            async def refused() -> bool:
                try:
                    await etcd.get(b"k")
                except RegistryUnavailableError as error:
                    return "certificate" in str(error).lower()
                return False

            await eventually_async(refused, 15)
    finally:
        cluster.stop()


async def test_A20_tls_rotate(
    tmp_path: Path, secure: EtcdCluster, authority: Authority, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The client's files are replaced, first by halves: new connections with the new ones, and the watch goes on."""
    caplog.set_level(logging.INFO)
    first, second = authority.issue("first"), authority.issue("second")
    pair = Pair(tmp_path / "cert", tmp_path / "key")
    shutil.copy(first.cert, pair.cert)
    shutil.copy(first.key, pair.key)
    settings = config(secure, authority.ca, pair)
    async with Etcd(settings, check_files=0.1) as etcd, Following(PrefixWatch(etcd, prefix)) as seen:
        await seen.until_listed()
        replace(second.cert, pair.cert)

        async def noticed() -> bool:
            return "cannot be used yet" in caplog.text

        await eventually_async(noticed)
        assert etcd.reloads == 0
        replace(second.key, pair.key)

        async def moved() -> bool:
            return etcd.reloads == 1 and seen.watch.restarts == 1 and seen.watch.state is Watch.WATCHING

        await eventually_async(moved, 20)
        await etcd.put(prefix.encode() + b"a", b"1")
        await seen.until({prefix.encode() + b"a": b"1"})


def replace(source: Path, target: Path) -> None:
    """As tools do that renew certificates: write beside, then rename."""
    copy = target.with_suffix(".new")
    shutil.copy(source, copy)
    copy.replace(target)


async def test_files_that_do_not_fit_are_the_operators_fault(secure: EtcdCluster, authority: Authority) -> None:
    pair = Pair(authority.issue("one").cert, authority.issue("other").key)
    with pytest.raises(ConfigError, match="--etcd-ca/--etcd-cert/--etcd-key"):
        await Etcd(config(secure, authority.ca, pair)).__aenter__()


async def test_calls_under_way_survive_a_change_of_files(
    tmp_path: Path, secure: EtcdCluster, authority: Authority, prefix: str
) -> None:
    pair = Pair(tmp_path / "cert", tmp_path / "key")
    for number in range(2):
        issued = authority.issue(f"pair{number}")
        replace(issued.cert, pair.cert)
        replace(issued.key, pair.key)
        if number == 0:
            etcd = await Etcd(config(secure, authority.ca, pair), check_files=0.05).__aenter__()
    try:
        while not etcd.reloads:
            await asyncio.gather(*(etcd.put(f"{prefix}{number}".encode(), b"v") for number in range(20)))
        assert len((await etcd.list(prefix.encode())).items) == 20
    finally:
        await etcd.aclose()
