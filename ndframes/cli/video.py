"""``ndframes video``: describe a video, encode images to a video, extract frames as images."""

from __future__ import annotations

import glob
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from ..system.terminal import is_terminal
from .common import (
    CommandError,
    UserPath,
    echo_json,
    echo_table,
    json_option,
    show_path,
    workdir_option,
)
from .rates import parse_rate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from fractions import Fraction

    from .._typing import Array
    from ..frames.lazyframe import LazyVideo
    from ..video.metadata import VideoMetadata

__all__ = ["info", "video"]


def _parse_frames(ctx: click.Context, param: click.Parameter, value: str | None) -> slice | list[int] | None:
    """Parse a slice in Python's notation, or numbers that are separated by commas."""
    if value is None:
        return None
    try:
        if ":" not in value:
            return [int(part) for part in value.split(",")]
        parts = [int(part) if part.strip() else None for part in value.split(":")]
        if len(parts) <= 3 and (len(parts) < 3 or parts[2] != 0):
            return slice(*parts)
    # The error below names both forms.
    except ValueError:
        pass
    raise click.BadParameter(f"{value!r}; write a slice such as 0:100:5, or numbers such as 3,7,9", ctx, param)


@click.group(short_help="Describe and encode videos, and extract frames.")
def video() -> None:
    """Describe a video, encode images to a video, or extract frames as images.

    \b
    For example:
      ndframes video info walk.mp4
      ndframes video encode frames/ -o walk.mp4 --fps 25
      ndframes video encode walk.mp4 -o quick.mp4 --intra
      ndframes video extract walk.mp4 -o frames/ --frames 0:100:5
    """  # noqa: D301 - a backspace keeps click from wrapping the examples


@video.command(short_help="Describe a video.")
@click.argument("path", type=UserPath())
@click.option(
    "--stream", type=int, metavar="NUMBER", help="Which video stream.  [default: the one that FFmpeg prefers]"
)
@workdir_option
@json_option
def info(*, path: str, stream: int | None, workdir: str | None, as_json: bool) -> None:
    """Describe a video: size, rate, duration, codec, key frames and streams.

    Frames are counted by a scan of the file, since the count in the container may be wrong. If the header promises another
    number, it is printed as well.

    \b
    For example:
      ndframes video info walk.mp4
      ndframes video info walk.mp4 --stream 2
      ndframes video info walk.mp4 --json | jq .frames
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    from ..movie.read import video_metadata

    found = video_metadata(path, workdir=workdir, stream=stream)
    if as_json:
        echo_json(found.to_dict())
    else:
        echo_table(_rows(found))


@video.command(short_help="Encode images, or another video, to a video.")
@click.argument("paths", nargs=-1, metavar="PATHS...", type=UserPath())
@click.option(
    "-o",
    "--output",
    required=True,
    type=UserPath(dir_okay=False),
    metavar="FILE",
    help="The output file; its extension selects the container: .mp4, .m4v, .mov, .mkv, .webm or .avi. An existing file is "
    "replaced.",
)
@click.option(
    "--fps",
    callback=parse_rate,
    metavar="RATE",
    help="Frames per second, such as 25 or 30000/1001.  [default: that of the input video]",
)
@click.option(
    "--from-file",
    type=click.File(),
    metavar="LIST",
    help="Read the paths of images from this file, one per line, in order.",
)
@click.option(
    "--codec",
    type=click.Choice(("h264", "hevc", "av1", "ffv1", "mjpeg")),
    help="The video codec; ffv1 is lossless, also for 16 bits and transparency.  [default: depends on container and pixels]",
)
@click.option(
    "--quality",
    type=int,
    help="The quantizer of the encoder; smaller is better: h264 and hevc 0 to 51, 0 is lossless; av1 0 to 63; mjpeg 2 to 31.  "
    "[default: visually lossless]",
)
@click.option(
    "--preset", help="The speed of the encoder, from fast to small: h264 and hevc ultrafast to placebo; av1 13 to 0."
)
@click.option("--intra", is_flag=True, help="Make every frame a key frame: larger files, faster random reads.")
@workdir_option
@json_option
def encode(
    *,
    paths: tuple[str, ...],
    output: str,
    fps: float | Fraction | None,
    from_file: Iterable[str] | None,
    codec: Any,
    quality: int | None,
    preset: str | None,
    intra: bool,
    workdir: str | None,
    as_json: bool,
) -> None:
    """Encode images, or another video, to a video.

    PATHS are images, patterns, folders of images, or one video. Images are sorted by path, and digits compare as numbers:
    frame9.png comes before frame10.png. --from-file keeps the order of its list. All images must have the same size and
    number of channels.

    The output file appears complete or not at all. The rate and the metadata of an input video are kept.

    \b
    For example:
      ndframes video encode frames/ -o walk.mp4 --fps 25
      ndframes video encode 'scans/left*.tif' -o left.mkv --fps 10 --codec ffv1
      ndframes video encode --from-file list.txt -o walk.mp4 --fps 29.97 --quality 15 --preset slow
      ndframes video encode walk.mp4 -o quick.mp4 --intra
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    from ..movie.write import write_video
    from ..spec.kinds import is_video_path

    metadata = None
    if len(paths) == 1 and from_file is None and is_video_path(paths[0]):
        frames: Any = _open_video(paths[0], workdir)
        metadata = dict(frames.metadata.metadata) or None
        fps = fps or frames.fps
        if fps is None:
            raise CommandError(f"{show_path(paths[0])} has no frame rate; set one with --fps")
    else:
        frames = _find_images(paths, from_file)
        if fps is None:
            raise CommandError("images have no frame rate; set one with --fps, such as --fps 25")
    report = write_video(
        output, frames, fps, codec=codec, quality=quality, preset=preset, intra=intra, metadata=metadata
    )
    if as_json:
        echo_json(report.to_dict())
    else:
        click.echo(f"{show_path(output)}: {report}")


