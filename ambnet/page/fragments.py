"""The live parts of a page: what changed from one rendering to the next. Pure.

A leaf is an element whose whole HTML is replaced; a list is an element whose children come, go and change places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Html = str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A page as of a moment. `leaves`: element id to its HTML; `lists`: element id to its children's ids in order, a
    list of lists before those within it. Children are leaves.
    """

    leaves: Mapping[str, Html] = field(default_factory=dict)
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def changes(before: Snapshot, after: Snapshot) -> dict[str, Any] | None:
    """The message that makes of the one page the other, for JSON: `set` are leaves that are new or changed, `lists`
    those with other children; None if nothing changed. From an empty snapshot it is the whole page.
    """
    leaves = {key: html for key, html in after.leaves.items() if before.leaves.get(key) != html}
    lists = {key: list(order) for key, order in after.lists.items() if before.lists.get(key) != order}
    return {"set": leaves, "lists": lists} if leaves or lists else None
