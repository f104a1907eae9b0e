"""``ndframes prepare``."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from .common import CommandError, backend_option, describe_error, echo_json, json_option, show_path, workdir_option

__all__ = ["prepare"]

_CACHE_TAG = "CACHEDIR.TAG"


@dataclass
class _Found:
    """The images that the arguments name, and what was passed over."""

    paths: dict[str, None] = field(default_factory=dict)
    skipped: int = 0


@click.command(short_help="Convert images into the cache.")
@click.argument("paths", nargs=-1, required=True, metavar="PATHS...")
@workdir_option
@backend_option(
    ("auto", "cog", "npy"),
    default=None,
    text="The form of the entries: tiled TIFF (cog), raw array (npy), or what is best without loss (auto).  [default: "
    "auto; cog where --compress, --blocksize or --quality is given]",
)
@click.option(
    "--compress",
    type=click.Choice(("AUTO", "NONE", "ZSTD", "DEFLATE", "LZW", "LERC", "JPEG", "WEBP"), case_sensitive=False),
    help="The codec of the tiles. JPEG, and WEBP below quality 100, lose detail.  [default: auto, lossless]",
)
@click.option("--blocksize", type=int, help="A tile's edge in pixels, a multiple of 16.  [default: 256]")
@click.option("--quality", type=int, help="1 to 100, for JPEG and WEBP.  [default: 90]")
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Worker processes, for many images; 0 takes one image at a time, with a thread for each core.",
)
@json_option
@click.pass_context
def prepare(
    ctx: click.Context,
    *,
    paths: tuple[str, ...],
    workdir: str | None,
    backend: str | None,
    compress: str | None,
    blocksize: int | None,
    quality: int | None,
    workers: int,
    as_json: bool,
) -> None:
    """Convert images into the cache, so that every later crop of them is quick.

    PATHS are files, folders or patterns. A folder is searched with all its subfolders for files whose names end like
    an image's; the others are counted and passed over, and so are folders that hold a cache. A file that is named, or
    matched by a pattern, is taken whatever its name: what it is, its first bytes say.

    What is in the cache already is left alone, so a run that was interrupted goes on where it stopped. One bad image
    does not stop the others.

    \b
    In use:
      ndframes prepare scan.tif
      ndframes prepare scans/ more/ --workers 8
      ndframes prepare 'scans/**/*.tif' --compress JPEG --quality 85
      ndframes prepare scans/ --json > report.json

    Exit status: 0 all are prepared, 1 some failed (they are listed on stderr), 2 a bad request, 130 interrupted.
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    from ..frames import SimpleFrames

    options = {"compress": compress, "blocksize": blocksize, "quality": quality}
    config = {name: value for name, value in options.items() if value is not None}
    form = {"type": backend or ("cog" if config else "auto"), "config": config}
    found = _find_images(paths)
    if not found.paths:
        raise CommandError(
            f"{', '.join(map(show_path, paths))} holds no image ({found.skipped:,} other files); "
            "images are told by their ending in a folder, name others one by one"
        )
    frames = SimpleFrames({path: path for path in found.paths}, workdir=workdir, backend=form)
    try:
        report = frames.prepare(workers=workers, errors="collect")
    except KeyboardInterrupt:
        click.echo("\nndframes: interrupted; what was finished is kept, run the same command again to go on", err=True)
        ctx.exit(130)
    if as_json:
        echo_json({**report.to_dict(), "skipped": found.skipped, "workdir": str(frames.cache.workdir)})
    else:
        _print_report(report, found, str(frames.cache.root))
    if report.failed:
        ctx.exit(1)


def _print_report(report: Any, found: _Found, root: str) -> None:
    click.echo(str(report).split("\n", 1)[0])
    if found.skipped:
        click.echo(f"{found.skipped:,} {'file' if found.skipped == 1 else 'files'} skipped: not named like an image")
    click.echo(f"cache: {show_path(root)}")
    for item in report.failed:
        click.echo(f"failed: {describe_error(item.error)}", err=True)


def _find_images(arguments: Sequence[str]) -> _Found:
    found = _Found()
    for argument in arguments:
        for path in _expand(argument):
            if os.path.isdir(path):
                _search(path, found)
            else:
                found.paths[path] = None
    return found


def _expand(argument: str) -> list[str]:
    """The argument itself, or what it matches; a pattern without a match stays, and fails as a missing file."""
    if os.path.lexists(argument):
        return [argument]
    return sorted(glob.glob(argument, recursive=True)) or [argument]


def _search(folder: str, found: _Found) -> None:
    from ..clip import IMAGE_ENDINGS

    for name in _walk(folder):
        if os.path.splitext(name)[1].lower() in IMAGE_ENDINGS:
            found.paths[name] = None
        else:
            found.skipped += 1


def _walk(folder: str) -> Iterator[str]:
    """Every file under ``folder``, in order; caches inside it left out, links to folders not followed."""
    for parent, folders, names in os.walk(folder, onerror=_raise_unreadable):
        folders[:] = sorted(name for name in folders if not os.path.exists(os.path.join(parent, name, _CACHE_TAG)))
        yield from (os.path.join(parent, name) for name in sorted(names))


def _raise_unreadable(error: OSError) -> None:
    raise CommandError(f"{show_path(error.filename)} cannot be searched: {error.strerror}") from error
