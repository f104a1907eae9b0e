"""``ndframes demo``."""

from __future__ import annotations

import os
import time

import click

from .common import UserPath, show_path

__all__ = ["demo"]


@click.command(short_help="Demonstrate fast and exact crops of a large image.")
@click.option(
    "--size", type=click.IntRange(256, 32768), default=8192, show_default=True, help="Height and width of the mosaic."
)
@click.option(
    "--workdir",
    type=UserPath(file_okay=False),
    envvar="NDFRAMES_WORKDIR",
    metavar="DIR",
    help="The folder that holds the cache.  [default: $NDFRAMES_WORKDIR, else a folder in --out]",
)
@click.option(
    "--out",
    type=UserPath(file_okay=False),
    default="demo-out",
    show_default=True,
    metavar="DIR",
    help="The folder for the mosaic and the contact sheet.",
)
@click.pass_context
def demo(ctx: click.Context, *, size: int, workdir: str | None, out: str) -> None:
    """Read random crops of a large image, and verify that they are exact.

    Builds a mosaic of real photographs (from scikit-image, without a download) as a deflated TIFF of strips, as scanners
    write it. Converts it, reads 300 random crops of 256 x 256 pixels from the cache, and reads 12 of them from the source
    as well. Compares every crop with the decoded source, byte for byte, and prints the time of each method. A contact
    sheet shows the crops and their positions.

    Needs half a minute and 350 MB of disk space. Further runs reuse the mosaic and its cache entry. Delete the folder
    when you are done.

    \b
    For example:
      ndframes demo
      ndframes demo --size 2048 --out /tmp/demo

    Exit status: 0 if all crops equal the source, 1 if not.
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    from .mosaic import run_demo

    started = time.perf_counter()
    report = run_demo(size=size, out=out, workdir=workdir, log=lambda line: click.echo(show_path(line)))
    click.echo(f"\n{report}\n")
    click.echo(f"contact sheet: {show_path(os.path.abspath(report.sheet_path))}")
    click.echo(f"finished in {time.perf_counter() - started:.1f} s")
    if not report.is_exact:
        click.echo(
            f"ndframes: error: {report.differing} of {report.crops} crops differ from the decoded source; "
            "please report this with the output of 'ndframes doctor'",
            err=True,
        )
        ctx.exit(1)
