"""Users of a real etcd: each may do what it is granted, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from ambnet.etcd import EtcdConfig
from tests.support.etcd_cluster import EtcdCluster

PASSWORD = "xyzzy-open-sesame"  # everybody's; no log has these letters by chance
NOBODY: Mapping[str, Sequence[str]] = MappingProxyType({})


def let_in(etcd: EtcdCluster, grants: Mapping[str, Sequence[str]] = NOBODY) -> None:
    """Turn authentication on: `root` may do everything, each other user what it is granted, as "readwrite /prefix/".

    A user's role has its name. From here on `etcd.etcdctl` speaks as root.
    """
    for user in ("root", *grants):
        etcd.etcdctl("user", "add", f"{user}:{PASSWORD}")
    for user, granted in grants.items():
        etcd.etcdctl("role", "add", user)
        etcd.etcdctl("user", "grant-role", user, user)
        for grant in granted:
            allow(etcd, user, grant)
    etcd.etcdctl("user", "grant-role", "root", "root")
    etcd.etcdctl("auth", "enable")
    etcd.environment["ETCDCTL_USER"] = f"root:{PASSWORD}"


def allow(etcd: EtcdCluster, user: str, grant: str) -> None:
    """Grant a user of `let_in` something more."""
    etcd.etcdctl("role", "grant-permission", user, "--prefix=true", *grant.split())


def password_in(folder: Path) -> Path:
    """A file with everybody's password, that only its owner may read."""
    path = folder / "password"
    path.touch(0o600)
    path.write_text(PASSWORD + "\n")
    return path


def login(etcd: EtcdCluster, user: str, password: Path) -> EtcdConfig:
    """How a user comes in."""
    return EtcdConfig(etcd.endpoints, user=user, password_file=str(password))
