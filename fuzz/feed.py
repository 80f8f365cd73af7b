"""Bytes as choices, so that a fuzzer that changes bytes changes structures: the same bytes make the same choices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")

# What parsers trip over, for a fuzzer need not find it letter by letter.
TEXTS = (
    *("", "a", "redis-A", "10.1.2.3", "10.1.2.3:80", "2001:db8::7", "[2001:db8::7]:80", "::ffff:10.1.2.3", "127.0.0.1"),
    *("169.254.169.254", "fd00:ec2::254", "::1", "0.0.0.0", "fe80::1%eth0", "localhost", "80", "6379/tcp", "53/udp"),  # noqa: S104
    *("0/tcp", "65536/tcp", "\u0661/tcp", "tcp", "udp", "up", "draining", "host", "default", "container:x", "bridge"),
    *(
        "SERVICE_NAME",
        "SERVICE_80_NAME",
        "SERVICE_TAGS",
        "SERVICE_ID",
        "SERVICE_IGNORE",
        "service.name",
        "SERVICE_\u00b2_NAME",
    ),
    *("a,b\\,c", "x=y", "a:1", "x" * 300, "\x00", "\x1b[2J", "\u202e", "\ud800", "\U0001f600", "a/b", "a b", "%s%n{0}"),
    *("</script>", "2026-01-02T03:04:05.123456789Z", "0001-01-01T00:00:00+14:00", "9" * 400, "running", "healthy"),
)
NUMBERS = (0, 1, -1, 80, 255, 256, 65535, 65536, 2**31, 2**63, 10**30, 1.5, 1e308, float("inf"), float("nan"))


class Feed:
    """Gives out `data` as choices. When it has run out every choice is the first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def more(self) -> bool:
        """Whether there is any left."""
        return self._at < len(self._data)

    def byte(self) -> int:
        """0 to 255."""
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def below(self, limit: int) -> int:
        """A number from 0 to `limit` - 1, of two bytes where one is too few."""
        return (self.byte() if limit <= 256 else self.byte() << 8 | self.byte()) % limit

    def pick(self, choices: Sequence[T]) -> T:
        """One of them."""
        return choices[self.below(len(choices))]

    def piece(self, most: int = 64) -> bytes:
        """Some of what is left, as it is."""
        start, self._at = self._at + 1, self._at + 1 + self.below(most + 1)
        return self._data[start : self._at]

    def rest(self) -> bytes:
        """All that is left."""
        start, self._at = self._at, len(self._data)
        return self._data[start:]

    def text(self) -> str:
        """A text that somebody trips over, or any."""
        choice = self.below(len(TEXTS) + 8)
        return TEXTS[choice] if choice < len(TEXTS) else self.piece().decode(errors="surrogateescape")

    def json(self, depth: int = 4) -> Any:
        """Any JSON value, not very large."""
        kind = self.below(8 if depth else 5)
        if kind < 2:
            return self.text()
        if kind < 5:
            return (None, True, self.pick(NUMBERS))[kind - 2]
        items = [self.json(depth - 1) for _ in range(self.below(4))]
        return items if kind == 5 else {self.text(): item for item in items}

    def changed(self, document: Any, most: int = 8) -> Any:
        """The document with some of its parts, found by walking down, left out or replaced by anything."""
        for _ in range(self.below(most + 1)):
            document = self._with_one_change(document, 6)
        return document

    def _with_one_change(self, value: Any, depth: int) -> Any:
        if depth and value and isinstance(value, dict) and self.byte() % 8:
            name = self.pick(sorted(value))
            if not self.byte() % 8:
                return {key: item for key, item in value.items() if key != name} | {self.text(): self.json()}
            return value | {name: self._with_one_change(value[name], depth - 1)}
        if depth and value and isinstance(value, list) and self.byte() % 8:
            place = self.below(len(value))
            return [*value[:place], self._with_one_change(value[place], depth - 1), *value[place + 1 :]]
        return self.json()
