"""Thousands of small images, cut out of the mosaic."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data.mosaic import making

_EDGE_PX = 1024


def ensure_tiffs(folder: Path, mosaic: Path, count: int) -> list[Path]:
    """Return the paths of ``count`` different TIFFs of 1024 px (zstd, tiles of 256 px) in ``folder``; make them unless they exist."""
    import tifffile

    home = folder / f"tiffs-{count}"
    with making(home) as part:
        if part is not None:
            print(f"making {count} TIFFs", flush=True)
            part.mkdir()
            pixels = np.load(mosaic, mmap_mode="r")
            rng = np.random.default_rng(0)
            edges = [min(_EDGE_PX, extent) for extent in pixels.shape[:2]]
            for number in range(count):
                top, left = (
                    rng.integers(0, extent - edge + 1) for extent, edge in zip(pixels.shape, edges, strict=False)
                )
                tile = pixels[top : top + edges[0], left : left + edges[1]]
                name = part / f"{number:05}.tif"
                tifffile.imwrite(
                    name, tile, tile=(256, 256), photometric="rgb", compression="zstd", compressionargs={"level": 3}
                )
    return sorted(home.iterdir())
