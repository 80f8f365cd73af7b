"""dynproxy's status page in a real browser: what happens to instances is seen without loading it again."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from ambnet.page.wording import UNKNOWN
from bench.load import burst
from tests.page.conftest import PATIENCE, Window, beside, holds, put_many, seconds_until
from tests.support.etcd_cluster import EtcdCluster
from tests.support.waiting import eventually
from tests.system.proxies import Proxy, Records, servers

pytestmark = [pytest.mark.etcd, pytest.mark.system]

SOON = 10.0  # seconds on a machine with much else to do; what was measured is printed, and under one on a calm machine


def state_of(instance: str) -> str:
    """JavaScript: the state that an instance's row shows, or nothing."""
    return (
        "(() => { const row = [...document.querySelectorAll('tr.seat')]"
        f".find(row => row.querySelector('.id').textContent === '{instance}');"
        " return row ? row.querySelector('.word').textContent : ''; })()"
    )


@pytest.fixture(scope="module")
def measured() -> Iterator[list[str]]:
    lines: list[str] = []
    yield lines
    print("\n" + "\n".join(lines))  # noqa: T201 - figures for whoever runs this with -s


def test_an_instance_starts_drains_and_dies_before_the_readers_eyes(
    shared_etcd: EtcdCluster, service: str, records: Records, window: Window, measured: list[str]
) -> None:
    """Each step is on the page without reload; an instance that is killed but still registered is shown as ejected."""
    with servers("a", "b") as (a, b), Proxy(shared_etcd, service, "--check-interval", "0.3") as proxy:
        records.put("one", a.port)
        proxy.wait_instances("one")
        page = window.open(f"http://{proxy.admin}/")
        holds(page, f"{state_of('one')} === 'up'")
        steps = (
            ("starts", "two", "up", lambda: records.put("two", b.port)),
            ("drains", "two", "draining", lambda: records.put("two", b.port, state="draining")),
            ("dies", "two", "", lambda: records.delete("two")),
            ("is killed", "one", "ejected", a.kill),
        )
        for what, instance, state, act in steps:
            took = seconds_until(page, f"{state_of(instance)} === '{state}'", act)
            measured.append(f"an instance {what}: on the page after {took * 1000:.0f} ms")
            assert took < SOON, measured[-1]


@pytest.fixture(scope="module")
def fruit(shared_etcd: EtcdCluster) -> Iterator[Proxy]:
    """A proxy with three instances, for tests that do little to them."""
    with servers("a") as (a,), Proxy(shared_etcd, "fruit") as proxy:
        for name in ("apple", "banana", "cherry"):
            Records(shared_etcd, "fruit").put(name, a.port)
        proxy.wait_instances("apple", "banana", "cherry", seconds=PATIENCE)
        yield proxy


def test_traffic_is_shown_as_it_goes(fruit: Proxy, window: Window) -> None:
    """Connections are counted for the instance that carries them."""
    page = window.open(f"http://{fruit.admin}/")
    rate = page.locator("tr.seat .rate").first
    expect(rate).to_have_text("0", timeout=PATIENCE * 1000)

    def moves() -> bool:
        beside(lambda: burst(fruit.target, 50))  # again and again: a rate is of the last seconds
        return rate.inner_text() not in {"0", UNKNOWN}

    eventually(moves, PATIENCE, "a rate of new connections")
    assert page.locator("tr.seat .failed").all_inner_texts() == ["0", "0", "0"]


def test_without_javascript_it_reads(fruit: Proxy, window: Window) -> None:
    """Everything is in the page as it was sent, and the filter is a plain form."""
    page = window.open(f"http://{fruit.admin}/", java_script_enabled=False)
    expect(page.locator("tr.seat")).to_have_count(3)
    expect(page.locator("tr.seat .age").first).to_have_text(re.compile(r"^\d+ s$"))
    page.fill("#q", "banana")
    page.press("#q", "Enter")
    page.wait_for_url("**/?q=banana")
    expect(page.locator("tr.seat")).to_have_count(1)
    page.click("h2 a")
    expect(page.locator("h1")).to_have_text("fruit")


