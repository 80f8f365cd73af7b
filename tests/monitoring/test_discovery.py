"""A real Prometheus finds real programs by what they announced, and scrapes them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ambnet.announce import host_name
from tests.monitoring.queries import MONITORING, rules
from tests.support.etcd_cluster import EtcdCluster
from tests.support.ports import free_port
from tests.support.programs import ROOT, Program, _clean_environment, fetch
from tests.support.prometheus import Prometheus
from tests.support.waiting import eventually
from tests.system.proxies import Proxy, Records, servers

pytestmark = [pytest.mark.etcd, pytest.mark.system]

FLEET = "/discovered/"


@pytest.fixture(scope="module")
def proxies(shared_etcd: EtcdCluster) -> Iterator[list[Proxy]]:
    """Two dynproxies, one of them with an instance, both announced."""
    records = Records(shared_etcd, "discovered-1")
    with (
        servers("a") as (a,),
        Proxy(shared_etcd, "discovered-1", "--fleet-prefix", FLEET) as one,
        Proxy(shared_etcd, "discovered-2", "--fleet-prefix", FLEET, "--log", "json") as two,
    ):
        records.put("i", a.port)
        one.wait_instances("i")
        two.wait_ready()
        yield [one, two]


def discovered(etcd: EtcdCluster) -> list[dict[str, Any]]:
    """What `ambctl sd` prints, for file_sd_configs."""
    done = subprocess.run(
        [sys.executable, "-m", "ambctl", "sd", "--fleet-prefix", FLEET, "--etcd", ",".join(etcd.endpoints)],
        cwd=ROOT,
        env=_clean_environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def config(folder: Path, **discovery: object) -> dict[str, Any]:
    """The example's configuration, in a hurry, with this discovery in place of its own, and its rules beside it."""
    shutil.copy(MONITORING / "rules.yml", folder)
    example: dict[str, Any] = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    example["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (scrape,) = example["scrape_configs"]
    del scrape["http_sd_configs"]
    scrape |= discovery
    return example


def test_prometheus_follows_what_the_page_serves(
    shared_etcd: EtcdCluster, proxies: list[Proxy], tmp_path: Path
) -> None:
    """`ambctl ui` at /sd: who announces itself is scraped, who ends is forgotten, without a change of configuration."""
    page = f"127.0.0.1:{free_port()}"
    where = ("--listen", page, "--etcd", ",".join(shared_etcd.endpoints), "--fleet-prefix", FLEET)
    by_page = {"http_sd_configs": [{"url": f"http://{page}/sd", "refresh_interval": "1s"}]}
    with (
        Proxy(shared_etcd, "discovered-3", "--fleet-prefix", FLEET) as third,
        Program("ambctl", "ui", *where),
        Prometheus(tmp_path, config(tmp_path, **by_page)) as prometheus,
    ):
        assert_scraped(prometheus, [*proxies, third])
        assert prometheus.rules() == {rule["alert"] for rule in rules()}
        assert json.loads(fetch(f"http://{page}/sd")[1]) == discovered(shared_etcd)
        third.stop()
        eventually(lambda: instances(prometheus) == {proxy.admin for proxy in proxies}, 60, "it is forgotten")
        assert not prometheus.query('ALERTS{severity="critical"}')


def instances(prometheus: Prometheus) -> set[str]:
    """Whom Prometheus scrapes."""
    return {each["labels"]["instance"] for each in prometheus.targets()}


def assert_scraped(prometheus: Prometheus, proxies: list[Proxy]) -> None:
    """All are scraped, labelled as the example says, and what they tell can be asked for. The first has an instance."""

    def scraped() -> bool:
        targets = prometheus.targets()
        assert [each["health"] for each in targets] == ["up"] * len(proxies), targets
        assert {each["labels"]["instance"] for each in targets} == {proxy.admin for proxy in proxies}
        assert {each["labels"]["job"] for each in targets} == {"dynproxy"}
        assert {each["labels"]["host"] for each in targets} == {host_name()}
        return True

    eventually(scraped, 60, "all are scraped")
    expected = {proxy.admin: int(proxy is proxies[0]) for proxy in proxies}
    eventually(
        lambda: (
            {labels["instance"]: value for labels, value in prometheus.query('amb_instances{state="up"}')} == expected
        ),
        30,
        "what they tell can be asked for",
    )
    ((labels, sent),) = prometheus.query("count by (program) (amb_build_info)")
    assert (labels, sent) == ({"program": "dynproxy"}, len(proxies))


def test_a_proxy_that_is_told_so_logs_objects(proxies: list[Proxy]) -> None:
    lines = [json.loads(line) for line in proxies[1].lines]
    assert {"ts", "level", "logger", "msg"} == set.union(*map(set, lines))
    assert any("listening" in line["msg"] for line in lines)
