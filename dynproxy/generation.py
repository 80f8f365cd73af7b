"""The number of the packet filter's state: it goes up by one with everybody's every transaction."""

from __future__ import annotations

import struct

from dynproxy.netlink import Netlink, NetlinkError, attributes

GET_GENERATION = 10 << 8 | 16  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN
GENERATION_ID = 1  # NFTA_GEN_ID
U32 = struct.Struct("!L")


def generation() -> int | None:
    """The number now, in this network namespace; None when the kernel does not say."""
    try:
        with Netlink("packet filter") as kernel:
            for data, start, end in kernel.ask(GET_GENERATION):
                for kind, first, _ in attributes(data, start, end):
                    if kind == GENERATION_ID:
                        return int(U32.unpack_from(data, first)[0])
    except (NetlinkError, ValueError, struct.error):
        return None
    return None
