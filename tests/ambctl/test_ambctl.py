"""ambctl as a program, on a real etcd."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ambctl.common import Common
from ambctl.verbs import VERBS
from tests.support.etcd_cluster import EtcdCluster
from tests.support.ports import free_port
from tests.support.programs import ROOT, _clean_environment

pytestmark = pytest.mark.etcd

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def ambctl(shared_etcd: EtcdCluster, prefix: str) -> Run:
    """Runs ambctl on a corner of etcd of its own."""

    def run(*arguments: str, etcd: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ambctl", *arguments],
            cwd=ROOT,
            env={**_clean_environment(), "AMB_ETCD": etcd or ",".join(shared_etcd.endpoints), "AMB_PREFIX": prefix},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    return run


@contextlib.contextmanager
def watching(shared_etcd: EtcdCluster, prefix: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`ambctl watch` for the length of a block. Whoever runs the tests in the background may have SIGINT ignored, which
    is inherited, and meant for programs like this one: it is made to listen.
    """
    with subprocess.Popen(
        ["env", "--default-signal=INT", sys.executable, "-m", "ambctl", "watch", *arguments],
        cwd=ROOT,
        env={**_clean_environment(), "AMB_ETCD": ",".join(shared_etcd.endpoints), "AMB_PREFIX": prefix},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    """The next line of output; an empty one when there will be none."""
    assert process.stdout is not None
    return process.stdout.readline()


def loaded(text: str) -> Any:
    return json.loads(text)


def test_what_was_put_is_listed_shown_and_removed(ambctl: Run, shared_etcd: EtcdCluster, prefix: str) -> None:
    done = ambctl("put", "redis-A", "one", "10.1.2.3:6379", "--weight", "3")
    assert (done.returncode, done.stderr) == (0, "")
    # An independent reader agrees.
    value = shared_etcd.etcdctl("get", "--print-value-only", f"{prefix}redis-A/one")
    assert value == '{"host": "10.1.2.3", "port": 6379, "weight": 3}\n'

    assert ambctl("ls").stdout.splitlines() == [
        "SERVICE  INSTANCE  ADDRESS        STATE  WEIGHT",
        "redis-A  one       10.1.2.3:6379  up     3",
    ]
    shown = loaded(ambctl("--json", "show", "redis-A").stdout)
    assert [(each["id"], each["port"], each["lease"]) for each in shown["instances"]] == [("one", 6379, None)]

    done = ambctl("rm", "redis-A", "one")
    assert (done.returncode, done.stdout) == (0, f"{prefix}redis-A/one removed\n")
    assert shared_etcd.etcdctl("get", f"{prefix}redis-A/one") == ""


def test_what_does_not_exist_is_said_in_a_line_and_exit_code_1(ambctl: Run, prefix: str) -> None:
    for arguments, words in {
        ("show", "nobody"): f"ambctl: no service nobody under {prefix}\n",
        ("rm", "redis-A", "nobody"): f"ambctl: no record {prefix}redis-A/nobody\n",
    }.items():
        done = ambctl(*arguments)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", words)


def test_a_service_that_is_nearly_there_is_named(ambctl: Run, prefix: str) -> None:
    ambctl("put", "redis-A", "one", "10.1.2.3:6379")
    done = ambctl("show", "reddis-A")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"ambctl: no service reddis-A under {prefix}; did you mean 'redis-A'?\n"
    done = ambctl("rm", "redis-A", "oen")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"ambctl: no record {prefix}redis-A/oen; did you mean '{prefix}redis-A/one'?\n"


def test_show_tells_the_time_that_a_lease_has_left(ambctl: Run, shared_etcd: EtcdCluster, prefix: str) -> None:
    lease = shared_etcd.etcdctl("lease", "grant", "600").split()[1]
    shared_etcd.etcdctl("put", f"{prefix}redis-A/one", "10.1.2.3:6379", f"--lease={lease}")
    ambctl("put", "redis-A", "two", "10.1.2.4:6379")
    one, two = loaded(ambctl("show", "redis-A", "--json").stdout)["instances"]
    assert one["lease"] == lease.lstrip("0")
    assert 0 < one["lease_left"] <= 600
    assert one["revision"] < two["revision"]
    assert (two["lease"], two["lease_left"]) == (None, None)
    assert re.search(rf"^  lease +{one['lease']}, \d+ s left$", ambctl("show", "redis-A").stdout, re.MULTILINE)


def test_what_an_operator_drained_is_listed_as_draining(ambctl: Run, shared_etcd: EtcdCluster, prefix: str) -> None:
    ambctl("put", "redis-A", "one", "10.1.2.3:6379")
    fleet = f"/fleet-of{prefix}"
    shared_etcd.etcdctl("put", f"{fleet}drains/instances/redis-A/one", '{"by": "ann", "why": "new disk"}')
    listed = ambctl("ls", "--fleet-prefix", fleet).stdout.splitlines()[1].split(maxsplit=5)
    assert listed[3:] == ["draining", "1", "drained by ann: new disk"]
    document = loaded(ambctl("ls", "--fleet-prefix", fleet, "--json").stdout)
    assert document["services"]["redis-A"][0]["drained"] == "redis-A/one"


def test_an_empty_registry_is_no_error(ambctl: Run, prefix: str) -> None:
    done = ambctl("ls")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"ambctl: no records under {prefix}\n")
    assert loaded(ambctl("ls", "--json").stdout)["services"] == {}


