"""``ndframes crop``."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from .common import CommandError, UserPath, reading_backend_option, show_path, workdir_option
from .sources import (
    frame_option,
    image_id_option,
    orientation_option,
    page_option,
    resolve_image,
    sources_option,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._typing import Array
    from ..frames.coco import Space
    from ..frames.frames import Frames
    from ..frames.lazyframe import LazyFrame
    from ..geometry.grid import Sampling
    from ..geometry.kernels import Interpolation
    from ..geometry.regions import PadMode
    from ..spec.pathinfo import Orientation
    from .sources import ImageArgument

__all__ = ["crop"]


def _parse_numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Parse one number, or two that are separated by a comma."""
    if value is None:
        return None
    try:
        numbers = tuple(float(part) for part in value.split(","))
    except ValueError:
        numbers = ()
    is_pair = param.name == "around"
    if not all(map(math.isfinite, numbers)) or len(numbers) not in ((2,) if is_pair else (1, 2)):
        form = "two numbers such as 120,340.5" if is_pair else "a number such as 0.5, or two such as 0.5,0.25"
        raise click.BadParameter(f"{value!r}; write {form}", ctx, param)
    return numbers


def _parse_shape(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Parse ``HxW`` or ``H,W``."""
    if value is None:
        return None
    extents = value.lower().replace("x", ",").split(",")
    if len(extents) != 2 or not all(extent.strip().isdecimal() and len(extent) < 18 for extent in extents):
        raise click.BadParameter(f"{value!r}; write height and width such as 256x512", ctx, param)
    return int(extents[0]), int(extents[1])


@dataclass(frozen=True, slots=True)
class _View:
    """A region, and how it is padded, resampled and rotated.

    Attributes:
        slices: the region.
        pad: how to fill the part outside the image.
        fill: the value for ``pad="constant"`` and for rotations.
        scale: the size of the result divided by the size of the region.
        shape: ``(height, width)`` of the result.
        degrees: the rotation of the image, counter-clockwise; ``None``: no rotation.
        around: the fixed point ``(y, x)`` of the rotation; ``None``: the centre of the region.
        interpolation: how values between pixels are computed; ``None``: by the dtype.
    """

    slices: tuple[slice, ...]
    pad: PadMode | None
    fill: float
    scale: tuple[float, ...] | None
    shape: tuple[int, int] | None
    degrees: float | None
    around: tuple[float, ...] | None
    interpolation: Interpolation | None

    def __post_init__(self) -> None:
        if self.scale is not None and self.shape is not None:
            raise CommandError("--scale and --shape both set the size of the result; give only one of them")
        if self.around is not None and self.degrees is None:
            raise CommandError("--around is the centre of --rotate; give --rotate as well")
        if self.degrees is None:
            return
        if not math.isfinite(self.degrees):
            raise CommandError(f"--rotate {self.degrees} is not a finite number of degrees")
        if self.pad in ("edge", "reflect"):
            raise CommandError(
                f"--rotate cannot be combined with --pad {self.pad}; leave it out, or use --pad constant"
            )
        if any(axis.step not in (None, 1) for axis in self.slices[:2]):
            raise CommandError("--rotate needs a region without steps; leave them out, and use --scale to shrink it")

    @property
    def factors(self) -> Any:
        """``scale`` as one number or a pair."""
        return self.scale[0] if self.scale is not None and len(self.scale) == 1 else self.scale

    def resolve(self, frame: LazyFrame) -> tuple[range, ...]:
        """The rows, columns and bands of the region in an image."""
        from ..geometry.regions import resolve_region, resolve_unclipped

        if self.pad is not None:
            return resolve_unclipped(self.slices, frame.shape)
        return resolve_region(self.slices, frame.shape).ranges

    def sample(self, rows: range, cols: range) -> tuple[Sampling, Sampling] | None:
        """The positions of the result's rows and columns before rotation; ``None`` if they are those of the region."""
        from ..geometry.grid import resolve_scale

        if self.scale is None and self.shape is None and self.degrees is None:
            return None
        # A rotation without resampling still needs positions: those of the pixels.
        factors = 1.0 if self.scale is None and self.shape is None else self.factors
        return resolve_scale(rows, cols, factors, self.shape)

    def load(self, frames: Frames, frame: LazyFrame, axes: tuple[range, ...]) -> Array:
        """Read the pixels."""
        samplings = self.sample(axes[0], axes[1])
        if self.degrees is None or samplings is None:
            return frames.load_region(
                frame.image_id,
                self.slices,
                frame.channels,
                pad=self.pad,
                fill=self.fill,
                scale=self.factors,
                shape=self.shape,
                interpolation=self.interpolation,
            )
        around = self.around or tuple((axis.start + axis.stop) / 2 for axis in axes[:2])
        return frames.load_warped(
            frame.image_id,
            _rotation_matrix(self.degrees, around, samplings),
            (samplings[0].count, samplings[1].count),
            [frame.channels[band] for band in axes[2]],
            fill=self.fill,
            interpolation=self.interpolation,
        )


@click.command(short_help="Save a region of an image to a file.")
@click.argument("path", type=UserPath())
@click.option(
    "--region",
    default=":,:",
    metavar="Y0:Y1,X0:X1",
    help="Rows and columns, in Python's slice notation: '-128:' is the last 128, ':' everything, '::4' every fourth.  "
    "[default: everything]",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=UserPath(dir_okay=False),
    metavar="FILE",
    help="The output file; its extension selects the format: .png, .tif or .npy. An existing file is replaced.",
)
@click.option(
    "--pad",
    type=click.Choice(("constant", "edge", "reflect")),
    help="Fill the part outside the image with --fill, the nearest pixel, or the mirror image. Negative numbers are then "
    "coordinates: '-128:128' starts 128 pixels before the image.",
)
@click.option(
    "--channels",
    metavar="CODES",
    help="The channels, in order, such as 'b|g|r' or 'gray'.  [default: all, or the default of the dataset]",
)
@image_id_option
@frame_option("the only frame, if there is one")
@page_option
@orientation_option
@click.option(
    "--space",
    type=click.Choice(("image", "video", "asset")),
    help="The grid of the result, for an image of a COCO dataset: that of the image, of its video, or of its files, which must "
    "then have the same size.  [default: image]",
)
@click.option(
    "--scale",
    callback=_parse_numbers,
    metavar="F or FY,FX",
    help="Resample the region by this factor, or by one factor for each axis: 0.5 halves height and width.",
)
@click.option("--shape", callback=_parse_shape, metavar="HxW", help="Resample the region to this height and width.")
@click.option(
    "--rotate",
    type=float,
    metavar="DEGREES",
    help="Rotate the image before the region is read; positive angles are counter-clockwise, as seen on a screen. The result "
    "has the size of the region, times --scale.",
)
@click.option(
    "--around",
    callback=_parse_numbers,
    metavar="Y,X",
    help="The centre of --rotate; 0,0 is the upper left corner of the image.  [default: the centre of the region]",
)
@click.option(
    "--interpolation",
    type=click.Choice(("nearest", "linear", "cubic", "lanczos")),
    help="How values between pixels are computed; use 'nearest' for masks and labels.  [default: nearest for 1-bit images, "
    "linear for others]",
)
@click.option(
    "--fill",
    type=float,
    default=0.0,
    metavar="VALUE",
    help="The value of pixels outside the image, for --rotate and --pad constant, or outside the file of a channel.  "
    "[default: 0]",
)
@workdir_option
@sources_option
@reading_backend_option
def crop(
    *,
    path: str,
    region: str,
    output: str,
    pad: PadMode | None,
    channels: str | None,
    image_id: str | None,
    frame: int | None,
    page: int | None,
    orientation: Orientation,
    space: Space | None,
    scale: tuple[float, ...] | None,
    shape: tuple[int, int] | None,
    rotate: float | None,
    around: tuple[float, ...] | None,
    interpolation: Interpolation | None,
    fill: float,
    workdir: str | None,
    sources: tuple[str, ...],
    backend: str | None,
) -> None:
    """Save a region of an image to a file.

    PATH is an image; a video, a folder of images, a glob or a pattern, with --frame; or a COCO or kwcoco dataset, a .json
    or .zip file. A file may have an address such as s3://bucket/a.tif or https://host/a.tif, which --sources must allow: a TIFF
    is then read in parts, and other formats are converted into the cache. Pixel values are unchanged, unless --scale, --shape or --rotate resample them, or a channel of a dataset
    has another grid.

    The output file appears complete or not at all. PNG stores 1 to 4 channels of uint8 or uint16; TIFF and npy store
    everything.

    \b
    For example:
      ndframes crop scan.tif --region 0:256,512:768 -o corner.png
      ndframes crop scan.tif --region -128:,: -o bottom.npy
      ndframes crop scan.tif --region -64:192,-64:192 --pad reflect -o padded.tif
      ndframes crop scan.tif --scale 0.1 --channels g -o small.png
      ndframes crop scan.tif --region 0:512,0:512 --rotate 30 -o rotated.png
      ndframes crop stack.tif --page 2 -o third.tif
      ndframes crop photo.jpg --orientation upright -o photo.png
      ndframes crop walk.mp4 --frame 500 --region 0:256,0:256 -o still.png
      ndframes crop s3://imagery/scan.tif --sources s3://imagery/ --region 0:256,0:256 -o corner.png
      ndframes crop data.kwcoco.json --image-id 7 --channels 'nir|red' --shape 256x256 -o chip.tif
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    from ..formats.export import check_destination
    from ..geometry.regions import parse_region

    view = _View(parse_region(region), pad, fill, scale, shape, rotate, around, interpolation)
    # Before the image is opened, which may index a video or convert a file.
    check_destination(output)
    image = resolve_image(
        path, image_id, space=space, frame=frame, workdir=workdir, page=page, orientation=orientation, sources=sources
    )
    click.echo(_save_view(image, view, output, channels, workdir, backend))


def _save_view(
    image: ImageArgument, view: _View, output: str, channels: str | None, workdir: str | None, backend: str | None
) -> str:
    """Read a view and write it to a file; returns the line to print."""
    from ..formats.export import check_export, export

    started = time.perf_counter()
    frames, origin = image.choose_frames(channels, workdir, backend)
    image.check_not_source(output, frames)
    lazy = frames.load_frame(image.image_id, channels)
    axes = view.resolve(lazy)
    samplings = view.sample(axes[0], axes[1])
    height, width = (len(axes[0]), len(axes[1])) if samplings is None else (axis.count for axis in samplings)
    # Before reading: a crop that the format cannot store should fail at once.
    check_export(output, lazy.dtype, (height, width, len(axes[2])))
    pixels = view.load(frames, lazy, axes)
    read_seconds = time.perf_counter() - started
    export(output, pixels)
    extents = " x ".join(str(extent) for extent in pixels.shape)
    position = f" of {image.position}" if image.position else ""
    return f"{show_path(output)}: {extents} {pixels.dtype}{position}, read {origin} in {1000 * read_seconds:.1f} ms"


def _rotation_matrix(
    degrees: float, around: Sequence[float], samplings: tuple[Sampling, Sampling]
) -> list[list[float]]:
    """The matrix from points ``(x, y)`` of the image to points of the result: rotated about ``around``, cut and scaled.

    The y axis points down, so a counter-clockwise rotation maps (x, y) to (x cos + y sin, y cos - x sin).
    """
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # Quarter turns must be exact: cos(90 degrees) is 6e-17, and the pixels would be resampled.
    if degrees % 90 == 0:
        cos, sin = float(round(cos)), float(round(sin))
    y, x = around
    rows, cols = samplings
    return [
        [cos / cols.step, sin / cols.step, (x - cos * x - sin * y - cols.start) / cols.step],
        [-sin / rows.step, cos / rows.step, (y + sin * x - cos * y - rows.start) / rows.step],
        [0.0, 0.0, 1.0],
    ]
