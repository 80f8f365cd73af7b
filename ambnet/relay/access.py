"""Whom a relay serves, and whose word it takes about who that is."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from ambcore.admission import IPNetwork

REMEMBERED = 4096  # addresses; the same clients come again, and looking one up costs a hundredth of deciding anew


class Access:
    """The two lists that clients are judged by. Sources are IP literals, mapped ones as the IPv4 address they are.

    `anybody` says that there is no list: nobody has to be asked about.
    """

    __slots__ = ("admits", "anybody", "expects_header")

    def __init__(self, allow: Iterable[IPNetwork] = (), accept_proxy: Iterable[IPNetwork] = ()) -> None:
        allowed, proxies = tuple(allow), tuple(accept_proxy)
        self.anybody = not allowed and not proxies

        @lru_cache(maxsize=REMEMBERED)
        def admits(source: str) -> bool:
            return not allowed or _within(source, allowed)

        @lru_cache(maxsize=REMEMBERED)
        def expects_header(source: str) -> bool:
            return _within(source, proxies)

        self.admits = admits  # whether a client at this address is served
        self.expects_header = expects_header  # whether one begins with a header of the PROXY protocol


def _within(source: str, networks: Iterable[IPNetwork]) -> bool:
    address = ipaddress.ip_address(source)
    return any(address in network for network in networks)


ANYBODY = Access()
