"""What a list-then-watch of a prefix tells its reader: first everything, then every change."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key as etcd holds it. `revision` is its mod_revision; `lease` is 0 when it has none."""

    key: bytes
    value: bytes
    revision: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class KeyDeleted:
    """A key that is gone since `revision`."""

    key: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Listed:
    """The whole contents at `revision`: what is not in `items` does not exist. An empty one is knowledge, too.

    `past` is another number than in the list before if etcd's past is another: an older state, or another cluster. Then
    nobody can tell what became of a record that has vanished.
    """

    items: tuple[KeyValue, ...]
    revision: int
    past: int = 0


@dataclass(frozen=True, slots=True)
class Changed:
    """Changes since the last message in the order they happened, complete up to `revision`."""

    events: tuple[KeyValue | KeyDeleted, ...]
    revision: int


Message = Listed | Changed
