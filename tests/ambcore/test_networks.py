"""Networks as the daemon lists them (shapes seen on Docker 20.10, 24 and 28)."""

from __future__ import annotations

from typing import Any

import pytest

from ambcore.model import parse_ip
from ambcore.networks import Network, parse_network


def raw(*pools: dict[str, str], driver: str = "bridge", internal: bool = False) -> dict[str, Any]:
    return {"Name": "app", "Driver": driver, "Internal": internal, "IPAM": {"Driver": "default", "Config": [*pools]}}


@pytest.mark.parametrize(
    ("pools", "gateways"),
    [
        ([{"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"}], ["172.18.0.1"]),
        (
            [{"Subnet": "fd00::/64", "Gateway": "fd00::1/64"}, {"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"}],
            ["172.18.0.1", "fd00::1"],
        ),
        ([{"Subnet": "172.17.0.0/16"}], ["172.17.0.1"]),
        ([{"Subnet": "172.18.0.0/16"}], []),
        ([{"Subnet": "fe80::/64", "Gateway": "fe80::1"}], []),
        ([{"Subnet": "nonsense"}, {"Gateway": "nonsense"}, {}], []),
        ([], []),
    ],
)
def test_the_gateway_is_what_the_daemon_says_or_ours_in_the_subnet(
    pools: list[dict[str, str]], gateways: list[str]
) -> None:
    local = [parse_ip("127.0.0.1"), parse_ip("172.17.0.1")]
    assert [str(each) for each in parse_network(raw(*pools), local).gateways] == gateways


def test_a_network_without_addresses_has_no_gateway() -> None:
    assert parse_network({"Name": "host", "Driver": "host", "IPAM": {"Config": None}}) == Network(
        "host", "host", internal=False, gateways=()
    )
    assert parse_network(raw(driver="overlay", internal=True)) == Network("app", "overlay", internal=True, gateways=())
