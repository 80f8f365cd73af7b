"""PURE: may we in, and do what we are there for?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ambcore.findings import Finding
from ambctl.doctor.levels import amber, green, plural, red, unknown


@dataclass(frozen=True, slots=True)
class Access:
    """What came of asking as `user`, None for nobody. `guarded` is whether authentication is on, None for not known.

    `records` are those that could be read; `denied` is why we are not let in or may not read, `failed` why it is not
    known. `writing` is None when nobody tried, empty when it worked, else why not.
    """

    prefix: str
    user: str | None = None
    guarded: bool | None = None
    records: int | None = None
    denied: str = ""
    failed: str = ""
    writing: str | None = None
    plain_to: tuple[str, ...] = ()  # endpoints beyond this machine that the password goes to in plain text


def judge_access(seen: Access) -> Iterator[Finding]:
    """Login, reading, writing, and who listens to the password."""
    if seen.failed:
        yield unknown("etcd access", seen.failed)
        return
    if seen.denied:
        yield _denied(seen)
    else:
        who = f"as {seen.user}" if seen.user else "as nobody in particular"
        yield green("etcd access", f"{who}: may read {seen.prefix}, {plural(seen.records or 0, 'record')} there")
    if seen.writing:
        do = f"etcdctl role grant-permission ROLE --prefix=true readwrite {seen.prefix}, for a registrar's user"
        do = do if "permission" in seen.writing else "look at etcd's space and alarms"
        yield red("etcd writing", f"writing below {seen.prefix} is refused: {seen.writing}", do)
    elif seen.writing is not None:
        yield green("etcd writing", f"may write below {seen.prefix}, as a registrar has to")
    if seen.user and seen.plain_to:
        says = f"the password of {seen.user} goes to {', '.join(seen.plain_to)} in plain text"
        yield red("etcd password", says, "write https:// in --etcd, with --etcd-ca; and choose another password")
    if seen.guarded is False:
        says = "authentication is off: whoever reaches etcd can send traffic anywhere"
        yield amber(
            "etcd users", says, "etcdctl auth enable, with a user for each program; or keep others off its port"
        )
    elif seen.guarded:
        yield green("etcd users", "authentication is on")


def _denied(seen: Access) -> Finding:
    if seen.user is None:
        do = "give a user: --etcd-user and --etcd-password-file"
        return red("etcd access", f"etcd lets in nobody unnamed, and no user is given: {seen.denied}", do)
    if "permission denied" in seen.denied:
        do = f"etcdctl role grant-permission ROLE --prefix=true read {seen.prefix}, for a role of {seen.user}"
        return red("etcd access", f"{seen.user} may not read {seen.prefix}: {seen.denied}", do)
    do = "check --etcd-user and the password in --etcd-password-file (etcdctl user passwd)"
    return red("etcd access", f"{seen.user} is not let in: {seen.denied}", do)
