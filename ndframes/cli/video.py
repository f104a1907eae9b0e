"""``ndframes video``: what a video is, images to a video, and a video's frames to images."""

from __future__ import annotations

import glob
import os
import sys
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import click

from .common import (
    CommandError,
    echo_json,
    echo_table,
    json_option,
    show_path,
    workdir_option,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .._typing import Array
    from ..frames.lazyframe import LazyVideo
    from ..video.metadata import VideoMetadata

__all__ = ["info", "video"]


def _parse_rate(ctx: click.Context, param: click.Parameter, value: str | None) -> float | Fraction | None:
    """``25``, ``29.97`` or ``30000/1001``."""
    if value is None:
        return None
    try:
        return Fraction(value) if "/" in value else float(value)
    except (ValueError, ZeroDivisionError) as error:
        raise click.BadParameter(
            f"{value!r}; write frames a second such as 25, 29.97 or 30000/1001", ctx, param
        ) from error


def _parse_frames(ctx: click.Context, param: click.Parameter, value: str | None) -> slice | list[int] | None:
    """A slice as Python has it, or numbers with commas between them."""
    if value is None:
        return None
    try:
        if ":" not in value:
            return [int(part) for part in value.split(",")]
        parts = [int(part) if part.strip() else None for part in value.split(":")]
        if len(parts) <= 3 and (len(parts) < 3 or parts[2] != 0):
            return slice(*parts)
    except ValueError:
        pass
    raise click.BadParameter(f"{value!r}; write a slice such as 0:100:5, or numbers such as 3,7,9", ctx, param)


@click.group()
def video() -> None:
    """Say what a video is, make one of images, or images of one.

    \b
    In use:
      ndframes video info walk.mp4
      ndframes video encode frames/ -o walk.mp4 --fps 25
      ndframes video encode walk.mp4 -o quick.mp4 --intra
      ndframes video extract walk.mp4 -o frames/ --frames 0:100:5
    """  # noqa: D301 - a backspace keeps click from wrapping the examples


@video.command(short_help="Say what a video is.")
@click.argument("path")
@workdir_option
@json_option
def info(*, path: str, workdir: str | None, as_json: bool) -> None:
    """Say what a video is: its frames, counted, not as the container says; their size, times, codec and key frames.

    \b
    In use:
      ndframes video info walk.mp4
      ndframes video info walk.mp4 --json | jq .frames
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    from ..movie.read import video_metadata

    found = video_metadata(path, workdir=workdir)
    if as_json:
        echo_json(found.to_dict())
    else:
        echo_table(_rows(found))


@video.command(short_help="Make a video of images, or of a video.")
@click.argument("paths", nargs=-1, metavar="PATHS...")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Where to write; the ending chooses the container: .mp4, .m4v, .mov, .mkv, .webm or .avi. A file that is there is "
    "replaced.",
)
@click.option(
    "--fps",
    callback=_parse_rate,
    metavar="RATE",
    help="Frames a second, such as 25 or 30000/1001.  [default: a video's own]",
)
@click.option(
    "--from-file", type=click.File(), metavar="LIST", help="Take the images that this file names, one a line, in order."
)
@click.option(
    "--codec",
    type=click.Choice(("h264", "hevc", "av1", "ffv1", "mjpeg")),
    help="How pixels are stored; ffv1 is lossless, of 16 bits and transparency too.  [default: what suits file and pixels]",
)
@click.option(
    "--quality",
    type=int,
    help="The encoder's number, the smaller the better: h264 and hevc 0 to 51, 0 without loss; av1 0 to 63; mjpeg 2 to 31.  "
    "[default: no difference is seen]",
)
@click.option("--preset", help="How long the encoder may take: h264 and hevc ultrafast to placebo; av1 13 to 0.")
@click.option("--intra", is_flag=True, help="Make each frame a key frame: larger files, quick random reads.")
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
    """Make a video of images, or of another video.

    PATHS are images, patterns, folders of images, or one video. Images are put in the order of their paths, in which runs of
    digits compare as numbers: frame9.png comes before frame10.png. --from-file keeps the order of its list. All have one size
    and as many channels.

    The file at -o appears whole or not at all. Of a video, rate and metadata are kept.

    \b
    In use:
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
            raise CommandError(f"{show_path(paths[0])} does not say how many frames a second it has; give --fps")
    else:
        frames = _find_images(paths, from_file)
        if fps is None:
            raise CommandError("images do not say how many frames a second they are; give --fps, such as --fps 25")
    report = write_video(
        output, frames, fps, codec=codec, quality=quality, preset=preset, intra=intra, metadata=metadata
    )
    if as_json:
        echo_json(report.to_dict())
    else:
        click.echo(f"{show_path(output)}: {report}")


@video.command(short_help="Save frames of a video as images.")
@click.argument("path")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="The folder; made if there is none.",
)
@click.option(
    "--frames",
    callback=_parse_frames,
    metavar="SLICE or LIST",
    help="Which frames, such as 0:100:5, -10: or 3,7,9.  [default: all]",
)
@click.option(
    "--format",
    "ending",
    type=click.Choice(("png", "jpg", "tif")),
    default="png",
    show_default=True,
    help="The format of the images; png and tif keep pixels as they are decoded.",
)
@click.option(
    "--name",
    default="frame{:06d}",
    show_default=True,
    help="What they are called, without the ending; the braces stand for the frame's number in the video.",
)
@click.option("--force", is_flag=True, help="Replace images that are there.")
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

    Frame 0 is the first one that is shown, and so on; negative numbers count from the end. Where one of the images is there,
    nothing is written, unless --force is given.

    \b
    In use:
      ndframes video extract walk.mp4 -o frames/
      ndframes video extract walk.mp4 -o frames/ --frames 0:100:5 --format jpg
      ndframes video extract walk.mp4 -o frames/ --frames 3,7,9 --name 'walk-{:04d}'
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    from ..text import count_noun, format_bytes

    source = _open_video(path, workdir)
    targets = {
        number: os.path.join(output, _name(name, number) + f".{ending}") for number in _list_numbers(source, frames)
    }
    if len(set(targets.values())) != len(targets):
        raise CommandError(
            f"--name {name!r} gives several frames one name; write a number into it, such as frame{{:06d}}"
        )
    if ending == "jpg" and (source.dtype.name != "uint8" or source.shape[3] not in (1, 3)):
        raise CommandError(
            f"JPEG holds 1 or 3 channels of uint8, {show_path(path)} has {source.shape[3]} of {source.dtype}; take png or tif"
        )
    there = [target for target in targets.values() if os.path.lexists(target)]
    if there and not force:
        more = f" (and {len(there) - 1:,} more)" if len(there) > 1 else ""
        raise CommandError(
            f"{show_path(there[0])}{more} is there already; --force replaces, or write to another folder"
        )
    _make_folder(output)
    written = 0
    for number in _with_bar(sorted(targets), "extract, frames"):
        _save(targets[number], source[number])
        written += os.path.getsize(targets[number])
    if as_json:
        echo_json({"path": path, "frames": list(targets), "images": list(targets.values()), "bytes_written": written})
    else:
        click.echo(
            f"{show_path(output)}: {count_noun(len(targets), 'frame')} of {len(source):,}, {format_bytes(written)} of {ending}"
        )


