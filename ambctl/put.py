"""`ambctl put SERVICE INSTANCE HOST:PORT`: one record by hand."""

from __future__ import annotations

from dataclasses import dataclass

from ambcore.errors import ConfigError, RecordError
from ambcore.history import KeyValue
from ambcore.model import MAX_WEIGHT, Address, Instance, Readiness
from ambcore.schema import encode_record, record_key
from ambctl.common import DONE, NOT_SO, Common, complain, patience, print_json, print_lines
from ambctl.names import keeper, parse_instance, parse_service
from ambctl.render import key_text
from ambnet.etcd import Etcd
from ambnet.options import count, option, positional, switch


@dataclass(frozen=True, slots=True, kw_only=True)
class Put(Common):
    """Write a record by hand, unless a registrar keeps it."""

    EXAMPLES = (
        "ambctl put redis-A by-hand 10.132.181.182:6379",
        "ambctl put redis-A canary 10.132.181.183:6379 --weight 5 --ttl 600",
    )

    service: str = positional("SERVICE", help="the service", parse=parse_service)
    instance: str = positional("INSTANCE", help="what to call the instance", parse=parse_instance)
    address: Address = positional("HOST:PORT", help="where it answers; an IP address, no name", parse=Address.parse)
    weight: int = option(
        "--weight", default=1, help=f"its share of new connections, 1 to {MAX_WEIGHT}", parse=count, metavar="N"
    )
    draining: bool = switch("--draining", help="give it no new connections")
    ttl: int | None = option(
        "--ttl", default=None, help="let the record end after so long; default: never", parse=count, metavar="SECONDS"
    )
    force: bool = switch("--force", help="even if proxies would refuse the address or a registrar keeps the record")

    def __post_init__(self) -> None:
        _ = self.record

    @property
    def record(self) -> tuple[bytes, bytes]:
        """Key and value to write. Raises ConfigError for a record that its readers would refuse."""
        try:
            instance = Instance(
                self.service,
                self.instance,
                self.address,
                weight=self.weight,
                readiness=Readiness.DRAINING if self.draining else Readiness.UP,
            )
        except ValueError as error:  # names and address were parsed: only the weight is left
            raise ConfigError("--weight", str(error)) from error
        key, value = record_key(self.service, self.instance, self.prefix).encode(), encode_record(instance)
        try:
            self.reader.read(KeyValue(key, value, 0))
        except RecordError as error:
            if error.reason != "address_denied":
                raise ConfigError("INSTANCE", str(error)) from error
            if not self.force:
                raise ConfigError("HOST:PORT", f"{error}; --force writes it all the same") from error
        return key, value


async def put(settings: Put) -> int:
    """Write one record, unless a registrar keeps it or somebody else writes it at the same moment."""
    key, value = settings.record
    async with Etcd(settings.etcd_config()) as etcd, patience(settings, etcd):
        before = await etcd.get(key)
        if not settings.force and before and (owner := keeper(before, settings.prefix)):
            complain(f"{key_text(key)} is kept by the registrar of {owner}; --force writes it all the same")
            return NOT_SO
        lease = (await etcd.grant(settings.ttl))[0] if settings.ttl else 0
        outcome = await etcd.put_if(key, value, lease, revision=before.revision if before else 0)
    if not isinstance(outcome, int):
        complain(f"{key_text(key)} was written by somebody else at the same moment: look, and try again")
        return NOT_SO
    if settings.json:
        print_json({"key": key_text(key), "revision": outcome, "lease": f"{lease:x}" if lease else None})
    else:
        print_lines([f"{key_text(key)} {value.decode()}"])
    return DONE
