"""Records that an earlier life of this host's registrar left for containers that have gone meanwhile.

Its lease would end them, too; but a service that is known to be gone need not be offered for the rest of that.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from ambcore.errors import RecordError
from ambcore.history import KeyValue
from ambcore.model import Instance
from ambcore.schema import decode_record
from ambnet.dockerd import Engine
from ambnet.etcd import Etcd

log = logging.getLogger("registrar")


class Orphans:
    """Those under `prefix` that say they are `owner`'s, but not of the life called `epoch`."""

    def __init__(self, etcd: Etcd, prefix: str, *, owner: str, epoch: str) -> None:
        self._etcd = etcd
        self._prefix = prefix
        self._owner = owner
        self._epoch = epoch

    async def bury(self, engine: Engine, ended: Collection[str]) -> int:
        """Delete the records of containers that do not exist or have `ended`; how many. Nobody else's is touched, nor a
        record that changes meanwhile. Raises RegistryError and DockerError.
        """
        records = (await self._etcd.list(self._prefix.encode())).items
        found = [(item, instance) for item in records if (instance := self._left_over(item)) is not None]
        if not found:
            return 0
        there = await engine.list()  # asked after the records were read: who made one of them since, is in it
        buried = 0
        for item, instance in found:
            if instance.container not in there or instance.container in ended:
                buried += await self._etcd.delete_if(item.key, revision=item.revision)
                log.info("deregistered %s/%s: its container went while nobody looked", instance.service, instance.id)
        return buried

    def _left_over(self, item: KeyValue) -> Instance | None:
        try:
            instance = decode_record(item.key, item.value, self._prefix)
        except RecordError:
            return None
        theirs = instance.owner == self._owner and instance.epoch != self._epoch
        return instance if theirs and instance.container else None
