"""One conversion of an image; ``bench_prepare.py`` runs it in a new process, to measure that process's memory.

python dev/bench/peers/converters.py TOOL SOURCE TARGET [--compress ZSTD] [--no-overviews] [--blocksize 256] [--threads 2]
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

JPEG_QUALITY = 90
ZSTD_LEVEL = 3
DEFLATE_LEVEL = 6
_BAND_PX = 1024
#: rio-cogeo's profile for each codec, and the options that give it the same effort as ndframes.
_RIO_PROFILES = {
    "ZSTD": ("zstd", [f"ZSTD_LEVEL={ZSTD_LEVEL}"]),
    "DEFLATE": ("deflate", [f"ZLEVEL={DEFLATE_LEVEL}"]),
    "NONE": ("raw", []),
    "JPEG": ("jpeg", [f"JPEG_QUALITY={JPEG_QUALITY}"]),
}
_GDAL_OPTIONS = {
    "ZSTD": {"LEVEL": ZSTD_LEVEL},
    "DEFLATE": {"LEVEL": DEFLATE_LEVEL},
    "NONE": {},
    "JPEG": {"QUALITY": JPEG_QUALITY},
}


def idle(options: argparse.Namespace) -> None:  # noqa: ARG001 - same signature as the others
    """Import rasterio and do nothing: this part is contained in the results of the other tools."""
    import rasterio  # noqa: F401


def idle_rio_cogeo(options: argparse.Namespace) -> None:  # noqa: ARG001 - same signature as the others
    """Import rio-cogeo and do nothing; it imports much more."""
    import rio_cogeo.scripts.cli  # noqa: F401


def copy(options: argparse.Namespace) -> None:
    """Copy the source to the page cache: the baseline for tools that do not wait for the disk."""
    shutil.copyfile(options.source, options.target)


def copy_and_sync(options: argparse.Namespace) -> None:
    """Copy the source to the disk: the baseline for tools that wait for it."""
    shutil.copyfile(options.source, options.target)
    with open(options.target, "rb") as file:
        os.fsync(file.fileno())


def ndframes(options: argparse.Namespace) -> None:
    """``Frames.prepare()``; the target is a workdir."""
    import ndframes as nf

    config = {"compress": options.compress, "overviews": options.overviews, "blocksize": options.blocksize}
    config |= {"quality": JPEG_QUALITY} if options.compress == "JPEG" else {}
    backend = "npy" if options.compress == "NPY" else {"type": "cog", "config": config}
    nf.SimpleFrames({"a": options.source}, workdir=options.target, backend=backend).prepare()


def rio_cogeo(options: argparse.Namespace) -> None:
    """``rio cogeo create`` with the same codec, effort, tiles and overviews."""
    from rasterio.rio.main import main_group

    profile, creation = _RIO_PROFILES[options.compress]
    creation = [*creation, f"NUM_THREADS={options.threads}", "BIGTIFF=IF_SAFER"]
    levels = [] if options.overviews else ["--overview-level", "0"]
    arguments = [
        "--cog-profile",
        profile,
        "--blocksize",
        str(options.blocksize),
        "--overview-resampling",
        "average",
        *levels,
    ]
    arguments += ["--threads", str(options.threads), "--quiet"]
    for item in creation:
        arguments += ["--co", item]
    main_group(["cogeo", "create", str(options.source), str(options.target), *arguments])


def gdal(options: argparse.Namespace) -> None:
    """GDAL's own COG driver."""
    import rasterio.shutil

    rasterio.shutil.copy(
        str(options.source),
        str(options.target),
        driver="COG",
        COMPRESS=options.compress,
        BLOCKSIZE=options.blocksize,
        OVERVIEWS="AUTO" if options.overviews else "NONE",
        OVERVIEW_RESAMPLING="AVERAGE",
        NUM_THREADS=options.threads,
        BIGTIFF="IF_SAFER",
        **_GDAL_OPTIONS[options.compress],
    )


def check(options: argparse.Namespace) -> None:
    """Print the mean difference between the pixels of the target and the source."""
    import numpy as np
    import rasterio

    total = 0.0
    with rasterio.open(options.source) as source, _open_target(options.target) as read:
        for top in range(0, source.height, _BAND_PX):
            rows = (top, min(top + _BAND_PX, source.height))
            right = source.read(window=(rows, (0, source.width))).astype(np.int16)
            total += np.abs(read(rows) - right).sum(dtype=np.float64)
        print(total / (source.count * source.height * source.width))


@contextmanager
def _open_target(path: Path) -> Iterator[Callable[[tuple[int, int]], np.ndarray]]:
    """Yield a function that reads rows, bands first."""
    import numpy as np
    import rasterio

    if path.suffix == ".npy":
        pixels = np.load(path, mmap_mode="r")
        yield lambda rows: pixels[slice(*rows)].transpose(2, 0, 1)
        return
    with rasterio.open(path) as dataset:
        yield lambda rows: dataset.read(window=(rows, (0, dataset.width)))


TOOLS = {
    "idle": idle,
    "idle rio cogeo": idle_rio_cogeo,
    "copy": copy,
    "copy, fsync": copy_and_sync,
    "ndframes": ndframes,
    "rio cogeo": rio_cogeo,
    "gdal cog": gdal,
    "check": check,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tool", choices=TOOLS)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--compress", default="ZSTD")
    parser.add_argument("--overviews", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--blocksize", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    # Limits ndframes, which uses one thread per core of its affinity mask; the other tools have an option.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    warnings.simplefilter("ignore", UserWarning)  # the mosaic has no georeference
    TOOLS[options.tool](options)


if __name__ == "__main__":
    sys.exit(main())
