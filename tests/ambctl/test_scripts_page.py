"""What `docs/scripts.md` promises to scripts is what ambctl does: exit codes, and the shape of each document."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from ambcore.findings import Finding, Level
from ambctl.doctor.summary import document as doctors
from ambctl.verbs import EXIT_CODES, VERBS
from tests.support.etcd_cluster import EtcdCluster
from tests.support.ports import free_port
from tests.support.programs import ROOT, Program, _clean_environment

PAGE = (ROOT / "docs/scripts.md").read_text()
BLOCK = re.compile(r"^### (\w+)\n.*?^```json\n(.*?)^```", re.MULTILINE | re.DOTALL)
DOCUMENTS = {name: json.loads(text) for name, text in BLOCK.findall(PAGE)}
WITHOUT = {"ui", "completion"}  # they write no document
NAMES_ARE_DATA = {"services", "attributes", "variables", "labels"}  # maps whose keys are no fields


def test_the_exit_codes_of_the_page_are_those_of_the_help() -> None:
    told = {int(code): says for code, says in re.findall(r"^\| (\d+) \| (.*) \|$", PAGE, re.MULTILINE)}
    assert set(told) == {0, 1, 2, 3, 130, 141}
    helped = " ".join(EXIT_CODES.split())
    for code, says in told.items():
        assert f"{code} {says}" in helped


def test_every_verb_has_its_document_on_the_page() -> None:
    assert set(DOCUMENTS) == set(VERBS) - WITHOUT


def shape(value: Any, name: str = "") -> Any:
    """A document's fields, without what they hold: of a list those of its first member."""
    if isinstance(value, dict):
        if name in NAMES_ARE_DATA:
            return {"…": shape(next(iter(value.values()), None))}
        return {key: shape(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return ...


def same(told: Any, found: Any) -> bool:
    """Whether two shapes are one, where a list or a value may be empty or null in one of them."""
    if isinstance(told, dict) and isinstance(found, dict):
        return told.keys() == found.keys() and all(same(told[key], found[key]) for key in told)
    if isinstance(told, list) and isinstance(found, list):
        return not told or not found or same(told[0], found[0])
    return ... in (told, found)


@pytest.mark.etcd
def test_documents_have_the_fields_that_the_page_shows(shared_etcd: EtcdCluster, prefix: str) -> None:
    env = {
        **_clean_environment(),
        "AMB_ETCD": ",".join(shared_etcd.endpoints),
        "AMB_PREFIX": prefix,
        "AMB_FLEET_PREFIX": f"/fleet-of{prefix}",
        "DOCKER_HOST": "unix:///nonexistent/docker.sock",
    }

    def ask(*arguments: str) -> Any:
        command = [sys.executable, "-m", "ambctl", *arguments, "--json"]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode in (0, 1), done.stderr
        return json.loads(done.stdout)

    lease = shared_etcd.etcdctl("lease", "grant", "600").split()[1]
    record = {"host": "10.1.2.3", "port": 80, "tags": ["a"], "attributes": {"zone": "1"}}
    shared_etcd.etcdctl("put", f"{prefix}redis-A/evil", "127.0.0.1:80")
    shared_etcd.etcdctl("put", f"{prefix}redis-A/one", json.dumps(record), f"--lease={lease}")
    asked: dict[str, Callable[[], Any]] = {
        "put": lambda: ask("put", "redis-A", "two", "10.1.2.4:80"),
        "ls": lambda: ask("ls"),
        "show": lambda: ask("show", "redis-A"),
        "drain": lambda: ask("drain", "redis-A/two"),
        "drains": lambda: ask("drains"),
        "undrain": lambda: ask("undrain", "redis-A/two"),
        "rm": lambda: ask("rm", "redis-A", "two"),
        "env": lambda: ask("env", "redis-A:6379", "--address", "172.17.0.1"),
        "explain": lambda: ask("explain", "redis-A/evil"),
        "top": lambda: ask("top"),
        "sd": lambda: ask("sd"),
        "doctor": lambda: doctors([("etcd", [Finding(Level.RED, "etcd", "away", "start it")])]),
    }
    admin = ("--admin", f":{free_port()}", "--plane", "relay", "--drain", "0")
    with Program("dynproxy", "redis-A", str(free_port()), *admin, env=env) as proxy:
        proxy.wait_for("announced as", 30)
        found = {name: look() for name, look in asked.items()}
    assert set(found) == set(DOCUMENTS) - {"watch"}  # which has a test of its own beside the others of watch
    for name, document in found.items():
        assert same(shape(DOCUMENTS[name]), shape(document)), f"{name}: {json.dumps(document, indent=2)}"


def test_shapes_that_differ_are_told_apart() -> None:
    """The comparison above could not fail otherwise."""
    told = {"a": [{"b": 1}], "services": {"x": {"c": 1}}}
    assert same(shape(told), shape({"a": [], "services": {"y": {"c": None}}}))
    others: tuple[Any, ...] = ({"a": [{"c": 1}], "services": {}}, {"a": []}, {"a": [], "services": {"x": {"d": 1}}})
    for other in others:
        assert not same(shape(told), shape(other))
