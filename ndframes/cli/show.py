"""``ndframes show``."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import click

from .common import CommandError, reading_backend_option, show_path, workdir_option
from .sources import frame_option, image_id_option, open_source

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from .._typing import Array
    from ..frames.frames import Frames
    from ..pixels.drawing import LegendEntry, Mark
    from ..pixels.pictures import Band
    from .sources import Source

__all__ = ["show"]
_NATURAL = (("r", "g", "b"), ("red", "green", "blue"))
_SMALL_PX = 256
_ENLARGED_PX = 512
_LISTED = 16


def _parse_percentiles(ctx: click.Context, param: click.Parameter, value: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in value.split(","))
    except ValueError:
        low, high = 1.0, 0.0
    if not 0 <= low < high <= 100:
        raise click.BadParameter(f"{value!r}; write two percentiles from 0 to 100, such as 2,98", ctx, param)
    return low, high


@click.command(short_help="Save a picture of an image, with a legend.")
@click.argument("path")
@image_id_option
@frame_option("the first one")
@click.option(
    "--region",
    default=":,:",
    metavar="Y0:Y1,X0:X1",
    help="Rows and columns, as slices are written in Python, without steps.  [default: everything]",
)
@click.option(
    "--channels",
    metavar="CODES",
    help="One channel for gray, two for magenta and green, three for red, green and blue, such as 'nir|red|green'.  "
    "[default: r|g|b where there are, else the first three]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False),
    metavar="FILE.png",
    help="Where to write; a file that is there is replaced.  [default: NAME.show.png in the current folder]",
)
@click.option(
    "--max-px",
    type=click.IntRange(16, 4096),
    default=1024,
    show_default=True,
    help="The longer side of the picture, at most, in pixels.",
)
@click.option(
    "--stretch",
    callback=_parse_percentiles,
    default="2,98",
    show_default=True,
    metavar="LOW,HIGH",
    help="The percentiles that are shown black and in full colour; one pair for r|g|b together, else one a channel.",
)
@click.option(
    "--no-stretch",
    is_flag=True,
    help="Show all of an integer's range, and floats from 0 to 1.",
)
@workdir_option
@reading_backend_option
def show(
    *,
    path: str,
    image_id: str | None,
    frame: int | None,
    region: str,
    channels: str | None,
    output: str | None,
    max_px: int,
    stretch: tuple[float, float],
    no_stretch: bool,
    workdir: str | None,
    backend: str | None,
) -> None:
    """Save a picture of an image: any channels, stretched, with its annotations, and a legend that says what is what.

    PATH is an image of any kind that is read; or a video, a folder of images, a glob or a pattern, of which --frame says
    which one; or a COCO or kwcoco dataset, a .json or .zip file: boxes, polygons, masks and keypoints of its image are drawn.
    Large images are read from their overviews. Where there is no data, the picture has a checkerboard. An image of few pixels
    is enlarged.

    \b
    In use:
      ndframes show scan.tif
      ndframes show scan.tif --region 0:4096,0:4096 -o corner.png
      ndframes show scene.tif --channels 'nir|red|green' --stretch 1,99
      ndframes show walk.mp4 --frame 500
      ndframes show data.kwcoco.json --image-id 7
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    from ..formats.export import check_destination, encode_png
    from ..geometry.regions import parse_region
    from ..pixels.drawing import Legend, draw_legend, draw_marks
    from ..pixels.pictures import compose_bands
    from ..system.output import write_atomically
    from ..text import count_noun
    from .annotations import find_annotations, to_marks

    slices = _check_region(parse_region(region))
    source = open_source(path, image_id, frame=frame, takes_first=True, workdir=workdir)
    target = _default_output(source) if output is None else output
    if not target.lower().endswith(".png"):
        raise CommandError(f"{show_path(target)}: a picture is a PNG file; let its name end in .png")
    check_destination(target)
    annotations = [] if source.dataset is None else find_annotations(source.dataset, source.image_id)
    started = time.perf_counter()
    codes, others = _choose_channels(source, channels, workdir)
    frames, way = source.choose_frames(codes, workdir, backend)
    source.check_is_other_file(target, frames)
    view = _View.of(frames.image(source.image_id).image_shape, slices, max_px)
    pixels, missing = view.load(frames, source.image_id, codes)
    read_seconds = time.perf_counter() - started
    percentiles = None if no_stretch else stretch
    bands = _find_bands(pixels, missing, codes, percentiles)
    picture = compose_bands(pixels, missing, bands)
    marks = [
        mark for mark in to_marks(annotations, (view.rows, view.cols), view.scale) if mark.bounds(picture.shape[:2])
    ]
    legend = Legend(
        title=source.name,
        channels=_list_channels(bands, has_gaps=bool(missing.all(axis=2).any())),
        marks=_list_categories(marks),
        notes=_write_notes(view, percentiles, others),
        bar=view.measure(),
    )
    sheet = draw_legend(draw_marks(picture, marks), legend)
    write_atomically(target, lambda file: _write(file, encode_png(sheet)))
    told = f", {count_noun(len(marks), 'annotation')}" if source.dataset is not None else ""
    told = f" of {source.moment}" if source.moment else told
    click.echo(
        f"{show_path(target)}: {'|'.join(codes)} of {view.region}{told}; {sheet.shape[0]:,} x {sheet.shape[1]:,} px, "
        f"read {way} in {1000 * read_seconds:.1f} ms"
    )


