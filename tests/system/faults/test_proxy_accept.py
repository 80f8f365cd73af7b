"""`accept` that fails for whatever reason, through a whole dynproxy: the errors are put in at the system call."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.waiting import eventually
from tests.system.kernel_hosts import KernelProxy, Stage
from tests.system.kernel_load import Load

pytestmark = [pytest.mark.etcd, pytest.mark.netns, pytest.mark.system]

Figure = Callable[[str], None]

LONG = pytest.mark.long
OTHERS = ("ENOBUFS", "ENOMEM", "ECONNABORTED")


@contextlib.contextmanager
def failing_accept(pid: int, error: str, when: str = "1+") -> Iterator[None]:
    """Have a process's accept4 fail with this error: `when` are the calls, as strace counts them."""
    if shutil.which("strace") is None:
        pytest.fail("strace is not on the path: apt-get install strace", pytrace=False)
    inject = f"inject=accept4:error={error}:when={when}"
    tracer = subprocess.Popen(
        ["strace", "-p", str(pid), "-e", "trace=accept4", "-e", inject, "-o", "/dev/null"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert tracer.stderr is not None
    try:
        said = tracer.stderr.readline()
        assert "attached" in said, said
        yield
    finally:
        tracer.terminate()
        tracer.wait(10)
        tracer.stderr.close()


def worker(proxy: KernelProxy) -> int:
    """The process that carries bytes, 0 while there is none."""
    return next(iter(proxy.status()["plane"]["processes"]), 0)


@pytest.mark.parametrize("error", ["EINVAL", pytest.param("EBADF", marks=LONG)])
def test_C13_accept_errno_that_cannot_pass(stage: Stage, figure: Figure, error: str) -> None:
    """The worker is replaced, aloud, within 5 s; who comes meanwhile waits in the backlog."""
    with stage.serving(*stage.servers, plane="relay") as proxy:
        before = worker(proxy)
        with failing_accept(before, error):
            began = time.monotonic()
            with Load(stage.hosts.client, stage.to, 100) as clients:
                proxy.wait_for("this listener is broken", 5)
                eventually(lambda: worker(proxy) not in {0, before}, 5, "it was replaced")
                took = time.monotonic() - began
                time.sleep(1)
        assert took < 5
        assert proxy.metric("amb_relay_worker_restarts_total") == 1
        assert clients.outcome.ended >= 100
        failed = sum(clients.outcome.errors.values())
        assert failed <= 2, "more broke than can have been in flight"
    figure(f"{error}: another worker after {took:.2f} s, {failed} of {clients.outcome.ended} connections failed")


def test_C13_accept_errno_of_a_listener_that_somebody_shut_down(stage: Stage, figure: Figure) -> None:
    """Whoever shares a listening socket can end it for everybody: the next worker has it listen again."""
    with stage.serving(*stage.servers, plane="relay") as proxy:
        before = worker(proxy)
        shut_down(before, stage.port)
        began = time.monotonic()
        proxy.wait_for("this listener is broken", 5)
        eventually(lambda: worker(proxy) not in {0, before}, 5, "it was replaced")
        eventually(lambda: answered(stage), 5, "clients are served")
        took = time.monotonic() - began
        assert len(stage.answers(6)) == 3
    assert took < 5
    figure(f"a listener that was shut down served again after {took:.2f} s")


def answered(stage: Stage) -> bool:
    try:
        return bool(stage.ask())
    except ConnectionError:
        return False


SHUT_DOWN = """
import ctypes, os, socket, sys
process = os.pidfd_open(int(sys.argv[1]))
for number in map(int, os.listdir(f"/proc/{sys.argv[1]}/fd")):
    descriptor = ctypes.CDLL(None, use_errno=True).syscall(438, process, number, 0)  # pidfd_getfd
    if descriptor < 0:
        continue
    try:
        sock = socket.socket(fileno=descriptor)
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        continue
    if listens and sock.getsockname()[1] == int(sys.argv[2]):
        sock.shutdown(socket.SHUT_RD)
        print("done")
"""


def shut_down(pid: int, port: int) -> None:
    """Shut a process's listening sockets on a port down, by descriptors of our own to them."""
    done = subprocess.run(
        ["python3", "-c", SHUT_DOWN, str(pid), str(port)], capture_output=True, text=True, check=False, timeout=30
    )
    assert "done" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "error", ["EMFILE", *(pytest.param(error, marks=LONG) for error in ("ENOBUFS", "ENOMEM", "ECONNABORTED"))]
)
def test_C13_accept_errno_that_passes(stage: Stage, figure: Figure, error: str) -> None:
    """Said at most once, the same worker goes on, and everybody is served once it has passed."""
    with stage.serving(*stage.servers, plane="relay") as proxy:
        before = worker(proxy)
        with failing_accept(before, error, "1..5"), Load(stage.hosts.client, stage.to, 100) as clients:
            time.sleep(1.5)
        assert clients.outcome.errors == {}
        assert clients.outcome.ended >= 100
        assert worker(proxy) == before
        assert proxy.log.count("pausing 0.1 s at a time") == (error != "ECONNABORTED")
    figure(f"{error} five times: 0 of {clients.outcome.ended} failed, the longest took {clients.outcome.worst:.2f} s")
