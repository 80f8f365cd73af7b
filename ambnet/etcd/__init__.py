"""Our etcd v3 client: generated stubs on channels of our own, one an endpoint, with failover, authentication and TLS.

`ambnet.watch`, `ambnet.lease` and `ambnet.registry` are built on it.
"""

from ambnet.etcd.client import Etcd
from ambnet.etcd.config import EtcdConfig, etcd_config

__all__ = ["Etcd", "EtcdConfig", "etcd_config"]
