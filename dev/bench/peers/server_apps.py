"""One server of tiles; ``bench_server.py`` runs it in a process of its own. It prints its port and ends with its standard input.

Each peer opens the image once if its library can, and answers in the event loop of uvicorn with httptools: the quickest that it can be.

    python dev/bench/peers/server_apps.py ndframes WORKDIR SOURCE FORM BLOCKSIZE
    python dev/bench/peers/server_apps.py rio-tiler ENTRY
    python dev/bench/peers/server_apps.py rasterio ENTRY
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

QUALITY = 85
TILE_PX = 256
TOKEN = "a-token-of-the-benchmark"


def serve_ndframes(workdir: str, source: str, form: str, blocksize: str) -> None:
    from ndframes.server import serve
    from peers.entries import IMAGE_ID, Entry

    entry = Entry(Path(source), Path(workdir), form, int(blocksize) or None)
    with serve(entry.frames(), token=TOKEN) as service:
        state = entry.frames().image(IMAGE_ID).opened(0).entry.state
        print(json.dumps({"port": int(service.address.split(":")[2].partition("/")[0]), "state": state}), flush=True)
        sys.stdin.read()


def serve_rio_tiler(entry: str) -> None:
    """As titiler: the file is opened for each request, and GDAL encodes."""
    from rio_tiler.io import ImageReader

    def read(row: int, col: int) -> bytes:
        with ImageReader(entry) as reader:
            image = reader.tile(col, row, reader.maxzoom, tilesize=TILE_PX)
        return image.render(add_mask=False, img_format="JPEG", quality=QUALITY)

    serve_tiles(read)


def serve_rasterio(entry: str) -> None:
    import rasterio
    import simplejpeg
    from rasterio.windows import Window

    dataset = rasterio.open(entry)

    def read(row: int, col: int) -> bytes:
        pixels = dataset.read(window=Window(TILE_PX * col, TILE_PX * row, TILE_PX, TILE_PX))
        return simplejpeg.encode_jpeg(pixels.transpose(1, 2, 0).copy(), QUALITY, colorsubsampling="420")

    serve_tiles(read)


def serve_tiles(read: Callable[[int, int], bytes]) -> None:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    async def get(request: Any) -> Response:
        row, col = (int(request.path_params[name]) for name in ("row", "col"))
        return Response(read(row, col), media_type="image/jpeg")

    app: Any = Starlette(routes=[Route("/tiles/{row}/{col}", get)])
    listener = socket.create_server(("127.0.0.1", 0))
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=listener.detach())
    print(json.dumps({"port": bound.getsockname()[1]}), flush=True)
    threading.Thread(target=end_with_stdin, daemon=True).start()
    server = uvicorn.Server(uvicorn.Config(app, http="httptools", log_config=None, access_log=False, lifespan="off"))
    asyncio.run(server.serve(sockets=[bound]))


def end_with_stdin() -> None:
    sys.stdin.read()
    os._exit(0)


SERVERS = {"ndframes": serve_ndframes, "rio-tiler": serve_rio_tiler, "rasterio": serve_rasterio}

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    SERVERS[sys.argv[1]](*sys.argv[2:])
