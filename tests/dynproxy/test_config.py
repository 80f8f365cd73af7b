"""dynproxy's command line: rows of what is typed and what is meant."""

from __future__ import annotations

import pytest

from ambcore.errors import ConfigError
from ambcore.model import Address
from dynproxy.config import CUT, KEEP, Front, Removal, parse_removal, read
from dynproxy.planes import only_relay
from dynproxy.proxy import own_listeners


@pytest.mark.parametrize(
    ("typed", "fronts"),
    [
        ("redis-A 6379", [Front("redis-A", 6379)]),
        ("redis-A:6379", [Front("redis-A", 6379)]),
        ("redis-A:6379 pg:5432", [Front("redis-A", 6379), Front("pg", 5432)]),
        ("redis-A:6379 redis-A:6380", [Front("redis-A", 6379), Front("redis-A", 6380)]),
        ("a:b:6379", [Front("a:b", 6379)]),
        ("--workers 2 redis-A 6379", [Front("redis-A", 6379)]),
        ("1234 6379", [Front("1234", 6379)]),
    ],
)
def test_fronts_are_what_the_arguments_name(typed: str, fronts: list[Front]) -> None:
    assert list(read(typed.split(), {}).fronts) == fronts


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ("", "SERVICE PORT"),
        ("redis-A", "SERVICE"),
        ("redis-A port", "PORT"),
        ("redis-A 0", "PORT"),
        ("redis-A 65536", "PORT"),
        ("redis-A: pg:5432", "PORT"),
        (":6379", "SERVICE"),
        ("redis-A:6379 pg:6379", "PORT"),
        ("redis-A 6379 pg", "SERVICE"),
        ("a/b 6379", "SERVICE"),
        (f"{'x' * 129} 6379", "SERVICE"),
        ("redis-A 6379 --listen here", "--listen"),
        ("redis-A 6379 --policy fastest", "--policy"),
        ("redis-A 6379 --plane ebpf", "--plane"),
        ("redis-A 6379 --park -1", "--park"),
        ("redis-A 6379 --park nan", "--park"),
        ("redis-A 6379 --on-removal drain", "--on-removal"),
        ("redis-A 6379 --check-interval -2", "--check-interval"),
        ("redis-A 6379 --check-timeout 0", "--check-timeout"),
        ("redis-A 6379 --prefix /", "--prefix"),
        ("--links --container web", "--links"),
        ("--links --plane kernel", "--plane"),
        ("redis-A 6379 --max-per-source 0", "--max-per-source"),
        ("redis-A 6379 --max-per-instance x", "--max-per-instance"),
        ("redis-A 6379 --workers 4 --max-per-instance 3", "--max-per-instance"),
        ("redis-A 6379 --slow-start soon", "--slow-start"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_the_name_of_its_option(typed: str, named: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        read(typed.split(), {})
    assert refusal.value.option == named


def test_links_need_no_service_and_go_with_some() -> None:
    assert read(["--links"], {}).fronts == ()
    assert read(["--links", "redis-A:6379"], {}).fronts == (Front("redis-A", 6379),)


@pytest.mark.parametrize(
    ("text", "removal"), [("keep", KEEP), ("cut", CUT), ("drain=30", Removal(30.0)), ("drain=0.5", Removal(0.5))]
)
def test_removal_reads_back_as_it_is_written(text: str, removal: Removal) -> None:
    assert parse_removal(text) == removal
    assert str(removal) == text


def test_environment_stands_in_for_options_and_the_command_line_beats_it() -> None:
    environ = {"AMB_PARK": "3", "AMB_WORKERS": "2", "AMB_ADMIN": ":9402", "AMB_POLICY": ""}
    settings = read(["redis-A", "6379", "--workers", "4"], environ)
    assert (settings.park, settings.workers, settings.policy) == (3.0, 4, "round-robin")
    assert settings.admin == ("127.0.0.1", 9402)


def test_wrong_variable_is_named_as_it_was_set() -> None:
    with pytest.raises(ConfigError, match=r"^AMB_PARK: ") as refusal:
        read(["redis-A", "6379"], {"AMB_PARK": "soon"})
    assert refusal.value.option == "AMB_PARK"


@pytest.mark.parametrize("listen", [[], ["--listen", "0.0.0.0"], ["--listen", "::"]])  # noqa: S104
def test_C25_a_proxy_on_all_addresses_knows_itself_at_each(listen: list[str]) -> None:
    """A record that points back at us would send one connection round and round until no file is left."""
    assert Address("127.0.0.1", 6379) in own_listeners(read(["redis-A", "6379", *listen], {}))


def test_a_proxy_on_one_address_is_nowhere_else() -> None:
    settings = read(["redis-A", "6379", "--listen", "10.0.0.1"], {})
    assert own_listeners(settings) == {Address("10.0.0.1", 6379)}


@pytest.mark.parametrize("option", ["--max-per-source", "--max-per-instance"])
def test_whoever_counts_connections_is_the_relay_and_says_so(option: str) -> None:
    settings = read(["redis-A", "6379", option, "5"], {})
    assert only_relay(settings).startswith(f"{option} needs to count connections")
    assert {settings.limits.max_per_source, settings.limits.max_per_instance} == {5, None}
