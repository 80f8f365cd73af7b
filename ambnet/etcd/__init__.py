"""Our etcd v3 client: generated stubs on channels of our own, one an endpoint, with failover, authentication and TLS.

`ambnet.watch`, `ambnet.lease` and `ambnet.registry` are built on it. The client, and with it gRPC, is loaded when it is
first named: who only reads options does without.
"""

from typing import TYPE_CHECKING, Any

from ambnet.etcd.config import EtcdConfig, etcd_config

if TYPE_CHECKING:
    from ambnet.etcd.client import Etcd

__all__ = ["Etcd", "EtcdConfig", "etcd_config"]


def __getattr__(name: str) -> Any:
    if name != "Etcd":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ambnet.etcd.client import Etcd  # noqa: PLC0415

    globals()["Etcd"] = Etcd
    return Etcd