def test_a_hostile_record_is_listed_with_the_reason_and_can_be_removed(
    ambctl: Run, shared_etcd: EtcdCluster, prefix: str
) -> None:
    shared_etcd.etcdctl("put", f"{prefix}redis-A/\x1b[2Jevil", "169.254.169.254:80")
    text = ambctl("ls").stdout
    assert r"\x1b[2Jevil" in text
    assert text.replace("\n", "").isprintable()
    (refused,) = loaded(ambctl("ls", "--json").stdout)["refused"]
    assert refused["key"] == rf"{prefix}redis-A/\x1b[2Jevil"
    assert ambctl("rm", "redis-A", "\x1b[2Jevil").returncode == 0
    assert shared_etcd.etcdctl("get", "--prefix", prefix) == ""


def test_a_record_with_a_ttl_ends_by_itself(ambctl: Run, shared_etcd: EtcdCluster, prefix: str) -> None:
    document = loaded(ambctl("put", "redis-A", "canary", "10.1.2.3:6379", "--ttl", "60", "--json").stdout)
    remaining = shared_etcd.etcdctl("lease", "timetolive", document["lease"], "--keys")
    assert f"[{prefix}redis-A/canary]" in remaining
    shared_etcd.etcdctl("lease", "revoke", document["lease"])
    assert shared_etcd.etcdctl("get", "--prefix", prefix) == ""


def test_a_registrars_record_is_overwritten_by_force_only(ambctl: Run, shared_etcd: EtcdCluster, prefix: str) -> None:
    """A plain write would take the record off its lease: it would outlive its container."""
    lease = shared_etcd.etcdctl("lease", "grant", "60").split()[1]
    kept = '{"host": "10.1.2.3", "port": 6379, "owner": "core-01"}'
    shared_etcd.etcdctl("put", f"{prefix}redis-A/one", kept, f"--lease={lease}")

    done = ambctl("put", "redis-A", "one", "10.9.9.9:1")
    assert done.returncode == 1
    assert "is kept by the registrar of core-01; --force" in done.stderr
    assert shared_etcd.etcdctl("get", "--print-value-only", f"{prefix}redis-A/one").strip() == kept
    assert ambctl("put", "redis-A", "one", "10.9.9.9:1", "--force").returncode == 0

    shared_etcd.etcdctl("put", f"{prefix}redis-A/one", kept, f"--lease={lease}")
    done = ambctl("rm", "redis-A", "one")
    assert done.returncode == 0
    assert "will write it again" in done.stderr


def test_watch_says_what_there_is_then_every_change(shared_etcd: EtcdCluster, prefix: str) -> None:
    shared_etcd.etcdctl("put", f"{prefix}redis-A/one", "10.1.2.3:6379")
    shared_etcd.etcdctl("put", f"{prefix}web/one", "10.1.2.4:80")
    with watching(shared_etcd, prefix, "redis-A") as process:
        assert line(process) == "+ redis-A/one 10.1.2.3:6379 up\n"
        assert line(process) == "# 1 instance known, watching\n"
        shared_etcd.etcdctl("put", f"{prefix}redis-A/one", '{"host": "10.1.2.3", "port": 6379, "state": "draining"}')
        assert line(process) == "~ redis-A/one 10.1.2.3:6379 draining\n"
        shared_etcd.etcdctl("put", f"{prefix}redis-A/one", "127.0.0.1:1")
        assert line(process).startswith(f"! {prefix}redis-A/one address_denied")
        shared_etcd.etcdctl("del", f"{prefix}redis-A/one")
        assert line(process) == "- redis-A/one 10.1.2.3:6379 draining\n"


