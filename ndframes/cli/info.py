"""``ndframes info``."""

from __future__ import annotations

from typing import Any

import click

from .common import (
    backend_option,
    echo_json,
    echo_table,
    json_option,
    workdir_option,
)
from .facts.image import collect, rows
from .sources import find_clip, is_dataset, open_source, read_dataset

__all__ = ["info"]


@click.command(short_help="Say what an image or a video is, and what a crop costs.")
@click.argument("path")
@click.option("--image-id", metavar="ID", help="Which image of a COCO dataset.  [default: tell of the dataset]")
@workdir_option
@backend_option(
    ("auto", "cog", "npy", "none"), default="auto", text="The form of cache entry to ask about; 'none' leaves it out."
)
@json_option
def info(*, path: str, image_id: str | None, workdir: str | None, backend: str, as_json: bool) -> None:
    """Say what an image or a video is, whether it is in the cache, and what a crop of it costs.

    Of an image, it reads the file's header alone (all of it for the few formats that are only ever decoded whole), and converts
    nothing. The crop is one of 256 x 256 from the middle of the image: which tiles it touches, and how many bytes
    must be decoded for them, from the source and from a cache entry.

    Of a video, it says how many frames of which size it has, in which forms the cache has it, and what each form would cost: on
    disk, to read, and to make. For that it reads the file once, to find its frames, which the cache keeps in an index; then it
    tries each form on at most 16 frames, which may take some seconds. --backend none leaves that out.

    Of a folder of images, a glob or a pattern such as 'walk/frame{:06d}.png', it says what they are as one sequence, in
    which order they come, and how many of them are in the cache.

    Of a COCO or kwcoco dataset, a .json or .zip file, it says what is in it; with --image-id, of which files an image is
    made, and how each lies in it. Positions and scales are told in the order y, x; degrees counter-clockwise.

    \b
    In use:
      ndframes info scan.tif
      ndframes info scan.tif --backend npy
      ndframes info scan.tif --json | jq .crop
      ndframes info walk.mp4
      ndframes info walk/
      ndframes info 'walk/left*.png'
      ndframes info data.kwcoco.json
      ndframes info data.kwcoco.json --image-id 7
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    facts, rows = _look_at(path, image_id, workdir, backend)
    if as_json:
        echo_json(facts)
    else:
        echo_table(rows)


def _look_at(
    path: str, image_id: str | None, workdir: str | None, backend: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """What there is to say, for programs and for people."""
    from .facts.dataset import collect_dataset, collect_image, rows_of_dataset, rows_of_image
    from .facts.sequence import collect_folder, rows_of_folder
    from .facts.video import collect_video, rows_of_video

    if image_id is None and is_dataset(path):
        facts = collect_dataset(path, read_dataset(path))
        return facts, rows_of_dataset(facts)
    clip = find_clip(path)
    if clip is not None and image_id is None:
        facts = collect_video(path, workdir, backend) if clip.is_video else collect_folder(clip, workdir, backend)
        return facts, rows_of_video(facts) if clip.is_video else rows_of_folder(facts)
    source = open_source(path, image_id)
    if source.dataset is not None:
        facts = collect_image(source, workdir, backend)
        return facts, rows_of_image(facts)
    facts = collect(path, workdir, backend)
    return facts, rows(facts)
