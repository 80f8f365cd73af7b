"""What nft's JSON says of a table's counters and refusals, beside what dynproxy itself asks the kernel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dynproxy.ruleset import endpoint_of


def counters(items: Iterable[Any]) -> list[tuple[str, int, int]]:
    """Each named counter with its packets and bytes."""
    found = (item["counter"] for item in items if "counter" in item)
    return [(counter["name"], counter["packets"], counter["bytes"]) for counter in found]


def dead(items: Iterable[Any]) -> frozenset[int]:
    """The endpoints that refused lately."""
    return frozenset(
        endpoint_of(element["elem"]["val"])
        for item in items
        if "set" in item and item["set"]["name"] == "dead"
        for element in item["set"].get("elem", ())
    )
