"""``ndframes prepare``."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from ..errors import NdframesError
from ..system.objects.addresses import is_url
from .common import (
    CommandError,
    UserPath,
    backend_option,
    describe_error,
    echo_json,
    json_option,
    show_path,
    workdir_option,
)
from .sources import is_dataset, orientation_option, page_option, read_dataset, sources_option

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

    from ..frames.frames import Frames
    from ..frames.options import FramesOptions
    from ..frames.prepare import PrepareFailure, PrepareReport
    from ..spec.backends import BackendPicker
    from ..spec.pathinfo import Orientation

__all__ = ["prepare"]
_CACHE_TAG = "CACHEDIR.TAG"


@dataclass
class _Found:
    """The images, videos and datasets that the arguments name, and the number of other files."""

    paths: dict[str, None] = field(default_factory=dict)
    datasets: dict[str, None] = field(default_factory=dict)
    skipped: int = 0


@click.command(short_help="Convert images and videos into the cache.")
@click.argument("paths", nargs=-1, required=True, metavar="PATHS...", type=UserPath())
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
@click.option(
    "--dry-run",
    is_flag=True,
    help="Convert nothing: count the files, and estimate the size of their entries and the duration from a few samples.",
)
@page_option
@orientation_option
@sources_option
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
    dry_run: bool,
    page: int | None,
    orientation: Orientation,
    sources: tuple[str, ...],
    as_json: bool,
) -> None:
    """Convert images and videos into the cache, so that later crops are fast.

    PATHS are files, folders or patterns. Folders are searched recursively for files with an image or video extension; other
    files, and folders that contain a cache, are skipped. Named files and matches of patterns are never skipped: the format of
    an image is detected from its first bytes, and a video is recognized by its extension. Of a COCO or kwcoco dataset (.json or
    .zip), all images are converted. PATHS may be addresses of files, such as s3://bucket/a.tif, which --sources must allow.

    Existing entries are kept, so an interrupted run can be continued. One bad image does not stop the others.

    Videos are only indexed, unless --backend or --blockframes selects a form. 'ndframes info VIDEO' compares the costs of the
    forms.

    \b
    For example:
      ndframes prepare scan.tif
      ndframes prepare scans/ --dry-run
      ndframes prepare scans/ more/ --workers 8
      ndframes prepare 'scans/**/*.tif' --compress JPEG --quality 85
      ndframes prepare walk.mp4 --backend intra
      ndframes prepare walks/ --backend cog --blocksize 128 --blockframes 16
      ndframes prepare data.kwcoco.json --workers 4
      ndframes prepare stack.tif --page 2
      ndframes prepare s3://imagery/scan.tif --sources s3://imagery/
      ndframes prepare scans/ --json > report.json

    Exit status: 0 success, 1 some images failed (listed on stderr), 2 invalid arguments, 130 interrupted.
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    config = {"compress": compress, "blocksize": blocksize, "blockframes": blockframes, "quality": quality}
    pick = _pick_backend(backend, {name: value for name, value in config.items() if value is not None})
    found = _find_files(paths)
    options: FramesOptions = {"workdir": workdir, "backend": pick, "orientation": orientation, "sources": sources}
    opened = list(_open_sources(found, page, options))
    if dry_run:
        if _print_estimate(opened, found.skipped, workers, as_json=as_json):
            ctx.exit(1)
        return
    try:
        reports = [frames.prepare(ids, workers=workers, errors="collect") for frames, ids in opened]
    # Not left to the program's own handler, which cannot say that finished entries are kept.
    except KeyboardInterrupt:
        click.echo(
            "\nndframes: interrupted; finished entries are kept, run the same command again to continue", err=True
        )
        ctx.exit(130)
    report = _sum_reports(reports)
    indexed = sum(_count_indexed(*source, each) for source, each in zip(opened, reports, strict=True))
    cache = opened[0][0].cache
    if as_json:
        counts = {"skipped": found.skipped, "videos_left": indexed}
        echo_json({**report.to_dict(), **counts, "workdir": str(cache.workdir)})
    else:
        _print_report(report, found.skipped, indexed, str(cache.root))
    if report.failed:
        ctx.exit(1)


