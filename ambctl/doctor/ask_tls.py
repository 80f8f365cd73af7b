"""Look at the certificates in use, ours and the servers', with nothing but the standard library.

A certificate's contents are read out of a handshake in which its time is not checked: whether it is trusted and whether
it has expired are two questions. Where nobody vouches for it, the handshake trusts that very certificate.
"""

from __future__ import annotations

import socket
import ssl
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ambctl.doctor.judge_tls import Certificate, Secret
from ambnet.etcd import EtcdConfig

PATIENCE = 4.0  # seconds for one handshake
AFTERWARDS = 0.3  # seconds for a server that turns a client away to say so
NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME in openssl/x509_vfy.h
ROUNDS = 10  # of messages between the two sides of a handshake; TLS 1.2 takes four


def of_server(url: str, config: EtcdConfig) -> Certificate:
    """What the server at an https URL shows. Blocks; never raises."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 0
    untrusted = ""
    try:
        try:
            shown = _shown_by(host, port, _client(config, config.ca))
        except ssl.SSLCertVerificationError as error:
            untrusted = error.verify_message
            shown = _unvouched(host, port, config)
    except _TurnedAwayError as error:
        return replace(_certificate(f"of {url}", error.shown, host=host), turns_away=str(error))
    except (ssl.SSLError, ConnectionResetError) as error:  # somebody is there
        return Certificate(f"of {url}", silent=_word(error))
    except OSError as error:
        return Certificate(f"of {url}", failed=f"could not be looked at: {error.strerror or error}")
    return _certificate(f"of {url}", shown, host=host, untrusted=untrusted)


def speaks_tls(url: str) -> bool:
    """Whether it does, whatever the URL says. Blocks; never raises."""
    parts = urlsplit(url)
    try:
        _raw(parts.hostname or "", parts.port or 0, EtcdConfig(()))
    except OSError:
        return False
    return True


def of_ours(config: EtcdConfig) -> Iterator[Certificate]:
    """Those in our own files. Blocks; never raises."""
    if config.ca:
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(config.ca)
        except OSError as error:
            yield Certificate(f"in {config.ca}", failed=f"could not be read: {error.strerror or error}")
        else:
            yield from (_certificate(f"in {config.ca}", each) for each in context.get_ca_certs())
    if config.cert and config.key:
        try:
            yield _certificate(f"in {config.cert}", _own(config.cert, config.key))
        except OSError as error:
            yield Certificate(f"in {config.cert}", failed=f"could not be read: {_word(error)}")


def secrets(config: EtcdConfig) -> Iterator[Secret]:
    """The files with keys and passwords. Blocks; one that is not there is left out."""
    for option, path in {"--etcd-key": config.key, "--etcd-password-file": config.password_file}.items():
        if path:
            try:
                mode = Path(path).stat().st_mode
            except OSError:
                continue
            yield Secret(option, path, bool(mode & stat.S_IROTH))


def _client(config: EtcdConfig, ca: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= NO_CHECK_TIME
    if ca:
        context.load_verify_locations(ca)
    else:
        context.load_default_certs()
    if config.cert and config.key:
        context.load_cert_chain(config.cert, config.key)
    return context


def _shown_by(host: str, port: int, context: ssl.SSLContext) -> dict[str, Any]:
    with (
        socket.create_connection((host, port), PATIENCE) as sock,
        context.wrap_socket(sock, server_hostname=host) as secured,
    ):
        shown = dict(secured.getpeercert() or {})
        secured.settimeout(AFTERWARDS)
        try:
            secured.recv(1)
        except TimeoutError:  # it waits for us to speak
            pass
        except OSError as error:  # by TLS 1.3 a client hears only now what the server thinks of its certificate
            raise _TurnedAwayError(_word(error), shown) from error
        return shown


class _TurnedAwayError(Exception):
    """The server does not want us; the text is TLS's own word for it."""

    def __init__(self, why: str, shown: dict[str, Any]) -> None:
        super().__init__(why)
        self.shown = shown


def _unvouched(host: str, port: int, config: EtcdConfig) -> dict[str, Any]:
    """The contents of a certificate that nobody we trust has signed."""
    raw = _raw(host, port, config)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_flags |= NO_CHECK_TIME | ssl.VERIFY_X509_PARTIAL_CHAIN
    if raw:
        trusting.load_verify_locations(cadata=raw)
    if config.cert and config.key:
        trusting.load_cert_chain(config.cert, config.key)
    try:
        return _shown_by(host, port, trusting)
    except ssl.SSLError:  # another member behind the same address, or one for another purpose
        return {}


def _raw(host: str, port: int, config: EtcdConfig) -> bytes | None:
    """The certificate as it is sent, believed by nobody."""
    blind = _client(config, config.ca)
    blind.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((host, port), PATIENCE) as sock,
        blind.wrap_socket(sock, server_hostname=host) as secured,
    ):
        return secured.getpeercert(binary_form=True)


def _own(cert: str, key: str) -> dict[str, Any]:
    """The contents of a client's certificate: shown to ourselves, in memory. Raises ssl.SSLError."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.verify_mode = ssl.CERT_REQUIRED
    server.verify_flags |= NO_CHECK_TIME | ssl.VERIFY_X509_PARTIAL_CHAIN
    server.load_verify_locations(cert)
    for context in (client, server):
        context.load_cert_chain(cert, key)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)]
    waiting = list(ends)
    for _ in range(ROUNDS):
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
    return dict(ends[1].getpeercert() or {})


def _word(error: OSError) -> str:
    """TLS's own word for what is wrong, or the kernel's."""
    return (error.reason if isinstance(error, ssl.SSLError) else error.strerror) or str(error)


def _certificate(whose: str, shown: dict[str, Any], host: str = "", untrusted: str = "") -> Certificate:
    def moment(name: str) -> float | None:
        return float(ssl.cert_time_to_seconds(shown[name])) if name in shown else None

    names = tuple(f"{kind}:{name}" for kind, name in shown.get("subjectAltName", ()))
    return Certificate(whose, moment("notBefore"), moment("notAfter"), names, host, untrusted)
