"""Servers of tiles of 256 px, each as processes of its own on loopback."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from kit.options import is_installed
from peers.entries import IMAGE_ID, Entry
from peers.server_apps import QUALITY, TILE_PX, TOKEN

_APPS = Path(__file__).with_name("server_apps.py")
_BENCH = _APPS.parents[1]
_START_SECONDS = 60
_NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 256; }}
http {{
    access_log off; keepalive_requests 1000000;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location /fcgi-bin/iipsrv.fcgi {{
            include /etc/nginx/fastcgi_params; fastcgi_pass 127.0.0.1:{backend}; fastcgi_buffers 32 16k;
        }}
    }}
}}
"""


@dataclass
class TileServer(ABC):
    """A server of the mosaic.

    Attributes:
        name: in tables.
        entry: the cache entry that it serves.
    """

    name: str
    entry: Entry
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list, init=False, repr=False)
    port: int = field(default=0, init=False)

    role: ClassVar[str] = "peer"
    requires: ClassVar[Sequence[str]] = ()
    programs: ClassVar[Sequence[str]] = ()
    headers: ClassVar[Mapping[str, str]] = {}

    @property
    def missing(self) -> list[str]:
        """Modules and programs that are not installed."""
        absent = [name for name in self.requires if not is_installed(name)]
        return absent + [name for name in self.programs if find_program(name) is None]

    @property
    def pids(self) -> list[int]:
        """Its processes."""
        return [process.pid for process in self._processes]

    @abstractmethod
    def start(self) -> None:
        """Start it; returns when it answers."""

    @abstractmethod
    def path(self, row: int, col: int) -> str:
        """The path of a tile of full resolution."""

    def stop(self) -> None:
        """End its processes."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait()
        self._processes.clear()

    def run(self, command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, **options)
        self._processes.append(process)
        return process

    def run_app(self, *arguments: str) -> dict[str, Any]:
        """Start one of ``server_apps.py``; returns what it prints."""
        paths = [str(_BENCH), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = self.run([sys.executable, "-W", "ignore", str(_APPS), *arguments], env=environment, **pipes)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} does not start")
        found: dict[str, Any] = json.loads(line)
        self.port = found["port"]
        return found


@dataclass
class Ndframes(TileServer):
    """IIIF."""

    role = "ndframes"
    requires = ("starlette", "uvicorn")

    def start(self) -> None:
        entry = self.entry
        found = self.run_app("ndframes", str(entry.workdir), str(entry.source), entry.form, str(entry.blocksize or 0))
        self.state: str = found["state"]

    def path(self, row: int, col: int) -> str:
        box = f"{TILE_PX * col},{TILE_PX * row},{TILE_PX},{TILE_PX}"
        return f"/k/{TOKEN}/iiif/{IMAGE_ID}/{box}/{TILE_PX},{TILE_PX}/0/default.jpg"


@dataclass
class NdframesTiles(Ndframes):
    """Stored tiles as JPEG, by their address that never changes."""

    def path(self, row: int, col: int) -> str:
        return f"{self.tiles_path()}/0?rows={row}&cols={col}&format=jpg"

    def tiles_path(self) -> str:
        return f"/k/{TOKEN}/frames/{IMAGE_ID}/{self.state}/tiles"


@dataclass
class NdframesRaw(Ndframes):
    """Pixels."""

    def path(self, row: int, col: int) -> str:
        top, left = TILE_PX * row, TILE_PX * col
        return f"/k/{TOKEN}/frames/{IMAGE_ID}/region?y={top}:{top + TILE_PX}&x={left}:{left + TILE_PX}"


@dataclass
class RioTiler(TileServer):
    """rio-tiler and starlette, the core of titiler."""

    requires = ("rio_tiler", "starlette", "uvicorn")

    def start(self) -> None:
        self.run_app("rio-tiler", str(self.entry.path))

    def path(self, row: int, col: int) -> str:
        return f"/tiles/{row}/{col}"


@dataclass
class Rasterio(TileServer):
    """rasterio, simplejpeg and starlette; the file stays open."""

    requires = ("rasterio", "simplejpeg", "starlette", "uvicorn")

    def start(self) -> None:
        self.run_app("rasterio", str(self.entry.path))

    def path(self, row: int, col: int) -> str:
        return f"/tiles/{row}/{col}"


@dataclass
class Iipsrv(TileServer):
    """iipsrv behind nginx, without iipsrv's own cache of pictures."""

    programs = ("iipsrv.fcgi", "nginx", "spawn-fcgi")

    def start(self) -> None:
        from tifffile import TiffFile

        iipsrv, nginx, spawn = (str(find_program(name)) for name in self.programs)
        with TiffFile(self.entry.path) as tiff:
            self._level, page = len(tiff.pages) - 1, tiff.pages[0]
            self._across = -(-page.imagewidth // page.tilewidth)
            assert page.tilewidth == TILE_PX
        self._folder = tempfile.TemporaryDirectory(prefix="ndframes-iipsrv-")
        backend, self.port = find_port(), find_port()
        settings = {
            "FILESYSTEM_PREFIX": f"{self.entry.path.parent}/",
            "MAX_IMAGE_CACHE_SIZE": "0",
            "JPEG_QUALITY": str(QUALITY),
            "OMP_NUM_THREADS": "1",
            "VERBOSITY": "0",
            "LOGFILE": f"{self._folder.name}/iipsrv.log",
        }
        where = ["-n", "-a", "127.0.0.1", "-p", str(backend)]
        self.run([spawn, *where, "--", iipsrv], env={**os.environ, **settings})
        configuration = Path(self._folder.name, "nginx.conf")
        configuration.write_text(_NGINX.format(folder=self._folder.name, port=self.port, backend=backend))
        self.run([nginx, "-c", str(configuration)], stderr=subprocess.DEVNULL)
        for port in (backend, self.port):
            wait_for(port)

    def path(self, row: int, col: int) -> str:
        index = row * self._across + col
        return f"/fcgi-bin/iipsrv.fcgi?FIF={self.entry.path.name}&JTL={self._level},{index}"

    def stop(self) -> None:
        super().stop()
        self._folder.cleanup()


def find_program(name: str) -> str | None:
    """A program on the path, or in the folders of servers."""
    folders = ["/usr/sbin", "/usr/lib/iipimage-server", *os.environ.get("PATH", "").split(os.pathsep)]
    return shutil.which(name, path=os.pathsep.join(folders))


def find_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def wait_for(port: int) -> None:
    """Wait until something listens at a port."""
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
