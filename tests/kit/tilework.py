"""What tests of tiles have in common: entries on the disk, their tiles one by one, and a count of what is decoded."""

from __future__ import annotations

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
