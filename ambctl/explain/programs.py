"""Ask every program that is announced, all at once; whoever answers is not believed further than it can be read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from ambcore.findings import Finding
from ambcore.fleet import Announcement, Kind
from ambctl.explain.facts import Answer
from ambctl.explain.subject import Subject
from ambnet.asking import Failure, ask

ANSWER = 2.0  # seconds that a program has to answer; it reads its own memory
QUESTIONS = 40  # instances that one proxy is asked for
FINDINGS = 400  # lines of one program


class Programs:
    """Those of `announced` that can be asked from the machine called `here`; `look` first, it may be called again."""

    def __init__(self, announced: Sequence[Announcement], here: str) -> None:
        self._announced = announced
        self._urls = {program.id: url for program in announced if (url := program.admin_from(here))}
        self._statuses: dict[str, Any] = {}

    @property
    def statuses(self) -> list[Mapping[str, Any]]:
        """The status documents of those that answered."""
        return [each for each in self._statuses.values() if isinstance(each, Mapping)]

    async def look(self) -> None:
        """Fetch each one's status document."""
        self._statuses = await ask({identity: f"{url}/status.json" for identity, url in self._urls.items()}, ANSWER)

    async def explain(self, kind: Kind, subject: Subject) -> tuple[Answer, ...]:
        """What each program of a kind knows of the name, or why it could not be asked."""
        mine = [program for program in self._announced if program.kind is kind]
        questions = {
            f"{program.id} {name}": f"{self._urls[program.id]}/explain.json?of={quote(name, safe='')}"
            for program in mine
            if isinstance(self._statuses.get(program.id), Mapping)
            for name in _questions(kind, subject)
        }
        replies = await ask(questions, ANSWER)
        return tuple(
            self._answer(program, [reply for asked, reply in replies.items() if asked.startswith(f"{program.id} ")])
            for program in mine
        )

    def _answer(self, program: Announcement, replies: Iterable[Any]) -> Answer:
        status = self._statuses.get(program.id)
        if not isinstance(status, Mapping):
            return Answer(program, why_not=_why_not(program, status))
        findings: dict[Finding, None] = {}
        for reply in replies:
            if isinstance(reply, Failure):
                return Answer(program, why_not=reply.why, status=status)
            findings |= dict.fromkeys(_findings(reply))
        return Answer(program, status=status, findings=tuple(findings)[:FINDINGS])


def _questions(kind: Kind, subject: Subject) -> tuple[str, ...]:
    """What to ask for: registrars know the name whatever it is, proxies know services and instances."""
    if kind is Kind.REGISTRAR or "service" in subject.kinds or not subject.keys:
        return (subject.name,)
    return tuple("/".join(key) for key in sorted(subject.keys)[:QUESTIONS])


def _why_not(program: Announcement, status: object) -> str:
    if program.admin is None:
        return "it has no admin server: start it with --admin"
    if status is None:
        return f"its admin server is on its own loopback, {program.admin}: ask on that host, or see --announce"
    return status.why if isinstance(status, Failure) else "its status cannot be read"


def _findings(reply: object) -> list[Finding]:
    found = []
    for each in reply[:FINDINGS] if isinstance(reply, list) else ():
        with contextlib.suppress(ValueError):
            found.append(Finding.of(each))
    return found
