"""Random crops from an object store, with and without latency: milliseconds for a crop, requests and bytes, crops a second.

A server on loopback (nginx, over the files of a bucket) waits before each answer, as a store at a distance does. All contenders read the
same pixels from it by the protocol of S3: ndframes from an entry of its cache, GDAL by rasterio and async-tiff from the file of that entry, tensorstore from
arrays of Zarr 3 with chunks of the same pixels and codec. Nobody caches decoded pixels, and every crop is at another place. The
pixels of each crop are compared. Rounds are interleaved.

- *one at a time*: the median and the 95th percentile, in units of the latency, which no reader can beat; requests and bytes of a
  crop; "tiles" is the size of the encoded tiles under it.
- *16 threads*: crops a second.
- *batches of 64*: crops a second of ``load_regions``, and of a ``DataLoader`` of 4 workers that read crop by crop.
- *local tier*: the same crops from a tier that holds them, and from a cache on the disk.

    pip install ".[bench,cloud]" async-tiff tensorstore
    apt-get install nginx-light libnginx-mod-http-lua
    python dev/bench/bench_store.py --folder /var/tmp/bench --json dev/bench/results/store.json
    python dev/bench/bench_store.py --quick
"""

from __future__ import annotations

import argparse
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import ndframes as nf
from data.mosaic import ensure_mosaic
from kit.options import is_chosen, is_installed, make_parser, open_folder, parse_options
from kit.output import print_table, write_json
from kit.slow_server import SlowServer, serving_slowly
from ndframes.cache.trailer import SegmentTable, open_trailer
from ndframes.system.objects.connection import connect_store
from pages.figures import Dots
from pages.page import Page, Row, Table, number, times, unique

_EXTENT_PX = 256
_REGION = "us-east-1"
_CHUNK_PX = 128
# 2 for each of 4 workers.
_BATCHES_AHEAD = 8
_Crop = tuple[int, int]
_Read = Callable[[_Crop], np.ndarray]
_GDAL: dict[str, Any] = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif",
    "GDAL_CACHEMAX": 1,
    "VSI_CACHE": "FALSE",
    "GDAL_NUM_THREADS": "ALL_CPUS",
}


def publish(source: Path, root: Path) -> None:
    """Put the entry of an image, as a cache in an object store holds it, into a folder that a server serves."""
    if (root / "cache" / "ndframes-cache" / "ndframes.json").exists():
        return
    frames = _frames_of(source, "memory://bench/cache")
    frames.prepare()
    store = connect_store("memory://bench/cache/ndframes-cache")
    objects = [item.key for folder in ("v1", "data") for item in store.scan(folder)]
    for key in [*objects, "ndframes.json"]:
        path = root / "cache" / "ndframes-cache" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        store.download(key, str(path))


def _workdir(root: Path) -> str:
    return f"s3://{root.name}/cache"


def _frames_of(source: Path, workdir: Any, **options: Any) -> nf.SimpleFrames:
    backend = {"type": "cog", "config": {"compress": "ZSTD", "blocksize": _CHUNK_PX}}
    return nf.SimpleFrames({"a": source}, workdir=workdir, backend=backend, tile_bytes=0, threads=1, **options)


def write_zarr(source: Path, root: Path, chunk_px: int) -> None:
    """Write the image as an array of Zarr 3."""
    import zarr

    path = root / f"zarr{chunk_px}"
    if path.exists():
        return
    pixels = np.load(source, mmap_mode="r")
    array = zarr.create_array(
        str(path), shape=pixels.shape, chunks=(chunk_px, chunk_px, 3), dtype=pixels.dtype,
        compressors=[zarr.codecs.ZstdCodec(level=3)],
    )  # fmt: skip
    for top in range(0, pixels.shape[0], 1024):
        array[top : top + 1024] = pixels[top : top + 1024]


@contextmanager
def ndframes_reader(root: Path, source: Path, **options: Any) -> Iterator[_Read]:
    """ndframes, from a cache in the bucket."""
    frames = _frames_of(source, _workdir(root), **options)
    yield lambda crop: frames.load_region("a", _region(crop))


