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
from tests.support.programs import ROOT, _clean_environment
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
    """What `ambctl sd` prints."""
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


def test_prometheus_scrapes_what_ambctl_sd_prints(
    shared_etcd: EtcdCluster, proxies: list[Proxy], tmp_path: Path
) -> None:
    """By a file, with the example's rules and labels."""
    eventually(lambda: len(discovered(shared_etcd)) == 2, 20, "both are announced")
    (tmp_path / "targets.json").write_text(json.dumps(discovered(shared_etcd)))
    by_file = {"file_sd_configs": [{"files": [str(tmp_path / "targets.json")]}]}
    with Prometheus(tmp_path, config(tmp_path, **by_file)) as prometheus:
        assert_scraped(prometheus, proxies)
        assert prometheus.rules() == {rule["alert"] for rule in rules()}


def assert_scraped(prometheus: Prometheus, proxies: list[Proxy]) -> None:
    """Both are scraped, labelled as the example says, and what they tell can be asked for."""

    def scraped() -> bool:
        targets = prometheus.targets()
        assert [each["health"] for each in targets] == ["up", "up"], targets
        assert {each["labels"]["instance"] for each in targets} == {proxy.admin for proxy in proxies}
        assert {each["labels"]["job"] for each in targets} == {"dynproxy"}
        assert {each["labels"]["host"] for each in targets} == {host_name()}
        return True

    eventually(scraped, 60, "both are scraped")
    one, two = proxies
    eventually(
        lambda: (
            {labels["instance"]: value for labels, value in prometheus.query('amb_instances{state="up"}')}
            == {one.admin: 1, two.admin: 0}
        ),
        30,
        "what they tell can be asked for",
    )
    ((labels, sent),) = prometheus.query("count by (program) (amb_build_info)")
    assert (labels, sent) == ({"program": "dynproxy"}, 2)


def test_a_proxy_that_is_told_so_logs_objects(proxies: list[Proxy]) -> None:
    lines = [json.loads(line) for line in proxies[1].lines]
    assert {"ts", "level", "logger", "msg"} == set.union(*map(set, lines))
    assert any("listening" in line["msg"] for line in lines)
