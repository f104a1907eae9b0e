"""The demonstration: a large image made of photographs, crops of it through the cache, and a check that they are exact."""

from __future__ import annotations

import colorsys
import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import NdframesError
from ..formats.export import export, write_striped_tiff
from ..frames import simple
from ..frames.photographs import demo_paths
from ..frames.simple import SimpleFrames
from ..system.output import write_atomically
from ..text import format_bytes
from .facts.entries import count_entry_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .._typing import Array
    from ..frames.prepare import PrepareReport

__all__ = ["DemoReport", "build_mosaic", "contact_sheet", "random_corners", "run_demo"]
CROP_PX = 256
_CELL_PX = 512
# A divisor of the height of a cell, as write_striped_tiff demands.
_STRIP_ROWS = 16
_CROPS = 300
_WHOLE_READS = 12
_SEED = 20_240
_SHEET_GRID = (4, 6)
_GAP_PX = 8
_FRAME_PX = 4
_BACKGROUND = 24


@dataclass(frozen=True, slots=True)
class DemoReport:
    """The results of the demonstration.

    Attributes:
        source_path: the mosaic.
        source_bytes: the size of its file.
        decoded_bytes: the size of its pixels in memory.
        prepared: the report of ``Frames.prepare``.
        entry_bytes: the size of its cache entry.
        cached_seconds: the mean time of a crop through the cache.
        window_seconds: the mean time of a crop read from the source by GDAL, strip by strip.
        whole_seconds: the mean time of a crop by decoding the whole source.
        crops: the number of crops that were compared.
        differing: the number of crops that differ from the decoded source.
        sheet_path: the contact sheet.
    """

    source_path: Path
    source_bytes: int
    decoded_bytes: int
    prepared: PrepareReport
    entry_bytes: int
    cached_seconds: float
    window_seconds: float
    whole_seconds: float
    crops: int
    differing: int
    sheet_path: Path

    @property
    def is_exact(self) -> bool:
        """Whether all crops equal the source."""
        return self.differing == 0

    def __str__(self) -> str:
        rows = (
            ("through the cache", self.cached_seconds),
            ("from the source, strip by strip", self.window_seconds),
            ("from the source, decoded whole", self.whole_seconds),
        )
        lines = [f"{f'a {CROP_PX} x {CROP_PX} crop':<33}{'time':>12}{'slower by':>12}"]
        for name, seconds in rows:
            lines.append(f"{name:<33}{1000 * seconds:>9.2f} ms{seconds / self.cached_seconds:>10,.0f} x")
        lines.append("")
        for name, count in (
            ("source file", self.source_bytes),
            ("cache entry", self.entry_bytes),
            ("pixels in memory", self.decoded_bytes),
        ):
            lines.append(f"{name:<33}{format_bytes(count):>12}")
        return "\n".join(lines)


