"""The proxy that faults are made with does what it says: a fault that is none would let every test pass."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.fault_proxy import FaultProxy, Toxic
from tests.support.waiting import eventually

PATIENCE = 20.0  # seconds; how long an honest answer may take on a busy machine


class Echo:
    """A server that sends back what it gets, and its end after the client's."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.endings: list[str] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(client,)))
                self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                while data := client.recv(65536):
                    client.sendall(data)
            except ConnectionError as error:
                self.endings.append(type(error).__name__)
            else:
                self.endings.append("end")
                with contextlib.suppress(ConnectionError):  # a client that has gone altogether hears no more
                    client.sendall(b" and the end")


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    with FaultProxy(echo.address) as made:
        yield made


def connect(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), PATIENCE)


def said(client: socket.socket, text: bytes) -> tuple[bytes, float]:
    """What comes back of a text, as many bytes; and after how many seconds."""
    started = time.monotonic()
    client.sendall(text)
    with client.makefile("rb") as answers:
        answer = answers.read(len(text))
    return answer, time.monotonic() - started


def test_without_toxics_bytes_and_ends_pass(proxy: FaultProxy, echo: Echo) -> None:
    """A megabyte each way, and an answer to a half-close."""
    text = bytes(range(256)) * 4096
    with connect(proxy) as client:

        def write() -> None:
            client.sendall(text)
            client.shutdown(socket.SHUT_WR)

        writer = threading.Thread(target=write)
        writer.start()
        with client.makefile("rb") as answers:
            assert answers.read() == text + b" and the end"
        writer.join()
    assert echo.endings == ["end"]
    assert (proxy.accepted, proxy.beginnings) == (1, [text[:64]])


def test_a_url_keeps_its_scheme(echo: Echo) -> None:
    with FaultProxy(f"https://{echo.address}") as proxy:
        assert proxy.url == f"https://127.0.0.1:{proxy.port}"


def test_latency_counts_each_way_and_jitter_keeps_the_order(proxy: FaultProxy) -> None:
    with connect(proxy) as client:
        said(client, b"connected")
        proxy.both_ways(Toxic(latency=0.3, jitter=0.1))
        text = bytes(range(200))
        with client.makefile("rb") as answers:
            started = time.monotonic()
            for value in text:
                client.sendall(bytes((value,)))
            assert answers.read(len(text)) == text
        assert time.monotonic() - started >= 2 * (0.3 - 0.1)
        proxy.restore()
        assert said(client, b"again")[0] == b"again"


def test_bandwidth_and_slices_take_their_time(proxy: FaultProxy) -> None:
    with connect(proxy) as client:
        proxy.set(to_client=Toxic(rate=20_000))
        answer, took = said(client, b"x" * 32_768)  # the pause comes after each piece, the last one's is not seen
        assert answer == b"x" * 32_768
        assert took >= 0.4
        proxy.set(to_server=Toxic(slice=1, gap=0.01))
        assert said(client, b"y" * 50)[1] >= 0.4


def test_a_black_hole_holds_everything_back_and_loses_nothing(proxy: FaultProxy, echo: Echo) -> None:
    with connect(proxy) as client:
        said(client, b"connected")
        proxy.mute()
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(100)
        assert echo.endings == []
        proxy.restore()
        client.settimeout(PATIENCE)
        with client.makefile("rb") as answers:
            assert answers.read() == b"hello and the end"


def test_a_hole_in_one_direction_leaves_the_other_open(proxy: FaultProxy) -> None:
    with connect(proxy) as client:
        said(client, b"connected")
        proxy.set(to_server=Toxic(hole=True))
        client.sendall(b"not heard")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(100)
        client.settimeout(PATIENCE)
        proxy.restore()
        with client.makefile("rb") as answers:
            assert answers.read(9) == b"not heard"
        proxy.set(to_client=Toxic(hole=True))
        client.sendall(b"heard")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(100)
        client.settimeout(PATIENCE)
        proxy.restore()
        with client.makefile("rb") as answers:
            assert answers.read(5) == b"heard"


def test_a_cut_comes_after_so_many_bytes(proxy: FaultProxy) -> None:
    proxy.set(to_client=Toxic(cut_after=1000))
    with connect(proxy) as client:
        client.sendall(b"x" * 5000)
        assert until_reset(client) == 1000
    proxy.restore()
    with connect(proxy) as client:
        assert said(client, b"x" * 5000)[0] == b"x" * 5000


def until_reset(client: socket.socket) -> int:
    """How many bytes come before the reset, which has to come."""
    count = 0
    try:
        while data := client.recv(300):
            count += len(data)
    except ConnectionResetError:
        return count
    raise AssertionError(f"an end after {count} bytes")


def test_a_reset_is_one_at_both_ends(proxy: FaultProxy, echo: Echo) -> None:
    with connect(proxy) as client:
        said(client, b"connected")
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    eventually(lambda: echo.endings == ["ConnectionResetError"], PATIENCE)
    with connect(proxy) as client:
        assert said(client, b"again")[0] == b"again"


def test_a_clients_reset_reaches_the_server(proxy: FaultProxy, echo: Echo) -> None:
    client = connect(proxy)
    said(client, b"connected")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    eventually(lambda: echo.endings == ["ConnectionResetError"], PATIENCE)


def test_cut_off_means_refused_until_it_is_restored(proxy: FaultProxy) -> None:
    with connect(proxy) as client:
        said(client, b"connected")
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        proxy.restore()
        with connect(proxy) as other:
            assert said(other, b"again")[0] == b"again"


def test_a_server_that_is_away_resets_its_clients(echo: Echo) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        address = f"127.0.0.1:{nobody.getsockname()[1]}"

    def ask(proxy: FaultProxy) -> None:
        with connect(proxy) as client:
            client.recv(1)

    with FaultProxy(address) as proxy, pytest.raises(ConnectionResetError):
        ask(proxy)
