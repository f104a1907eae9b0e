"""An HTTP server of a folder that waits before each answer, as a distant store does: nginx with Lua, on loopback."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

__all__ = ["Requests", "SlowServer", "serving_slowly"]
_CONFIGURATION = """
load_module {modules}/ndk_http_module.so;
load_module {modules}/ngx_http_lua_module.so;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 2048; }}
http {{
  log_format sizes '$body_bytes_sent';
  access_log {folder}/access.log sizes;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  sendfile on;
  tcp_nodelay on;
  keepalive_requests 1000000;
  server {{
    listen 127.0.0.1:{port};
    root {root};
    location / {{ access_by_lua_block {{ ngx.sleep({seconds}) }} }}
  }}
}}
"""


class Requests(NamedTuple):
    """What a server answered.

    Attributes:
        count: the number of requests.
        sent_bytes: the bytes of all bodies.
    """

    count: int
    sent_bytes: int


class SlowServer:
    """A running server.

    Attributes:
        url: its address.
    """

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self._log = log

    def count(self) -> Requests:
        """The requests so far."""
        sizes = [int(line) for line in self._log.read_text().split()]
        return Requests(len(sizes), sum(sizes))


@contextmanager
def serving_slowly(root: Path, folder: Path, latency_seconds: float) -> Iterator[SlowServer]:
    """Serve the files under ``root``; ``folder`` is for the server's own files.

    Raises:
        RuntimeError: nginx or its module is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = _find_port()
    settings = folder / "nginx.conf"
    # ngx.sleep(0) would yield to the event loop, too.
    text = _CONFIGURATION.format(modules=_find_modules(), folder=folder, root=root, port=port, seconds=latency_seconds)
    settings.write_text(text if latency_seconds else text.replace("access_by_lua_block { ngx.sleep(0.0) }", ""))
    command = [_program(), "-c", str(settings), "-p", str(folder), "-g", "daemon off;"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port, process, folder)
        yield SlowServer(f"http://127.0.0.1:{port}", folder / "access.log")
    finally:
        process.terminate()
        process.wait(10)


def _program() -> str:
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if found is None:
        raise RuntimeError("nginx is not installed: apt-get install nginx-light libnginx-mod-http-lua")
    return found


def _find_modules() -> Path:
    candidates: Sequence[Path] = (Path("/usr/lib/nginx/modules"), Path("/usr/share/nginx/modules"))
    for folder in candidates:
        if (folder / "ngx_http_lua_module.so").exists():
            return folder
    raise RuntimeError("nginx has no module for Lua: apt-get install libnginx-mod-http-lua")


def _find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(port: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/"):
                return
        except urllib.error.HTTPError:  # it answers: there is no list of the folder
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"nginx does not start: {(folder / 'error.log').read_text()}")
