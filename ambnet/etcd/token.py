"""A user's token: fetched once however many calls want it, fetched again when a member rejects it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from ambcore.backoff import backoff
from ambcore.errors import RegistryDeniedError

FIRST_PAUSE, LAST_PAUSE = 1.0, 30.0  # between attempts with a password that was refused; bcrypt is the server's cost


class Token:
    """The current token of `user`, or of nobody: then it is always None.

    `authenticate(name, password)` asks etcd and returns the token, or None where authentication is off. The password
    file is read at each attempt, so that a new password needs no restart.
    """

    def __init__(
        self, user: str | None, password_file: str | None, authenticate: Callable[[str, str], Awaitable[str | None]]
    ) -> None:
        self.user = user
        self.fetched = 0
        self._file = Path(password_file) if password_file else None
        self._authenticate = authenticate
        self._value: str | None = None
        self._born = float("-inf")
        self._one_at_a_time = asyncio.Lock()
        self._denied: RegistryDeniedError | None = None
        self._denied_password = ""
        self._not_before = 0.0
        self._pauses = self._new_pauses()

    @staticmethod
    def _new_pauses() -> Iterator[float]:
        return backoff(FIRST_PAUSE, LAST_PAUSE, random.random)

    async def get(self, max_age: float = float("inf")) -> str | None:
        """The token, at most `max_age` seconds old. Raises RegistryError when there is none to be had."""
        if self.user is None:
            return None
        async with self._one_at_a_time:
            if time.monotonic() - self._born > max_age or self._born == float("-inf"):
                await self._fetch(self.user)
            return self._value

    def reject(self, token: str | None) -> None:
        """A member did not know this one; if it is still the current one, the next `get` fetches another."""
        if token == self._value:
            self._born = float("-inf")

    async def _fetch(self, user: str) -> None:
        password = self._read_password()
        if self._denied and password == self._denied_password and time.monotonic() < self._not_before:
            raise self._denied
        try:
            self._value = await self._authenticate(user, password)
        except RegistryDeniedError as error:
            self._denied, self._denied_password = error, password
            self._not_before = time.monotonic() + next(self._pauses)
            raise
        self.fetched += 1
        self._born = time.monotonic()
        self._denied, self._pauses = None, self._new_pauses()

    def _read_password(self) -> str:
        try:
            return self._file.read_text().strip("\r\n") if self._file else ""
        except (OSError, UnicodeDecodeError) as error:
            raise RegistryDeniedError(f"the password file cannot be read: {error}") from error