@dataclass(frozen=True, slots=True)
class _View:
    """Which part of an image is shown, and how large.

    Attributes:
        rows: of the image.
        cols: likewise.
        shape: ``(height, width)`` of the image.
        scale: the picture's size over the region's.
    """

    rows: range
    cols: range
    shape: tuple[int, int]
    scale: float

    @classmethod
    def of(cls, shape: tuple[int, int], slices: tuple[slice, ...], max_px: int) -> _View:
        """The view of a region, at most ``max_px`` large; a small one is enlarged by a whole number.

        Raises:
            CommandError: there is nothing in it.
        """
        from ..geometry.regions import resolve_region

        rows, cols = resolve_region(slices, shape).ranges
        if not rows or not cols:
            raise CommandError(f"the region is empty: the image is {shape[0]:,} x {shape[1]:,} px (height x width)")
        longer = max(len(rows), len(cols))
        if longer > max_px:
            return cls(rows, cols, shape, max_px / longer)
        whole = min(max_px, _ENLARGED_PX) // longer if longer < _SMALL_PX else 1
        return cls(rows, cols, shape, float(max(1, whole)))

    @property
    def region(self) -> str:
        """As it is typed."""
        return f"{self.rows.start}:{self.rows.stop},{self.cols.start}:{self.cols.stop}"

    def measure(self) -> tuple[float, str]:
        """A scale bar: its length in the picture, and what that is in the image."""
        from ..pixels.drawing import MIN_WIDTH_PX, scale_bar_length

        width_px = max(MIN_WIDTH_PX, len(self.cols) * self.scale)
        length = max(1.0, scale_bar_length(width_px / 4 / self.scale))
        return length * self.scale, f"{length:,g} px"

    def load(self, frames: Frames, image_id: Hashable, codes: Sequence[str]) -> tuple[Array, Array]:
        """Real pixels ``(h, w, c)``, and which of them say nothing."""
        import numpy as np

        loaded = frames.load_region(
            image_id,
            (slice(self.rows.start, self.rows.stop), slice(self.cols.start, self.cols.stop)),
            codes,
            scale=None if self.scale == 1 else self.scale,
            interpolation="linear" if self.scale < 1 else "nearest",
            nodata="mask",
        )
        pixels, missing = np.ma.getdata(loaded), np.ma.getmaskarray(loaded)
        return (np.abs(pixels) if pixels.dtype.kind == "c" else pixels), missing


def _check_region(slices: tuple[slice, ...]) -> tuple[slice, ...]:
    if len(slices) > 2 or any(axis.step not in (None, 1) for axis in slices):
        raise CommandError(
            "--region of a picture is y0:y1,x0:x1 without steps; --channels and --max-px choose the rest"
        )
    return slices


