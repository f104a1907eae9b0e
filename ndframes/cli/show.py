"""``ndframes show``."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from .common import CommandError, UserPath, reading_backend_option, show_path, workdir_option
from .sources import frame_option, image_id_option, orientation_option, page_option, resolve_image

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from .._typing import Array
    from ..frames.frames import Frames
    from ..pixels.drawing import LegendEntry, Mark
    from ..pixels.pictures import Band
    from ..spec.pathinfo import Orientation
    from .annotations import Annotation
    from .sources import ImageArgument

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


@click.command(short_help="Save a picture of an image with a legend, as a PNG.")
@click.argument("path", type=UserPath())
@image_id_option
@frame_option("the first frame")
@page_option
@orientation_option
@click.option(
    "--region",
    default=":,:",
    metavar="Y0:Y1,X0:X1",
    help="Rows and columns, in Python's slice notation, without steps.  [default: everything]",
)
@click.option(
    "--channels",
    metavar="CODES",
    help="One channel to show in gray, two in magenta and green, or three in red, green and blue, such as 'nir|red|green'.  "
    "[default: r|g|b if the image has them, else the first three]",
)
@click.option(
    "-o",
    "--output",
    type=UserPath(dir_okay=False),
    metavar="FILE.png",
    help="The output file; an existing file is replaced.  [default: NAME.show.png in the current folder]",
)
@click.option(
    "--max-px",
    type=click.IntRange(16, 4096),
    default=1024,
    show_default=True,
    help="The maximum length of the longer side of the picture, in pixels.",
)
@click.option(
    "--stretch",
    callback=_parse_percentiles,
    default="2,98",
    show_default=True,
    metavar="LOW,HIGH",
    help="The percentiles that are shown as black and as full colour, of r|g|b together, or else of each channel.",
)
@click.option(
    "--no-stretch",
    is_flag=True,
    help="Show the full range of integers, and floats from 0 to 1.",
)
@workdir_option
@reading_backend_option
def show(
    *,
    path: str,
    image_id: str | None,
    frame: int | None,
    page: int | None,
    orientation: Orientation,
    region: str,
    channels: str | None,
    output: str | None,
    max_px: int,
    stretch: tuple[float, float],
    no_stretch: bool,
    workdir: str | None,
    backend: str | None,
) -> None:
    """Save a picture of an image, with any channels, annotations and a legend, as a PNG.

    PATH is an image; a video, a folder of images, a glob or a pattern, with --frame; or a COCO or kwcoco dataset, a .json
    or .zip file, whose boxes, polygons, masks and keypoints are drawn. Large images are read from their overviews. Pixels
    without data are shown as a checkerboard. Small images are enlarged.

    \b
    For example:
      ndframes show scan.tif
      ndframes show scan.tif --region 0:4096,0:4096 -o corner.png
      ndframes show scene.tif --channels 'nir|red|green' --stretch 1,99
      ndframes show walk.mp4 --frame 500
      ndframes show data.kwcoco.json --image-id 7
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    from ..formats.export import check_destination
    from ..geometry.regions import parse_region

    slices = _check_region(parse_region(region))
    image = resolve_image(
        path, image_id, frame=frame, defaults_to_first=True, workdir=workdir, page=page, orientation=orientation
    )
    target = _default_output(image) if output is None else output
    if not target.lower().endswith(".png"):
        raise CommandError(f"{show_path(target)}: the picture is a PNG file; the name must end in .png")
    check_destination(target)
    percentiles = None if no_stretch else stretch
    click.echo(_save_picture(image, slices, target, channels, max_px, percentiles, workdir, backend))


def _save_picture(
    image: ImageArgument,
    slices: tuple[slice, ...],
    target: str,
    channels: str | None,
    max_px: int,
    percentiles: tuple[float, float] | None,
    workdir: str | None,
    backend: str | None,
) -> str:
    """Draw the picture and write it to a file; returns the line to print."""
    from ..formats.export import encode_png
    from ..pixels.drawing import Legend, draw_legend, draw_marks
    from ..pixels.pictures import compose_bands
    from ..system.output import write_atomically
    from .annotations import find_annotations

    annotations = [] if image.dataset is None else find_annotations(image.dataset, image.image_id)
    started = time.perf_counter()
    codes, others = _choose_channels(image, channels, workdir)
    frames, origin = image.choose_frames(codes, workdir, backend)
    image.check_not_source(target, frames)
    view = _View.of(frames.image(image.image_id).image_shape, slices, max_px)
    pixels, missing = view.load(frames, image.image_id, codes)
    read_seconds = time.perf_counter() - started
    bands = _find_bands(pixels, missing, codes, percentiles)
    picture = compose_bands(pixels, missing, bands)
    marks = _find_marks(annotations, view, picture)
    legend = Legend(
        title=image.title,
        channels=_list_channels(bands, has_gaps=bool(missing.all(axis=2).any())),
        marks=_list_categories(marks),
        notes=_write_notes(view, percentiles, others),
        bar=view.measure(),
    )
    sheet = draw_legend(draw_marks(picture, marks), legend)
    write_atomically(target, lambda file: file.write(encode_png(sheet)))
    subject = _describe_subject(image, len(marks))
    return (
        f"{show_path(target)}: {'|'.join(codes)} of {view.region}{subject}; {sheet.shape[0]:,} x {sheet.shape[1]:,} px, "
        f"read {origin} in {1000 * read_seconds:.1f} ms"
    )


