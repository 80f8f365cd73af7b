"""An etcd that asks who one is, set up by the very commands of docs/security.md."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.docs.pages import blocks
from tests.docs.shell import shell
from tests.hosts.console import sections
from tests.support.etcd_cluster import EtcdCluster

HOST = socket.gethostname()  # by which programs are announced
PAGE = (Path(__file__).parents[2] / "docs/security.md").read_text()
COMMANDS = sections(PAGE)["etcd decides where traffic goes"].replace("core-01", HOST)


@dataclass(frozen=True, slots=True)
class Guarded:
    """A member of etcd after all of the page's commands, and the folder of the passwords that they made."""

    cluster: EtcdCluster
    passwords: Path

    def login(self, user: str) -> dict[str, str]:
        """The variables that the page names."""
        return {
            "AMB_ETCD": ",".join(self.cluster.endpoints),
            "AMB_ETCD_USER": user,
            "AMB_ETCD_PASSWORD_FILE": str(self.passwords / f"{user}.password"),
        }

    def may(self, user: str, *command: str) -> bool:
        """Whether etcd lets a user do that; any other error fails the test."""
        password = (self.passwords / f"{user}.password").read_text().strip()
        try:
            self.cluster.etcdctl("--user", f"{user}:{password}", *command)
        except AssertionError as error:
            if "permission denied" not in str(error):
                raise
            return False
        return True

    def as_root(self, *command: str) -> None:
        """What an administrator does."""
        assert self.may("root", *command)

    @contextmanager
    def without(self, role: str, permission: Sequence[str], key: str) -> Iterator[None]:
        """A permission is taken from a role, and given back."""
        self.as_root("role", "revoke-permission", role, "--prefix=true", key)
        try:
            yield
        finally:
            self.as_root("role", "grant-permission", role, "--prefix=true", *permission, key)


@contextmanager
def guarded_etcd(folder: Path) -> Iterator[Guarded]:
    """One for the length of a block, with its data and passwords in an empty folder."""
    with EtcdCluster(folder / "etcd", size=1) as cluster:
        with shell(replaced={}, cwd=str(folder)) as typed:
            typed.type(f"export ETCDCTL_API=3 ETCDCTL_ENDPOINTS={','.join(cluster.endpoints)}")
            for block in blocks(COMMANDS):
                typed.perform(block)
        yield Guarded(cluster, folder)