def _default_output(source: Source) -> str:
    stem = os.path.splitext(os.path.basename(source.path))[0]
    if source.page is not None:
        return f"{stem}.frame{source.page}.show.png"
    if source.dataset is None:
        return f"{stem}.show.png"
    name = re.sub(r"[^\w.-]+", "_", str(source.image_id))
    return f"{stem.removesuffix('.kwcoco')}.{name}.show.png"


def _choose_channels(
    source: Source, channels: str | None, workdir: str | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The codes that are shown, and those that are not."""
    image = source.open_frames(workdir, None).image(source.image_id)
    if channels is None:
        codes = _default_channels(image.select(None), image.channels)
        return codes, tuple(code for code in image.channels if code not in codes)
    codes = image.select(channels)
    if len(codes) > 3:
        raise CommandError(f"a picture shows 1 to 3 channels, --channels names {len(codes)}: {'|'.join(codes)}")
    return codes, ()


def _default_channels(default: tuple[str, ...], every: tuple[str, ...]) -> tuple[str, ...]:
    """Natural colour where there is; else the first ones, opacity left out."""
    for codes in (default, every):
        for natural in _NATURAL:
            if set(natural) <= set(codes):
                return natural
    return (tuple(code for code in default if code != "a") or default)[:3]


def _find_bands(
    pixels: Array, missing: Array, codes: tuple[str, ...], percentiles: tuple[float, float] | None
) -> list[Band]:
    """How each channel is shown. Natural colours are stretched together, so that they stay natural."""
    from ..pixels.pictures import (
        BLUE,
        GREEN,
        MAGENTA,
        RED,
        WHITE,
        Band,
        dtype_range,
        find_stretch_limits,
    )

    colours = {1: (WHITE,), 2: (MAGENTA, GREEN)}.get(len(codes), (RED, GREEN, BLUE))
    if percentiles is None:
        limits = [dtype_range(pixels.dtype)] * len(codes)
    elif codes in _NATURAL:
        limits = [find_stretch_limits(pixels, missing, percentiles)] * len(codes)
    else:
        limits = [find_stretch_limits(pixels[:, :, i], missing[:, :, i], percentiles) for i in range(len(codes))]
    return [Band(code, colour, *ends) for code, colour, ends in zip(codes, colours, limits, strict=True)]


def _list_channels(bands: Sequence[Band], *, has_gaps: bool) -> list[LegendEntry]:
    from ..pixels.drawing import LegendEntry
    from ..text import format_number

    entries = [
        LegendEntry(f"{band.code}: {format_number(band.low)} to {format_number(band.high)}", band.colour, is_ramp=True)
        for band in bands
    ]
    return [*entries, LegendEntry("no data", None)] if has_gaps else entries


def _list_categories(marks: Sequence[Mark]) -> list[LegendEntry]:
    """The categories that are seen, and how many annotations are of each; those with most first."""
    from ..pixels.drawing import LegendEntry

    counts = Counter((mark.label or "no category", mark.colour) for mark in marks).most_common()
    entries = [LegendEntry(f"{name} ({count:,})", colour) for (name, colour), count in counts[:_LISTED]]
    more = len(counts) - _LISTED
    return [*entries, LegendEntry(f"{more:,} more categories", (128, 128, 128))] if more > 0 else entries


def _write_notes(view: _View, percentiles: tuple[float, float] | None, others: Sequence[str]) -> list[str]:
    scale = view.scale
    sized = (
        f"shrunk {1 / scale:.3g} times"
        if scale < 1
        else f"enlarged {scale:.0f} times"
        if scale > 1
        else "pixel for pixel"
    )
    stretched = (
        "not stretched"
        if percentiles is None
        else f"stretched over percentiles {percentiles[0]:g} to {percentiles[1]:g}"
    )
    rows, cols = (f"{axis.start}:{axis.stop}" for axis in (view.rows, view.cols))
    place = f"rows {rows}, columns {cols} of {view.shape[0]:,} x {view.shape[1]:,} px"
    notes = [place, f"{sized}, {stretched}"]
    if others:
        more = f" and {len(others) - _LISTED:,} more" if len(others) > _LISTED else ""
        notes.append(f"not shown: {', '.join(others[:_LISTED])}{more}")
    return notes


def _write(file: IO[bytes], content: bytes) -> None:
    file.write(content)
