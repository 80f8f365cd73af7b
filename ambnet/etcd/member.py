"""One etcd member, asked by itself: for whoever wants to know how it stands with that very one.

No failover and no repetition: an answer is this member's, a failure is this member's, too.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Self

from ambcore.errors import RegistryDeniedError, RegistryError, RegistryUnavailableError
from ambcore.members import Alarm, ListedMember, MemberStatus
from ambcore.replay import range_end
from ambnet.etcd.config import EtcdConfig
from ambnet.etcd.endpoint import Endpoint, TlsFiles
from ambnet.etcd.errors import AUTH_OFF, TokenRejectedError, translate
from ambnet.etcd.protocol import grpc, rpc
from ambnet.etcd.stream import cancelled_on_purpose


class Member:
    """The member at `url`; an async context manager. `patience` is in seconds, for each answer.

    Whatever it does not answer well raises RegistryError.
    """

    def __init__(self, config: EtcdConfig, url: str, patience: float) -> None:
        self.url = url
        self._config = config
        self._patience = patience
        self._token: str | None = None

    async def __aenter__(self) -> Self:
        try:
            self._endpoint = Endpoint(self.url, TlsFiles.read(self._config))
        except OSError as error:
            raise RegistryUnavailableError(f"the TLS files cannot be used: {error}") from error
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._endpoint.close()

    async def authenticate(self) -> None:
        """Use the configuration's user from now on; nothing changes where authentication is off or no user is given."""
        if not (user := self._config.user):
            return
        password = self._password()
        try:
            reply = await self._endpoint.auth.Authenticate(
                rpc.AuthenticateRequest(name=user, password=password), timeout=self._patience
            )
        except grpc.aio.AioRpcError as error:
            if error.details() != AUTH_OFF:
                raise translate(error) from error
        else:
            self._token = reply.token

    def _password(self) -> str:
        try:
            return Path(self._config.password_file or "").read_text().strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise RegistryDeniedError(f"the password file cannot be read: {error}") from error

    async def status(self) -> MemberStatus:
        """Its own account."""
        said = await self._ask("maintenance", "Status", rpc.StatusRequest())
        return MemberStatus(
            cluster=said.header.cluster_id,
            member=said.header.member_id,
            version=said.version,
            leader=said.leader,
            term=said.raftTerm,
            index=said.raftIndex,
            applied=said.raftAppliedIndex,
            size=said.dbSize,
            used=said.dbSizeInUse,
            learner=said.isLearner,
            errors=tuple(said.errors),
        )

    async def members(self) -> tuple[ListedMember, ...]:
        """Everybody whom the cluster's list names."""
        said = await self._ask("cluster", "MemberList", rpc.MemberListRequest())
        return tuple(ListedMember(each.ID, each.name, tuple(each.clientURLs), each.isLearner) for each in said.members)

    async def alarms(self) -> tuple[Alarm, ...]:
        """What the cluster has raised the alarm about."""
        request = rpc.AlarmRequest(action=rpc.AlarmRequest.GET)
        said = await self._ask("maintenance", "Alarm", request)
        return tuple(Alarm(each.memberID, rpc.AlarmType.Name(each.alarm)) for each in said.alarms)

    async def guarded(self) -> bool:
        """Whether authentication is on. Raises RegistryError for a member older than 3.5, which cannot be asked."""
        return bool((await self._ask("auth", "AuthStatus", rpc.AuthStatusRequest())).enabled)

    async def count(self, prefix: str) -> int:
        """How many keys there are below a prefix, as the majority knows it."""
        key = prefix.encode()
        request = rpc.RangeRequest(key=key, range_end=range_end(key), count_only=True)
        return int((await self._ask("kv", "Range", request)).count)

    async def try_writing(self, key: str, seconds: int) -> None:
        """Write a key that nobody has, under a lease of so many seconds, and delete it again."""
        lease = (await self._ask("lease", "LeaseGrant", rpc.LeaseGrantRequest(TTL=seconds))).ID
        try:
            await self._ask("kv", "Put", rpc.PutRequest(key=key.encode(), value=b"", lease=lease))
        finally:
            await self._ask("lease", "LeaseRevoke", rpc.LeaseRevokeRequest(ID=lease))

    async def _ask(self, service: str, method: str, request: Any) -> Any:
        stub = getattr(getattr(self._endpoint, service), method)
        metadata = (("token", self._token),) if self._token else ()
        try:
            return await stub(request, timeout=self._patience, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            found: RegistryError = translate(error)
            if isinstance(found, TokenRejectedError):  # without a token that is: nobody is let in unnamed
                found = RegistryDeniedError(str(found))
            raise found from error
        except asyncio.CancelledError:
            if cancelled_on_purpose():
                raise
            raise RegistryUnavailableError("the connection was closed") from None
