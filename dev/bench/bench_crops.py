"""Random crops of a large image: microseconds per crop, files in the page cache, one thread.

Contenders: ndframes with each form of entry; rasterio, tifffile, pyvips and async-tiff on the files that ndframes wrote;
tensorstore and zarr-python on a zarr of the same pixels; ndsampler on its own cache; and the baseline, a copied slice of a
numpy memmap. Each runs in a process of its own and reads the same crops, in interleaved rounds with another order each
round. The pixels of every crop are compared, and before the first round those of the whole image. "cores" is the mean
number of busy cores. Contenders that are not installed or return wrong pixels are named and left out.

One thread is what ndframes uses by default in a process of ``multiprocessing``; in the main process it decodes larger
crops with one thread per core. Rows with ``threads=2`` show that.

Libraries that cache decoded tiles by default do so here, although one image fits such a cache. Therefore ndframes also runs
without it (``tile_bytes=0``), and rasterio with two sizes of GDAL's cache: the default, 5 % of the memory, emptied before
each round; and 16 MB. That is closer to reading from many images.

Rows "as a foreign TIFF" read the same COGs with ``backend=None``, without checksums and without the entry's own tables.

Before each read ndframes checks whether the source has changed; the other libraries do not. With ``recheck_seconds=60`` it
checks once a minute.

``--blocksizes`` repeats everything with other tile sizes.

    pip install ".[bench]"
    python dev/bench/bench_crops.py --folder /var/tmp/bench --json dev/bench/results/crops.json
    python dev/bench/bench_crops.py --quick
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data.mosaic import ensure_mosaic
from kit.comparison import Comparison
from kit.crops import draw_anywhere
from kit.options import is_chosen, make_parser, open_folder, parse_options
from kit.output import print_absent, print_table, write_json
from kit.references import References
from ndframes.spec.backends import Backend
from pages.figures import Bars, Dots, Lines
from pages.page import Page, Row, Table, number, times, unique
from peers.ancestor import Ndsampler
from peers.base import Contender, Memmap
from peers.entries import Entry, Ndframes, NdframesDirect
from peers.tiff_readers import AsyncTiff, Pyvips, Rasterio, Tifffile
from peers.zarr_readers import Tensorstore, ZarrForm, ZarrPython

if TYPE_CHECKING:
    from kit.measurements import Measurements

_SMALL_PX = 256
_ZARR_CHUNK_PX = 256
_ZARR_LEVEL = 3
_SMALL_CACHE = {"GDAL_CACHEMAX": "16MB"}
#: Codecs of the peers that do the same work, by codec of ndframes.
_COMPARABLE_CODECS = {
    "raw": ("raw",),
    "zstd": ("zstd",),
    "deflate": ("deflate",),
    "auto": ("raw", "zstd"),
    "jpeg": ("jpeg",),
}
_TIFF_READERS = {"tifffile": Tifffile, "pyvips": Pyvips, "async-tiff": AsyncTiff}


def make_contenders(source: Path, folder: Path, blocksize: int | None) -> list[Contender]:
    """All contenders with one tile size."""
    entries = {
        form: Entry(source, folder / "ndframes", form, blocksize) for form in ("npy", "none", "zstd", "auto", "jpeg")
    }
    contenders = [Memmap("memmap", "raw", source)]
    contenders += [Ndframes(f"ndframes {form}", entry.codec, entry) for form, entry in entries.items()]
    contenders += [
        Ndframes(f"ndframes {form}, threads=2", entries[form].codec, entries[form], {"threads": 2})
        for form in ("zstd", "jpeg")
    ]
    contenders += [
        Ndframes(f"ndframes {form}, recheck_seconds=60", entries[form].codec, entries[form], {"recheck_seconds": 60})
        for form in ("npy", "none")
    ]
    for form in ("none", "zstd", "jpeg"):
        entry = entries[form]
        contenders += [
            Ndframes(f"ndframes {form}, tile_bytes=0", entry.codec, entry, {"tile_bytes": 0}),
            Rasterio(f"rasterio {form}", entry.codec, entry),
            Rasterio(f"rasterio {form}, cache 16 MB", entry.codec, entry, environment=_SMALL_CACHE),
        ]
    contenders += make_direct_contenders(source, folder, blocksize)
    contenders += make_zarr_contenders(source, entries["zstd"])
    for form in ("none", "zstd"):
        entry = entries[form]
        contenders += [kind(f"{name} {form}", entry.codec, entry) for name, kind in _TIFF_READERS.items()]
    if blocksize is None:
        workdir = folder / "ndsampler"
        contenders += [Ndsampler(f"ndsampler {form}", "raw", source, workdir, form) for form in ("npy", "cog")]
    return contenders


def make_direct_contenders(source: Path, folder: Path, blocksize: int | None) -> list[Contender]:
    """COGs that are read without a cache, as those of other programs, by ndframes and by rasterio with a small cache."""
    contenders: list[Contender] = []
    for form in ("none", "zstd", "deflate", "jpeg"):
        entry = Entry(source, folder / "ndframes", form, blocksize)
        contenders.append(NdframesDirect(f"ndframes {form}, as a foreign TIFF", entry.codec, entry))
    deflate = Entry(source, folder / "ndframes", "deflate", blocksize)
    return [*contenders, Rasterio("rasterio deflate, cache 16 MB", "deflate", deflate, environment=_SMALL_CACHE)]


def make_zarr_contenders(source: Path, entry: Entry) -> list[Contender]:
    """Both libraries, with chunks of 256 pixels and of ndframes' tile size, and with zstd level 3 and ndframes' level."""
    own_level = Backend(type="cog", compress="ZSTD").codec_for(np.dtype(np.uint8), 3).level
    chunks = sorted({_ZARR_CHUNK_PX, entry.blocksize or entry.tile_px})
    contenders: list[Contender] = []
    for chunk_px in chunks:
        raw = ZarrForm(source, chunk_px)
        contenders += [
            Tensorstore(f"tensorstore {raw.describe()}", raw.codec, raw),
            Tensorstore(f"tensorstore {raw.describe()}, mapped", raw.codec, raw, is_mapped=True),
        ]
        for level in sorted({_ZARR_LEVEL, own_level}):
            packed = ZarrForm(source, chunk_px, level)
            contenders += [
                Tensorstore(f"tensorstore {packed.describe()}", packed.codec, packed),
                ZarrPython(f"zarr-python {packed.describe()}", packed.codec, packed),
            ]
    return contenders


def run_blocksize(
    source: Path, folder: Path, blocksize: int | None, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Time all contenders with one tile size and every crop size."""
    contenders = [item for item in make_contenders(source, folder, blocksize) if is_chosen(item.name, options)]
    references = References(source)
    tile_px = Entry(source, folder / "ndframes", "zstd", blocksize).tile_px
    rows = []
    with Comparison(contenders, references) as comparison:
        for crop_px in options.sizes:
            count = options.crops if crop_px <= _SMALL_PX else -(-options.crops // 4)
            draw = draw_anywhere(references.shape, crop_px, count)
            comparison.run(draw, rounds=options.warmup, seed=options.seed + 1)
            found = comparison.run(draw, rounds=options.rounds, seed=options.seed)
            results = list_results(contenders, comparison, found)
            rows += [{"blocksize": blocksize, "tile_px": tile_px, "crop_px": crop_px, **row} for row in results]
            print_results(f"{crop_px} px, tiles of {blocksize or 'the default size'}", results)
    return rows


def list_results(
    contenders: list[Contender], comparison: Comparison, found: dict[str, Measurements]
) -> list[dict[str, Any]]:
    """One row per contender, including those that took no part."""
    baseline = found.get("memmap")
    rows = []
    for contender in contenders:
        row: dict[str, Any] = {"contender": contender.name, "role": contender.role, "codec": contender.codec}
        if contender.name in comparison.absent:
            rows.append({**row, "status": comparison.absent[contender.name]})
            continue
        mine = found[contender.name]
        row |= {"status": "measured", "pixels": comparison.pixels[contender.name], **mine.summarize()}
        row["ratio_to_memmap"] = None if baseline is None else mine.ratio_to(baseline)
        if contender.role == "ndframes":
            row["peers_in_ratio"] = compare(contender, contenders, found)
        rows.append(row)
    return rows


def compare(mine: Contender, contenders: list[Contender], found: dict[str, Measurements]) -> dict[str, float]:
    """How many times as long as ``mine`` each peer with a comparable codec takes."""
    peers = [item for item in contenders if item.role == "peer" and item.codec in _COMPARABLE_CODECS[mine.codec]]
    return {item.name: found[item.name].ratio_to(found[mine.name]) for item in peers if item.name in found}


def print_results(title: str, rows: list[dict[str, Any]]) -> None:
    header = ("", "median us", "quartiles", "x memmap", "cores", "pixels")
    cells = []
    for row in rows:
        if row["status"] != "measured":
            continue
        quartiles = f"{row['first_quartile_us']:.0f}-{row['third_quartile_us']:.0f}"
        ratio = "" if row["ratio_to_memmap"] is None else f"{row['ratio_to_memmap']:.2f}"
        cores = f"{row['busy_cores']:.2f}"
        cells.append((row["contender"], f"{row['median_us']:.0f}", quartiles, ratio, cores, row["pixels"]))
    print_table(title, header, cells)
    print_absent(rows)
    table = make_ratio_table(rows, "")
    if table.rows:
        print_table("time of a peer / time of ndframes", table.header, table.rows)


# -- the page ---------------------------------------------------------------------------------------------------------

#: The form of ndframes that bars compare peers with, by codec.
_BAR_FORMS = {"raw": "ndframes none", "zstd": "ndframes zstd", "jpeg": "ndframes jpeg"}


def render(rows: Sequence[Row]) -> Page:
    """Times by contender and crop size, ratios of peers, and figures for the default tile size."""
    tables: list[Table] = []
    figures: list[Bars | Dots | Lines] = []
    for blocksize in unique(row["blocksize"] for row in rows):
        mine = [row for row in rows if row["blocksize"] == blocksize]
        suffix = "" if blocksize is None else f", tiles of {blocksize}"
        sizes = unique(row["crop_px"] for row in mine)
        middle = _SMALL_PX if _SMALL_PX in sizes else sizes[len(sizes) // 2]
        of_middle = [row for row in mine if row["crop_px"] == middle]
        tables += [make_time_table(mine, sizes, suffix), make_ratio_table(of_middle, f", {middle} px{suffix}")]
        if not figures:
            figures += [make_dots(mine, sizes, suffix), *make_bars(of_middle, f"{middle} px{suffix}")]
    return Page(tables, figures + make_tile_lines(rows))


def make_time_table(rows: Sequence[Row], sizes: Sequence[int], suffix: str) -> Table:
    by_place = {(row["contender"], row["crop_px"]): row for row in rows}
    names = unique(row["contender"] for row in rows)
    cells = [[name, *(format_time(by_place[name, size]) for size in sizes)] for name in names]
    return Table(f"Microseconds per crop (ratio to memmap){suffix}", ["", *(f"{size} px" for size in sizes)], cells)


def format_time(row: Row) -> str:
    ratio = times(row["ratio_to_memmap"])
    return f"{number(row['median_us'])} ({ratio})" if ratio else number(row["median_us"])


def make_ratio_table(rows: Sequence[Row], suffix: str) -> Table:
    """Peers in rows, forms of ndframes in columns."""
    forms = [row for row in rows if row.get("peers_in_ratio")]
    peers = unique(
        row["contender"] for row in rows if any(row["contender"] in form["peers_in_ratio"] for form in forms)
    )
    cells = [[peer, *(times(form["peers_in_ratio"].get(peer)) for form in forms)] for peer in peers]
    return Table(f"Time of a peer / time of ndframes{suffix}", ["", *(row["contender"] for row in forms)], cells)


def make_dots(rows: Sequence[Row], sizes: Sequence[int], suffix: str) -> Dots:
    names = unique(row["contender"] for row in rows)
    series = {f"{size} px": [row["median_us"] for row in rows if row["crop_px"] == size] for size in sizes}
    return Dots(f"Time per crop{suffix}", "µs", names, series)


def make_bars(rows: Sequence[Row], suffix: str) -> list[Bars]:
    by_name = {row["contender"]: row for row in rows}
    pairs = [
        (f"{peer} / {form}", ratio)
        for form in _BAR_FORMS.values()
        for peer, ratio in by_name.get(form, {}).get("peers_in_ratio", {}).items()
    ]
    title, axis = f"Time of a peer / time of ndframes, {suffix}", "ratio"
    return [Bars(title, axis, [name for name, _ in pairs], [ratio for _, ratio in pairs])] if pairs else []


def make_tile_lines(rows: Sequence[Row]) -> list[Lines]:
    """Times of ndframes and GDAL by tile size, if several were measured."""
    if len(unique(row["tile_px"] for row in rows)) < 2:
        return []
    shown = [
        row
        for row in rows
        if row["crop_px"] == _SMALL_PX and (row["role"] == "ndframes" or row["contender"].endswith("cache 16 MB"))
    ]
    series = {
        name: sorted({row["tile_px"]: row["median_us"] for row in shown if row["contender"] == name}.items())
        for name in unique(row["contender"] for row in shown)
    }
    title = f"Time per crop of {_SMALL_PX} px by tile size"
    return [Lines(title, "edge of a tile in pixels", "µs", series)] if series else []


def main() -> None:
    parser = make_parser(
        __doc__, quick="--height 1024 --width 1536 --rounds 2 --warmup 0 --crops 20", rounds=9, warmup=2
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256, 1024], help="edges of the crops in pixels")
    parser.add_argument("--blocksizes", type=int, nargs="*", default=[], help="further tile sizes in pixels")
    parser.add_argument("--crops", type=int, default=200, help="crops per round; a quarter of it above 256 px")
    options = parse_options(parser)
    results = []
    with open_folder(options) as folder:
        source = ensure_mosaic(folder, (options.height, options.width))
        for blocksize in (None, *options.blocksizes):
            results += run_blocksize(source, folder, blocksize, options)
        write_json(options, __file__, folder, results)


if __name__ == "__main__":
    main()
