"""grand-ambassador's command line: rows of what is typed and what is meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ambcore.errors import ConfigError
from ambnet.docker_options import DEFAULT_URL, Tls
from dynproxy.config import read as read_dynproxy
from dynproxy.grand import main, read

REMOTE = "tcp://192.0.2.1:2376"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("-name redis", {"containers": ("redis",), "docker": DEFAULT_URL, "docker_tls": None, "log_level": "info"}),
        ("--name redis -name=pg --name=/mq", {"containers": ("redis", "pg", "mq")}),
        ("-name r -sock /docker.sock", {"docker": "unix:///docker.sock"}),
        ("-name r -sock unix:///docker.sock", {"docker": "unix:///docker.sock"}),
        (f"-name r -sock {REMOTE}", {"docker": REMOTE, "docker_tls": None}),
        (f"-name r -sock {REMOTE} -tls", {"docker_tls": Tls()}),
        (f"-name r -sock={REMOTE} -tls=true -tlsverify=false", {"docker_tls": Tls()}),
        (f"-name r -sock {REMOTE} -tls=false", {"docker_tls": None}),
        ("-name r -tls", {"docker": DEFAULT_URL, "docker_tls": None}),
        ("-name r -wait -log-level warn", {"log_level": "warning"}),
        ("-name r -wait=false --log-level=debug", {"log_level": "debug"}),
        ("-name r --park 3 --admin :9000 --plane relay", {"park": 3.0, "admin": ("127.0.0.1", 9000)}),
    ],
)
def test_what_is_typed_is_what_is_meant(typed: str, meant: dict[str, Any], tmp_path: Path) -> None:
    settings = read(typed.split(), {"HOME": str(tmp_path)})
    assert {name: getattr(settings, name) for name in meant} == meant
    assert settings.fronts == ()


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ("", "-name"),
        ("-name", "--name"),
        ("-name a/b", "-name"),
        ("-name r redis-A:6379", "redis-A:6379"),
        ("-nam r", "-nam r"),
        ("-name r -tls=maybe", "-tls"),
        ("-name r -sock ftp://x", "-sock"),
        ("-name r -sock tcp://", "-sock"),
        ("-name r -log-level loud", "-log-level"),
        (f"-name r -sock {REMOTE} -tlsverify", "-tlscacert"),
        (f"-name r -sock {REMOTE} -tls -tlscert /nowhere.pem", "-tlscert"),
        (f"-name r -sock {REMOTE} -tls -tlskey /nowhere.pem", "-tlscert"),
        ("-name r --park soon", "--park"),
        ("-name r --links", "--links"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_the_name_of_its_option(typed: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        read(typed.split(), {"HOME": str(tmp_path)})
    assert refusal.value.option == named


@pytest.mark.parametrize("place", ["DOCKER_CERT_PATH", "HOME"])
def test_certificates_are_found_where_the_docker_client_has_them(place: str, tmp_path: Path) -> None:
    folder = tmp_path if place == "DOCKER_CERT_PATH" else tmp_path / ".docker"
    folder.mkdir(exist_ok=True)
    for name in ("ca", "cert", "key"):
        (folder / f"{name}.pem").touch()
    ca, cert, key = (str(folder / f"{name}.pem") for name in ("ca", "cert", "key"))
    environ = {place: str(tmp_path)}
    assert read(["-name", "r", "-sock", REMOTE, "-tlsverify"], environ).docker_tls == Tls(ca, cert, key)
    assert read(["-name", "r", "-sock", REMOTE, "-tls"], environ).docker_tls == Tls(None, cert, key)
    own = tmp_path / "own.pem"
    own.touch()
    given = ["-name", "r", "-sock", REMOTE, "-tlsverify", "-tlscacert", str(own), "-tlscert", str(own)]
    assert read(given, environ).docker_tls == Tls(str(own), str(own), key)


def test_the_same_is_said_to_dynproxy_in_its_own_words() -> None:
    grand, own = read(["-name", "redis"], {}), read_dynproxy(["--container", "redis"], {})
    for name in ("containers", "docker", "docker_tls", "limits", "plane", "park", "listen", "resync"):
        assert getattr(grand, name) == getattr(own, name), name
    assert own.limits.retry == own.park, "an application in a container is waited for as the container is"
    assert read_dynproxy(["redis-A", "6379"], {}).limits.retry == 1.0


def test_an_error_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["grand-ambassador"])
    assert main() == 2
    assert capsys.readouterr().err == "grand-ambassador: -name: missing: which container shall clients reach?\n"
