"""HAProxy and nginx as real processes, with a configuration of the test's own."""

from __future__ import annotations

import shutil
import subprocess
import threading
from pathlib import Path
from typing import Self

import pytest

HAPROXY = """
global
    maxconn 200
    log stderr format raw local0
defaults
    log global
    timeout connect 5s
    timeout client 30s
    timeout server 30s
"""

NGINX = """
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr info;
events {{ worker_connections 200; }}
{text}
"""

NGINX_HTTP = """
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {text}
}}
"""


class OtherProxy:
    """Runs while its `with` block does; what it logs is in `lines`."""

    def __init__(self, *command: str) -> None:
        self.lines: list[str] = []
        self._command = command

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.process.kill()
        self.process.wait(10)
        self._reader.join(5)
        assert self.process.stderr is not None
        self.process.stderr.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.lines.extend(self.process.stderr)

    @property
    def log(self) -> str:
        return "".join(list(self.lines))


def haproxy(folder: Path, text: str) -> OtherProxy:
    """HAProxy with these `frontend`, `backend` and `listen` sections."""
    path = folder / "haproxy.cfg"
    path.write_text(HAPROXY + text)
    return OtherProxy(_found("haproxy"), "-db", "-f", str(path))


def nginx(folder: Path, *, http: str = "", stream: str = "") -> OtherProxy:
    """nginx with these `server` blocks."""
    text = NGINX_HTTP.format(folder=folder, text=http) if http else ""
    text += f"stream {{ {stream} }}" if stream else ""
    path = folder / "nginx.conf"
    path.write_text(NGINX.format(folder=folder, text=text))
    return OtherProxy(_found("nginx"), "-p", str(folder), "-e", "stderr", "-c", str(path))


def _found(name: str) -> str:
    """Where a program is; without it the test fails aloud."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        pytest.fail(f"{name} is not installed: scripts/setup test does that", pytrace=False)
    return path
