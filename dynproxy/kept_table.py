"""One table of the kernel as this process keeps it: what it holds as far as is known, and what it shall hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ambcore.model import Address
from dynproxy.endpoints import Numbers, Want
from dynproxy.ruleset import Port, Ruleset, change, replacement, rewriting

Wants = Mapping[Port, Want]


@dataclass
class KeptTable:
    """One family's. `held` is the kernel's as far as we know, and all of it if `sure`.

    `rules` is a digest of its rules as we wrote them, None until they were read back.
    """

    held: Ruleset
    numbers: Numbers
    wants: dict[Port, Want] = field(default_factory=dict)
    sure: bool = False
    ours: bool = False  # this process wrote its rules
    rules: int | None = None
    refusing: frozenset[tuple[Port, Address]] = frozenset()

    @property
    def where(self) -> str:
        """Its name, as nft wants it."""
        return f"{self.held.family} {self.held.table}"

    def take(self) -> dict[Port, Want]:
        """What is wanted and not written yet; who takes it writes it or puts it back."""
        wants, self.wants = self.wants, {}
        return wants

    def transaction(self, plan: Ruleset) -> str:
        """The text from what it holds to what it shall hold."""
        if not self.sure:
            return replacement(plan)
        return change(self.held, plan) + ("" if self.ours else rewriting(plan))

    def saw_refusing(self, dead: frozenset[int]) -> None:
        """Note the endpoints that refused lately."""
        ports = {number: port for port, front in self.held.fronts.items() for number in front.ring} if dead else {}
        self.refusing = frozenset((ports[number], self.held.endpoints[number]) for number in dead & ports.keys())
