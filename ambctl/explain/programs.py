"""Ask every program that is announced, all at once; whoever answers is not believed further than it can be read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from ambcore.findings import Finding
from ambcore.fleet import MAX_OTHERS, Announcement, Kind, admin_url
from ambctl.explain.facts import Answer
from ambctl.explain.subject import Subject
from ambnet.asking import Failure, ask

QUESTIONS = 40  # instances that one proxy is asked for
ANY = MAX_OTHERS  # services, of a program that is not announced
FINDINGS = 400  # lines of one program


class Programs:
    """Those that are `announced`, and those whose admin servers are `named`, as far as they can be asked from the
    machine called `here`, each within `patience` seconds. `look` first; it may be called again.
    """

    def __init__(
        self, announced: Sequence[Announcement], here: str, named: Iterable[tuple[str, int]], patience: float
    ) -> None:
        known = {program.admin for program in announced}
        others = (_unannounced(*where) for where in named)
        self._announced = (*announced, *(program for program in others if program.admin not in known))
        ways = ((each, each.admin if each.more == ANY else each.admin_from(here)) for each in self._announced)
        self._urls = {program.id: url for program, url in ways if url is not None}
        self._patience = patience
        self._statuses: dict[str, Any] = {}

    @property
    def statuses(self) -> list[Mapping[str, Any]]:
        """The status documents of those that answered."""
        return [each for each in self._statuses.values() if isinstance(each, Mapping)]

    async def look(self) -> None:
        """Fetch each one's status document."""
        urls = {identity: f"{url}/status.json" for identity, url in self._urls.items()}
        self._statuses = await ask(urls, self._patience)

    async def explain(self, kind: Kind, subject: Subject) -> tuple[Answer, ...]:
        """What each program of a kind knows of the name, or why it could not be asked."""
        mine = [program for program in self._announced if self._kind(program) is kind]
        questions = {
            f"{program.id} {name}": f"{self._urls[program.id]}/explain.json?of={quote(name, safe='')}"
            for program in mine
            if isinstance(self._statuses.get(program.id), Mapping)
            for name in _questions(kind, subject)
        }
        replies = await ask(questions, self._patience)
        return tuple(
            self._answer(program, [reply for asked, reply in replies.items() if asked.startswith(f"{program.id} ")])
            for program in mine
        )

    def _kind(self, program: Announcement) -> Kind:
        """As announced; as its status says of one that is not."""
        status = self._statuses.get(program.id)
        own = status.get("program") if program.more == ANY and isinstance(status, Mapping) else program.kind
        return Kind.REGISTRAR if own == Kind.REGISTRAR else Kind.DYNPROXY

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


def _unannounced(host: str, port: int) -> Announcement:
    """A program that somebody named by its admin server; whatever it serves."""
    url = admin_url(host, port)
    return Announcement(Kind.DYNPROXY, url.removeprefix("http://"), host, "-", url, (), "1970-01-01T00:00:00Z", ANY)


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