def _print_estimate(
    sources: Sequence[tuple[Frames, list[Hashable]]], skipped: int, workers: int, *, as_json: bool
) -> bool:
    """Print what a run would do; return whether some images would fail."""
    from ..frames.estimate import sum_estimates

    total = sum_estimates([frames.estimate(ids, workers=workers) for frames, ids in sources])
    if as_json:
        echo_json({**total.to_dict(), "skipped": skipped, "workdir": str(sources[0][0].cache.workdir)})
    else:
        # The other lines list failures, which go to stderr.
        click.echo(str(total).split("\n", 1)[0])
        _print_skipped(skipped)
        _print_failures(total.failures)
    return bool(total.failures)


def _print_report(report: PrepareReport, skipped: int, indexed: int, root: str) -> None:
    from ..text import count_noun

    # As above.
    click.echo(str(report).split("\n", 1)[0])
    _print_skipped(skipped)
    if indexed:
        click.echo(
            f"{count_noun(indexed, 'video')} indexed, not converted; use --backend intra, cog or npy to convert videos, and "
            "'ndframes info VIDEO' to compare the costs"
        )
    click.echo(f"cache: {show_path(root)}")
    _print_failures(report.failed)


def _print_skipped(skipped: int) -> None:
    from ..text import count_noun

    if skipped:
        click.echo(f"{count_noun(skipped, 'file')} skipped: no image or video extension")


def _print_failures(failures: Sequence[PrepareFailure]) -> None:
    for item in failures:
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


def _open_sources(found: _Found, page: int | None, options: FramesOptions) -> Iterator[tuple[Frames, list[Hashable]]]:
    """The frames of all files, and those of each dataset, with the ids to convert.

    Raises:
        CommandError: the file of a dataset cannot be read, or is not a dataset, or has no pages.
    """
    from ..frames.coco import CocoFrames
    from ..frames.simple import SimpleFrames
    from ..spec.pathinfo import ChannelInfo

    if found.paths:
        sources: Mapping[str, Any] = {
            path: path if page is None else ChannelInfo(path, page=page) for path in found.paths
        }
        yield SimpleFrames(sources, **options), list(found.paths)
    for path in found.datasets:
        if page is not None:
            raise CommandError(f"{show_path(path)} is a COCO dataset; --page is for files that hold several images")
        dataset = read_dataset(path)
        folder = os.path.dirname(os.path.abspath(path))
        # Videos whose frames are images of the dataset are converted with these; others are files of their own.
        used = {image["video_id"] for image in dataset["images"] if isinstance(image.get("video_id"), (int, str))}
        videos = [video for video in dataset.get("videos") or [] if video.get("file_name") is not None]
        others: list[Hashable] = [("video", video["id"]) for video in videos if video["id"] not in used]
        frames = CocoFrames(dataset, bundle_dpath=folder, **options)
        yield frames, [*frames.image_ids, *others]


def _sum_reports(reports: Sequence[PrepareReport]) -> PrepareReport:
    from ..frames.prepare import PrepareReport

    return PrepareReport(
        prepared=sum(report.prepared for report in reports),
        present=sum(report.present for report in reports),
        failed=tuple(failure for report in reports for failure in report.failed),
        bytes_written=sum(report.bytes_written for report in reports),
        seconds=sum(report.seconds for report in reports),
        evicted=sum(report.evicted for report in reports),
    )


def _count_indexed(frames: Frames, image_ids: Sequence[Hashable], report: PrepareReport) -> int:
    """The number of videos that were indexed, but not converted."""
    from ..spec.kinds import is_video_path

    failed = {item.image_id for item in report.failed}
    channels = {
        info.path: (image_id, info)
        for image_id in image_ids
        if image_id not in failed
        for info in frames.pathinfo(image_id).channels
        if is_video_path(info.path)
    }
    return sum(1 for image_id, info in channels.values() if frames.pick_backend(image_id, info) is None)


def _find_files(arguments: Sequence[str]) -> _Found:
    """Find all images, videos and datasets.

    Raises:
        CommandError: there are none, or a folder cannot be read.
    """
    found = _Found()
    for argument in arguments:
        for path in _expand(argument):
            if os.path.isdir(path):
                _search(path, found)
            elif is_dataset(path):
                found.datasets[path] = None
            else:
                found.paths[path] = None
    if not found.paths and not found.datasets:
        raise CommandError(
            f"{', '.join(map(show_path, arguments))} contains no image or video ({found.skipped:,} other files); folders are "
            "searched for image and video extensions, give other files by name"
        )
    return found


def _expand(argument: str) -> list[str]:
    """The path, or the matches of a pattern. A pattern without matches is returned, and fails later as a missing file."""
    # First, since a file name may contain the characters of a pattern.
    if is_url(argument) or os.path.lexists(argument):
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
