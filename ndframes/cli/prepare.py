"""``ndframes prepare``."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from ..errors import NdframesError
from .common import (
    CommandError,
    backend_option,
    describe_error,
    echo_json,
    json_option,
    show_path,
    workdir_option,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ..frames.frames import Frames
    from ..frames.prepare import PrepareReport
    from ..spec.backends import BackendPicker

__all__ = ["prepare"]
_CACHE_TAG = "CACHEDIR.TAG"


@dataclass
class _Found:
    """The images and videos that the arguments name, and the number of other files."""

    paths: dict[str, None] = field(default_factory=dict)
    skipped: int = 0


@click.command(short_help="Convert images and videos into the cache.")
@click.argument("paths", nargs=-1, required=True, metavar="PATHS...")
@workdir_option
@backend_option(
    ("auto", "cog", "npy", "intra"),
    default=None,
    text="The form of the entries: tiled TIFF (cog), raw array (npy), or the best lossless form (auto), which does not convert "
    "videos. 'intra' converts videos to key frames only, and images as 'auto' does.  [default: auto; cog for images with "
    "--compress, --blocksize or --quality, and for videos with --blockframes]",
)
@click.option(
    "--compress",
    type=click.Choice(("AUTO", "NONE", "ZSTD", "DEFLATE", "LZW", "LERC", "JPEG", "WEBP"), case_sensitive=False),
    help="The codec of the tiles. JPEG is lossy, and so is WEBP below quality 100.  [default: auto, lossless]",
)
@click.option(
    "--blocksize",
    type=int,
    help="Height and width of a tile in pixels, a multiple of 16.  [default: 128, or 64 for videos]",
)
@click.option("--blockframes", type=int, help="The number of video frames in a tile, for cog.  [default: 8]")
@click.option(
    "--quality",
    type=int,
    help="For JPEG and WEBP, 1 to 100  [default: 90]. For intra, the constant rate factor of H.264, 1 to 51, smaller is better  "
    "[default: lossless].",
)
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="The number of worker processes; 0 converts one image at a time, with a thread for each core.",
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
    blockframes: int | None,
    quality: int | None,
    workers: int,
    as_json: bool,
) -> None:
    """Convert images and videos into the cache, so that later crops are fast.

    PATHS are files, folders or patterns. Folders are searched recursively for files with an image or video extension; other
    files, and folders that contain a cache, are skipped. Named files and matches of patterns are never skipped: the format of
    an image is detected from its first bytes, and a video is recognized by its extension.

    Existing entries are kept, so an interrupted run can be continued. One bad image does not stop the others.

    Videos are only indexed, unless --backend or --blockframes selects a form. 'ndframes info VIDEO' compares the costs of the
    forms.

    \b
    For example:
      ndframes prepare scan.tif
      ndframes prepare scans/ more/ --workers 8
      ndframes prepare 'scans/**/*.tif' --compress JPEG --quality 85
      ndframes prepare walk.mp4 --backend intra
      ndframes prepare walks/ --backend cog --blocksize 128 --blockframes 16
      ndframes prepare scans/ --json > report.json

    Exit status: 0 success, 1 some images failed (listed on stderr), 2 invalid arguments, 130 interrupted.
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    from ..frames.simple import SimpleFrames

    options = {"compress": compress, "blocksize": blocksize, "blockframes": blockframes, "quality": quality}
    pick = _pick_backend(backend, {name: value for name, value in options.items() if value is not None})
    found = _find_files(paths)
    frames = SimpleFrames({path: path for path in found.paths}, workdir=workdir, backend=pick)
    try:
        report = frames.prepare(workers=workers, errors="collect")
    # Not left to the program's own handler, which cannot say that finished entries are kept.
    except KeyboardInterrupt:
        click.echo(
            "\nndframes: interrupted; finished entries are kept, run the same command again to continue", err=True
        )
        ctx.exit(130)
    indexed = _count_indexed(frames, found, report)
    if as_json:
        counts = {"skipped": found.skipped, "videos_left": indexed}
        echo_json({**report.to_dict(), **counts, "workdir": str(frames.cache.workdir)})
    else:
        _print_report(report, found.skipped, indexed, str(frames.cache.root))
    if report.failed:
        ctx.exit(1)


