"""Where etcd is, as options and environment say."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from ambcore.errors import ConfigError
from ambnet.etcd import EtcdConfig, etcd_config


def config(etcd: str | None = None, environ: dict[str, str] | None = None, **given: str) -> EtcdConfig:
    ca, cert, key, user, password = map(given.get, ("ca", "cert", "key", "user", "password_file"))
    return etcd_config(etcd, ca, cert, key, user, password, environ or {})


@pytest.mark.parametrize(
    ("text", "endpoints"),
    [
        ("http://10.0.0.1:2379", ("http://10.0.0.1:2379",)),
        ("http://10.0.0.1:2379/", ("http://10.0.0.1:2379",)),
        ("etcd-1:2379,etcd-2", ("http://etcd-1:2379", "http://etcd-2:2379")),
        ("https://a:1, https://b:2,", ("https://a:1", "https://b:2")),
        ("http://[2001:db8::1]:2379", ("http://[2001:db8::1]:2379",)),
        ("http://a:1,http://a:1", ("http://a:1",)),
    ],
)
def test_endpoints_are_urls_with_a_port(text: str, endpoints: tuple[str, ...]) -> None:
    assert config(text).endpoints == endpoints


@pytest.mark.parametrize(
    "text",
    [
        "ftp://a:1",
        "http://a:99999",
        "http://a:0",
        "http://:2379",
        "http://a:1/v2",
        "http://u:p@a:1",
        ",",
        "http://a:1?x",
    ],
)
def test_anything_else_is_an_error_that_names_the_option(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(text)
    assert caught.value.option == "--etcd"
    assert ":p@" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "http://root:secret@10.0.0.1:2379",
        "http://root:secret/more@10.0.0.1:2379",
        "http://root:secret@10.0.0.1:23x9",
        "root:secret,more@10.0.0.1:2379",
        "ftp://root:secret?more#more@10.0.0.1",
        "http://10.0.0.2:2379, https://root:secret[@10.0.0.1:2379",
    ],
)
def test_a_password_in_a_url_is_refused_and_not_repeated(text: str) -> None:
    for environ, etcd in (({}, text), ({"ETCD_PORT_2379_TCP": text.replace("http:", "tcp:")}, None)):
        with pytest.raises(ConfigError, match="no room for a user") as caught:
            config(etcd, environ)
        assert not {"secret", "more", "root"} & set(re.findall(r"\w+", str(caught.value)))


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({}, "http://127.0.0.1:2379"),
        ({"ETCD_PORT_10000_TCP": "tcp://172.17.0.5:10000"}, "http://172.17.0.5:10000"),
        ({"ETCD_PORT_4001_TCP": "tcp://172.17.0.5:4001", "ETCD_PORT": "tcp://172.17.0.5:7001"}, "http://172.17.0.5:4001"),
        ({"ETCD_PORT_2380_TCP": "tcp://a:2380", "ETCD_PORT_2379_TCP": "tcp://a:2379"}, "http://a:2379"),
        ({"ETCD_PORT_10000_TCP_ADDR": "172.17.0.5", "ETCD_PORT_10000_TCP_PORT": "10000"}, "http://127.0.0.1:2379"),
    ],
)  # fmt: skip
def test_a_docker_link_named_etcd_is_found(environ: dict[str, str], endpoint: str) -> None:
    assert config(environ=environ).endpoints == (endpoint,)
    assert config("http://said:1", environ).endpoints == ("http://said:1",)


def test_a_link_of_another_protocol_is_an_error_that_names_the_variable() -> None:
    with pytest.raises(ConfigError, match="ETCD_PORT_53_TCP"):
        config(environ={"ETCD_PORT_53_TCP": "udp://172.17.0.5:53"})


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ({"ca": "/does/not/exist"}, "--etcd-ca"),
        ({"cert": __file__}, "--etcd-key"),
        ({"key": __file__}, "--etcd-cert"),
        ({"user": "redis"}, "--etcd-password-file"),
        ({"password_file": __file__}, "--etcd-user"),
        ({"ca": __file__}, "--etcd"),
    ],
)
def test_options_that_do_not_fit_together_name_the_one_to_change(given: dict[str, str], option: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config("http://a:1", None, **given)
    assert caught.value.option == option


def test_a_password_in_plain_text_is_said_loudly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    with caplog.at_level(logging.WARNING):
        settings = config("http://a:1", user="redis", password_file=str(secret))
    assert "plain text" in caplog.text
    assert "hunter2" not in caplog.text + repr(settings)
