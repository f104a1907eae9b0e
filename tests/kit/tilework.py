"""Entries on disk and their tiles: find, damage and forge them, and watch which are decoded."""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

import ndframes as nf
from ndframes.cache.trailer import append_trailer, read_trailer
from ndframes.system.files import FileSystem
from ndframes.system.segments import checksum
from ndframes.testing.faults import flip_bit

FILES = FileSystem()


def frames_over(folder: Path, arrays: dict[Any, np.ndarray], backend: Any, **options: Any) -> nf.SimpleFrames:
    """Save arrays as ``.npy``; return frames over them, not prepared."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for number, (image_id, array) in enumerate(arrays.items()):
        paths[image_id] = folder / f"{number}.npy"
        np.save(paths[image_id], array)
    return nf.SimpleFrames(paths, workdir=folder / "work", backend=backend, **options)


def cog(compress: str, blocksize: int = 32, **config: Any) -> dict[str, Any]:
    """A backend specification as a user writes it."""
    return {"type": "cog", "config": {"compress": compress, "blocksize": blocksize, **config}}


def entry_path(frames: nf.Frames, image_id: Any = "a") -> Path:
    """Path of the entry of a prepared image, made writable."""
    (info,) = frames.pathinfo(image_id).channels
    survey = frames.survey_channel(image_id, info)
    assert survey.conversion is None, f"{image_id} has no entry"
    path = frames.cache.path(survey.key)
    path.chmod(0o644)
    return path


def segments_of(path: Path) -> np.ndarray:
    """An entry's table of segments: the header, then the tiles."""
    with path.open("rb") as file:
        trailer = read_trailer(str(path), FILES, file.fileno(), os.path.getsize(path))
        return trailer.load_segments(FILES, file.fileno())


def forge_tile(path: Path, number: int, data: bytes) -> None:
    """Replace a tile by other bytes, cut or padded to its length, and correct all checksums."""
    with path.open("r+b") as file:
        trailer = read_trailer(str(path), FILES, file.fileno(), os.path.getsize(path))
        segments = trailer.load_segments(FILES, file.fileno()).copy()
        offset, length = int(segments[number]["offset"]), int(segments[number]["length"])
        data = data[:length].ljust(length, b"\0")
        file.seek(offset)
        file.write(data)
        segments[number]["crc32"] = checksum(data)
        file.truncate(trailer.payload_bytes)
        file.seek(trailer.payload_bytes)
        append_trailer(file, segments, trailer.meta)


def flip_bit_of_tile(path: Path, number: int, place: float = 0.5) -> None:
    """Flip one bit of a tile at the relative position ``place``, without changing the file's times."""
    row = segments_of(path)[number]
    flip_bit(path, 8 * (int(row["offset"]) + int(place * int(row["length"]))) + 2)


def watch_decodes(frames: nf.Frames, *image_ids: Any) -> list[tuple[Any, bytes]]:
    """Return a list to which every tile decoded from now on appends ``(image_id, bytes of the tile)``."""
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
    """The tiles that contain a pixel of ``rows`` x ``cols``, found pixel by pixel."""
    return {(row // extent, col // extent) for row in rows for col in cols}
