"""An instance that one proxy cannot reach: everybody who asks is told from where, since when, and why."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import Any

import pytest

from ambnet.announce import host_name
from tests.support.etcd_cluster import EtcdCluster
from tests.support.ports import free_port
from tests.support.programs import ROOT, Program
from tests.support.waiting import eventually

pytestmark = [pytest.mark.etcd, pytest.mark.system]


def test_show_and_explain_tell_from_which_hosts_an_instance_is_unreachable(
    shared_etcd: EtcdCluster, prefix: str
) -> None:
    """Though the proxy has no admin server: it is in its announcement, and goes from there once the instance answers.
    What is down stays word for word what it was, so nothing is written meanwhile.
    """
    fleet = f"/fleet{prefix}"
    where = ("--etcd", ",".join(shared_etcd.endpoints), "--prefix", prefix, "--fleet-prefix", fleet)

    def ambctl(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ambctl", *arguments, *where, "--instances-in", "127.0.0.0/8"]
        return subprocess.run(
            command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=30, check=False
        )

    def unreachable_from() -> list[dict[str, Any]]:
        (one,) = json.loads(ambctl("show", "web", "--json").stdout)["instances"]
        found: list[dict[str, Any]] = one["unreachable_from"]
        return found

    def announced() -> int:
        """The revision of the proxy's announcement."""
        (item,) = shared_etcd.etcdctl_json("get", "--prefix", f"{fleet}programs/dynproxy/")["kvs"]
        return int(item["mod_revision"])

    options = ("--plane", "relay", "--instances-in", "127.0.0.0/8", "--check-interval", "0.5")
    with socket.socket() as instance:
        instance.bind(("127.0.0.1", 0))  # nobody listens there yet, and nobody else can
        port = instance.getsockname()[1]
        shared_etcd.etcdctl("put", f"{prefix}web/one", json.dumps({"host": "127.0.0.1", "port": port}))
        with Program("dynproxy", "web", str(free_port()), *where, *options):
            (seen,) = eventually(unreachable_from, 40)
            assert (seen["host"], seen["why"]) == (host_name(), "refused")
            revision = announced()
            shown = ambctl("show", "web")
            assert f"unreachable  from {seen['host']} since {seen['since']}: refused" in shown.stdout
            told = json.loads(ambctl("explain", "web", "--json").stdout)
            (said,) = [step["says"] for step in told["steps"] if "announces" in step["says"]]
            assert said == f"web/one has not answered its checks since {seen['since']}: refused; it announces that"
            assert announced() == revision
            instance.listen()
            eventually(lambda: not unreachable_from(), 40)
