"""Balancing policies for a route. Apart from `route`, as simple-amb has no use for them and they cost memory."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import cast

from ambcore.picker import POLICIES, Ask, Policy, Ring, candidates
from ambnet.relay.route import Order, in_order
from ambnet.relay.upstream import Upstream


def balanced(name: str, chance: Callable[[], float] = random.random) -> Callable[[Sequence[Upstream]], Order]:
    """The `arrange` of a route that follows the policy of this name. Raises KeyError if there is none."""
    policy = cast("Policy[Upstream]", POLICIES[name])  # it reads what `Weighted` promises
    turns = itertools.count()

    def arrange(upstreams: Sequence[Upstream]) -> Order:
        if len(upstreams) == 1:
            return in_order(upstreams)  # nothing to choose
        ring = Ring(upstreams)

        def order(source: str, load: Callable[[str], int]) -> Iterator[Upstream]:
            return candidates(policy, ring, Ask(next(turns), chance(), source, load))

        return order

    return arrange