def _print_report(report: PrepareReport, skipped: int, indexed: int, root: str) -> None:
    from ..text import count_noun

    # The other lines of the report list failures, which go to stderr.
    click.echo(str(report).split("\n", 1)[0])
    if skipped:
        click.echo(f"{count_noun(skipped, 'file')} skipped: no image or video extension")
    if indexed:
        click.echo(
            f"{count_noun(indexed, 'video')} indexed, not converted; use --backend intra, cog or npy to convert videos, and "
            "'ndframes info VIDEO' to compare the costs"
        )
    click.echo(f"cache: {show_path(root)}")
    for item in report.failed:
        where = "" if isinstance(item.error, NdframesError) else f"{show_path(item.path or item.image_id)}: "
        click.echo(f"failed: {where}{describe_error(item.error)}", err=True)


def _pick_backend(backend: str | None, config: Mapping[str, Any]) -> BackendPicker:
    """The backend of images, and that of videos, which are not converted unless an option is meant for them."""
    from ..spec.backends import coerce_backend
    from ..spec.kinds import is_video_path

    image_config = {name: value for name, value in config.items() if name != "blockframes"}
    image_form = {"type": backend or ("cog" if image_config else "auto"), "config": image_config}
    converts_videos = backend is not None or "blockframes" in config
    video_form = {"type": backend or "cog", "config": config} if converts_videos else "auto"
    for form in (image_form, video_form):
        coerce_backend(form)  # raises an error for a bad option, before any file is searched
    return lambda _, info: video_form if is_video_path(info.path) else image_form


def _count_indexed(frames: Frames, found: _Found, report: PrepareReport) -> int:
    """The number of videos that were indexed, but not converted."""
    from ..frames.clip import Clip
    from ..spec.pathinfo import ChannelInfo

    failed = {item.image_id for item in report.failed}
    videos = [path for path in found.paths if Clip(path).is_video and path not in failed]
    return sum(1 for path in videos if frames.pick_backend(path, ChannelInfo(path)) is None)


def _find_files(arguments: Sequence[str]) -> _Found:
    """Find all images and videos.

    Raises:
        CommandError: there are none, or a folder cannot be read.
    """
    found = _Found()
    for argument in arguments:
        for path in _expand(argument):
            if os.path.isdir(path):
                _search(path, found)
            else:
                found.paths[path] = None
    if not found.paths:
        raise CommandError(
            f"{', '.join(map(show_path, arguments))} contains no image or video ({found.skipped:,} other files); folders are "
            "searched for image and video extensions, give other files by name"
        )
    return found


def _expand(argument: str) -> list[str]:
    """The path, or the matches of a pattern. A pattern without matches is returned, and fails later as a missing file."""
    # First, since a file name may contain the characters of a pattern.
    if os.path.lexists(argument):
        return [argument]
    return sorted(glob.glob(argument, recursive=True)) or [argument]


def _search(folder: str, found: _Found) -> None:
    from ..spec.kinds import IMAGE_SUFFIXES, is_video_path

    for name in _walk(folder):
        if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES or is_video_path(name):
            found.paths[name] = None
        else:
            found.skipped += 1


def _walk(folder: str) -> Iterator[str]:
    """Every file under ``folder``, sorted; caches are skipped, and links to folders are not followed."""
    for parent, folders, names in os.walk(folder, onerror=_raise_unreadable):
        # In place, so that os.walk does not descend into caches.
        folders[:] = sorted(name for name in folders if not os.path.exists(os.path.join(parent, name, _CACHE_TAG)))
        yield from (os.path.join(parent, name) for name in sorted(names))


def _raise_unreadable(error: OSError) -> None:
    raise CommandError(f"{show_path(error.filename)} cannot be read: {error.strerror}") from error
