"""Ask the program of this container, over its admin address, whether it is healthy: exit 0 or 1.

The address comes from AMB_ADMIN, the only one a HEALTHCHECK can know. Without it the process runs with no admin
server, and that it runs at all (Docker watches that) is all there is to say: healthy. Sockets instead of an HTTP
library, since this starts twice a minute beside programs that count their milliseconds.
"""

import os
import socket
import sys

_TIMEOUT_S = 4.0
_WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound


def healthy(admin: str) -> bool:
    """Whether GET /healthz on ADDR:PORT answers 200; an address that cannot be reached is not healthy."""
    host, _, port = admin.rpartition(":")
    host = host.strip("[]")
    host = _WILDCARDS.get(host, host)
    try:
        with socket.create_connection((host, int(port)), timeout=_TIMEOUT_S) as connection:
            connection.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
            status = connection.recv(64).split(b" ", 2)
    except (OSError, ValueError):
        return False
    return len(status) > 1 and status[1] == b"200"


if __name__ == "__main__":
    address = os.environ.get("AMB_ADMIN", "")
    sys.exit(0 if not address or healthy(address) else 1)
