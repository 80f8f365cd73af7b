"""`ambctl ui`: the fleet's status page."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ambcore.findings import Finding
from ambcore.model import join_host_port
from ambctl.common import DONE, Common, patience, print_lines
from ambctl.targets import is_near, target_groups
from ambnet.docker_options import DEFAULT_URL, parse_docker_url
from ambnet.http import parse_admin
from ambnet.options import option

if TYPE_CHECKING:
    from aiohttp import web

DEFAULT_LISTEN = ("127.0.0.1", 9400)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ui(Common):
    """Serve a page that shows the fleet and follows it: services, instances, programs, who talks to whom, and why."""

    EXAMPLES = ("ambctl ui", "ambctl ui --listen 127.0.0.1:8080 --etcd http://10.132.0.5:2379")

    listen: tuple[str, int] = option(
        "--listen",
        default=DEFAULT_LISTEN,
        help="where to serve it; whoever reaches this address sees everything, and can change nothing",
        parse=parse_admin,
        env=["AMB_UI_LISTEN"],
        metavar="ADDR:PORT",
    )
    docker: str = option(
        "--docker",
        default=DEFAULT_URL,
        help="the Docker daemon here, which is asked why a service is as it is where no registrar knows it",
        parse=parse_docker_url,
        env=["DOCKER_HOST"],
        metavar="URL",
    )


async def ui(settings: Ui) -> int:
    """Serve until SIGINT or SIGTERM. Raises ConfigError if the address cannot be had, RegistryError without etcd."""
    from aiohttp import web  # noqa: PLC0415 - `--help` needs none of these
    from prometheus_client import CollectorRegistry  # noqa: PLC0415

    from ambctl.fleet_board import FleetBoard  # noqa: PLC0415
    from ambnet.announce import host_name  # noqa: PLC0415
    from ambnet.daemon import background  # noqa: PLC0415
    from ambnet.etcd import Etcd  # noqa: PLC0415
    from ambnet.http import Admin, serve_admin  # noqa: PLC0415

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with Etcd(settings.etcd_config()) as etcd:
        async with patience(settings, etcd):
            await etcd.get(settings.prefix.encode())
        board = FleetBoard(settings, etcd, lambda name: _explain(settings, name))

        async def sd(request: web.Request) -> web.StreamResponse:
            own, peer = (request.get_extra_info(name, default=("", 0))[0] for name in ("sockname", "peername"))
            return web.json_response(target_groups(board.announced, host_name() if is_near(peer, own) else ""))

        def status() -> dict[str, Any]:
            return {"program": "ambctl ui", "ready": board.known, "programs": len(board.announced)}

        admin = Admin(
            lambda: None,
            lambda: None if board.known else "the records are not known yet",
            status,
            CollectorRegistry(),
            traffic=board.counts,
        )
        async with (
            background(board.run),
            serve_admin(settings.listen, admin, board=board, more={"/sd": sd}, option="--listen"),
        ):
            print_lines([f"http://{join_host_port(*settings.listen)}/"])
            await stop.wait()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(ValueError):
            loop.remove_signal_handler(number)
    return DONE


async def _explain(settings: Ui, name: str) -> Sequence[Finding]:
    """What `ambctl explain` finds, each with who says so."""
    from ambctl.explain.gather import Here, gather  # noqa: PLC0415 - a page of one service asks for it
    from ambctl.explain.judge import judge  # noqa: PLC0415

    told = judge(await gather(settings, name, Here(settings.docker)))
    return [Finding(each.level, f"{by}: {each.topic}", each.says, each.do) for by, each in told.steps]