@contextmanager
def gdal_reader(endpoint: str, root: Path) -> Iterator[_Read]:
    """GDAL, by rasterio and without signatures; each thread has its own dataset."""
    import rasterio
    from rasterio.windows import Window

    (path,) = (root / "cache" / "ndframes-cache" / "data").rglob("*.tif")
    url = f"/vsicurl/{endpoint}/{path.relative_to(root.parent)}"
    local = threading.local()

    def read(crop: _Crop) -> np.ndarray:
        if not hasattr(local, "dataset"):
            local.environment = rasterio.Env(**_GDAL)
            local.environment.__enter__()
            local.dataset = rasterio.open(url)
        window = Window(crop[1], crop[0], _EXTENT_PX, _EXTENT_PX)
        return np.moveaxis(local.dataset.read(window=window), 0, -1)

    yield read


@contextmanager
def tensorstore_reader(endpoint: str, root: Path, chunk_px: int) -> Iterator[_Read]:
    """tensorstore, from an array of Zarr 3."""
    import tensorstore

    context = tensorstore.Context({"s3_request_concurrency": {"limit": 64}})
    place = {"bucket": root.name, "path": f"zarr{chunk_px}/", "endpoint": endpoint, "aws_region": _REGION}
    spec = {"driver": "zarr3", "kvstore": {"driver": "s3", **place}}
    array = tensorstore.open(spec, context=context, open=True, recheck_cached_data=False).result()
    yield lambda crop: array[_region(crop)].read().result()


