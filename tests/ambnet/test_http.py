"""The admin server, asked over a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Gauge

from ambcore.errors import ConfigError
from ambcore.findings import Finding, Level
from ambnet.http import Admin, parse_admin, serve_admin
from tests.support.ports import free_port


class Patient:
    """A program with something to say about itself."""

    def __init__(self) -> None:
        self.ill: str | None = None
        self.busy: str | None = "not known yet: redis-A"
        self.registry = CollectorRegistry()
        Gauge("amb_test", "A test's.", registry=self.registry).set(3)

    def admin(self) -> Admin:
        return Admin(
            lambda: self.ill,
            lambda: self.busy,
            lambda: {"program": "patient", "n": 1},
            self.registry,
            lambda name: [Finding(Level.RED, "name", f"there is no {name}", "look again")],
        )


@pytest.fixture
async def patient() -> Patient:
    return Patient()


@pytest.fixture
async def base(patient: Patient) -> AsyncIterator[str]:
    port = free_port()
    async with serve_admin(("127.0.0.1", port), patient.admin()):
        yield f"http://127.0.0.1:{port}"


async def get(url: str, host: str | None = None) -> tuple[int, str]:
    headers = {} if host is None else {"Host": host}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status, await answer.text()


async def test_health_and_readiness_say_why_not(base: str, patient: Patient) -> None:
    assert await get(f"{base}/healthz") == (200, "ok\n")
    assert await get(f"{base}/readyz") == (503, "not known yet: redis-A\n")
    patient.busy, patient.ill = None, "a data plane process is down"
    assert await get(f"{base}/readyz") == (200, "ok\n")
    assert await get(f"{base}/healthz") == (503, "a data plane process is down\n")


async def test_status_is_one_json_document(base: str) -> None:
    status, text = await get(f"{base}/status.json")
    assert (status, json.loads(text)) == (200, {"program": "patient", "n": 1})


async def test_metrics_are_prometheus_text(base: str) -> None:
    status, text = await get(f"{base}/metrics")
    assert status == 200
    assert "amb_test 3.0" in text.splitlines()


async def test_what_is_known_of_a_name_is_a_list_of_findings(base: str) -> None:
    status, text = await get(f"{base}/explain.json?of=redis-A")
    assert (status, [Finding.of(document) for document in json.loads(text)]) == (
        200,
        [Finding(Level.RED, "name", "there is no redis-A", "look again")],
    )


@pytest.mark.parametrize("query", ["", "?of=", f"?of={'x' * 513}"])
async def test_a_question_without_a_name_is_refused(base: str, query: str) -> None:
    assert (await get(f"{base}/explain.json{query}"))[0] == 400


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example"])
async def test_foreign_host_name_is_refused(base: str, host: str) -> None:
    """DNS rebinding: a page of theirs, resolved to our address, must not read us."""
    assert (await get(f"{base}/status.json", host))[0] == 403


@pytest.mark.parametrize("host", ["127.0.0.1:9402", "[::1]:9402", "localhost", "redis-dyn-amb:9402"])
async def test_literals_and_bare_names_are_served(base: str, host: str) -> None:
    assert (await get(f"{base}/healthz", host))[0] == 200


async def test_nothing_can_be_changed(base: str) -> None:
    async with aiohttp.ClientSession() as session, session.post(f"{base}/status.json", data=b"x") as answer:
        assert answer.status == 405


async def test_taken_address_is_a_configuration_error(base: str, patient: Patient) -> None:
    port = int(base.rpartition(":")[2])
    with pytest.raises(ConfigError, match=f"^--admin: 127.0.0.1:{port}: "):
        async with serve_admin(("127.0.0.1", port), patient.admin()):
            await asyncio.sleep(0)


async def test_without_an_address_nothing_is_served(patient: Patient) -> None:
    async with serve_admin(None, patient.admin()):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("9402", ("127.0.0.1", 9402)),
        (":9402", ("127.0.0.1", 9402)),
        ("10.0.0.1:1", ("10.0.0.1", 1)),
        ("[::1]:2", ("::1", 2)),
    ],
)
def test_admin_address_is_loopback_unless_said(text: str, where: tuple[str, int]) -> None:
    assert parse_admin(text) == where
