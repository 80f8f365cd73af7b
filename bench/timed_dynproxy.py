"""dynproxy with a stopwatch on its relay plane: `python -m bench.timed_dynproxy` takes dynproxy's arguments.

`RelayPlane.apply` returns once every connection that is accepted sees the instances it was given. Whenever it does,
this writes the moment on the monotonic clock, which all processes share, and the addresses that are new, ten at most.
The time is taken before anything else is done, so that looking costs the figure nothing.
"""

from __future__ import annotations

import functools
import sys
import time
from typing import Any

from ambcore.model import Instance
from dynproxy.__main__ import main
from dynproxy.relay_plane import RelayPlane

FEW = 10

_apply = RelayPlane.apply
_known: set[str] = set()


@functools.wraps(_apply)
async def _timed(self: RelayPlane, service: str, instances: tuple[Instance, ...], *more: Any, **named: Any) -> None:
    await _apply(self, service, instances, *more, **named)
    applied = time.monotonic()
    now = {item.address.host for item in instances}
    fresh = sorted(now - _known)[:FEW]
    _known.clear()
    _known.update(now)
    sys.stdout.write(f"{applied} {' '.join(fresh)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    RelayPlane.apply = _timed  # type: ignore[method-assign]
    sys.exit(main())