def run_demo(
    *,
    size: int,
    out: str | os.PathLike[str],
    workdir: str | os.PathLike[str] | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> DemoReport:
    """Build a mosaic, convert it, read random crops in three ways, compare them, and save a contact sheet.

    Args:
        size: height and width of the mosaic in pixels, at least 256.
        out: the folder for the mosaic and the contact sheet; created if it does not exist.
        workdir: the folder that holds the cache; ``None``: a folder in ``out``.
        log: called with a line of text after each step.

    Returns:
        The measurements, and the number of crops that differ from the source.

    Raises:
        ValueError: ``size`` is below 256.
        MissingExtraError: scikit-image, which contains the photographs, is not installed.
        NdframesError: the mosaic cannot be written, read or converted.

    Example:
        >>> report = run_demo(size=512, out=getfixture("tmp_path"))
        >>> report.is_exact, report.crops, report.sheet_path.name
        (True, 300, 'contact-sheet.png')
    """
    if size < CROP_PX:
        raise ValueError(f"size={size}; a mosaic for crops of {CROP_PX} x {CROP_PX} is at least {CROP_PX} wide")
    folder = Path(out)
    source_path = _make_source(folder, size, log)
    frames = SimpleFrames({"mosaic": source_path}, workdir=folder / "workdir" if workdir is None else workdir)
    prepared = frames.prepare(progress=True)
    log(f"prepare    {prepared if prepared.prepared else 'the cache entry exists already'}")

    corners = random_corners(size, _CROPS)
    reads = _read_crops(frames, source_path, corners, log)
    # From the source: a comparison with the cache itself would prove nothing.
    truth = frames.load_image("mosaic", cache=False)
    differing = _count_differing(reads, truth, corners)
    log(f"compare    {_CROPS - differing} of {_CROPS} crops equal the decoded source, byte for byte")

    sheet_path = folder / "contact-sheet.png"
    thumbnail = frames.image("mosaic").load_thumbnail(_sheet_height() - 2 * _GAP_PX)
    export(str(sheet_path), contact_sheet(reads.cached.crops, corners, thumbnail, size))
    entry_path = frames.explain("mosaic").files[0].entry_path
    return DemoReport(
        source_path=source_path,
        source_bytes=source_path.stat().st_size,
        decoded_bytes=truth.nbytes,
        prepared=prepared,
        entry_bytes=count_entry_bytes(frames, entry_path),
        cached_seconds=reads.cached.seconds,
        window_seconds=reads.windows.seconds,
        whole_seconds=reads.wholes.seconds,
        crops=_CROPS,
        differing=differing,
        sheet_path=sheet_path,
    )


class _TimedCrops(NamedTuple):
    """Crops, and the mean time of reading one."""

    crops: list[Array]
    seconds: float


class _Reads(NamedTuple):
    """Crops that were read through the cache, from windows of the source, and by decoding the whole source."""

    cached: _TimedCrops
    windows: _TimedCrops
    wholes: _TimedCrops


def _read_crops(
    frames: SimpleFrames, source_path: Path, corners: Sequence[tuple[int, int]], log: Callable[[str], None]
) -> _Reads:
    cached = _time_each(partial(_crop, frames), corners)
    log(f"read       {len(cached.crops)} random crops through the cache in {cached.seconds * len(cached.crops):.2f} s")
    direct = SimpleFrames({"mosaic": source_path}, backend=None)
    # A dozen suffices: decoding the whole source 300 times would take minutes.
    windows = _time_each(partial(_crop, direct), corners[:_WHOLE_READS])
    wholes = _time_each(partial(_crop_of_whole, frames), corners[:_WHOLE_READS])
    log(f"read       {_WHOLE_READS} of them strip by strip, and by decoding the whole source each time")
    return _Reads(cached, windows, wholes)


def _count_differing(reads: _Reads, truth: Array, corners: Sequence[tuple[int, int]]) -> int:
    """The number of corners at which any of the reads differs from the decoded source."""
    expected = [truth[y : y + CROP_PX, x : x + CROP_PX] for y, x in corners]
    # A set: a corner counts once, even if several ways of reading it are wrong.
    differing = {
        index for read in reads for index, pixels in enumerate(read.crops) if not _equal(pixels, expected[index])
    }
    return len(differing)


def build_mosaic(path: str | os.PathLike[str], size: int) -> None:
    """Write a mosaic of the demo photographs, ``size`` x ``size`` RGB pixels, as a deflated TIFF of strips.

    Cells of 512 x 512 pixels are cut from the photographs at random positions, rotated and mirrored; the seed is fixed. Only
    one row of cells is in memory at a time. The file appears complete or not at all.

    Raises:
        MissingExtraError: scikit-image, which contains the photographs, is not installed.
    """
    bands = _bands_of_cells(_load_photographs(), size)
    write_atomically(
        os.fspath(path), lambda file: write_striped_tiff(file, (size, size), bands, strip_rows=_STRIP_ROWS)
    )


def random_corners(size: int, count: int) -> list[tuple[int, int]]:
    """Random upper left corners ``(y, x)`` of ``count`` crops in a mosaic of ``size``; the seed is fixed.

    Example:
        >>> random_corners(256, 2)
        [(0, 0), (0, 0)]
    """
    pairs = np.random.default_rng(_SEED).integers(0, size - CROP_PX, (count, 2), endpoint=True)
    return [(int(y), int(x)) for y, x in pairs]


def contact_sheet(crops: Sequence[Array], corners: Sequence[tuple[int, int]], thumbnail: Array, size: int) -> Array:
    """Draw the first crops, and a thumbnail of the image with their positions, in matching colours.

    Args:
        crops: arrays ``(256, 256, 3)`` of uint8, at least 24.
        corners: the upper left corners of the crops, ``(y, x)``.
        thumbnail: the whole image, reduced.
        size: height and width of the image in pixels.

    Returns:
        ``(height, width, 3)`` uint8.
    """
    rows, cols = _SHEET_GRID
    pitch = CROP_PX + _GAP_PX
    left = thumbnail.shape[1] + 2 * _GAP_PX
    sheet = np.full((_sheet_height(), left + cols * pitch + _GAP_PX, 3), _BACKGROUND, np.uint8)
    top = (sheet.shape[0] - thumbnail.shape[0]) // 2
    overview = sheet[top : top + thumbnail.shape[0], _GAP_PX : _GAP_PX + thumbnail.shape[1]]
    overview[...] = thumbnail
    scale = thumbnail.shape[0] / size
    for index in range(rows * cols):
        colour = _colour(index, rows * cols)
        y = _GAP_PX + index // cols * pitch
        x = left + _GAP_PX + index % cols * pitch
        _draw_frame(sheet, y - _FRAME_PX, x - _FRAME_PX, CROP_PX + 2 * _FRAME_PX, _FRAME_PX, colour)
        sheet[y : y + CROP_PX, x : x + CROP_PX] = crops[index]
        box_y, box_x = (int(corner * scale) for corner in corners[index])
        _draw_frame(overview, box_y, box_x, max(2 * _FRAME_PX, int(CROP_PX * scale)), _FRAME_PX // 2, colour)
    return sheet


def _make_source(folder: Path, size: int, log: Callable[[str], None]) -> Path:
    """Build the mosaic, unless the folder has it."""
    path = folder / f"mosaic-{size}.tif"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NdframesError(
            f"folder {folder} cannot be created: {error.strerror}; choose another with --out"
        ) from error
    if _is_mosaic(path, size):
        log(f"mosaic     {path} exists already")
        return path
    started = time.perf_counter()
    build_mosaic(path, size)
    log(
        f"mosaic     {path}: {size:,} x {size:,} RGB of {len(demo_paths())} photographs, deflated strips, "
        f"{format_bytes(path.stat().st_size)}, made in {time.perf_counter() - started:.1f} s"
    )
    return path


def _is_mosaic(path: Path, size: int) -> bool:
    if not path.is_file():
        return False
    try:
        return simple.open(path).shape == (size, size, 3)
    except NdframesError:
        return False  # another file, or an unfinished one: it is replaced


def _load_photographs() -> list[Array]:
    """The photographs as RGB; those smaller than a cell are padded by reflection."""
    frames = SimpleFrames.demo(backend=None)
    photographs = []
    for name in frames:
        frame = frames.load_frame(name)
        region = tuple(slice(0, max(_CELL_PX, extent)) for extent in frame.shape[:2])
        pixels = frames.load_region(name, region, pad="reflect")
        # Gray photographs become RGB without a copy.
        photographs.append(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
    return photographs


def _bands_of_cells(photographs: Sequence[Array], size: int) -> Iterator[Array]:
    """The rows of cells of the mosaic, from top to bottom."""
    # The order of the draws below determines the file: a change would make old mosaics and new ones differ.
    generator = np.random.default_rng(_SEED)
    cells = -(-size // _CELL_PX)
    for row in range(cells):
        band = np.empty((_CELL_PX, cells * _CELL_PX, 3), np.uint8)
        for col in range(cells):
            photograph = photographs[int(generator.integers(len(photographs)))]
            y, x = (int(generator.integers(extent - _CELL_PX, endpoint=True)) for extent in photograph.shape[:2])
            cell = np.rot90(photograph[y : y + _CELL_PX, x : x + _CELL_PX], int(generator.integers(4)))
            band[:, col * _CELL_PX : (col + 1) * _CELL_PX] = cell[:, :: int(generator.choice((-1, 1)))]
        yield band[: size - row * _CELL_PX, :size]


def _crop(frames: SimpleFrames, y: int, x: int) -> Array:
    return frames.load_region("mosaic", (slice(y, y + CROP_PX), slice(x, x + CROP_PX)))


def _crop_of_whole(frames: SimpleFrames, y: int, x: int) -> Array:
    whole = frames.load_image("mosaic", cache=False)
    # A copy, since a view would keep the whole image in memory.
    return np.array(whole[y : y + CROP_PX, x : x + CROP_PX])


def _time_each(read: Callable[[int, int], Array], corners: Sequence[tuple[int, int]]) -> _TimedCrops:
    """Read the crops; the time includes opening the file."""
    started = time.perf_counter()
    crops = [read(y, x) for y, x in corners]
    return _TimedCrops(crops, (time.perf_counter() - started) / len(crops))


def _equal(pixels: Array, expected: Array) -> bool:
    return pixels.dtype == expected.dtype and np.array_equal(pixels, expected)


def _sheet_height() -> int:
    return _SHEET_GRID[0] * (CROP_PX + _GAP_PX) + _GAP_PX


def _colour(index: int, count: int) -> tuple[int, int, int]:
    # Steps of 5 around the colour wheel: neighbours on the sheet get distinct hues.
    red, green, blue = colorsys.hsv_to_rgb(index * 5 % count / count, 0.85, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _draw_frame(picture: Array, y: int, x: int, extent: int, width: int, colour: tuple[int, int, int]) -> None:
    """Draw the outline of a square, inside its edges."""
    square = picture[max(0, y) : y + extent, max(0, x) : x + extent]
    for line in (square[:width], square[-width:], square[:, :width], square[:, -width:]):
        line[...] = colour
