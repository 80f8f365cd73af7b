"""The verbs at work: ask etcd, print, and return the exit code."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any

from ambcore.errors import RecordError, RegistryUnavailableError
from ambcore.history import KeyValue, Message
from ambcore.schema import decode_record, service_prefix
from ambctl import render
from ambctl.config import PROG, Common, Env, Ls, Put, Rm, Show, Watch
from ambctl.env import env
from ambctl.view import View, entries
from ambnet.etcd import Etcd
from ambnet.watch import PrefixWatch


async def perform(settings: Common) -> int:
    """Do what was asked; returns the exit code. Raises RegistryError, DockerError and ConfigError."""
    if isinstance(settings, Env):
        return await env(settings)
    async with Etcd(settings.etcd_config()) as etcd:
        return await COMMANDS[type(settings)](settings, etcd)


async def ls(settings: Ls, etcd: Etcd) -> int:
    """Every record under the prefix."""
    async with _patience(settings, etcd):
        listed = await etcd.list(settings.prefix.encode())
    found = entries(listed, settings.reader)
    if settings.json:
        _print_json(render.listing_document(found, settings.prefix, listed.revision))
    elif found:
        _print(render.listing(found, settings.prefix))
    else:
        complain(f"no records under {settings.prefix}")
    return 0


async def show(settings: Show, etcd: Etcd) -> int:
    """Every field of a service's records."""
    async with _patience(settings, etcd):
        listed = await etcd.list(service_prefix(settings.service, settings.prefix).encode())
    found = entries(listed, settings.reader)
    if not found:
        complain(f"no service {settings.service} under {settings.prefix}")
        return 1
    if settings.json:
        _print_json(render.service_document(found, settings.service, listed.revision))
    else:
        _print(render.details(found))
    return 0


async def watch(settings: Watch, etcd: Etcd) -> int:
    """What there is, then every change; ends by interruption only."""
    prefix = service_prefix(settings.service, settings.prefix) if settings.service else settings.prefix
    view = View()

    def tell(message: Message) -> None:
        nonlocal view
        view, news = view.digest(message, settings.reader)
        if settings.json:
            _print(map(json.dumps, render.news_documents(news)))
        else:
            _print(render.news_lines(news))

    async with PrefixWatch(etcd, prefix) as messages:
        async with _patience(settings, etcd):
            tell(await anext(messages))
        # From now on silence means calm: what happens to the connection has to be said.
        root = logging.getLogger()
        root.setLevel(min(root.level, logging.WARNING))
        async for message in messages:
            tell(message)
    return 0


async def put(settings: Put, etcd: Etcd) -> int:
    """Write one record, unless a registrar keeps it or somebody else writes it at the same moment."""
    key, value = settings.record
    async with _patience(settings, etcd):
        before = await etcd.get(key)
        if not settings.force and before and (owner := _owner(before, settings.prefix)):
            complain(f"{render.key_text(key)} is kept by the registrar of {owner}; --force writes it all the same")
            return 1
        lease = (await etcd.grant(settings.ttl))[0] if settings.ttl else 0
        outcome = await etcd.put_if(key, value, lease, revision=before.revision if before else 0)
    if not isinstance(outcome, int):
        complain(f"{render.key_text(key)} was written by somebody else at the same moment: look, and try again")
        return 1
    if settings.json:
        _print_json({"key": render.key_text(key), "revision": outcome, "lease": f"{lease:x}" if lease else None})
    else:
        _print([f"{render.key_text(key)} {value.decode()}"])
    return 0


def _owner(item: KeyValue, prefix: str) -> str | None:
    """Who keeps a record by a lease; None for one that was written by hand."""
    try:
        return decode_record(item.key, item.value, prefix).owner if item.lease else None
    except RecordError:
        return None


async def rm(settings: Rm, etcd: Etcd) -> int:
    """Remove one record."""
    async with _patience(settings, etcd):
        before = await etcd.get(settings.key)
        removed = before is not None and await etcd.delete(settings.key)
    key = render.key_text(settings.key)
    if before is None or not removed:
        complain(f"no record {key}")
        return 1
    if owner := _owner(before, settings.prefix):
        complain(f"{key} was kept by the registrar of {owner}, which will write it again while the container runs")
    if settings.json:
        _print_json({"key": key, "removed": True})
    else:
        _print([f"{key} removed"])
    return 0


COMMANDS: Mapping[type[Common], Callable[[Any, Etcd], Awaitable[int]]] = {
    Ls: ls,
    Show: show,
    Watch: watch,
    Put: put,
    Rm: rm,
}


@contextlib.asynccontextmanager
async def _patience(settings: Common, etcd: Etcd) -> AsyncIterator[None]:
    """Raises RegistryUnavailableError, naming the member, when it fails or takes longer than the operator waits."""
    try:
        async with asyncio.timeout(settings.timeout):
            yield
    except RegistryUnavailableError as error:
        raise RegistryUnavailableError(etcd.last_error or str(error)) from error
    except TimeoutError as error:
        why = etcd.last_error or f"{etcd.endpoint}: no answer"
        raise RegistryUnavailableError(f"{why} (waited {settings.timeout:g} s)") from error


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _print_json(document: render.Document) -> None:
    _print([json.dumps(document, indent=2)])


def complain(text: str) -> None:
    """One line on standard error."""
    sys.stderr.write(f"{PROG}: {text}\n")
