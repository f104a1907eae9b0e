"""``ndframes crop``."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import click

from .common import CommandError, backend_of, backend_option, show_path, workdir_option

if TYPE_CHECKING:
    from ..frames import SimpleFrames
    from ..regions import PadMode

__all__ = ["crop"]


@click.command(short_help="Cut a region out of an image.")
@click.argument("path")
@click.option(
    "--region",
    required=True,
    metavar="Y0:Y1,X0:X1",
    help="Rows and columns, as slices are written in Python: '-128:' is the last 128, ':' everything, '::4' each fourth.",
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
    help="Fill what lies outside of the image with zeros, the nearest pixel or the mirror image. Numbers are then "
    "coordinates: '-128:128' begins 128 pixels before the image.",
)
@click.option(
    "--channels", metavar="CODES", help="Which channels, in which order, such as 'b|g|r' or 'gray'.  [default: all]"
)
@workdir_option
@backend_option(
    ("auto", "cog", "npy", "none"),
    default=None,
    text="Read through a cache entry of this form, made first if it is missing; 'none' reads the source.  [default: "
    "the 'auto' entry if it is there, else the source, and nothing is converted]",
)
def crop(
    *,
    path: str,
    region: str,
    output: str,
    pad: PadMode | None,
    channels: str | None,
    workdir: str | None,
    backend: str | None,
) -> None:
    """Cut a region out of an image, into a file of its own; the pixels stay exactly what they are.

    PATH is an image of any kind that is read. The file at -o appears whole or not at all. PNG holds 1 to 4 channels
    of uint8 or uint16; TIFF and npy hold everything.

    \b
    In use:
      ndframes crop scan.tif --region 0:256,512:768 -o corner.png
      ndframes crop scan.tif --region -128:,: -o bottom.npy
      ndframes crop scan.tif --region -64:192,-64:192 --pad reflect -o padded.tif
      ndframes crop scan.tif --region ::16,::16 --channels g -o small.png
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    from ..formats.export import check_destination, check_export, export
    from ..regions import parse_region, resolve_outside, resolve_region

    slices = parse_region(region)
    check_destination(output)
    _check_is_other_file(path, output)
    started = time.perf_counter()
    frames, way = _choose_frames(path, workdir, backend)
    frame = frames.load_frame(path, channels)
    axes = resolve_region(slices, frame.shape).ranges if pad is None else resolve_outside(slices, frame.shape)
    check_export(output, frame.dtype, tuple(len(axis) for axis in axes))
    pixels = frames.load_region(path, slices, channels, pad=pad)
    read_seconds = time.perf_counter() - started
    export(output, pixels)
    shape = " x ".join(str(extent) for extent in pixels.shape)
    click.echo(f"{show_path(output)}: {shape} {pixels.dtype}, read {way} in {1000 * read_seconds:.1f} ms")


def _choose_frames(path: str, workdir: str | None, backend: str | None) -> tuple[SimpleFrames, str]:
    """The frames to read by, and how that is in words."""
    from ..frames import SimpleFrames

    frames = SimpleFrames({path: path}, workdir=workdir, backend=backend_of(backend or "auto"))
    file = frames.explain(path, (slice(0), slice(0))).files[0]
    if file.is_cached:
        return frames, "from the cache"
    if backend not in (None, "none"):
        return frames, "through a new cache entry"
    return SimpleFrames({path: path}, backend=None), "from the source"


def _check_is_other_file(path: str, output: str) -> None:
    if os.path.exists(path) and os.path.exists(output) and os.path.samefile(path, output):
        raise CommandError(f"{show_path(output)} is the source itself; write to another file")
