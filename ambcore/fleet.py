"""What stands beside the records in etcd: who takes part, and what an operator decided. Keys and JSON values.

    /ambassadors/programs/<kind>/<id>            a running program, under its own lease
    /ambassadors/drains/instances/<service>/<id> an instance that gets no new connections, until somebody takes it back
    /ambassadors/drains/hosts/<host>             the same for every instance of a host

`docs/keys.md` is the contract.
"""

from __future__ import annotations

DEFAULT_FLEET = "/ambassadors/"

PROGRAMS = "programs/"
DRAINS = "drains/"
