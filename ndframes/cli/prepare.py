"""``ndframes prepare``."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

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

    from ..frames.prepare import PrepareReport
    from ..spec.backends import BackendPicker

__all__ = ["prepare"]
_CACHE_TAG = "CACHEDIR.TAG"


@dataclass
class _Found:
    """The images and videos that the arguments name, and what was passed over."""

    paths: dict[str, None] = field(default_factory=dict)
    skipped: int = 0


@click.command(short_help="Convert images and videos into the cache.")
@click.argument("paths", nargs=-1, required=True, metavar="PATHS...")
@workdir_option
@backend_option(
    ("auto", "cog", "npy", "intra"),
    default=None,
    text="The form of the entries: tiled TIFF (cog), raw array (npy), or what is best without loss (auto), which leaves videos "
    "as they are. 'intra' makes videos of key frames, and of images what auto does.  [default: auto; for images cog where "
    "--compress, --blocksize or --quality is given, for videos cog where --blockframes is]",
)
@click.option(
    "--compress",
    type=click.Choice(("AUTO", "NONE", "ZSTD", "DEFLATE", "LZW", "LERC", "JPEG", "WEBP"), case_sensitive=False),
    help="The codec of the tiles. JPEG, and WEBP below quality 100, lose detail.  [default: auto, lossless]",
)
@click.option(
    "--blocksize",
    type=int,
    help="A tile's edge in pixels, a multiple of 16.  [default: 128, 64 for videos, or what fits]",
)
@click.option("--blockframes", type=int, help="How many frames of a video a tile spans, for cog.  [default: 8]")
@click.option(
    "--quality",
    type=int,
    help="1 to 100, for JPEG and WEBP  [default: 90]. For intra H.264's constant rate factor, 1 to 51, the smaller the better  "
    "[default: lossless].",
)
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
    blockframes: int | None,
    quality: int | None,
    workers: int,
    as_json: bool,
) -> None:
    """Convert images and videos into the cache, so that every later crop of them is quick.

    PATHS are files, folders or patterns. A folder is searched with all its subfolders for files whose names end like
    an image's or a video's; the others are counted and passed over, and so are folders that hold a cache. A file that is
    named, or matched by a pattern, is taken whatever its name: what it is, its first bytes say, but for videos, which are
    told by their ending.

    What is in the cache already is left alone, so a run that was interrupted goes on where it stopped. One bad image
    does not stop the others.

    Videos are left as they are, unless --backend or --blockframes says what becomes of them; 'ndframes info VIDEO' says what
    each form of one would cost.

    \b
    In use:
      ndframes prepare scan.tif
      ndframes prepare scans/ more/ --workers 8
      ndframes prepare 'scans/**/*.tif' --compress JPEG --quality 85
      ndframes prepare walk.mp4 --backend intra
      ndframes prepare walks/ --backend cog --blocksize 128 --blockframes 16
      ndframes prepare scans/ --json > report.json

    Exit status: 0 all are prepared, 1 some failed (they are listed on stderr), 2 a bad request, 130 interrupted.
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    from ..frames.simple import SimpleFrames
    from ..spec.pathinfo import ChannelInfo

    options = {"compress": compress, "blocksize": blocksize, "blockframes": blockframes, "quality": quality}
    pick = _pick_backend(backend, {name: value for name, value in options.items() if value is not None})
    found = _find_files(paths)
    if not found.paths:
        raise CommandError(
            f"{', '.join(map(show_path, paths))} holds no image or video ({found.skipped:,} other files); "
            "they are told by their ending in a folder, name others one by one"
        )
    frames = SimpleFrames({path: path for path in found.paths}, workdir=workdir, backend=pick)
    try:
        report = frames.prepare(workers=workers, errors="collect")
    except KeyboardInterrupt:
        click.echo("\nndframes: interrupted; what was finished is kept, run the same command again to go on", err=True)
        ctx.exit(130)
    found_videos = set(_list_videos(found)) - {item.image_id for item in report.failed}
    left = sum(1 for path in found_videos if frames.pick_backend(path, ChannelInfo(path)) is None)
    if as_json:
        counts = {"skipped": found.skipped, "videos_left": left}
        echo_json({**report.to_dict(), **counts, "workdir": str(frames.cache.workdir)})
    else:
        _print_report(report, found.skipped, left, str(frames.cache.root))
    if report.failed:
        ctx.exit(1)


def _print_report(report: PrepareReport, skipped: int, left: int, root: str) -> None:
    from ..text import count_noun

    click.echo(str(report).split("\n", 1)[0])
    if skipped:
        click.echo(f"{count_noun(skipped, 'file')} skipped: not named like an image or a video")
    if left:
        click.echo(
            f"{count_noun(left, 'video')} left as {'it is' if left == 1 else 'they are'}, with an index of the frames; --backend intra, cog or npy makes "
            "entries of videos, 'ndframes info VIDEO' says what each would cost"
        )
    click.echo(f"cache: {show_path(root)}")
    for item in report.failed:
        click.echo(f"failed: {describe_error(item.error)}", err=True)


def _pick_backend(backend: str | None, config: Mapping[str, Any]) -> BackendPicker:
    """The form of images, and that of videos, which are left as they are unless one is meant for them."""
    from ..spec.backends import coerce_backend
    from ..spec.kinds import is_video_path

    image_config = {name: value for name, value in config.items() if name != "blockframes"}
    image_form = {"type": backend or ("cog" if image_config else "auto"), "config": image_config}
    is_meant = backend is not None or "blockframes" in config
    video_form = {"type": backend or "cog", "config": config} if is_meant else "auto"
    for form in (image_form, video_form):
        coerce_backend(form)  # raises where it is none
    return lambda _, info: video_form if is_video_path(info.path) else image_form


def _list_videos(found: _Found) -> list[str]:
    from ..frames.clip import Clip

    return [path for path in found.paths if Clip(path).is_video]


def _find_files(arguments: Sequence[str]) -> _Found:
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
    from ..spec.kinds import IMAGE_SUFFIXES, is_video_path

    for name in _walk(folder):
        if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES or is_video_path(name):
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
