"""What the text for nft may consist of: numbers, addresses, known words and the names of our own objects."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

WORDS = frozenset(
    re.findall(
        r"\S+",
        """
    >= accept ack add addr chain clients code concat counter counters ct daddr dead delete destination-unreachable
    direction dnat dport drop dst dstnat dynamic element fib filter flags flush frag-needed fronts goto guard hook icmp
    icmpv6 in inc inet_proto inet_service interval ip ip6 ipv4_addr ipv6_addr jhash jump l3proto l4proto local mangle
    map mark masquerade meta mod name nat new next numgen offset original out policy port postrouting prerouting
    priority proto-dst protocol random reply return rst rule saddr seed seen-reply sequence set size srcnat status syn
    syn_sent table tcp tcp_all tcp_ports th timeout to type udp udp_all udp_ports unanswered update verdict vmap
    : & | == != . - =
    """,
    )
)
OBJECT = re.compile(r"(tcp|udp)_[1-9][0-9]{0,4}(_slots|_ring|_new|_all)?")
TABLE = re.compile(r"ambassador_([0-9a-f.-]+_)?([1-9][0-9]{0,4}|of-[0-9a-f]{8})")
NUMBER = re.compile(r"[0-9]+s?|0x[0-9a-f]+")


def strange(text: str) -> set[str]:
    """The words of a text that are none of these."""
    return {word for word in _words(text) if not _is_ours(word)}


def _words(text: str) -> Iterator[str]:
    """The words between blanks and nft's own signs."""
    for word in re.split(r"[ \n,]+", text):
        if bare := word.strip(';(){}"@'):
            yield bare


def _is_ours(word: str) -> bool:
    if word in WORDS or any(pattern.fullmatch(word) for pattern in (OBJECT, TABLE, NUMBER)):
        return True
    try:
        return word in (str(ipaddress.ip_address(word.partition("/")[0])), str(ipaddress.ip_network(word)))
    except ValueError:
        return False
