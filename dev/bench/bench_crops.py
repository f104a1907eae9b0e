"""What a random crop costs, files in memory, one thread: microseconds a crop.

ndframes in each of its forms; rasterio, tifffile, pyvips and async-tiff on the very files that ndframes wrote; tensorstore
and zarr-python on a zarr of the same pixels; ndsampler on its own cache; and the limit, a slice of a numpy memmap, copied.
Each contender lives in a process of its own and reads the same crops, in turn, in another order each round; every crop's
pixels are compared, and before the first round the whole image's. "cores" is how many were busy while it read. What is not
installed, or gives wrong pixels, is listed as such.

One thread means that of the contender's process, which is one of ``multiprocessing``; in the main process ndframes would take
another for crops that take longer to decode. So it stands there once more with ``threads=2``.

Decoded tiles are kept by whoever keeps them by default, and a single image is not much to keep. So ndframes stands there
twice, also with no memory of decoded tiles (``tile_bytes=0``), and so does rasterio: with GDAL's own cache (5 % of the
machine's memory), which is emptied before each round, and with one of 16 MB. That is how it is with many images.

Before each read ndframes looks whether the source is still the file that it was, which none of the others does. With
``recheck_seconds=60`` it does that once a minute.

``--blocksizes`` repeats it all with tiles of other sizes.

    pip install ".[bench]"
    python dev/bench/bench_crops.py --folder /var/tmp/bench --json dev/bench/results/crops.json
    python dev/bench/bench_crops.py --height 1024 --width 1536 --rounds 3       # a look, in seconds
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from contenders import AsyncTiff, Contender, Entry, Memmap, Ndframes, Ndsampler, Pyvips, Rasterio, Tifffile
from contest import Contest, Samples
from crops import draw_anywhere
from mosaic import ensure_mosaic
from outcome import is_chosen, make_parser, open_folder, print_absent, print_table, write_json
from references import References
from zarrs import Tensorstore, ZarrForm, ZarrPython

from ndframes.spec.backends import Backend

_SMALL_PX = 256
_ZARR_CHUNK_PX = 256
_ZARR_LEVEL = 3
_SMALL_CACHE = {"GDAL_CACHEMAX": "16MB"}
#: Whose job is the same: a codec of ndframes, and those of its peers.
_COMPARED = {"raw": ("raw",), "zstd": ("zstd",), "auto": ("raw", "zstd"), "jpeg": ("jpeg",)}


def make_contenders(source: Path, folder: Path, blocksize: int | None) -> list[Contender]:
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
    contenders += make_zarr_contenders(source, entries["zstd"])
    for form in ("none", "zstd"):
        entry = entries[form]
        contenders += [kind(f"{name} {form}", entry.codec, entry) for name, kind in _TIFF_READERS.items()]
    if blocksize is None:
        workdir = folder / "ndsampler"
        contenders += [Ndsampler(f"ndsampler {form}", "raw", source, workdir, form) for form in ("npy", "cog")]
    return contenders


_TIFF_READERS = {"tifffile": Tifffile, "pyvips": Pyvips, "async-tiff": AsyncTiff}


def make_zarr_contenders(source: Path, entry: Entry) -> list[Contender]:
    """Both libraries, with chunks of 256 pixels and as ndframes tiles, and with zstd's level 3 and ndframes' own."""
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


def run_session(source: Path, folder: Path, blocksize: int | None, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All contenders with one size of tiles, and all sizes of crops."""
    contenders = [item for item in make_contenders(source, folder, blocksize) if is_chosen(item.name, options)]
    references = References(source)
    tile_px = Entry(source, folder / "ndframes", "zstd", blocksize).tile_px
    rows = []
    with Contest(contenders, references) as contest:
        for crop_px in options.sizes:
            count = options.crops if crop_px <= _SMALL_PX else -(-options.crops // 4)
            draw = draw_anywhere(references.shape, crop_px, count)
            contest.run(draw, rounds=options.warmup, seed=options.seed + 1)
            samples = contest.run(draw, rounds=options.rounds, seed=options.seed)
            found = list_results(contenders, contest, samples)
            rows += [{"blocksize": blocksize, "tile_px": tile_px, "crop_px": crop_px, **row} for row in found]
            print_results(f"{crop_px} px, tiles of {blocksize or 'the default size'}", found)
    return rows


def list_results(contenders: list[Contender], contest: Contest, samples: dict[str, Samples]) -> list[dict[str, Any]]:
    """A row for each contender, those who did not take part included."""
    limit = samples.get("memmap")
    rows = []
    for contender in contenders:
        row: dict[str, Any] = {"contender": contender.name, "side": contender.side, "codec": contender.codec}
        if contender.name in contest.absent:
            rows.append({**row, "status": contest.absent[contender.name]})
            continue
        mine = samples[contender.name]
        row |= {"status": "measured", "pixels": contest.pixels[contender.name], **mine.summarize()}
        row["ratio_to_memmap"] = None if limit is None else mine.ratio_to(limit)
        if contender.side == "ndframes":
            row["peers_in_ratio"] = compare(contender, contenders, samples)
        rows.append(row)
    return rows


def compare(mine: Contender, contenders: list[Contender], samples: dict[str, Samples]) -> dict[str, float]:
    """By peer of the same codec, how many times as long it takes."""
    peers = [item for item in contenders if item.side == "peer" and item.codec in _COMPARED[mine.codec]]
    return {item.name: samples[item.name].ratio_to(samples[mine.name]) for item in peers if item.name in samples}


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
    print_ratios(rows)


def print_ratios(rows: list[dict[str, Any]]) -> None:
    """Peers down, forms of ndframes across, where the codec is the same."""
    forms = [row for row in rows if row.get("peers_in_ratio")]
    peers = [row["contender"] for row in rows if any(row["contender"] in form["peers_in_ratio"] for form in forms)]
    cells = []
    for peer in peers:
        ratios = [form["peers_in_ratio"].get(peer) for form in forms]
        cells.append((peer, *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios)))
    if cells:
        print_table("how many times as long the peer takes", ("", *(form["contender"] for form in forms)), cells)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256, 1024], help="edges of the crops in pixels")
    parser.add_argument("--blocksizes", type=int, nargs="*", default=[], help="edges of tiles to try, too")
    parser.add_argument("--crops", type=int, default=200, help="crops in a round; a quarter of that beyond 256 px")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--warmup", type=int, default=2, help="rounds before those that count")
    options = parser.parse_args()
    results = []
    with open_folder(options) as folder:
        source = ensure_mosaic(folder, (options.height, options.width))
        for blocksize in (None, *options.blocksizes):
            results += run_session(source, folder, blocksize, options)
        write_json(options, "crops", folder, results)


if __name__ == "__main__":
    main()
