"""PURE: whether another cluster is to be believed that answers at one of our addresses.

It may stand at a wrong address, while ours is away; or it may be what ours has become, restored or replaced.
"""

from __future__ import annotations

STRANGE = 30.0  # seconds in which another cluster is not believed that some addresses have, while others are silent


class Strangers:
    """The endpoints at which another cluster has answered, since ours did last."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def forget(self) -> None:
        """Ours has answered, or the other is ours now."""
        self._since.clear()

    def believed(self, endpoint: str, members: int, now: float) -> bool:
        """Another one has answered there: it is believed when all `members` have it, or none had ours for STRANGE."""
        self._since.setdefault(endpoint, now)
        return len(self._since) >= members or now - min(self._since.values()) >= STRANGE
