"""A kwcoco bundle: one image whose channels are files of different scales and orientations."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from data.mosaic import ensure_mosaic, making

#: How many times as coarse as the image each file is. ``"T"`` is as fine, but rotated.
FACTORS = {"B1": 1, "B2": 2, "B4": 4, "B6": 6, "B10": 10}
ROTATED = "T"


def find_matrices(shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """Return the matrix from file to image of each channel, for an image of ``shape``."""
    matrices = {code: np.diag([factor, factor, 1.0]) for code, factor in FACTORS.items()}
    cos, sin = math.cos(math.radians(30)), math.sin(math.radians(30))
    centre = np.array([shape[1] / 2, shape[0] / 2])
    rotation = np.array([[cos, -sin], [sin, cos]])
    matrices[ROTATED] = np.eye(3)
    matrices[ROTATED][:2, :2] = rotation
    matrices[ROTATED][:2, 2] = centre - rotation @ centre
    return matrices


def ensure_bundle(folder: Path, shape: tuple[int, int]) -> Path:
    """Return the path of the dataset's JSON file; make the bundle unless it exists."""
    path = folder / f"aligned-{shape[0]}x{shape[1]}"
    source = np.load(ensure_mosaic(folder, shape, bands=1), mmap_mode="r")
    with making(path) as part:
        if part is not None:
            part.mkdir()
            write_bundle(part, source)
    return path / "data.kwcoco.json"


def write_bundle(folder: Path, source: np.ndarray) -> None:
    """Write each channel as a TIFF of 16-bit integers, and the dataset."""
    import tifffile

    assets = []
    for code, matrix in find_matrices(source.shape[:2]).items():
        factor = FACTORS.get(code, 1)
        pixels = np.ascontiguousarray(source[::factor, ::factor, 0]).astype(np.uint16) * 257
        tifffile.imwrite(folder / f"{code}.tif", pixels, tile=(256, 256))
        assets.append(
            {
                "file_name": f"{code}.tif",
                "channels": code,
                "height": pixels.shape[0],
                "width": pixels.shape[1],
                "warp_aux_to_img": {"type": "affine", "matrix": matrix.tolist()},
            }
        )
    image = {"id": 1, "name": "scene", "file_name": None, "height": source.shape[0], "width": source.shape[1]}
    dataset = {"images": [{**image, "auxiliary": assets}], "videos": [], "annotations": [], "categories": []}
    (folder / "data.kwcoco.json").write_text(json.dumps(dataset))
