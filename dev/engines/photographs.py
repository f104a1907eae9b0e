"""What the scripts of this folder do with an executor: prepare photographs on it, and compare every pixel."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import ndframes as nf


def write_photographs(folder: Path) -> dict[str, np.ndarray]:
    """Write scikit-image's photographs in four orientations each; return their pixels by name."""
    arrays = {}
    for name, path in nf.demo_paths().items():
        photograph = np.asarray(Image.open(path))
        for turns in range(4):
            # An image always has a channel axis.
            arrays[f"{name}-{turns}"] = np.atleast_3d(np.rot90(photograph, turns))
            np.save(folder / f"{name}-{turns}.npy", arrays[f"{name}-{turns}"])
    return arrays


def main(package: str, start: Callable[[], AbstractContextManager[Any]]) -> None:
    """Prepare the photographs on the executor that ``start()`` gives, and print what came of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arrays = write_photographs(folder)
        frames = nf.SimpleFrames({image_id: folder / f"{image_id}.npy" for image_id in arrays}, workdir=folder / "work")
        began = time.perf_counter()
        with start() as executor:
            started = time.perf_counter()
            report = frames.prepare(executor=executor)
            ended = time.perf_counter()
        assert (report.prepared, report.present, report.failed) == (len(arrays), 0, ()), report
        assert all(frames.explain(image_id).files[0].is_cached for image_id in arrays)
        wrong = sum(not np.array_equal(frames.load_image(image_id), array) for image_id, array in arrays.items())
        assert wrong == 0, f"{wrong} images have other pixels"
        print(
            f"{package} {version(package)}: {len(arrays)} images prepared, every pixel compared; "
            f"{started - began:.1f} s to start, {ended - started:.1f} s to prepare"
        )
