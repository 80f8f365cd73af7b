"""What is said of certificates, and how they are looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from ambcore.findings import Level
from ambctl.doctor import ask_tls
from ambctl.doctor.judge_tls import Certificate, Secret, good_for, judge_certificate, judge_secret
from ambnet.etcd import EtcdConfig
from tests.support.tls import Authority

GREEN, AMBER, RED, UNKNOWN = Level
DAY = 86400.0
NOW = 1_000 * DAY


@pytest.mark.parametrize(
    ("certificate", "level", "words"),
    [
        (Certificate("of a", 0, NOW + 90 * DAY), GREEN, "good for another 90 days"),
        (Certificate("of a", 0, NOW + 13 * DAY), AMBER, "ends in 13 days"),
        (Certificate("of a", 0, NOW + 3600), AMBER, "ends in 60 minutes"),
        (Certificate("of a", 0, NOW - 3 * DAY), RED, "expired 3 days ago"),
        (Certificate("of a", NOW + 3600, NOW + 90 * DAY), RED, "begins in"),
        (Certificate("of a", 0, NOW + 90 * DAY, untrusted="self-signed certificate"), RED, "is not trusted"),
        (Certificate("of a", 0, NOW + 90 * DAY, ("DNS:b",), host="a"), RED, "is good for DNS:b, not for a"),
        (
            Certificate("of a", 0, NOW + 90 * DAY, turns_away="CERTIFICATE_REQUIRED"),
            RED,
            "turns us away: CERTIFICATE_REQUIRED",
        ),
        (Certificate("of a", silent="WRONG_VERSION_NUMBER"), RED, "no TLS with it (WRONG_VERSION_NUMBER)"),
        (Certificate("of a", failed="Connection refused"), UNKNOWN, "Connection refused"),
    ],
)
def test_a_certificate(certificate: Certificate, level: Level, words: str) -> None:
    (finding,) = judge_certificate(certificate, NOW)
    assert finding.level is level
    assert words in finding.says


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("m0.etcd.example", True),
        ("etcd.example", False),
        ("a.b.etcd.example", False),
        ("127.0.0.1", True),
        ("10.0.0.1", False),
        ("::1", True),
    ],
)
def test_whom_a_certificate_is_good_for(host: str, good: bool) -> None:
    names = ("DNS:localhost", "DNS:*.etcd.example", "IP Address:127.0.0.1", "IP Address:0:0:0:0:0:0:0:1", "URI:x")
    assert good_for(names, host) is good


def test_only_a_secret_that_everybody_may_read_is_spoken_of() -> None:
    assert judge_secret(Secret("--etcd-key", "/k", open_to_others=False)) is None
    finding = judge_secret(Secret("--etcd-key", "/k", open_to_others=True))
    assert finding is not None
    assert (finding.level, finding.do) == (AMBER, "chmod 600 /k")


def test_our_own_files_are_read_expired_or_not(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    for expired in (False, True):
        pair = authority.issue(f"pair-{expired}", expired=expired)
        pair.key.chmod(0o600)
        config = EtcdConfig((), str(authority.ca), str(pair.cert), str(pair.key))
        ca, own = ask_tls.of_ours(config)
        assert ca.ends is not None
        assert own.starts is not None
        assert own.ends is not None
        assert own.ends - own.starts == (3600.0 if expired else 26 * 3600.0)
        assert "IP Address:127.0.0.1" in own.names
        assert [secret.open_to_others for secret in ask_tls.secrets(config)] == [False]


def test_a_file_that_is_no_certificate_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("nothing")
    (found,) = ask_tls.of_ours(EtcdConfig((), str(tmp_path / "ca")))
    assert "could not be read" in found.failed
