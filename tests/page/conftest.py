"""A real Chromium, and a dynproxy whose status page it looks at."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.support.etcd_cluster import EtcdCluster
from tests.support.waiting import eventually
from tests.system.proxies import Records

T = TypeVar("T")

CHROMIUM = "/usr/bin/chromium"
SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
PATIENCE = 20.0  # seconds that a busy machine may take for what is usually done within one
MOST_OPERATIONS = 100  # of one transaction; etcd takes 128


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """One for all tests of this folder, ended with them: its event loop is in the way of asynchronous tests."""
    if shutil.which(CHROMIUM) is None:
        pytest.fail(f"{CHROMIUM} is not there: apt-get install chromium", pytrace=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


class Window:
    """Pages of one test, and what the browser complained of: nothing, or the test fails."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self.complaints: list[str] = []

    def open(self, url: str, **options: Any) -> Page:
        """A page of its own context, whose `options` are Playwright's."""
        context = self._browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        self._contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.on("console", lambda message: self._heard(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        page.goto(url)
        return page

    def _heard(self, kind: str, text: str) -> None:
        # Programs end before the browser does: that a server has gone is the browser's own remark.
        if kind in {"error", "warning"} and "net::ERR_" not in text:
            self.complaints.append(f"{kind}: {text}")

    def close(self) -> None:
        for context in self._contexts:
            context.close()


@pytest.fixture
def window(chromium: Browser) -> Iterator[Window]:
    made = Window(chromium)
    try:
        yield made
    finally:
        made.close()
    assert made.complaints == []


@pytest.fixture
def service(request: pytest.FixtureRequest) -> str:
    """A service of the test's own in the shared cluster."""
    return f"page-{abs(hash(request.node.name)) % 10**6}-{time.monotonic_ns() % 10**6}"


@pytest.fixture
def records(shared_etcd: EtcdCluster, service: str) -> Records:
    return Records(shared_etcd, service)


def put_many(etcd: EtcdCluster, service: str, addresses: Iterable[str]) -> None:
    """Records `i0000`, `i0001` … at these addresses (`host:port`), in few transactions."""
    lines = [f"put /services/{service}/i{number:04} {address}" for number, address in enumerate(addresses)]
    for first in range(0, len(lines), MOST_OPERATIONS):
        etcd.etcdctl("txn", stdin="\n".join(["", *lines[first : first + MOST_OPERATIONS], "", "", ""]))


def holds(page: Page, condition: str) -> None:
    """Wait until a condition in JavaScript holds. The page's policy forbids Playwright's own way, which is `eval`."""
    eventually(lambda: page.evaluate(condition), PATIENCE, condition)


def seconds_until(page: Page, condition: str, act: Callable[[], object]) -> float:
    """How long after `act` began a condition in JavaScript holds in the page, which is not loaded anew meanwhile."""
    page.evaluate("window.sameAsBefore = true")
    began = time.monotonic()
    act()
    holds(page, condition)
    took = time.monotonic() - began
    assert page.evaluate("window.sameAsBefore") is True
    return took


def beside(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The result of a coroutine, in a thread: the browser's event loop runs in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()
