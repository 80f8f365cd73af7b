"""The independent client, as a program: one JSON command a line on standard input, one JSON answer a line.

Runs in the witness's own environment, so it imports nothing of ours. Commands: ["put", key, value, ttl or null],
["delete", key], ["get", prefix].
"""

from __future__ import annotations

import json
import sys

import etcd3


def main() -> None:
    host, port = sys.argv[1].rsplit(":", 1)
    client = etcd3.client(host=host, port=int(port))
    for line in sys.stdin:
        verb, *arguments = json.loads(line)
        answer: object = None
        if verb == "put":
            key, value, ttl = arguments
            client.put(key, value, lease=client.lease(ttl) if ttl else None)
        elif verb == "delete":
            answer = client.delete(arguments[0])
        elif verb == "get":
            answer = {meta.key.decode(): value.decode() for value, meta in client.get_prefix(arguments[0])}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


main()
