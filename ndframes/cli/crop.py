"""``ndframes crop``."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from .common import CommandError, reading_backend_option, show_path, workdir_option
from .sources import frame_option, image_id_option, open_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._typing import Array
    from ..frames.coco import Space
    from ..frames.frames import Frames
    from ..frames.lazyframe import LazyFrame
    from ..geometry.grid import Sampling
    from ..geometry.kernels import Interpolation
    from ..geometry.regions import PadMode

__all__ = ["crop"]


def _parse_numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """One number, or two with a comma between them."""
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
    """``HxW`` or ``H,W``."""
    if value is None:
        return None
    extents = value.lower().replace("x", ",").split(",")
    if len(extents) != 2 or not all(extent.strip().isdecimal() and len(extent) < 18 for extent in extents):
        raise click.BadParameter(f"{value!r}; write height and width such as 256x512", ctx, param)
    return int(extents[0]), int(extents[1])


@dataclass(frozen=True, slots=True)
class _View:
    """What is made of a region: how it is cut, sized and turned.

    Attributes:
        slices: the region.
        pad: what stands outside of the image.
        fill: the value there.
        scale: the result's size over the region's.
        shape: the result's size.
        degrees: how far the image is turned, counter-clockwise; ``None``: not at all.
        around: the point, (y, x), that stays where it is; ``None``: the centre of the region.
        interpolation: how values between pixels are found.
    """

    slices: tuple[slice, ...]
    pad: PadMode | None
    fill: float
    scale: tuple[float, ...] | None
    shape: tuple[int, int] | None
    degrees: float | None
    around: tuple[float, ...] | None
    interpolation: Interpolation

    def __post_init__(self) -> None:
        if self.scale is not None and self.shape is not None:
            raise CommandError("--scale and --shape both say how large the result is; give one of them")
        if self.around is not None and self.degrees is None:
            raise CommandError("--around is the point about which --rotate turns; give --rotate as well, or neither")
        if self.degrees is None:
            return
        if not math.isfinite(self.degrees):
            raise CommandError(f"--rotate {self.degrees} is no angle; give it in degrees")
        if self.pad in ("edge", "reflect"):
            raise CommandError(
                f"--rotate fills what lies outside with --fill; leave --pad {self.pad} out, or take --pad constant"
            )
        if any(axis.step not in (None, 1) for axis in self.slices[:2]):
            raise CommandError("--rotate turns a region without steps; leave them out, and shrink it by --scale")

    @property
    def factors(self) -> Any:
        """``scale`` as the library takes it."""
        return self.scale[0] if self.scale is not None and len(self.scale) == 1 else self.scale

    def resolve(self, frame: LazyFrame) -> tuple[range, ...]:
        """The rows, columns and bands of the region."""
        from ..geometry.regions import resolve_region, resolve_unclipped

        if self.pad is not None:
            return resolve_unclipped(self.slices, frame.shape)
        return resolve_region(self.slices, frame.shape).ranges

    def sample(self, rows: range, cols: range) -> tuple[Sampling, Sampling] | None:
        """Where the result's pixels lie before they are turned; ``None`` where they are the region's own."""
        from ..geometry.grid import resolve_scale

        if self.scale is None and self.shape is None and self.degrees is None:
            return None
        factors = 1.0 if self.scale is None and self.shape is None else self.factors
        return resolve_scale(rows, cols, factors, self.shape)

    def load(self, frames: Frames, frame: LazyFrame, axes: tuple[range, ...]) -> Array:
        """Read it."""
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
            _turn(self.degrees, around, samplings),
            (samplings[0].count, samplings[1].count),
            [frame.channels[band] for band in axes[2]],
            fill=self.fill,
            interpolation=self.interpolation,
        )


@click.command(short_help="Cut a region out of an image.")
@click.argument("path")
@click.option(
    "--region",
    default=":,:",
    metavar="Y0:Y1,X0:X1",
    help="Rows and columns, as slices are written in Python: '-128:' is the last 128, ':' everything, '::4' each fourth.  "
    "[default: everything]",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Where to write; the ending chooses the format: .png, .tif or .npy. A file that is there is replaced.",
)
@click.option(
    "--pad",
    type=click.Choice(("constant", "edge", "reflect")),
    help="Fill what lies outside of the image with --fill, the nearest pixel or the mirror image. Numbers are then "
    "coordinates: '-128:128' begins 128 pixels before the image.",
)
@click.option(
    "--channels",
    metavar="CODES",
    help="Which channels, in which order, such as 'b|g|r' or 'gray'.  [default: all, or what the dataset says]",
)
@image_id_option
@frame_option("the only one, where there is one")
@click.option(
    "--space",
    type=click.Choice(("image", "video", "asset")),
    help="The grid on which an image of a COCO dataset is read: its own, that of its video, or that of its files, whose "
    "channels must then be of one size.  [default: image]",
)
@click.option(
    "--scale",
    callback=_parse_numbers,
    metavar="F or FY,FX",
    help="Resample the region: the result's size over the region's. 0.5 is half the height and half the width.",
)
@click.option(
    "--shape", callback=_parse_shape, metavar="HxW", help="Resample the region to exactly this height and width."
)
@click.option(
    "--rotate",
    type=float,
    metavar="DEGREES",
    help="Turn the image before the region is cut out of it; positive is counter-clockwise, as seen on a screen. The "
    "result is as large as the region, times --scale.",
)
@click.option(
    "--around",
    callback=_parse_numbers,
    metavar="Y,X",
    help="The point of the image that --rotate leaves where it is; 0,0 is the image's upper left corner.  [default: the "
    "centre of the region]",
)
@click.option(
    "--interpolation",
    type=click.Choice(("nearest", "linear", "cubic", "lanczos")),
    default="linear",
    show_default=True,
    help="How values between pixels are found; 'nearest' makes up no new ones, for masks.",
)
@click.option(
    "--fill",
    type=float,
    default=0.0,
    metavar="VALUE",
    help="The value of what lies outside: of the image, for --rotate and --pad constant, or of a channel's file.  "
    "[default: 0]",
)
@workdir_option
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
    space: Space | None,
    scale: tuple[float, ...] | None,
    shape: tuple[int, int] | None,
    rotate: float | None,
    around: tuple[float, ...] | None,
    interpolation: Interpolation,
    fill: float,
    workdir: str | None,
    backend: str | None,
) -> None:
    """Cut a region out of an image, into a file of its own.

    PATH is an image of any kind that is read; or a video, a folder of images, a glob or a pattern, of which --frame says
    which one; or a COCO or kwcoco dataset, a .json or .zip file. Pixels stay exactly what they are, unless --scale, --shape or
    --rotate ask for new ones, or a channel of a dataset lies on a grid of its own.

    The file at -o appears whole or not at all. PNG holds 1 to 4 channels of uint8 or uint16; TIFF and npy hold everything.

    \b
    In use:
      ndframes crop scan.tif --region 0:256,512:768 -o corner.png
      ndframes crop scan.tif --region -128:,: -o bottom.npy
      ndframes crop scan.tif --region -64:192,-64:192 --pad reflect -o padded.tif
      ndframes crop scan.tif --scale 0.1 --channels g -o small.png
      ndframes crop scan.tif --region 0:512,0:512 --rotate 30 -o turned.png
      ndframes crop walk.mp4 --frame 500 --region 0:256,0:256 -o still.png
      ndframes crop data.kwcoco.json --image-id 7 --channels 'nir|red' --shape 256x256 -o chip.tif
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    from ..formats.export import check_destination, check_export, export
    from ..geometry.regions import parse_region

    view = _View(parse_region(region), pad, fill, scale, shape, rotate, around, interpolation)
    check_destination(output)
    source = open_source(path, image_id, space=space, frame=frame, workdir=workdir)
    started = time.perf_counter()
    frames, way = source.choose_frames(channels, workdir, backend)
    source.check_is_other_file(output, frames)
    image = frames.load_frame(source.image_id, channels)
    axes = view.resolve(image)
    samplings = view.sample(axes[0], axes[1])
    height, width = (len(axes[0]), len(axes[1])) if samplings is None else (axis.count for axis in samplings)
    check_export(output, image.dtype, (height, width, len(axes[2])))
    pixels = view.load(frames, image, axes)
    read_seconds = time.perf_counter() - started
    export(output, pixels)
    extents = " x ".join(str(extent) for extent in pixels.shape)
    told = f"{pixels.dtype} of {source.moment}" if source.moment else f"{pixels.dtype}"
    click.echo(f"{show_path(output)}: {extents} {told}, read {way} in {1000 * read_seconds:.1f} ms")


def _turn(degrees: float, around: Sequence[float], samplings: tuple[Sampling, Sampling]) -> list[list[float]]:
    """The map from the image's points (x, y) to the result's: turned about ``around``, then cut and scaled.

    With y pointing down, counter-clockwise brings (x, y) to (x cos + y sin, y cos - x sin).
    """
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    if degrees % 90 == 0:  # exactly, so that pixels stay pixels
        cos, sin = float(round(cos)), float(round(sin))
    y, x = around
    rows, cols = samplings
    return [
        [cos / cols.step, sin / cols.step, (x - cos * x - sin * y - cols.start) / cols.step],
        [-sin / rows.step, cos / rows.step, (y + sin * x - cos * y - rows.start) / rows.step],
        [0.0, 0.0, 1.0],
    ]
