"""What servers show, looked at over real connections."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ambctl.doctor import ask_tls
from ambnet.etcd import EtcdConfig
from tests.support.ports import free_port
from tests.support.tls import Authority, Pair


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@contextlib.contextmanager
def serving(context: ssl.SSLContext | None) -> Iterator[int]:
    """A server that shakes hands with everybody and then listens; without a context it hangs up at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client, contextlib.suppress(OSError):
                        if context is not None:
                            with context.wrap_socket(client, server_side=True) as secured:
                                secured.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def context(pair: Pair, *, clients: Path | None = None) -> ssl.SSLContext:
    """A server's; with `clients`, the authority that their certificates have to be of."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(pair.cert, pair.key)
    if clients:
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(clients)
    return made


@pytest.mark.parametrize("expired", [False, True])
def test_a_certificate_is_read_whether_it_has_expired_or_not(authority: Authority, expired: bool) -> None:
    with serving(context(authority.issue(f"server-{expired}", expired=expired))) as port:
        found = ask_tls.of_server(f"https://127.0.0.1:{port}", EtcdConfig((), str(authority.ca)))
    assert found.ends is not None
    assert found.starts is not None
    assert found.ends - found.starts == (3600.0 if expired else 26 * 3600.0)
    assert (found.untrusted, found.turns_away, found.silent, found.failed) == ("", "", "", "")
    assert found.host == "127.0.0.1"


def test_one_that_nobody_vouches_for_is_read_all_the_same(authority: Authority, tmp_path: Path) -> None:
    with serving(context(authority.issue("server"))) as port:
        found = ask_tls.of_server(f"https://127.0.0.1:{port}", EtcdConfig((), str(Authority(tmp_path, "other").ca)))
    assert "issuer" in found.untrusted
    assert "DNS:localhost" in found.names


def test_a_server_that_wants_a_certificate_of_ours_turns_us_away(authority: Authority) -> None:
    ours = authority.issue("client")
    with serving(context(authority.issue("server"), clients=authority.ca)) as port:
        url = f"https://127.0.0.1:{port}"
        without = ask_tls.of_server(url, EtcdConfig((), str(authority.ca)))
        with_ours = ask_tls.of_server(url, EtcdConfig((), str(authority.ca), str(ours.cert), str(ours.key)))
    assert without.turns_away
    assert with_ours.turns_away == ""


def test_tls_and_plain_text_are_told_apart(authority: Authority) -> None:
    with serving(None) as plain, serving(context(authority.issue("server"))) as secured:
        assert ask_tls.of_server(f"https://127.0.0.1:{plain}", EtcdConfig(())).silent
        assert not ask_tls.speaks_tls(f"http://127.0.0.1:{plain}")
        assert ask_tls.speaks_tls(f"http://127.0.0.1:{secured}")


def test_nobody_there_is_no_verdict() -> None:
    found = ask_tls.of_server(f"https://127.0.0.1:{free_port()}", EtcdConfig(()))
    assert found.failed == "could not be looked at: Connection refused"
