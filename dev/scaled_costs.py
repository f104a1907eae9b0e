"""Scaled reads of one photograph from each kind of file, with and without a cache: what the image's own pyramid costs.

A mosaic of a photograph as npy, PNG, JPEG and tiled TIFF, read directly, from an ``.npy`` entry and from a COG. A COG stores the
levels of the pyramid; with the others they are computed from all pixels under the region. The best of some rounds, in
milliseconds. All files are in the page cache. Each result must equal that of the first backend.

    python dev/scaled_costs.py
    python dev/scaled_costs.py --tiles 16 --json scaled.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

import ndframes as nf

_SCALES = {"1/2": 1 / 2, "1/8": 1 / 8, "1/32": 1 / 32}
_CROP_PX = 512
_BACKENDS = {"direct": None, "npy": "npy", "cog": "cog"}


def write_files(folder: Path, tiles: int) -> dict[str, Path]:
    """Write the mosaic in each format; return the paths by format."""
    photograph = np.asarray(Image.open(nf.demo_paths()["retina"]))[:1280, :1280]
    mosaic = np.tile(photograph, (tiles, tiles, 1))
    paths = {name: folder / f"mosaic.{name}" for name in ("npy", "png", "jpg", "tif")}
    np.save(paths["npy"], mosaic)
    Image.fromarray(mosaic).save(paths["png"], compress_level=1)
    Image.fromarray(mosaic).save(paths["jpg"], quality=90)
    tifffile.imwrite(
        paths["tif"], mosaic, photometric="rgb", tile=(256, 256), compression="zlib", compressionargs={"level": 1}
    )
    return paths


def measure(read: Callable[[], np.ndarray], rounds: int) -> tuple[float, np.ndarray]:
    """The shortest time in milliseconds, and the pixels."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        pixels = read()
        best = min(best, time.perf_counter() - start)
    return best * 1e3, pixels


def run(folder: Path, tiles: int, rounds: int) -> list[dict[str, Any]]:
    """Measure every file through every backend."""
    rows = []
    for form, path in write_files(folder, tiles).items():
        wanted: dict[str, np.ndarray] = {}
        for name, backend in _BACKENDS.items():
            frames = nf.SimpleFrames({"mosaic": path}, backend=backend, workdir=folder / "work")
            frames.prepare()
            corner = slice(_CROP_PX, 2 * _CROP_PX)
            reads = {
                **{label: (None, scale) for label, scale in _SCALES.items()},
                f"{_CROP_PX} px at 1/4": ((corner, corner), 1 / 4),
            }
            row: dict[str, Any] = {"file": form, "backend": name}
            for label, (region, scale) in reads.items():
                row[label], pixels = measure(partial(frames.load_region, "mosaic", region, scale=scale), rounds)
                if not np.array_equal(pixels, wanted.setdefault(label, pixels)):
                    raise SystemExit(f"{form}, {name}, {label}: the pixels differ from those of the first backend")
            row["whole"], _ = measure(partial(frames.load_region, "mosaic"), rounds)
            rows.append(row)
    return rows


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=4, help="photographs of 1,280 pixels along each side")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    Image.MAX_IMAGE_PIXELS = None
    with tempfile.TemporaryDirectory() as folder:
        rows = run(Path(folder), options.tiles, options.rounds)
    names = list(rows[0])
    print("  ".join(f"{name:>12}" for name in names))
    for row in rows:
        print(
            "  ".join(f"{row[name]:>12.1f}" if isinstance(row[name], float) else f"{row[name]:>12}" for name in names)
        )
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