@contextmanager
def async_tiff_reader(endpoint: str, root: Path) -> Iterator[_Read]:
    """async-tiff, which fetches and decodes tiles; they are put together by numpy."""
    import asyncio

    from async_tiff import TIFF
    from async_tiff.store import S3Store

    (path,) = (root / "cache" / "ndframes-cache" / "data").rglob("*.tif")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    store = S3Store(root.name, endpoint=endpoint, region=_REGION, client_options={"allow_http": True})

    async def open_file() -> Any:
        return await TIFF.open(str(path.relative_to(root)), store=store)

    tiff = asyncio.run_coroutine_threadsafe(open_file(), loop).result()

    async def fetch(crop: _Crop) -> np.ndarray:
        rows = range(crop[0] // _CHUNK_PX, (crop[0] + _EXTENT_PX - 1) // _CHUNK_PX + 1)
        cols = range(crop[1] // _CHUNK_PX, (crop[1] + _EXTENT_PX - 1) // _CHUNK_PX + 1)
        tiles = await tiff.fetch_tiles([(col, row) for row in rows for col in cols], 0)
        decoded = await asyncio.gather(*(tile.decode() for tile in tiles))
        arrays = [np.asarray(item).reshape(_CHUNK_PX, _CHUNK_PX, 3) for item in decoded]
        whole = np.concatenate(
            [np.concatenate(arrays[n * len(cols) : (n + 1) * len(cols)], axis=1) for n in range(len(rows))]
        )
        top, left = crop[0] - rows[0] * _CHUNK_PX, crop[1] - cols[0] * _CHUNK_PX
        return whole[top : top + _EXTENT_PX, left : left + _EXTENT_PX]

    yield lambda crop: asyncio.run_coroutine_threadsafe(fetch(crop), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def _region(crop: _Crop) -> tuple[slice, slice]:
    return slice(crop[0], crop[0] + _EXTENT_PX), slice(crop[1], crop[1] + _EXTENT_PX)


class _Crops:
    """Places that do not repeat, and the pixels there."""

    def __init__(self, source: Path, seed: int) -> None:
        self._pixels = np.load(source, mmap_mode="r")
        self._rng = np.random.default_rng(seed)

    def draw(self, count: int) -> list[_Crop]:
        height, width = self._pixels.shape[:2]
        tops, lefts = (self._rng.integers(0, extent - _EXTENT_PX, count).tolist() for extent in (height, width))
        return list(zip(tops, lefts, strict=True))

    def check(self, crop: _Crop, got: np.ndarray) -> None:
        if not np.array_equal(got, self._pixels[_region(crop)]):
            raise RuntimeError(f"the pixels of the crop at {crop} are wrong")


def time_single(read: _Read, crops: _Crops, count: int) -> list[float]:
    """Seconds of each of ``count`` crops, one after the other."""
    seconds = []
    for crop in crops.draw(count):
        started = time.perf_counter()
        got = read(crop)
        seconds.append(time.perf_counter() - started)
        crops.check(crop, got)
    return seconds


def time_threads(read: _Read, crops: _Crops, count: int, threads: int = 16) -> float:
    """Crops a second of several threads."""
    places = crops.draw(count)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(read, crops.draw(2 * threads)))  # each thread opens what it needs
        started = time.perf_counter()
        results = list(pool.map(read, places))
        rate = count / (time.perf_counter() - started)
    for crop, got in zip(places, results, strict=True):
        crops.check(crop, got)
    return rate


class _Patches:
    """A dataset for torch that reads one crop for an item."""

    def __init__(self, frames: nf.SimpleFrames, places: Sequence[_Crop]) -> None:
        self._frames, self._places = frames, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, item: int) -> np.ndarray:
        return self._frames.load_region("a", _region(self._places[item]))


def time_batches(root: Path, source: Path, crops: _Crops, batches: int) -> tuple[float, float | None]:
    """Crops a second of batches of 64, and of a ``DataLoader`` that reads crop by crop."""
    frames = _frames_of(source, _workdir(root))
    frames.load_region("a", np.s_[:1, :1])
    places = crops.draw(64 * batches)
    started = time.perf_counter()
    for index in range(batches):
        some = places[64 * index : 64 * (index + 1)]
        got = frames.load_regions([("a", _region(crop)) for crop in some])
        for crop, pixels in zip(some, got, strict=True):
            crops.check(crop, pixels)
    rate = len(places) / (time.perf_counter() - started)
    if not is_installed("torch"):
        return rate, None
    import torch.utils.data

    dataset: Any = _Patches(_frames_of(source, _workdir(root)), places)
    loader = torch.utils.data.DataLoader(dataset, batch_size=64, num_workers=4, collate_fn=np.stack)
    count = 0
    for position, batch in enumerate(loader):
        # Workers have started, have opened the entry, and read some batches ahead.
        if position == _BATCHES_AHEAD:
            started = time.perf_counter()
        count += len(batch) if position > _BATCHES_AHEAD else 0
    return rate, count / (time.perf_counter() - started)


def count_tile_bytes(root: Path, source: Path, places: Sequence[_Crop]) -> float:
    """The mean size of the encoded tiles under a crop."""
    frames = _frames_of(source, "memory://bench/cache")
    survey = frames.survey_channel("a", frames.pathinfo("a").channels[0])
    assert survey.key is not None
    (path,) = (root / "cache" / "ndframes-cache" / "data").rglob("*.tif")
    from ndframes.system.files import FileSystem

    files = FileSystem()
    trailer, _ = open_trailer(str(path), survey.key, files)
    across = -(-np.load(source, mmap_mode="r").shape[1] // _CHUNK_PX)
    total = 0
    with files.open_to_read(str(path)) as file:
        table = SegmentTable(trailer)
        first = int(trailer.meta["layout"]["levels"][0]["first_segment"])
        for top, left in places:
            for row in range(top // _CHUNK_PX, (top + _EXTENT_PX - 1) // _CHUNK_PX + 1):
                for col in range(left // _CHUNK_PX, (left + _EXTENT_PX - 1) // _CHUNK_PX + 1):
                    total += table.row(file, first + row * across + col)[1]
    return total / len(places)


def time_tier(root: Path, source: Path, folder: Path, crops: _Crops, count: int) -> tuple[float, float]:
    """Median milliseconds of a crop from a tier that holds it, and from a cache on the disk, in turns."""
    local = _frames_of(source, folder / "work")
    local.prepare()
    tiered = _frames_of(source, _workdir(root), local_tier=folder / "tier")
    places = crops.draw(count)
    for crop in places:
        crops.check(crop, tiered.load_region("a", _region(crop)))
        crops.check(crop, local.load_region("a", _region(crop)))
    # Opened again, so that nothing is known of the tier but its files.
    tiered = _frames_of(source, _workdir(root), local_tier=folder / "tier")
    for frames in (tiered, local):
        for crop in places:
            frames.load_region("a", _region(crop))
    seconds: dict[str, list[float]] = {"tier": [], "local": []}
    for _ in range(5):
        for name, frames in (("tier", tiered), ("local", local)):
            for crop in places:
                started = time.perf_counter()
                frames.load_region("a", _region(crop))
                seconds[name].append(time.perf_counter() - started)
    return 1e3 * statistics.median(seconds["tier"]), 1e3 * statistics.median(seconds["local"])


def make_readers(server: SlowServer, source: Path, root: Path) -> dict[str, Callable[[], Any]]:
    """The contenders, each as a function that opens it."""
    readers: dict[str, Callable[[], Any]] = {"ndframes": partial(ndframes_reader, root, source)}
    readers["GDAL"] = partial(gdal_reader, server.url, root)
    if is_installed("tensorstore"):
        readers["tensorstore 128"] = partial(tensorstore_reader, server.url, root, 128)
        readers["tensorstore 256"] = partial(tensorstore_reader, server.url, root, 256)
    if is_installed("async_tiff"):
        readers["async-tiff"] = partial(async_tiff_reader, server.url, root)
    return readers


def measure(server: SlowServer, source: Path, root: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All rows for one latency."""
    crops = _Crops(source, options.seed)
    readers = {name: make for name, make in make_readers(server, source, root).items() if is_chosen(name, options)}
    rows: dict[str, dict[str, Any]] = {name: {"contender": name, "rates": [], "seconds": []} for name in readers}
    with ExitStack() as stack:
        opened = {name: stack.enter_context(make()) for name, make in readers.items()}
        for name, read in opened.items():
            started = time.perf_counter()
            read(crops.draw(1)[0])
            rows[name]["first_ms"] = 1e3 * (time.perf_counter() - started)
            time_single(read, crops, 3)
        for number in range(options.rounds):
            for name in sorted(opened, key=lambda name: hash((name, number))):
                before = server.count()
                rows[name]["seconds"] += time_single(opened[name], crops, options.crops)
                after = server.count()
                rows[name].setdefault("requests", []).append((after.count - before.count) / options.crops)
                rows[name].setdefault("kilobytes", []).append(
                    (after.sent_bytes - before.sent_bytes) / options.crops / 1e3
                )
                rows[name]["rates"].append(time_threads(opened[name], crops, 8 * options.crops))
    return [_summarize(row) for row in rows.values()]


def _summarize(row: dict[str, Any]) -> dict[str, Any]:
    ordered = sorted(row["seconds"])
    return {
        "contender": row["contender"],
        "status": "measured",
        "first_ms": row["first_ms"],
        "median_ms": 1e3 * statistics.median(ordered),
        "p95_ms": 1e3 * ordered[int(0.95 * (len(ordered) - 1))],
        "requests": statistics.mean(row["requests"]),
        "kilobytes": statistics.mean(row["kilobytes"]),
        "crops_per_second": statistics.median(row["rates"]),
    }


def render(rows: Sequence[Row]) -> Page:
    """A table for each latency, one of batches and the tier, and a figure of the rates."""
    tables, figures = [], []
    for latency in unique(row["latency_ms"] for row in rows):
        mine = [row for row in rows if row["latency_ms"] == latency and row["contender"] != "batches"]
        cells = [
            [
                row["contender"],
                *(number(row[name]) for name in ("first_ms", "median_ms", "p95_ms", "requests", "kilobytes")),
                number(row["crops_per_second"]),
            ]
            for row in mine
        ]
        header = ["", "first, ms", "median, ms", "p95, ms", "requests", "kB", "crops/s, 16 threads"]
        title = f"{latency:g} ms before each answer; the tiles under a crop have {mine[0]['tile_kilobytes']:.0f} kB"
        tables.append(Table(title, header, cells))
        rates = {"crops/s": [row["crops_per_second"] for row in mine]}
        figures.append(
            Dots(f"Crops a second of 16 threads, {latency:g} ms away", "", [row["contender"] for row in mine], rates)
        )
    batches = [row for row in rows if row["contender"] == "batches"]
    cells = [
        [
            f"{row['latency_ms']:g} ms",
            number(row["batch_crops_per_second"]),
            number(row["loader_crops_per_second"]) if row["loader_crops_per_second"] else "",
            number(1e3 * row["tier_ms"]),
            number(1e3 * row["local_ms"]),
            times(row["tier_ms"] / row["local_ms"]),
        ]
        for row in batches
    ]
    header = ["", "batches of 64, crops/s", "DataLoader, crops/s", "local tier, µs a crop", "disk, µs a crop", "ratio"]
    tables.append(Table("Batches, and crops from a warm local tier", header, cells))
    return Page(tables, figures)


def main() -> None:
    """Run the benchmark."""
    parser = make_parser(
        __doc__, quick="--height 2048 --width 2048 --crops 20 --rounds 1", shape=(8192, 8192), rounds=3
    )
    parser.add_argument("--crops", type=int, default=100, help="crops of each contender and round")
    parser.add_argument("--latency", type=float, nargs="+", default=[0, 50], help="milliseconds before each answer")
    options = parse_options(parser)
    os.environ.update(AWS_ACCESS_KEY_ID="any", AWS_SECRET_ACCESS_KEY="any", AWS_REGION=_REGION, NO_PROXY="127.0.0.1")
    results: list[dict[str, Any]] = []
    with open_folder(options) as folder:
        source = ensure_mosaic(folder, (options.height, options.width))
        time.sleep(2.5)  # so that the stamp of the image is that of a file at rest
        root = folder / f"store-{options.height}x{options.width}"
        root.mkdir(exist_ok=True)
        publish(source, root)
        for chunk_px in (128, 256):
            write_zarr(source, root, chunk_px)
        tile_kilobytes = count_tile_bytes(root, source, _Crops(source, options.seed).draw(200)) / 1e3
        for latency in options.latency:
            with serving_slowly(folder, folder / "nginx", latency / 1e3) as server:
                os.environ["AWS_ENDPOINT_URL"] = server.url
                rows = measure(server, source, root, options)
                crops = _Crops(source, options.seed + 1)
                batch, loader = time_batches(root, source, crops, max(3 * _BATCHES_AHEAD, options.crops // 5))
                tier, local = time_tier(root, source, folder / f"tier-{latency:g}", crops, options.crops)
            _print(latency, rows, tile_kilobytes)
            print(f"batches of 64: {batch:.0f} crops/s; DataLoader, 4 workers, crop by crop: {loader or 0:.0f} crops/s")
            print(f"from the local tier: {tier:.3f} ms; from a cache on the disk: {local:.3f} ms: x {tier / local:.2f}")
            common = {"latency_ms": latency, "tile_kilobytes": tile_kilobytes}
            results += [{**common, **row} for row in rows]
            results.append(
                {**common, "contender": "batches", "status": "measured", "batch_crops_per_second": batch, "loader_crops_per_second": loader,
                 "tier_ms": tier, "local_ms": local}
            )  # fmt: skip
        write_json(options, __file__, folder, results)


def _print(latency: float, rows: Sequence[dict[str, Any]], tile_kilobytes: float) -> None:
    cells = [
        [
            row["contender"],
            f"{row['first_ms']:.0f}",
            f"{row['median_ms']:.2f}",
            f"{row['p95_ms']:.2f}",
            f"{row['median_ms'] / latency:.2f}" if latency else "",
            f"{row['requests']:.1f}",
            f"{row['kilobytes']:.0f}",
            f"{row['crops_per_second']:.0f}",
        ]
        for row in rows
    ]
    header = ["", "first ms", "median ms", "p95 ms", "of latency", "requests", "kB", "crops/s, 16 threads"]
    print_table(f"{latency:g} ms before each answer; tiles under a crop: {tile_kilobytes:.0f} kB", header, cells)


if __name__ == "__main__":
    main()
