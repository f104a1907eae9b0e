"""Take the picture of the page of a pipeline again: ``python docs/streams/make.py``. Needs Chromium and the extra ``tests``."""

from __future__ import annotations

import io
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import ndframes as nf
from ndframes.stream import Pipeline, Source, Window

PICTURE = Path(__file__).resolve().with_name("page.png")
SHAPE = (1040, 1200)
DISCS = ((60, 0.9, (226, 120, 60)), (34, 1.7, (70, 140, 220)), (22, 2.6, (90, 190, 110)))  # radius, speed, colour


def main() -> None:
    """Take the picture, and save it with 48 colours."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        picture = take(Path(folder))
    Image.fromarray(picture).quantize(48, kmeans=4, dither=Image.Dither.NONE).save(PICTURE, optimize=True)


def take(folder: Path) -> np.ndarray:
    """Return the page of a pipeline that follows discs: ``(y, x, 3)`` of uint8."""
    sys.path.insert(0, str(PICTURE.parents[2] / "tests"))
    from kit.browser import Browser

    nf.write_video(folder / "discs.mp4", (draw(number) for number in range(1500)), fps=25)
    pipeline = Pipeline(Source(folder / "discs.mp4", name="entrance"), mode="realtime")
    pipeline.add("motion", find_motion, Window(count=2), worker="thread")
    pipeline.add("detector", find_discs, Window(interval=0.2), worker="thread")
    pipeline.on_frame(outline)
    with pipeline, Browser(folder, SHAPE) as browser:
        browser.open(pipeline.serve())
        browser.wait_for(
            "document.querySelectorAll('tbody tr').length === 10 && document.querySelector('canvas').dataset.index > 100"
        )
        browser.evaluate("document.documentElement.style.overflow = 'hidden'")
        shot = browser.screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))


def draw(number: int) -> np.ndarray:
    """A frame with three discs on their ways."""
    frame = np.full((360, 640, 3), (38, 44, 52), np.uint8)
    frame[250:] = (52, 60, 70)
    for radius, speed, colour in DISCS:
        x = 320 + (300 - radius) * np.sin(speed * number / 40)
        y = 180 + (150 - radius) * np.cos(1.3 * speed * number / 40)
        cv2.circle(frame, (int(x), int(y)), radius, colour, -1, cv2.LINE_AA)
    return frame


def find_motion(frames: list[np.ndarray]) -> float:
    """How much two frames differ."""
    return float(np.abs(frames[1].astype(int) - frames[0]).mean())


def find_discs(frames: list[np.ndarray]) -> list[tuple[int, ...]]:
    """The boxes of the discs, slowly."""
    time.sleep(0.25)
    gray = cv2.cvtColor(frames[0], cv2.COLOR_RGB2GRAY)
    outlines, _ = cv2.findContours((gray > 75).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [cv2.boundingRect(each) for each in outlines]


def outline(frame, latest) -> None:
    """Draw the newest boxes into a frame."""
    for x, y, width, height in latest["detector"].value if "detector" in latest else []:
        cv2.rectangle(frame.image, (x, y), (x + width, y + height), (255, 225, 90), 2)


if __name__ == "__main__":
    main()
