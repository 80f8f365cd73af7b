"""What an etcd member says of itself and of its cluster, as values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """One member's own account. Ids are etcd's numbers, 0 for a leader that it does not know; `size` is its database in
    bytes, `used` what of it is in use; `errors` are its own complaints, in its own words.
    """

    cluster: int
    member: int
    version: str
    leader: int
    term: int
    index: int
    applied: int
    size: int
    used: int
    learner: bool = False
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ListedMember:
    """A member as the cluster's list has it. One that was added and never started has no name."""

    id: int
    name: str
    urls: tuple[str, ...] = ()
    learner: bool = False


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that etcd itself raised the alarm about: `kind` is NOSPACE or CORRUPT, in etcd's own spelling."""

    member: int
    kind: str