def test_watch_as_json_is_a_document_a_line(shared_etcd: EtcdCluster, prefix: str) -> None:
    with watching(shared_etcd, prefix, "--json") as process:
        assert loaded(line(process)) == {"event": "known", "instances": 0}
        shared_etcd.etcdctl("put", f"{prefix}redis-A/one", "10.1.2.3:6379")
        document = loaded(line(process))
        assert (document["event"], document["instance"]["host"]) == ("added", "10.1.2.3")


def test_an_interrupted_watch_ends_quietly_with_130(shared_etcd: EtcdCluster, prefix: str) -> None:
    with watching(shared_etcd, prefix) as process:
        assert line(process) == "# 0 instances known, watching\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
        assert process.returncode == 130
        assert out == ""
        assert "Traceback" not in err


def test_a_reader_that_went_away_ends_a_watch_quietly(shared_etcd: EtcdCluster, prefix: str) -> None:
    with watching(shared_etcd, prefix) as process:
        assert line(process) == "# 0 instances known, watching\n"
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        shared_etcd.etcdctl("put", f"{prefix}redis-A/one", "10.1.2.3:6379")
        assert process.wait(10) == 141
        err = process.stderr.read()
        assert "BrokenPipe" not in err


@pytest.mark.parametrize(
    "arguments", [("ls",), ("watch",), ("put", "a", "b", "10.1.2.3:80")], ids=lambda given: given[0]
)
def test_an_unreachable_etcd_is_said_in_one_line_in_time(ambctl: Run, arguments: tuple[str, ...]) -> None:
    started = time.monotonic()
    done = ambctl(*arguments, "--timeout", "1", etcd=f"http://127.0.0.1:{free_port()}")
    assert time.monotonic() - started < 5
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("ambctl: etcd: ")


def test_a_pipe_gets_no_colours_unless_they_are_asked_for(ambctl: Run) -> None:
    ambctl("put", "redis-A", "one", "10.1.2.3:6379")
    assert "\x1b" not in ambctl("ls").stdout
    assert "\x1b[32m" in ambctl("ls", "--color", "always").stdout
    assert "\x1b[32m" in ambctl("show", "redis-A", "--color=always").stdout


@pytest.mark.parametrize(
    ("redirection", "code", "words"),
    [
        (">/dev/full", 2, "ambctl: standard output: No space left on device\n"),
        (">&-", 2, "ambctl: standard output: it is closed\n"),
    ],
)
def test_output_that_goes_nowhere_is_no_traceback(redirection: str, code: int, words: str) -> None:
    command = f"set -o pipefail; {sys.executable} -m ambctl env a:80 --address 10.1.2.3 {redirection}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", words)


@pytest.mark.parametrize("arguments", [("env", "a:80", "--address", "10.1.2.3"), ("completion", "bash")])
def test_output_that_nobody_reads_is_no_traceback(arguments: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-m", "ambctl", *arguments]
        done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=60)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_terminal_of_another_alphabet_gets_escapes() -> None:
    env = {**_clean_environment(), "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "ambctl", "--help"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"[OPTION\u2026] VERB" in done.stdout


def test_help_of_all_verbs_loads_nothing_heavy() -> None:
    """Nobody waits for gRPC to be told how to spell a verb."""
    program = (
        "import sys\nfrom ambctl.verbs import read\ntry:\n    read(['--help'])\nexcept SystemExit:\n"
        "    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded_modules = {name.partition(".")[0] for name in done.stderr.split()}
    assert "ambctl" in loaded_modules
    assert not loaded_modules & {"grpc", "aetcd", "google", "docker", "aiohttp", "rich", "shtab", "jinja2", "requests"}
    for verb in VERBS:
        assert f"\n  {verb} " in done.stdout
    assert "exit codes:\n  0    " in done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_its_settings_its_coroutine_and_an_example(verb: str) -> None:
    settings = VERBS[verb].settings(verb)
    assert issubclass(settings, Common)
    assert inspect.iscoroutinefunction(VERBS[verb].run(verb))
    examples: tuple[str, ...] = settings.EXAMPLES  # type: ignore[attr-defined]
    assert any(f"ambctl {verb}" in example for example in examples)


def test_wrong_arguments_are_one_line_and_exit_code_2(ambctl: Run) -> None:
    done = ambctl("put", "redis-A", "one", "169.254.169.254:80")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("ambctl: HOST:PORT: ")