def test_filter_and_keyboard(shared_etcd: EtcdCluster, fruit: Proxy, window: Window) -> None:
    """`/` filters as one types, Escape takes it back, j and k move, Enter opens a service and u goes back up."""
    page = window.open(f"http://{fruit.admin}/")
    rows = page.locator("tr.seat:visible")
    expect(rows).to_have_count(3)
    page.keyboard.press("/")
    page.keyboard.type("ban")
    expect(rows).to_have_count(1)
    page.wait_for_url("**/?q=ban")
    Records(shared_etcd, "fruit").put("bandana", 9)
    expect(rows).to_have_count(2, timeout=PATIENCE * 1000)  # what comes meanwhile is filtered, too
    page.keyboard.press("Escape")
    expect(rows).to_have_count(4)
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert page.evaluate("document.activeElement.querySelector('.id').textContent") == "apple"
    page.keyboard.press("Enter")
    page.wait_for_url("**/service/fruit")
    expect(page.locator("h1")).to_have_text("fruit")
    page.keyboard.press("u")
    page.wait_for_url(f"http://{fruit.admin}/")
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_the_page_says_when_etcd_is_away_and_when_it_lost_its_server(
    tmp_path_factory: pytest.TempPathFactory, service: str, window: Window
) -> None:
    """What is shown is old, then: that is said first and plainly, and taken back when all is well."""
    cluster = EtcdCluster(tmp_path_factory.mktemp("etcd"), size=1)
    with cluster as etcd, servers("a") as (a,), Proxy(etcd, service) as proxy:
        Records(etcd, service).put("one", a.port)
        proxy.wait_instances("one")
        page = window.open(f"http://{proxy.admin}/")
        notice, lost = page.locator("#notices .notice"), page.locator("#lost")
        expect(notice).to_have_count(0)
        etcd.members[0].kill()
        expect(notice).to_contain_text("etcd does not answer", timeout=PATIENCE * 1000)
        assert page.evaluate(state_of("one")) == "up"
        etcd.start()
        expect(notice).to_have_count(0, timeout=3 * PATIENCE * 1000)
        expect(lost).to_be_hidden()
        proxy.signal(signal.SIGKILL)
        expect(lost).to_contain_text("does not answer", timeout=PATIENCE * 1000)


def test_hostile_names_and_reasons_are_text(
    shared_etcd: EtcdCluster, service: str, records: Records, window: Window
) -> None:
    """Whoever may write records must not get a script into the operator's browser: not by a name, not by a value."""
    script = "<img/src=x/onerror=alert(1)>"
    names = ("<script>alert(1)<&script>", '"onmouseover="alert(1)', "{{7*7}}", "'><b>b", "&lt;i&gt;")
    with servers("a") as (a,), Proxy(shared_etcd, service) as proxy:
        for name in names:
            records.put(name, a.port, owner=f"{script}:1", tags=[script])
        records.raw("broken", f"{script}:99999")
        eventually(lambda: len(proxy.instances()) == len(names), PATIENCE)
        page = window.open(f"http://{proxy.admin}/")
        for name in names:
            expect(page.locator("tr.seat .id", has_text=name)).to_have_count(1)
        expect(page.locator("tr.seat .id", has_text="broken")).to_have_count(1)
        page.goto(f"http://{proxy.admin}/?q={script}")
        assert page.input_value("#q") == script
        page.goto(f"http://{proxy.admin}/service/{service}")
        records.put("late", a.port, owner=script)  # and by the live way
        expect(page.locator("tr.seat .id", has_text="late")).to_have_count(1)
        assert page.locator("img, main b:not(dd b, .findings b)").count() == 0


def test_a_thousand_instances_are_shown_in_a_second_and_stay_live(
    shared_etcd: EtcdCluster, service: str, records: Records, window: Window, measured: list[str]
) -> None:
    with servers("a") as (a,), Proxy(shared_etcd, service, "--check-interval", "0") as proxy:
        put_many(shared_etcd, service, [f"127.0.{n // 250 + 1}.{n % 250 + 1}:{a.port}" for n in range(1000)])
        eventually(lambda: len(proxy.instances()) == 1000, PATIENCE)
        warm = window.open(f"http://{proxy.admin}/")  # the first asks for templates, too
        page = window.open(f"http://{proxy.admin}/")
        loaded = page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
        measured.append(f"1,000 instances: DOMContentLoaded after {loaded:.0f} ms")
        assert page.locator("tr.seat").count() == 1000
        assert loaded < SOON * 1000
        for each in (warm, page):
            holds(each, "document.documentElement.dataset.live === 'yes'")
        took = seconds_until(page, f"{state_of('late')} === 'up'", lambda: records.put("late", a.port))
        measured.append(f"1,000 instances: another one is on the page after {took * 1000:.0f} ms")
        assert took < SOON


def processor_time(pid: int) -> float:
    """Seconds of processor time that all threads of a process have used (clock_getcpuclockid(3), as Linux makes it)."""
    return time.clock_gettime((~pid << 3) | 2)


def test_an_open_page_costs_little_and_a_closed_one_nothing(
    shared_etcd: EtcdCluster, service: str, window: Window, measured: list[str]
) -> None:
    """100 instances that do nothing. Under 1 % of a core is what a calm machine shows; the ceiling is for others."""
    with servers("a") as (a,), Proxy(shared_etcd, service, "--check-interval", "0") as proxy:
        put_many(shared_etcd, service, [f"127.0.1.{n + 1}:{a.port}" for n in range(100)])
        eventually(lambda: len(proxy.instances()) == 100, PATIENCE)
        page = window.open(f"http://{proxy.admin}/")
        holds(page, "document.documentElement.dataset.live === 'yes'")
        shares = {}
        for what in ("open", "closed"):
            if what == "closed":
                page.close()
            time.sleep(0.5)
            before, began = processor_time(proxy.pid), time.monotonic()
            time.sleep(3)
            shares[what] = 100 * (processor_time(proxy.pid) - before) / (time.monotonic() - began)
            measured.append(f"100 instances, page {what}: {shares[what]:.2f} % of a core")
        assert shares["open"] < 3, measured
        assert shares["closed"] < 1, measured