@video.command(short_help="Save frames of a video as images.")
@click.argument("path", type=UserPath())
@click.option(
    "-o",
    "--output",
    required=True,
    type=UserPath(file_okay=False),
    metavar="DIR",
    help="The output folder; created if it does not exist.",
)
@click.option(
    "--frames",
    callback=_parse_frames,
    metavar="SLICE or LIST",
    help="The frames to extract, such as 0:100:5, -10: or 3,7,9.  [default: all]",
)
@click.option(
    "--format",
    "ending",
    type=click.Choice(("png", "jpg", "tif")),
    default="png",
    show_default=True,
    help="The format of the images; png and tif are lossless.",
)
@click.option(
    "--name",
    default="frame{:06d}",
    show_default=True,
    help="The names of the images, without extension; the braces are replaced by the frame number in the video.",
)
@click.option("--force", is_flag=True, help="Replace existing images.")
@workdir_option
@json_option
def extract(
    *,
    path: str,
    output: str,
    frames: slice | list[int] | None,
    ending: str,
    name: str,
    force: bool,
    workdir: str | None,
    as_json: bool,
) -> None:
    """Save frames of a video as images.

    Frame 0 is the first frame in display order; negative numbers count from the end. If one of the images exists, nothing
    is written, unless --force is given.

    \b
    For example:
      ndframes video extract walk.mp4 -o frames/
      ndframes video extract walk.mp4 -o frames/ --frames 0:100:5 --format jpg
      ndframes video extract walk.mp4 -o frames/ --frames 3,7,9 --name 'walk-{:04d}'
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    from ..text import count_noun, format_bytes

    source = _open_video(path, workdir)
    targets = _list_targets(source, frames, output, name, ending)
    if ending == "jpg" and (source.dtype.name != "uint8" or source.shape[3] not in (1, 3)):
        raise CommandError(
            f"JPEG stores 1 or 3 channels of uint8, but {show_path(path)} has {source.shape[3]} of {source.dtype}; use png or tif"
        )
    # Every check comes before the first file is written.
    if not force:
        _check_new(list(targets.values()))
    _make_folder(output)
    written_bytes = 0
    # In ascending order, so that the video is decoded once, from first to last.
    for number in _with_progress(sorted(targets), "extract (frames)"):
        _save(targets[number], source[number])
        written_bytes += os.path.getsize(targets[number])
    if as_json:
        images = list(targets.values())
        echo_json({"path": path, "frames": list(targets), "images": images, "bytes_written": written_bytes})
    else:
        count = f"{count_noun(len(targets), 'frame')} of {len(source):,}"
        click.echo(f"{show_path(output)}: {count}, {format_bytes(written_bytes)} of {ending}")


def _list_targets(
    source: LazyVideo, frames: slice | list[int] | None, folder: str, name: str, ending: str
) -> dict[int, str]:
    """The frame numbers to extract, and the files for them."""
    targets = {
        number: os.path.join(folder, f"{_format_name(name, number)}.{ending}")
        for number in _list_numbers(source, frames)
    }
    if len(set(targets.values())) != len(targets):
        raise CommandError(f"--name {name!r} gives several frames the same name; use a number, such as frame{{:06d}}")
    return targets


def _check_new(targets: Sequence[str]) -> None:
    existing = [target for target in targets if os.path.lexists(target)]
    if existing:
        more = f" (and {len(existing) - 1:,} more)" if len(existing) > 1 else ""
        raise CommandError(
            f"{show_path(existing[0])}{more} exists already; replace it with --force, or choose another folder"
        )


def _rows(found: VideoMetadata) -> dict[str, str]:
    from ..text import count_noun, format_bytes
    from .facts.video import count_frames, describe_stream

    described = found.to_dict()
    rate = "unknown frame rate" if found.fps is None else f"{found.fps:.6g} frames per second"
    colors = [
        name
        for name in (found.pixel_format, found.color_space, found.color_range and f"{found.color_range} range")
        if name
    ]
    bits = "" if found.bit_rate is None else f", {found.bit_rate / 1000:,.0f} kbit/s"
    return {
        "path": show_path(found.path),
        "format": f"{found.codec} in {found.format}, {format_bytes(found.file_bytes)}{bits}",
        "size": f"{found.height:,} x {found.width:,} px (height x width), {format_bytes(found.raw_bytes)} decoded",
        "pixels": f"{found.dtype}, {count_noun(found.channels, 'channel')}; stored as {', '.join(colors)}",
        "frames": f"{count_frames(described)}, duration {found.duration:.6g} s",
        "rate": f"{rate}, {'constant' if found.is_constant_rate else 'variable'}",
        "key frames": "all frames"
        if found.keyframe_count == found.frames
        else f"{found.keyframe_count:,}, every {found.mean_gop:.4g} frames on average, {found.max_gop:,} at most",
        **({"rotation": f"{found.rotation} degrees clockwise for display"} if found.rotation else {}),
        **({"streams": "\n".join(map(describe_stream, described["streams"]))} if len(found.streams) > 1 else {}),
        **({} if found.has_exact_times else {"times": "estimated, since the container has no reliable time stamps"}),
        **(
            {"metadata": "\n".join(f"{name}: {value}" for name, value in found.metadata.items())}
            if found.metadata
            else {}
        ),
    }


def _open_video(path: str, workdir: str | None) -> LazyVideo:
    from ..frames import simple
    from ..frames.lazyframe import LazyVideo

    frame = simple.open(path, workdir=workdir)
    if not isinstance(frame, LazyVideo):
        raise CommandError(f"{show_path(path)} is an image, not a video; a video has a file extension such as .mp4")
    return frame


def _find_images(paths: Sequence[str], from_file: Iterable[str] | None) -> list[str]:
    """The paths of the images to encode, in order."""
    from ..frames.clip import natural_key

    if from_file is not None:
        if paths:
            raise CommandError("--from-file cannot be combined with PATHS; use only one of them")
        listed = [line.strip() for line in from_file]
        found = [line for line in listed if line]
        where = "the list in --from-file"
    else:
        # A set, since patterns may overlap.
        found = sorted({image for path in paths for image in _expand(path)}, key=natural_key)
        where = ", ".join(map(show_path, paths))
    if not where:
        raise CommandError("there is nothing to encode; give PATHS or --from-file")
    if not found:
        raise CommandError(f"{where} contains no images; give images, a pattern, or a folder of images")
    return found


def _expand(path: str) -> list[str]:
    """The images that a path names. A pattern without matches is returned, and fails later as a missing file."""
    from ..spec.kinds import IMAGE_SUFFIXES

    if os.path.isdir(path):
        names = (os.path.join(path, name) for name in os.listdir(path) if not name.startswith("."))
        return [name for name in names if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and os.path.isfile(name)]
    if os.path.lexists(path):
        return [path]
    return glob.glob(path, recursive=True) or [path]


def _list_numbers(source: LazyVideo, frames: slice | list[int] | None) -> list[int]:
    from ..geometry.regions import to_row

    count = len(source)
    if isinstance(frames, list):
        # Without repetitions, since -1 and the last number are the same frame and the same file.
        return list(dict.fromkeys(to_row(number, count) for number in frames))
    found = list(range(count))[frames or slice(None)]
    if not found:
        raise CommandError(f"--frames selects none of the {count:,} frames of {show_path(str(source.image_id))}")
    return found


def _format_name(pattern: str, number: int) -> str:
    try:
        name = pattern.format(number)
    except (IndexError, KeyError, ValueError, AttributeError) as error:
        raise CommandError(f"--name {pattern!r} is not a valid pattern: {error}; use one like frame{{:06d}}") from error
    if os.path.basename(name) != name or name in ("", ".", ".."):
        raise CommandError(f"--name {pattern!r} is not a file name; set the folder with -o")
    return name


def _make_folder(path: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise CommandError(f"{show_path(path)} cannot be created: {error.strerror}") from error


def _save(path: str, pixels: Array) -> None:
    from ..formats.export import encode_jpeg, export
    from ..system.output import write_atomically

    # JPEG is lossy, and export() writes pixels exactly.
    if not path.endswith(".jpg"):
        export(path, pixels)
        return
    data = encode_jpeg(pixels)
    write_atomically(path, lambda file: file.write(data))


def _with_progress(numbers: Sequence[int], text: str) -> Iterable[int]:
    if not is_terminal(sys.stderr):
        return numbers
    import ubelt

    bar: Iterable[int] = ubelt.ProgIter(numbers, desc=text, stream=sys.stderr, clearline=True)
    return bar
