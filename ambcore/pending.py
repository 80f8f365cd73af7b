"""Messages that wait for a slow reader, in bounded memory: of a key only the latest change is kept."""

from __future__ import annotations

from collections.abc import Callable

from ambcore.history import Changed, KeyDeleted, KeyValue, Listed, Message

SLACK = 1000  # deleted keys that may wait beyond the size of the whole table


class Pending:
    """Merges messages without loss of the outcome.

    `contents()` gives everything known at the time of asking; once as many changes wait as there are keys, or a list
    waits, that is the shorter way to tell them.
    """

    def __init__(self, contents: Callable[[], Listed]) -> None:
        self._contents = contents
        self._everything = False
        self._changes: dict[bytes, KeyValue | KeyDeleted] = {}
        self._revision = 0

    def __bool__(self) -> bool:
        return self._everything or bool(self._changes)

    def add(self, message: Message) -> None:
        """Let a message wait."""
        self._revision = message.revision
        if self._everything or isinstance(message, Listed):
            self._everything, self._changes = True, {}
            return
        for event in message.events:
            self._changes.pop(event.key, None)  # the order is that of the latest changes
            self._changes[event.key] = event
        if len(self._changes) > SLACK and len(self._changes) > SLACK + len(self._contents().items):
            self._everything, self._changes = True, {}

    def take(self) -> Message:
        """All that waits, as one message."""
        message: Message = Changed(tuple(self._changes.values()), self._revision)
        if self._everything:
            message = self._contents()
        self._everything, self._changes = False, {}
        return message
