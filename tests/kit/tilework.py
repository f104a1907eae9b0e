"""Helpers for tests of tiles: entries on disk, their tiles one by one, counts of decoded tiles, other libraries."""

from __future__ import annotations

import warnings
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import tifffile
from rasterio.errors import NotGeoreferencedWarning

import ndframes as nf
from ndframes.cache.trailer import append_trailer, read_trailer
from ndframes.system.files import FileSystem
from ndframes.system.segments import checksum
from ndframes.testing.faults import flip_bit

FILES = FileSystem()


def frames_over(folder: Path, arrays: dict[Any, np.ndarray], backend: Any, **options: Any) -> nf.SimpleFrames:
    """Frames over arrays that are saved as ``.npy``; nothing is prepared yet."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for number, (image_id, array) in enumerate(arrays.items()):
        paths[image_id] = folder / f"{number}.npy"
        np.save(paths[image_id], array)
    return nf.SimpleFrames(paths, workdir=folder / "work", backend=backend, **options)


def cog(compress: str, blocksize: int = 32, **config: Any) -> dict[str, Any]:
    """A backend, as a user writes it."""
    return {"type": "cog", "config": {"compress": compress, "blocksize": blocksize, **config}}


def entry_path(frames: nf.Frames, image_id: Any = "a") -> Path:
    """Where the entry of a prepared image is; it may be written to from now on."""
    (info,) = frames.pathinfo(image_id).channels
    survey = frames.survey_channel(image_id, info)
    assert survey.job is None, f"{image_id} has no entry"
    path = frames.cache.path(survey.key)
    path.chmod(0o644)
    return path


def segments_of(path: Path) -> np.ndarray:
    """An entry's table: the head first, then its tiles."""
    with FILES.open_to_read(str(path)) as file:
        return read_trailer(str(path), file).load_segments(file)


def forge_tile(path: Path, number: int, data: bytes) -> None:
    """Put other bytes in the place of a tile, cut or filled up to its length, and all checksums in order again."""
    with FILES.open_to_read(str(path)) as opened:
        trailer = read_trailer(str(path), opened)
        segments = trailer.load_segments(opened).copy()
    with path.open("r+b") as file:
        offset, length = int(segments[number]["offset"]), int(segments[number]["length"])
        data = data[:length].ljust(length, b"\0")
        file.seek(offset)
        file.write(data)
        segments[number]["crc32"] = checksum(data)
        file.truncate(trailer.payload_bytes)
        file.seek(trailer.payload_bytes)
        append_trailer(file, segments, trailer.meta)


def flip_bit_of_tile(path: Path, number: int, place: float = 0.5) -> None:
    """Turn over one bit of a tile, so far into it; the file's times tell nothing of it."""
    row = segments_of(path)[number]
    flip_bit(path, 8 * (int(row["offset"]) + int(place * int(row["length"]))) + 2)


def watch_decodes(frames: nf.Frames, *image_ids: Any) -> list[tuple[Any, bytes]]:
    """A list that grows by ``(image_id, bytes of the tile)`` with every tile that is decoded from now on."""
    seen: list[tuple[Any, bytes]] = []
    for image_id in image_ids:
        inner = frames.image(image_id).opened(0).reader._inner
        inner._decode = _watched(inner._decode, image_id, seen, lambda data: [data])
        inner._decode_several = _watched(inner._decode_several, image_id, seen, list)
        if inner._decode_grid is not None:
            inner._decode_grid = _watched(inner._decode_grid, image_id, seen, lambda grid: chain(*grid))
    return seen


def _watched(decode: Any, image_id: Any, seen: list[tuple[Any, bytes]], tiles_of: Any) -> Any:
    def watched(data: Any, *window: slice) -> Any:
        seen.extend((image_id, bytes(tile)) for tile in tiles_of(data))
        return decode(data, *window)

    return watched


def tiles_under(rows: range, cols: range, extent: int) -> set[tuple[int, int]]:
    """Which tiles hold a pixel at ``rows`` x ``cols``, counted one by one."""
    return {(row // extent, col // extent) for row in rows for col in cols}


def levels_of(reader) -> list[np.ndarray]:
    """The pixels of all levels."""
    return [reader.read_all(level=level) for level in range(1 + len(reader.overview_shapes))]


def _read_by_rasterio(path, level: int) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, **({"overview_level": level - 1} if level else {})) as dataset:
            return dataset.read().transpose(1, 2, 0)


def assert_equal_bits(got: np.ndarray, wanted: np.ndarray) -> None:
    """NaNs and the signs of zeros count, too."""
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
    assert np.ascontiguousarray(got).tobytes() == np.ascontiguousarray(wanted).tobytes()


def assert_others_read_the_same(path, levels: list[np.ndarray], compress: str) -> None:
    """By tifffile and by rasterio, every level, bit for bit."""
    with tifffile.TiffFile(path) as file:
        assert len(file.pages) == len(levels)
        for page, level in zip(file.pages, levels, strict=True):
            assert page.compression.name.replace("ADOBE_", "") == compress
            assert_equal_bits(level, page.asarray().reshape(level.shape))
    for number, level in enumerate(levels):
        other = _read_by_rasterio(path, number)
        if compress == "JPEG":  # another libjpeg is in rasterio's wheel
            differences = np.abs(other.astype(int) - level)
            assert differences.max() <= 1
            assert np.count_nonzero(differences) <= level.size / 10_000
        elif level.dtype in ("bool", "float16"):  # GDAL has no such dtypes
            np.testing.assert_array_equal(other.astype(level.dtype), level)
        else:
            assert_equal_bits(level, other)


def is_mapped(path) -> bool:
    with open("/proc/self/maps") as file:
        return str(path) in file.read()


def segments_of_level(reader, level: int = 0) -> range:
    """The numbers of a level's tiles."""
    item = reader.trailer.meta["layout"]["levels"][level]
    down, across = (-(-extent // item["tile_extent"]) for extent in item["shape"])
    return range(item["first_segment"], item["first_segment"] + down * across)


PHOTOGRAPH = nf.SimpleFrames.demo(backend=None).load_region("coffee", np.s_[100:200, 200:330])


def tile_number(compress: str, row: int, col: int) -> int:
    """The number in its file of a tile of the photograph, which has four rows of five tiles."""
    return 1 + (col * 4 + row if compress == "NONE" else row * 5 + col)


def count_quarantined(frames) -> int:
    folder = frames.cache.root / "quarantine"
    return len(list(folder.iterdir())) if folder.exists() else 0


def tile_cache_of(frames):
    return frames._opener._tiles


def read_crops(frames, arrays, seed: int, count: int) -> int:
    """Read random crops, and count those that differ from numpy's."""
    rng, wrong = np.random.default_rng(seed), 0
    for _ in range(count):
        number, (top, left) = int(rng.integers(len(arrays))), rng.integers(0, 60, 2).tolist()
        region = np.s_[top : top + 40, left : left + 50]
        wrong += not np.array_equal(frames.load_region(number, region), arrays[number][region])
    return wrong
