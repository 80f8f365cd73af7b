"""The data plane in user space: an epoll loop of our own that carries bytes between clients and instances.

The data's way: `listener` accepts, `dial` finds an instance that answers, `session` carries the bytes. `route` says
whom to ask, `relay` holds it all together, `worker` is the process around it and `protocol` how its parent talks to it.
Datagrams have a way of their own: `udp`, `udp_port`, `udp_session`, `udp_roll`.
Nothing here imports asyncio or any package from outside: a worker has to stay under 20 MiB.
"""