@dataclass(frozen=True, slots=True)
class _View:
    """The region of an image that is shown, and its scale.

    Attributes:
        rows: rows of the image.
        cols: columns of the image.
        shape: ``(height, width)`` of the image.
        scale: the size of the picture divided by the size of the region.
    """

    rows: range
    cols: range
    shape: tuple[int, int]
    scale: float

    @classmethod
    def of(cls, shape: tuple[int, int], slices: tuple[slice, ...], max_px: int) -> _View:
        """The view of a region, at most ``max_px`` long; a small region is enlarged by an integer factor.

        Raises:
            CommandError: the region is empty.
        """
        from ..geometry.regions import resolve_region

        rows, cols = resolve_region(slices, shape).ranges
        if not rows or not cols:
            raise CommandError(
                f"the region is empty: the image is {shape[0]:,} x {shape[1]:,} px (height x width), and a negative start counts "
                "from its end"
            )
        longer = max(len(rows), len(cols))
        if longer > max_px:
            return cls(rows, cols, shape, max_px / longer)
        # An integer factor makes all enlarged pixels equally large.
        whole = min(max_px, _ENLARGED_PX) // longer if longer < _SMALL_PX else 1
        return cls(rows, cols, shape, float(max(1, whole)))

    @property
    def region(self) -> str:
        """The region in slice notation."""
        return f"{self.rows.start}:{self.rows.stop},{self.cols.start}:{self.cols.stop}"

    def measure(self) -> tuple[float, str]:
        """The length of a scale bar in the picture, and its label: the length in the image."""
        from ..pixels.drawing import MIN_WIDTH_PX, scale_bar_length

        width_px = max(MIN_WIDTH_PX, len(self.cols) * self.scale)
        length = max(1.0, scale_bar_length(width_px / 4 / self.scale))
        return length * self.scale, f"{length:,g} px"

    def load(self, frames: Frames, image_id: Hashable, codes: Sequence[str]) -> tuple[Array, Array]:
        """Read pixels ``(h, w, c)``, and a mask of those without data; complex values become magnitudes."""
        import numpy as np

        loaded = frames.load_region(
            image_id,
            (slice(self.rows.start, self.rows.stop), slice(self.cols.start, self.cols.stop)),
            codes,
            scale=None if self.scale == 1 else self.scale,
            # Enlarged pixels stay squares, so that the picture shows only values of the image.
            interpolation=None if self.scale < 1 else "nearest",
            nodata="mask",
        )
        pixels, missing = np.ma.getdata(loaded), np.ma.getmaskarray(loaded)
        return (np.abs(pixels) if pixels.dtype.kind == "c" else pixels), missing


def _find_marks(annotations: Sequence[Annotation], view: _View, picture: Array) -> list[Mark]:
    """The marks that reach into the picture."""
    from .annotations import to_marks

    marks = to_marks(annotations, (view.rows, view.cols), view.scale)
    return [mark for mark in marks if mark.bounds(picture.shape[:2])]


def _describe_subject(image: ImageArgument, mark_count: int) -> str:
    from ..text import count_noun

    if image.position:
        return f" of {image.position}"
    return "" if image.dataset is None else f", {count_noun(mark_count, 'annotation')}"


def _check_region(slices: tuple[slice, ...]) -> tuple[slice, ...]:
    if len(slices) > 2 or any(axis.step not in (None, 1) for axis in slices):
        raise CommandError(
            "--region must be y0:y1,x0:x1 without steps; use --channels to select channels, and --max-px to set the size"
        )
    return slices


def _default_output(image: ImageArgument) -> str:
    stem = os.path.splitext(os.path.basename(image.path))[0]
    if image.page is not None:
        return f"{stem}.{image.page_noun}{image.page}.show.png"
    if image.dataset is None:
        return f"{stem}.show.png"
    # An id may hold slashes and other characters that file names cannot have.
    name = re.sub(r"[^\w.-]+", "_", str(image.image_id))
    return f"{stem.removesuffix('.kwcoco')}.{name}.show.png"


def _choose_channels(
    image: ImageArgument, channels: str | None, workdir: str | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The codes to show, and the codes that are not shown."""
    # From the source, which knows its channels before there are entries.
    lazy = image.open_frames(workdir, None).image(image.image_id)
    if channels is None:
        codes = _default_channels(lazy.select(None), lazy.channels)
        return codes, tuple(code for code in lazy.channels if code not in codes)
    codes = lazy.select(channels)
    if len(codes) > 3:
        raise CommandError(f"a picture shows 1 to 3 channels; --channels has {len(codes)}: {'|'.join(codes)}")
    return codes, ()


def _default_channels(default: tuple[str, ...], every: tuple[str, ...]) -> tuple[str, ...]:
    """Natural colours if the image has them; else the first three channels without opacity."""
    for codes in (default, every):
        for natural in _NATURAL:
            if set(natural) <= set(codes):
                return natural
    return (tuple(code for code in default if code != "a") or default)[:3]


def _find_bands(
    pixels: Array, missing: Array, codes: tuple[str, ...], percentiles: tuple[float, float] | None
) -> list[Band]:
    """The colour and the limits of each channel."""
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
    # Separate limits would change the hues of a photograph.
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
    """The categories of the marks and their counts, the largest first."""
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