def _rows(found: VideoMetadata) -> dict[str, str]:
    from ..text import count_noun, format_bytes

    rate = "no rate is told" if found.fps is None else f"{found.fps:.6g} frames a second"
    colors = [
        name
        for name in (found.pixel_format, found.color_space, found.color_range and f"{found.color_range} range")
        if name
    ]
    bits = "" if found.bit_rate is None else f", {found.bit_rate / 1000:,.0f} kbit a second"
    return {
        "path": show_path(found.path),
        "format": f"{found.codec} in {found.format}, {format_bytes(found.file_bytes)}{bits}",
        "size": f"{found.height:,} x {found.width:,} px (height x width), {format_bytes(found.raw_bytes)} decoded",
        "pixels": f"{found.dtype}, {count_noun(found.channels, 'channel')}; stored as {', '.join(colors)}",
        "frames": f"{found.frames:,}, shown for {found.duration:.6g} s",
        "rate": f"{rate}, {'constant' if found.is_constant_rate else 'varying'}",
        "key frames": f"{found.keyframe_count:,}, every {found.mean_gop:.4g} frames on average, {found.max_gop:,} at most",
        **({"rotation": f"{found.rotation} degrees clockwise, to be shown"} if found.rotation else {}),
        **({} if found.has_exact_times else {"times": "estimated; the container stores none that can be trusted"}),
        **(
            {"metadata": "\n".join(f"{name}: {value}" for name, value in found.metadata.items())}
            if found.metadata
            else {}
        ),
    }


def _open_video(path: str, workdir: str | None) -> LazyVideo:
    from ..frames.lazyframe import LazyVideo
    from ..frames.simple import open_frame

    frame = open_frame(path, workdir=workdir)
    if not isinstance(frame, LazyVideo):
        raise CommandError(f"{show_path(path)} is an image, not a video; videos are told by their ending, such as .mp4")
    return frame


def _find_images(paths: Sequence[str], from_file: Iterable[str] | None) -> list[str]:
    """The paths of all images, in order."""
    from ..frames.clip import natural_key

    if from_file is not None:
        if paths:
            raise CommandError("--from-file names all images; leave the other paths out")
        listed = [line.strip() for line in from_file]
        found = [line for line in listed if line]
        where = "the list of --from-file"
    else:
        found = sorted({image for path in paths for image in _expand(path)}, key=natural_key)
        where = ", ".join(map(show_path, paths))
    if not where:
        raise CommandError("there is nothing to encode; give PATHS, or a list by --from-file")
    if not found:
        raise CommandError(f"{where} holds no image; give images, a pattern, or a folder of images")
    return found


def _expand(path: str) -> list[str]:
    """The images that a path stands for; a pattern without a match stays, and fails as a missing file."""
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
        return list(dict.fromkeys(to_row(number, count) for number in frames))
    found = list(range(count))[frames or slice(None)]
    if not found:
        raise CommandError(f"--frames picks none of the {count:,} frames of {show_path(str(source.image_id))}")
    return found


def _name(pattern: str, number: int) -> str:
    try:
        name = pattern.format(number)
    except (IndexError, KeyError, ValueError, AttributeError) as error:
        raise CommandError(
            f"--name {pattern!r} is no name with a number in it: {error}; write it like frame{{:06d}}"
        ) from error
    if os.path.basename(name) != name or name in ("", ".", ".."):
        raise CommandError(f"--name {pattern!r} is no name of a file; the folder goes to -o")
    return name


def _make_folder(path: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise CommandError(f"{show_path(path)} cannot be made: {error.strerror}") from error


def _save(path: str, pixels: Array) -> None:
    from ..formats.export import encode_jpeg, export
    from ..system.output import write_atomically

    if not path.endswith(".jpg"):
        export(path, pixels)
        return
    data = encode_jpeg(pixels)
    write_atomically(path, lambda file: file.write(data))


def _with_bar(numbers: Sequence[int], text: str) -> Iterable[int]:
    if not sys.stderr.isatty():
        return numbers
    import ubelt

    bar: Iterable[int] = ubelt.ProgIter(numbers, desc=text, stream=sys.stderr, clearline=True)
    return bar
