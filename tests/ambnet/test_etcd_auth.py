"""Users, passwords and tokens, against a real cluster with authentication on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ambcore.errors import RegistryDeniedError
from ambcore.states import Watch
from ambnet.etcd import Etcd, EtcdConfig
from ambnet.lease import LeaseKeeper
from ambnet.watch import PrefixWatch
from tests.support.etcd_cluster import EtcdCluster
from tests.support.etcd_users import PASSWORD, allow, let_in, login, password_in
from tests.support.following import Following
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.etcd


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """One member, tokens of two seconds; user `writer` may use /s/, user `nobody` may use nothing."""
    with EtcdCluster(tmp_path_factory.mktemp("auth"), size=1, options=["--auth-token-ttl", "2"]) as cluster:
        let_in(cluster, {"writer": ["readwrite /s/"], "nobody": []})
        yield cluster


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    return password_in(tmp_path)


async def test_A12_pain_15_token_expiry(
    guarded: EtcdCluster, password_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Tokens run out and members forget them: no operation fails, one authentication per loss, no secret in the log."""
    caplog.set_level(logging.DEBUG)
    async with Etcd(login(guarded, "writer", password_file)) as etcd, Following(PrefixWatch(etcd, "/s/")) as seen:
        await seen.until_listed()
        for number in range(2):
            value = b"%d" % number
            await etcd.put(b"/s/a", value)
            await seen.until({b"/s/a": value})
            before = etcd.reauths
            idle_since = time.monotonic()
            await eventually_async(lambda since=idle_since: _true(time.monotonic() - since > 4), 6)  # type: ignore[misc]
            await etcd.put(b"/s/a", value + b"!")
            assert etcd.reauths - before == 1
            await seen.until({b"/s/a": value + b"!"})
        assert seen.watch.restarts == 0
        member = guarded.members[0]
        member.kill()
        await asyncio.to_thread(guarded.start)

        async def again() -> bool:
            return seen.watch.state is Watch.WATCHING and seen.watch.restarts > 0

        await eventually_async(again)
        before = etcd.reauths
        await etcd.put(b"/s/a", b"after the restart")
        await seen.until({b"/s/a": b"after the restart"})
        assert etcd.reauths - before <= 1
    assert PASSWORD not in caplog.text
    assert etcd._token._value
    assert etcd._token._value not in caplog.text


async def _true(value: bool) -> bool:
    return value


@pytest.mark.parametrize("user", ["nobody", None])
async def test_A13_watch_denied(
    guarded: EtcdCluster, password_file: Path, user: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the right to read: an error within a second, said once, and never "connected and silent"."""
    config = login(guarded, user, password_file) if user else EtcdConfig(guarded.endpoints)
    async with Etcd(config) as etcd, Following(PrefixWatch(etcd, "/s/")) as seen:
        started = time.monotonic()
        await eventually_async(lambda: _true(seen.watch.last_error is not None))
        assert time.monotonic() - started < 1
        assert "permission denied" in str(seen.watch.last_error) or "user name is empty" in str(seen.watch.last_error)
        await eventually_async(lambda: _true(seen.watch.restarts > 1))
        assert seen.watch.state is Watch.LISTING
        assert seen.watch.age() is None
        assert not seen.messages
    assert [record.levelname for record in caplog.records if record.levelno > logging.INFO] == ["ERROR"]


async def test_A13_right_withdrawn_and_given_back(guarded: EtcdCluster, password_file: Path) -> None:
    """The list was allowed, the watch is refused when it is opened again; given back, it goes on by itself."""
    async with Etcd(login(guarded, "writer", password_file)) as etcd, Following(PrefixWatch(etcd, "/s/")) as seen:
        await seen.until_listed()
        await asyncio.to_thread(guarded.etcdctl, "role", "revoke-permission", "writer", "--prefix=true", "/s/")
        try:
            guarded.members[0].kill()
            await asyncio.to_thread(guarded.start)
            await eventually_async(lambda: _true("permission denied" in str(seen.watch.last_error)))
            assert seen.watch.state is Watch.BROKEN
        finally:
            await asyncio.to_thread(allow, guarded, "writer", "readwrite /s/")
        await eventually_async(lambda: _true(seen.watch.state is Watch.WATCHING))


async def test_A14_bad_password(guarded: EtcdCluster, password_file: Path) -> None:
    """A refused password is tried seldom however often a token is wanted; a new one in the file at once."""
    await asyncio.to_thread(password_file.write_text, "guess")
    async with Etcd(login(guarded, "writer", password_file)) as etcd, LeaseKeeper(etcd, 10) as keeper:
        asked = []
        authenticate = etcd._token._authenticate

        async def counting(name: str, password: str) -> str | None:
            asked.append(name)
            return await authenticate(name, password)

        etcd._token._authenticate = counting
        for _ in range(10):
            with pytest.raises(RegistryDeniedError, match="authentication failed"):
                await etcd.put(b"/s/a", b"1")
        assert len(asked) <= 2
        await asyncio.to_thread(password_file.write_text, PASSWORD)
        await etcd.put(b"/s/a", b"1")
        assert await keeper.held(5)


async def test_a_user_whom_etcd_does_not_know_is_said_in_one_line_however_many_want_in(
    guarded: EtcdCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    wrong = tmp_path / "wrong"
    wrong.write_text("guess")
    async with (
        Etcd(login(guarded, "writer", wrong)) as etcd,
        LeaseKeeper(etcd, 10) as keeper,
        Following(PrefixWatch(etcd, "/s/a/")) as a,
        Following(PrefixWatch(etcd, "/s/b/")) as b,
    ):
        await eventually_async(lambda: _true(min(a.watch.restarts, b.watch.restarts) > 1))
        await eventually_async(lambda: _true(keeper.last_error is not None))
        assert [record.levelname for record in caplog.records] == ["ERROR"], caplog.text
        assert "what is known stands" in caplog.text
        assert not etcd.connected


async def test_a_user_is_no_obstacle_where_authentication_is_off(
    shared_etcd: EtcdCluster, password_file: Path, prefix: str
) -> None:
    async with Etcd(login(shared_etcd, "writer", password_file)) as etcd, Following(PrefixWatch(etcd, prefix)) as seen:
        await etcd.put(prefix.encode() + b"a", b"1")
        await seen.until({prefix.encode() + b"a": b"1"})


async def test_authentication_turned_on_later_is_met_with_a_token(tmp_path: Path, password_file: Path) -> None:
    with EtcdCluster(tmp_path / "etcd", size=1) as cluster:
        async with Etcd(login(cluster, "root", password_file)) as etcd:
            await etcd.put(b"/s/a", b"1")
            await asyncio.to_thread(let_in, cluster)
            await etcd.put(b"/s/a", b"2")
            assert etcd.reauths >= 1
