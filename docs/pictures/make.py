"""Write the picture of the README and of the first page again: ``python docs/pictures/make.py``."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import kwimage
import numpy as np
from PIL import Image, ImageDraw

import ndframes as nf

PICTURE = Path(__file__).resolve().with_name("patches.png")
SCALE = 0.625  # of the photograph beside its patches
SIDE = 128  # of a patch, in pixels of the picture
GAP = 8
ORANGE, BLUE, GREEN, PINK = (255, 150, 0), (80, 180, 255), (90, 220, 90), (255, 110, 190)


def main() -> None:
    """Draw the picture and save it with 64 colours: a photograph in all of its colours takes 250 kB."""
    Image.fromarray(draw()).quantize(64, kmeans=10, dither=Image.Dither.NONE).save(PICTURE, optimize=True)


def draw() -> np.ndarray:
    """Return the photograph with the outlines of four patches, and the patches beside it: ``(y, x, 3)`` of uint8."""
    photo = {"id": 1, "file_name": str(nf.demo_paths()["rocket"]), "width": 640, "height": 427}
    with tempfile.TemporaryDirectory() as folder:
        dataset = Path(folder, "photos.json")
        dataset.write_text(json.dumps({"images": [photo], "annotations": []}))
        frames = nf.CocoFrames(dataset, workdir=folder)
        whole = frames.load_region(1, scale=SCALE)
        patches = read_patches(frames)
    height, width = whole.shape[:2]
    picture = Image.new("RGB", (width + 2 * (GAP + SIDE), height), "white")
    picture.paste(Image.fromarray(whole), (0, 0))
    pen = ImageDraw.Draw(picture)
    for number, (colour, pixels, outline) in enumerate(patches):
        pen.polygon([(x * SCALE, y * SCALE) for x, y in outline], outline=colour, width=2)
        x, y = width + GAP + number % 2 * (SIDE + GAP), number // 2 * (height - SIDE)
        picture.paste(Image.fromarray(pixels), (x, y))
        pen.rectangle((x, y, x + SIDE - 1, y + SIDE - 1), outline=colour, width=2)
    return np.asarray(picture)


def read_patches(frames: nf.Frames) -> list[tuple[tuple[int, int, int], np.ndarray, list[tuple[float, float]]]]:
    """Return the colour, the pixels and the outline in the photograph of each patch."""
    size = {"shape": (SIDE, SIDE)}
    turn = kwimage.Affine.affine(scale=1.4, theta=-0.32, about=(66, 210), offset=(SIDE / 2 - 66, SIDE / 2 - 210))
    corners = kwimage.Points(xy=np.array([(0, 0), (SIDE, 0), (SIDE, SIDE), (0, SIDE)], float))
    return [
        (ORANGE, frames.load_region(1, np.s_[118:182, 290:354], **size), rectangle(118, 290, 64)),
        (BLUE, frames.load_region(1, np.s_[337:427, 380:470], **size), rectangle(337, 380, 90)),
        (GREEN, frames.load_warped(1, turn, (SIDE, SIDE)), corners.warp(turn.inv()).xy.tolist()),
        (PINK, frames.load_region(1, np.s_[340:468, 60:188], pad="reflect"), rectangle(340, 60, 128)),
    ]


def rectangle(y: int, x: int, side: int) -> list[tuple[float, float]]:
    """Return the corners ``(x, y)`` of a square."""
    return [(x, y), (x + side, y), (x + side, y + side), (x, y + side)]


if __name__ == "__main__":
    main()
