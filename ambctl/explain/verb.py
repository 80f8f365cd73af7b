"""`ambctl explain NAME`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ambcore.model import IPAddress
from ambcore.registration.extract import parse_advertised
from ambctl.common import DONE, NOT_ASKED, NOT_SO, print_json, print_lines
from ambctl.draw import findings, heading
from ambctl.explain.judge import Explanation
from ambctl.explain.text import document, ending, steps
from ambctl.nearby import Nearby
from ambctl.paper import Paper
from ambnet.options import option, positional

MAX_NAME = 512  # characters; a record's key has no more bytes


def _name(text: str) -> str:
    name = text.strip("/")
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise ValueError(f"a name has 1 to {MAX_NAME} printable characters, not {text[:80]!r}")
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class Explain(Nearby):
    """Say why a service, an instance or a container is reached or not: every decision, and the first that fails."""

    EXAMPLES = (
        "ambctl explain redis-A",
        "ambctl explain redis-A/redis-demo.service",
        "ambctl explain redis-demo.service --json | jq .cause",
    )

    name: str = positional("NAME", help="a service, an instance, SERVICE/INSTANCE, or a container", parse=_name)
    advertise: IPAddress | None = option(
        "--advertise",
        default=None,
        help="this host's address as registrar here was told; default: the one that reaches etcd",
        parse=parse_advertised,
        env=["AMB_ADVERTISE", "COREOS_PRIVATE_IPV4"],
        metavar="IP",
    )


async def explain(settings: Explain) -> int:
    """Gather, judge, print."""
    from ambctl.explain.gather import Here, gather  # noqa: PLC0415 - `--help` needs neither etcd nor Docker
    from ambctl.explain.judge import judge  # noqa: PLC0415

    told = judge(await gather(settings, settings.name, Here(settings.docker, settings.advertise, settings.ask)))
    if settings.json:
        print_json(document(told))
    else:
        print_lines(drawn(told, settings.paper))
    return exit_code(told)


def exit_code(told: Explanation) -> int:
    """1 for anything red and for what does not exist, 3 if etcd could not be asked, else 0."""
    if told.cause is not None or (told.asked and not told.kinds):
        return NOT_SO
    return DONE if told.asked else NOT_ASKED


def drawn(told: Explanation, paper: Paper) -> Iterator[str]:
    """Each source's steps below its name, then how it ends."""
    for title, found in (*steps(told), ending(told)):
        if title:
            yield from heading(title, paper)
        yield from findings(found, paper)
        yield ""
