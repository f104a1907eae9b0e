"""Datasets that kwcoco reads too, and kwcoco's own reading of them."""

from __future__ import annotations

import math
import warnings
from contextlib import contextmanager

import numpy as np
import tifffile

import ndframes as nf

from .synthetic import picture

SHAPE = (90, 120)
MATRICES = {
    "r|g|b": np.eye(3),
    "nir": np.diag([3.0, 2, 1]),
    "turned": np.array([[math.cos(0.2), -math.sin(0.2), 9], [math.sin(0.2), math.cos(0.2), -5], [0, 0, 1]])
    @ np.array([[1, 0.05, 0], [0, 1, 0], [0, 0, 1]])
    @ np.diag([1.1, 1.1, 1]),
    "real": np.array([[2, 0, 0.5], [0, 1.5, -0.25], [0, 0, 1]]),
    "same": np.eye(3),
}  # fmt: skip


def to_video(number):
    """Matrix from an image of the bundle to its video."""
    cos, sin = math.cos(0.1 * number), math.sin(0.1 * number)
    return np.array([[cos, -sin, 4], [sin, cos, -3], [0, 0, 1]]) @ np.diag([1.5, 1.25, 1])


@contextmanager
def quiet():
    """Ignore warnings of kwcoco and its dependencies."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def find_slack(dtype):
    """How far a rounded integer may be from the exact value: points in rotated files are rounded to 2**-16 of a pixel."""
    return 0.51 if dtype.itemsize == 1 else 1.0


def coco(dataset, folder=None):
    with quiet():
        import kwcoco

        dset = kwcoco.CocoDataset(dataset)
    if folder is not None:
        dset.bundle_dpath = str(folder)
    return dset


def by_kwcoco(dset, image_id, channels, *, space="image", optimize=False, antialias=True):
    with quiet():
        delayed = dset.coco_image(image_id).imdelay(channels, space=space, antialias=antialias)
        return delayed.finalize(optimize=optimize)


def save(path, pixels):
    """Write a TIFF that kwcoco reads too; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_colour = pixels.ndim == 3 and pixels.shape[2] == 3
    tifffile.imwrite(path, pixels, photometric="rgb" if is_colour else "minisblack", metadata=None, **_planes(pixels))
    return str(path)


def _planes(pixels):
    return {"planarconfig": "contig"} if pixels.ndim == 3 else {}


def points(matrix, shape):
    """Coordinates x and y in the file of the centres of a result's pixels; ``matrix`` maps from file to result."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    inverse = np.linalg.inv(matrix)
    return inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2], inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2]


def interpolate(pixels, matrix, shape):
    """Linear interpolation of one band by its definition; beyond the border the edge pixels are repeated."""
    x, y = points(matrix, shape)
    x, y = (x - 0.5).clip(0, pixels.shape[1] - 1), (y - 0.5).clip(0, pixels.shape[0] - 1)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, bottom = (left + 1).clip(0, pixels.shape[1] - 1), (top + 1).clip(0, pixels.shape[0] - 1)
    x, y, pixels = x - left, y - top, pixels.astype(np.float64)
    upper = pixels[top, left] * (1 - x) + pixels[top, right] * x
    return upper * (1 - y) + (pixels[bottom, left] * (1 - x) + pixels[bottom, right] * x) * y


def is_clear(matrix, shape, file_shape, margin=2):
    """Which pixels of a result are away from the border of the file and of the result."""
    x, y = points(matrix, shape)
    clear = (x > margin) & (y > margin) & (x < file_shape[1] - margin) & (y < file_shape[0] - margin)
    clear[:3], clear[-3:], clear[:, :3], clear[:, -3:] = False, False, False, False
    return clear


def read_stored(path):
    """Read a file's pixels by another library, bands last."""
    with quiet():
        import kwimage

        pixels = kwimage.imread(path)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def differ(one, other):
    return np.abs(one.astype(np.float64) - other.astype(np.float64))


def make_bundle(folder):
    """Write files of every kind, size and warp; return a dataset with a video of two images, listed in reverse, and ``folder``."""
    images = []
    for number, frame_index in ((1, 5), (2, 3)):
        save(folder / f"{number}/rgb.tif", picture((*SHAPE, 3), seed=number))
        save(folder / f"{number}/nir.tif", picture((45, 40), "uint16", seed=number))
        save(folder / f"{number}/turned.tif", picture((80, 100), "uint8", seed=number + 10))
        save(folder / f"{number}/real.tif", np.float32(picture((60, 60), "uint8", seed=number) / 7))
        save(folder / f"{number}/same.tif", picture(SHAPE, "int16", seed=number))
        images.append(
            {
                "id": number, "name": f"image{number}", "file_name": f"{number}/rgb.tif", "channels": "r|g|b",
                "width": 120, "height": 90, "video_id": 8, "frame_index": frame_index,
                "warp_img_to_vid": {"type": "affine", "scale": [1.5, 1.25], "offset": [4, -3], "theta": 0.1 * number},
                "auxiliary": [
                    {"file_name": f"{number}/nir.tif", "channels": "nir", "width": 40, "height": 45,
                     "warp_aux_to_img": {"scale": [3, 2]}},
                ],
                "assets": [
                    {"file_name": f"{number}/turned.tif", "channels": "turned", "width": 100, "height": 80,
                     "warp_aux_to_img": {"type": "affine", "scale": 1.1, "theta": 0.2, "shearx": 0.05, "offset": [9, -5]}},
                    {"file_name": str(folder / f"{number}/real.tif"), "channels": "real", "width": 60, "height": 60,
                     "warp_aux_to_img": {"type": "affine", "matrix": [[2, 0, 0.5], [0, 1.5, -0.25], [0, 0, 1]]}},
                    {"file_name": f"{number}/same.tif", "channels": "same", "width": 120, "height": 90,
                     "num_overviews": 0},
                ],
            }
        )  # fmt: skip
    video = {"id": 8, "name": "clip", "width": 200, "height": 130}
    return {"images": images, "videos": [video], "annotations": [], "categories": []}, folder


def read_all(frames):
    """All that can be read, by item; the error of each item that cannot."""
    found = {}
    for item in (1, 2, 17, 22, ("video", 8), "clip"):
        try:
            frame = frames.load_frame(item)
            found[item] = frame.channels, frame.shape, frames.load_region(item, nodata="nan")
            if item != "clip":  # another name of the video
                codes = frames.image(item).channels
                found[item] += codes, [frames.load_region(item, None, code, nodata="nan") for code in codes]
        except nf.NdframesError as error:
            found[item] = type(error), str(error)
    return found
