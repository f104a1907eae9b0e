"""What the scripts of this folder do with an executor: prepare photographs on it, and compare every pixel.

With ``--kill``, a worker is killed as soon as 8 images are prepared; what then fails is prepared by this process.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
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


def kill_later(pid: int, cache: nf.Cache) -> None:
    """Kill a process of this machine when the cache has 8 entries."""
    while len(list(cache.ls())) < 8:
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)


def main(package: str, start: Callable[[], AbstractContextManager[Any]]) -> None:
    """Prepare the photographs on the executor that ``start()`` gives, and print what came of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arrays = write_photographs(folder)
        frames = nf.SimpleFrames({image_id: folder / f"{image_id}.npy" for image_id in arrays}, workdir=folder / "work")
        began = time.perf_counter()
        with start() as executor:
            if "--kill" in sys.argv:
                pid = executor.submit(os.getpid).result()
                threading.Thread(target=kill_later, args=(pid, frames.cache), daemon=True).start()
            started = time.perf_counter()
            report = frames.prepare(executor=executor, errors="collect")
        print(f"{package} {version(package)}, {started - began:.1f} s to start: {report}")
        assert report.prepared + report.present + len(report.failed) == len(arrays)
        assert report.ok or "--kill" in sys.argv
        # A worker may die after an entry is complete.
        assert frames.prepare().prepared <= len(report.failed)
        wrong = sum(not np.array_equal(frames.load_image(image_id), array) for image_id, array in arrays.items())
        assert wrong == 0, f"{wrong} images have other pixels"
        print(f"{len(arrays)} images: every pixel is that of the photograph")
