"""`ambctl ui`: the whole fleet on one page, by what etcd holds and what the announced programs say."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.page.conftest import PATIENCE, Window, holds, seconds_until
from tests.page.test_live import SOON, state_of
from tests.support.etcd_cluster import EtcdCluster
from tests.support.ports import free_port
from tests.support.programs import Program, fetch
from tests.support.waiting import eventually
from tests.system.proxies import Proxy, Records, servers

pytestmark = [pytest.mark.etcd, pytest.mark.system]


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdCluster]:
    """One of these tests' own: the page shows all that is in it."""
    with EtcdCluster(tmp_path_factory.mktemp("ui"), size=1) as cluster:
        yield cluster


class Ui(Program):
    """The page of a cluster."""

    def __init__(self, etcd: EtcdCluster) -> None:
        self.where = f"127.0.0.1:{free_port()}"
        options = ("--listen", self.where, "--etcd", ",".join(etcd.endpoints), "--instances-in", "127.0.0.0/8")
        super().__init__("ambctl", "ui", *options)

    @property
    def url(self) -> str:
        eventually(lambda: fetch(f"http://{self.where}/readyz")[0] == 200, PATIENCE, "the page's server")
        return f"http://{self.where}/"


def test_the_fleet_on_one_page(etcd: EtcdCluster, window: Window) -> None:
    """Services of two proxies, their traffic summed; drains, leases and programs; an instance comes without reload."""
    records, other = Records(etcd, "redis-A"), Records(etcd, "web")
    with (
        servers("a", "b") as (a, b),
        Proxy(etcd, "redis-A") as one,
        Proxy(etcd, "redis-A") as two,
        Proxy(etcd, "web") as web,
        Ui(etcd) as ui,
    ):
        lease = etcd.etcdctl("lease", "grant", "600").split()[1]
        etcd.etcdctl("put", f"--lease={lease}", "/services/redis-A/alpha", f"127.0.0.1:{a.port}")
        other.put("site", b.port, owner="core-02:ABCD")
        for proxy in (one, two):
            proxy.wait_instances("alpha", seconds=2 * PATIENCE)
        web.wait_instances("site", seconds=2 * PATIENCE)
        page = window.open(ui.url)
        expect(page.locator("#services > .service")).to_have_count(2)
        expect(page.locator("#programs tbody tr")).to_have_count(3, timeout=PATIENCE * 1000)
        expect(page.locator("#programs .mark.green")).to_have_count(3, timeout=PATIENCE * 1000)
        expect(page.locator("tr.seat", has_text="alpha").locator(".lease")).to_have_text(
            "9 min", timeout=PATIENCE * 1000
        )
        expect(page.locator("tr.seat", has_text="site").locator(".host")).to_have_text("core-02")
        took = seconds_until(page, f"{state_of('beta')} === 'up'", lambda: records.put("beta", b.port))
        print(f"\nan instance starts: on the fleet's page after {took * 1000:.0f} ms")  # noqa: T201
        assert took < SOON
        etcd.etcdctl(
            "put", "/ambassadors/drains/instances/redis-A/beta", json.dumps({"why": "<b>new</b> disks", "by": "eve"})
        )
        holds(page, f"{state_of('beta')} === 'draining'")
        expect(page.locator("tr.seat.draining .why")).to_have_text("drained by eve: <b>new</b> disks")
        groups = json.loads(fetch(f"{ui.url}sd")[1])
        assert {target for group in groups for target in group["targets"]} == {one.admin, two.admin, web.admin}
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        page.wait_for_url("**/service/redis-A")
        expect(page.locator("#stands tbody tr")).to_have_count(2)
        expect(page.locator("#findings li").first).to_be_visible(timeout=PATIENCE * 1000)


def test_what_announces_itself_is_not_believed(etcd: EtcdCluster, window: Window) -> None:
    """A program that answers with anything, or not at all, is shown as such; the page goes on."""
    wild = {
        "kind": "dynproxy",
        "host": "evil",
        "version": "9",
        "admin": f"http://127.0.0.1:{free_port()}",
        "services": ["web"],
        "since": "2026-01-31T12:00:00Z",
    }
    etcd.etcdctl("put", "/ambassadors/programs/dynproxy/evil-1", "--", json.dumps(wild))
    etcd.etcdctl("put", "/ambassadors/programs/dynproxy/evil-2", "--", '{"admin": "javascript:alert(1)"}')
    with Ui(etcd) as ui:
        page = window.open(ui.url)
        expect(page.locator("#notices")).to_contain_text("evil-1 cannot be asked", timeout=PATIENCE * 1000)
        assert page.locator("a[href^=javascript]").count() == 0
    etcd.etcdctl("del", "--prefix", "/ambassadors/programs/dynproxy/evil")
