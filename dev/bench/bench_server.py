"""Servers of tiles: processor time a tile and tiles a second, over connections that are kept open, the entries open.

Each server runs in processes of its own on loopback and answers the same requests for random tiles of 256 px of a mosaic of photographs, in
interleaved rounds with another order each round. The processor time is that of all processes of the server: nginx and iipsrv together. It
depends little on the other load of the machine; the tiles a second depend on it, and on the client, which runs on the same machine.

- *jpeg*: tiles that are stored as JPEG. ndframes sends the stored bytes, by their own address and by IIIF, and joins four tiles of 128 px to one
  picture. The others decode and encode.
- *zstd*: tiles that are stored without loss, as JPEG of quality 85.
- *raw*: the exact pixels, of ndframes alone.
- *view*: 1536 x 1024 pixels of an entry of the default form, fetched and unpacked in one process: the exact pixels as stored tiles, in one
  request and in six at a time, and as 24 JPEGs.

All contenders read files that ndframes wrote. rio-tiler opens the file for each request, as titiler does. Both Python peers answer in the event loop,
and bare rasterio keeps the file open. Each answer is decoded once and compared with the mosaic. Contenders that are not installed are named and
left out: iipsrv and nginx are the packages iipimage-server, nginx-light and spawn-fcgi of Debian.

    pip install ".[bench]"
    python dev/bench/bench_server.py --folder /var/tmp/bench --json dev/bench/results/server.json
    python dev/bench/bench_server.py --quick
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import zstandard

from data.mosaic import ensure_mosaic
from kit.keep_alive import Connection, ask_all, count_cpu_seconds
from kit.options import is_chosen, make_parser, open_folder, parse_options
from kit.output import print_absent, print_table, write_json
from pages.figures import Dots
from pages.page import Page, Row, Table, number, times
from peers.entries import Entry
from peers.server_apps import TILE_PX
from peers.tile_servers import Iipsrv, Ndframes, NdframesRaw, NdframesTiles, Rasterio, RioTiler, TileServer

# JPEG of quality 85 changes photographs by 2 to 4 levels in the mean; a wrong tile differs by 40.
_MOST_DIFFERENCE = 8.0
_VIEW_PX = (1024, 1536)
_AT_ONCE = 6
_ZSTD = {"Accept-Encoding": "zstd"}
_TITLES = {
    "jpeg": "Tiles that are stored as JPEG",
    "zstd": "Tiles that are stored as zstd, as JPEG",
    "raw": "Exact pixels",
}


def make_servers(source: Path, folder: Path) -> dict[str, list[TileServer]]:
    """The contenders of each job."""
    jpeg, zstd = (Entry(source, folder / "ndframes", form, TILE_PX) for form in ("jpeg", "zstd"))
    small, auto = Entry(source, folder / "ndframes", "jpeg"), Entry(source, folder / "ndframes", "auto")
    return {
        "jpeg": [
            NdframesTiles("ndframes, stored tile", jpeg),
            Ndframes("ndframes, IIIF", jpeg),
            Ndframes("ndframes, IIIF of four tiles", small),
            *make_peers(jpeg),
        ],
        "zstd": [
            Ndframes("ndframes, IIIF", zstd),
            Ndframes("ndframes, IIIF of four tiles (auto)", auto),
            *make_peers(zstd),
        ],
        "raw": [NdframesRaw("ndframes, region of four tiles (auto)", auto)],
    }


def make_peers(entry: Entry) -> list[TileServer]:
    return [
        RioTiler("rio-tiler + starlette", entry),
        Rasterio("rasterio + simplejpeg + starlette", entry),
        Iipsrv("iipsrv + nginx", entry),
    ]


@contextmanager
def running(servers: Sequence[TileServer]) -> Iterator[list[TileServer]]:
    """The servers that are installed, started."""
    started: list[TileServer] = []
    try:
        for server in servers:
            if not server.missing:
                server.entry.prepare()
                started.append(server)
                server.start()
        yield started
    finally:
        for server in started:
            server.stop()


def check(server: TileServer, mosaic: np.ndarray) -> None:
    """Compare tiles with the mosaic."""
    rows, cols = (extent // TILE_PX for extent in mosaic.shape[:2])
    with Connection(server.port, server.headers) as connection:
        for row, col in ((0, 0), (1, 2), (rows - 1, cols - 1)):
            connection.send(server.path(row, col))
            body = connection.receive()
            is_exact = isinstance(server, NdframesRaw)
            pixels = np.load(io.BytesIO(body)) if is_exact else imagecodecs.jpeg8_decode(body)
            wanted = mosaic[TILE_PX * row :, TILE_PX * col :][:TILE_PX, :TILE_PX]
            assert pixels.shape == wanted.shape, (server.name, pixels.shape)
            difference = np.abs(pixels.astype(int) - wanted).mean()
            assert difference <= (0 if is_exact else _MOST_DIFFERENCE), (server.name, row, col, difference)


def bench_tiles(
    job: str, servers: Sequence[TileServer], mosaic: np.ndarray, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Return a row for each contender."""
    rng = np.random.default_rng(options.seed)
    rows, cols = (extent // TILE_PX for extent in mosaic.shape[:2])
    cpu: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    sizes: dict[str, float] = {}
    with running(servers) as started:
        for server in started:
            check(server, mosaic)
        for turn in range(options.warmup + options.rounds):
            tiles = rng.integers(0, (rows, cols), (options.requests, 2)).tolist()
            for index in rng.permutation(len(started)):
                server = started[index]
                paths = [server.path(row, col) for row, col in tiles]
                before = count_cpu_seconds(server.pids)
                load = ask_all(server.port, paths, server.headers, at_once=options.connections)
                if turn >= options.warmup:
                    cpu.setdefault(server.name, []).append((count_cpu_seconds(server.pids) - before) * 1e6 / len(paths))
                    rates.setdefault(server.name, []).append(len(paths) / load.seconds)
                    sizes[server.name] = load.bodies_bytes / len(paths)
    return [make_row(job, server, servers, cpu, rates, sizes) for server in servers]


def make_row(
    job: str,
    server: TileServer,
    servers: Sequence[TileServer],
    cpu: dict[str, list[float]],
    rates: dict[str, list[float]],
    sizes: dict[str, float],
) -> dict[str, Any]:
    row: dict[str, Any] = {"job": job, "contender": server.name, "role": server.role}
    if server.name not in cpu:
        return {**row, "status": f"not installed: {', '.join(server.missing)}"}
    mine = cpu[server.name]
    row |= {"status": "measured", "cpu_us": statistics.median(mine), "least_cpu_us": min(mine)}
    row |= {"requests_per_second": statistics.median(rates[server.name]), "bytes": round(sizes[server.name])}
    if server.role == "ndframes":
        # Both were measured within seconds in a round, so a slow phase of the machine cancels out.
        row["peers_in_ratio"] = {
            peer.name: statistics.median(its / own for its, own in zip(cpu[peer.name], mine, strict=True))
            for peer in servers
            if peer.role == "peer" and peer.name in cpu
        }
    return row


# -- a view ------------------------------------------------------------------------------------------------------------


class Views:
    """Ways to get the pixels of a view of an entry of the default form.

    Args:
        server: of the entry.
        origin: the row and column of its first pixel; on a tile.
        tile_px: edge of its tiles.
    """

    def __init__(self, server: NdframesTiles, origin: tuple[int, int], tile_px: int) -> None:
        self._server = server
        self._top, self._left = origin
        self._tile_px = tile_px

    def load_whole(self) -> np.ndarray:
        """All stored tiles in one request."""
        return self._load_tiles(0, _VIEW_PX[0] // self._tile_px)

    def load_parts(self) -> np.ndarray:
        """Stored tiles in several requests at a time, each of some rows of tiles."""
        rows = np.linspace(0, _VIEW_PX[0] // self._tile_px, _AT_ONCE + 1).astype(int).tolist()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return np.concatenate(list(pool.map(self._load_tiles, rows[:-1], rows[1:])))

    def load_jpegs(self) -> np.ndarray:
        """JPEGs, one after the other over one connection."""
        rows = [self._load_jpegs(row, row + TILE_PX) for row in range(0, _VIEW_PX[0], TILE_PX)]
        return np.concatenate(rows)

    def load_jpegs_at_once(self) -> np.ndarray:
        """JPEGs, over several connections at a time."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            tops = range(0, _VIEW_PX[0], TILE_PX)
            return np.concatenate(list(pool.map(self._load_jpegs, tops, [top + TILE_PX for top in tops])))

    def _load_tiles(self, first: int, stop: int) -> np.ndarray:
        row, col, across = self._top // self._tile_px, self._left // self._tile_px, _VIEW_PX[1] // self._tile_px
        path = f"{self._server.tiles_path()}/0?rows={row + first}:{row + stop}&cols={col}:{col + across}"
        with Connection(self._server.port, _ZSTD) as connection:
            connection.send(path)
            body = connection.receive()
        out = np.empty((self._tile_px * (stop - first), _VIEW_PX[1], 3), np.uint8)
        with zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True) as reader:
            for top in range(0, len(out), self._tile_px):
                for left in range(0, _VIEW_PX[1], self._tile_px):
                    tile = np.frombuffer(reader.read(self._tile_px**2 * 3), np.uint8)
                    out[top : top + self._tile_px, left : left + self._tile_px] = tile.reshape(self._tile_px, -1, 3)
        return out

    def _load_jpegs(self, first: int, stop: int) -> np.ndarray:
        rows = []
        with Connection(self._server.port, {}) as connection:
            for top in range(first, stop, TILE_PX):
                tiles = []
                for left in range(0, _VIEW_PX[1], TILE_PX):
                    connection.send(
                        Ndframes.path(self._server, (self._top + top) // TILE_PX, (self._left + left) // TILE_PX)
                    )
                    tiles.append(imagecodecs.jpeg8_decode(connection.receive()))
                rows.append(np.concatenate(tiles, axis=1))
        return np.concatenate(rows)


def bench_view(source: Path, folder: Path, mosaic: np.ndarray, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each way to get a view: milliseconds until its pixels are there."""
    entry = Entry(source, folder / "ndframes", "auto")
    server = NdframesTiles("view", entry)
    found: dict[str, list[float]] = {}
    with running([server]):
        rng = np.random.default_rng(options.seed)
        for turn in range(options.warmup + options.views):
            places = [(extent - size) // TILE_PX for extent, size in zip(mosaic.shape, _VIEW_PX, strict=False)]
            top, left = (TILE_PX * int(rng.integers(0, most + 1)) for most in places)
            views = Views(server, (top, left), entry.tile_px)
            ways: dict[str, Callable[[], np.ndarray]] = {
                "stored tiles, one request": views.load_whole,
                f"stored tiles, {_AT_ONCE} requests at a time": views.load_parts,
                "24 JPEGs, one at a time": views.load_jpegs,
                "24 JPEGs, four at a time": views.load_jpegs_at_once,
            }
            wanted = mosaic[top : top + _VIEW_PX[0], left : left + _VIEW_PX[1]]
            for name in rng.permutation(list(ways)).tolist():
                started = time.perf_counter()
                pixels = ways[name]()
                elapsed = 1e3 * (time.perf_counter() - started)
                difference = np.abs(pixels.astype(int) - wanted).mean()
                assert difference <= (_MOST_DIFFERENCE if "JPEG" in name else 0), (name, difference)
                if turn >= options.warmup:
                    found.setdefault(name, []).append(elapsed)
    base = found["24 JPEGs, one at a time"]
    return [
        {
            "job": "view",
            "contender": name,
            "role": "ndframes",
            "status": "measured",
            "milliseconds": statistics.median(mine),
            "ratio_to_jpegs": statistics.median(own / its for own, its in zip(mine, base, strict=True)),
        }
        for name, mine in sorted(found.items(), key=lambda item: statistics.median(item[1]))
    ]


# -- the page ----------------------------------------------------------------------------------------------------------

_HEADER = ("", "CPU us a tile", "least", "tiles a second", "kB", "rio-tiler", "rasterio", "iipsrv")


def cells_of(row: Row) -> list[str]:
    ratios = row.get("peers_in_ratio", {})
    peers = [next((times(ratios[name]) for name in ratios if name.startswith(peer)), "") for peer in _HEADER[-3:]]
    return [
        row["contender"],
        number(row["cpu_us"]),
        number(row["least_cpu_us"]),
        number(row["requests_per_second"]),
        number(row["bytes"] / 1000),
        *peers,
    ]


def measured(rows: Sequence[Row], job: str) -> list[Row]:
    return [row for row in rows if row["job"] == job and row["status"] == "measured"]


def make_view_table(rows: Sequence[Row]) -> Table:
    title = f"A view of {_VIEW_PX[1]} x {_VIEW_PX[0]} pixels, fetched and unpacked"
    cells = [
        [row["contender"], number(row["milliseconds"]), times(row["ratio_to_jpegs"])] for row in measured(rows, "view")
    ]
    return Table(title, ["", "ms", "of the time of 24 JPEGs"], cells)


def render(rows: Sequence[Row]) -> Page:
    """A table for each job, and a figure of the processor time of a tile."""
    tables = [
        Table(
            f"{title}: processor time, and that of peers / of ndframes",
            list(_HEADER),
            [cells_of(row) for row in measured(rows, job)],
        )
        for job, title in _TITLES.items()
    ]
    tiles = [row for job in _TITLES for row in measured(rows, job)]
    names = [f"{row['contender']} - {row['job']}" for row in tiles]
    figure = Dots("Processor time of a tile of 256 px", "us", names, {"us": [row["cpu_us"] for row in tiles]})
    return Page([*tables, make_view_table(rows)], [figure])


def main() -> None:
    quick = "--height 1024 --width 2048 --rounds 2 --warmup 0 --requests 20 --views 2"
    parser = make_parser(__doc__, quick=quick, shape=(8192, 8192), rounds=9, warmup=1)
    parser.add_argument("--requests", type=int, default=400, help="tiles in a round")
    parser.add_argument(
        "--connections", type=int, default=4, help="that are kept open, each with one request at a time"
    )
    parser.add_argument("--views", type=int, default=15, help="views that are loaded in each way")
    options = parse_options(parser)
    rows: list[dict[str, Any]] = []
    with open_folder(options) as folder:
        source = ensure_mosaic(folder, (options.height, options.width))
        mosaic = np.load(source, mmap_mode="r")
        for job, servers in make_servers(source, folder).items():
            chosen = [server for server in servers if is_chosen(server.name, options)]
            found = bench_tiles(job, chosen, mosaic, options)
            rows += found
            print_table(_TITLES[job], _HEADER, [cells_of(row) for row in measured(found, job)])
            print_absent(found)
        if is_chosen("view", options):
            rows += bench_view(source, folder, mosaic, options)
            table = make_view_table(rows)
            print_table(table.title, table.header, table.rows)
        write_json(options, __file__, folder, rows)


if __name__ == "__main__":
    main()
