"""Take the pictures of the page again: ``python docs/service/make.py``. Needs Chromium and the extra ``tests``."""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from PIL import Image

import ndframes as nf

FOLDER = Path(__file__).resolve().parent
SHAPE = (560, 900)
COLOURS = {"gallery": 48, "values": 64, "annotations": 22, "channels": 128}


def main() -> None:
    """Take the pictures, and save them with few colours, each smaller than 50 kB."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for name, picture in take(Path(folder)).items():
            small = Image.fromarray(picture).quantize(COLOURS[name], kmeans=2, dither=Image.Dither.NONE)
            small.save(FOLDER / f"{name}.png", optimize=True)


def take(folder: Path) -> dict[str, np.ndarray]:
    """The page at several images, ``(y, x, 3)`` of uint8, by name."""
    sys.path.insert(0, str(FOLDER.parents[1] / "tests"))
    from kit.browser import Browser
    from kit.viewing import show

    shots: dict[str, np.ndarray] = {}
    with Browser(folder, SHAPE) as browser:
        demo = nf.SimpleFrames.demo(workdir=folder / "work")
        with show(browser, demo) as page:
            page.open()
            browser.wait_for("document.querySelectorAll('#frames [data-is-drawn]').length === 8")
            shots["gallery"] = shoot(browser)
            page.open_image("retina", "&zoom=64&y=590&x=1140")
            page.values_at(590, 1140)
            shots["values"] = shoot(browser)
        with show(browser, annotate(folder)) as page:
            page.open_image("1", "&zoom=1.3&y=256&x=256")
            browser.wait_for("document.querySelectorAll('#annotation-list li').length > 1")
            close(browser, "Channels", "Values")
            shots["annotations"] = shoot(browser)
        with show(browser, make_spectrum(folder)) as page:
            page.open_image("field", f"&zoom=1.2&y=200&x=300&t=12&channels={settings()}")
            shots["channels"] = shoot(browser)
    return shots


def shoot(browser: Any) -> np.ndarray:
    """The page now, without the pulse of a cursor."""
    browser.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return np.asarray(Image.open(io.BytesIO(browser.screenshot())).convert("RGB"))


def close(browser: Any, *titles: str) -> None:
    """Close panels."""
    for title in titles:
        browser.evaluate(
            f"[...document.querySelectorAll('summary')].find((each) => each.textContent === '{title}').parentElement.open = false"
        )


def annotate(folder: Path) -> nf.CocoFrames:
    """A photograph with a box, a polygon and scores."""
    Image.fromarray(skimage.data.astronaut()).save(folder / "astronaut.png")
    face = [(180, 60), (262, 60), (272, 120), (250, 190), (205, 195), (175, 150)]
    dataset = {
        "images": [{"id": 1, "file_name": str(folder / "astronaut.png"), "height": 512, "width": 512}],
        "categories": [{"id": 1, "name": "face"}, {"id": 2, "name": "model"}, {"id": 3, "name": "badge"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "score": 0.97,
                "segmentation": [[part for point in face for part in point]],
            },
            {"id": 2, "image_id": 1, "category_id": 2, "score": 0.88, "bbox": [356, 20, 78, 290]},
            {"id": 3, "image_id": 1, "category_id": 3, "score": 0.54, "bbox": [232, 368, 40, 44]},
        ],
    }
    return nf.CocoFrames(dataset, workdir=folder / "work")


def make_spectrum(folder: Path) -> nf.SimpleFrames:
    """A field of floats over time in six channels, some of whose values are missing."""
    y, x = np.mgrid[:400, :600].astype(np.float32) / 100
    (folder / "field").mkdir()
    for step in range(24):
        t = step / 6
        waves = [np.sin(x * (1 + band / 2) + t) * np.cos(y * (2 - band / 3) - t) for band in range(6)]
        field = np.stack(waves, axis=2).astype(np.float32)
        field[(y - 2) ** 2 + (x - 3) ** 2 < 0.25] = np.nan
        np.save(folder / "field" / f"{step:02}.npy", field)
    return nf.SimpleFrames({"field": f"{folder}/field/*.npy"}, workdir=folder / "work")


def settings() -> str:
    """Two of the channels in colours, as an address says it."""
    return "band.0:ff9040:-1:1:1,band.1:4090ff:-0.5:1:1"


if __name__ == "__main__":
    main()
