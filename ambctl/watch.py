"""`ambctl watch [SERVICE]`: what there is, then every change."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass

from ambcore.history import Message
from ambcore.schema import service_prefix
from ambctl import draw, render
from ambctl.common import DONE, Common, patience, print_lines
from ambctl.names import parse_service
from ambctl.view import View
from ambnet.etcd import Etcd
from ambnet.options import positional
from ambnet.watch import PrefixWatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch(Common):
    """Say what there is, then every change, until interrupted: + came, ~ changed, - went, ! was refused."""

    EXAMPLES = ("ambctl watch redis-A", "ambctl watch --json | jq --unbuffered .event")

    service: str | None = positional("SERVICE", help="one service; default: all", parse=parse_service, required=False)


async def watch(settings: Watch) -> int:
    """What there is, then every change; ends by interruption only."""
    prefix = service_prefix(settings.service, settings.prefix) if settings.service else settings.prefix
    view, where = View(), settings.paper

    def tell(message: Message) -> None:
        nonlocal view
        view, news = view.digest(message, settings.reader)
        if settings.json:
            print_lines(map(json.dumps, render.news_documents(news)))
        else:
            print_lines(draw.news(render.news_lines(news), where))

    async with Etcd(settings.etcd_config()) as etcd, PrefixWatch(etcd, prefix) as messages:
        async with patience(settings, etcd):
            tell(await anext(messages))
        # From now on silence means calm: what happens to the connection has to be said.
        root = logging.getLogger()
        root.setLevel(min(root.level, logging.WARNING))
        async for message in messages:
            tell(message)
    return DONE
