"""`ambctl doctor`: check the whole chain from the machine it runs on; a line for each thing that was looked at.

Gathering (`ask_…`) and judging (`judge_…`, pure: what was seen -> findings) are apart; `checks` joins them, each check
by itself and all at once, `names` puts them into the order in which one thing depends on another.
"""

from __future__ import annotations

from ambctl.common import DONE, NOT_ASKED, NOT_SO, print_json, print_lines
from ambctl.doctor.settings import Doctor
from ambctl.doctor.summary import Outcome, document, summary
from ambctl.draw import findings

__all__ = ["Doctor", "doctor"]

CODES = {Outcome.WELL: DONE, Outcome.ILL: NOT_SO, Outcome.UNSEEN: NOT_ASKED}


async def doctor(settings: Doctor) -> int:
    """Look, say what was found, and return 0 for nothing red, 1 for something, 3 when nothing could be looked at."""
    from ambctl.doctor.checks import examine  # noqa: PLC0415 - `--help` needs neither etcd nor Docker
    from ambctl.doctor.scene import Scene  # noqa: PLC0415

    async with Scene(settings) as scene:
        done = await examine(scene)
    found = [finding for check in done for finding in check.findings]
    if settings.json:
        print_json(document([(check.check, check.findings) for check in done]))
    else:
        print_lines(findings(found, settings.paper))
        print_lines(["", *findings(list(summary(found)), settings.paper)])
    return CODES[Outcome.of(found)]
