"""``ndframes info``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..system.objects.addresses import is_url
from .common import (
    CommandError,
    UserPath,
    backend_option,
    echo_json,
    echo_table,
    json_option,
    show_path,
    workdir_option,
)
from .sources import (
    find_clip,
    is_dataset,
    orientation_option,
    page_option,
    read_dataset,
    resolve_image,
    sources_option,
)

if TYPE_CHECKING:
    from ..spec.pathinfo import Orientation

__all__ = ["info"]


@click.command(short_help="Describe an image, a video or a dataset, and the cost of a crop.")
@click.argument("path", type=UserPath())
@click.option("--image-id", metavar="ID", help="Which image of a COCO dataset.  [default: describe the dataset]")
@page_option
@orientation_option
@workdir_option
@sources_option
@backend_option(
    ("auto", "cog", "npy", "none"),
    default="auto",
    text="Which form of cache entry to describe; 'none' skips the cache.",
)
@json_option
def info(
    *,
    path: str,
    image_id: str | None,
    page: int | None,
    orientation: Orientation,
    workdir: str | None,
    sources: tuple[str, ...],
    backend: str,
    as_json: bool,
) -> None:
    """Describe an image, a video or a dataset: what it is, whether it is cached, and the cost of a crop.

    Image: reads only the header of the file (all of it for the few formats that are always decoded whole), and converts
    nothing. The crop is 256 x 256 pixels from the middle of the image. The table lists the tiles that it touches, and the
    bytes to decode, from the source and from a cache entry.

    Video: prints the number of frames, their size, the cached forms, and the cost of each form: disk space, reading and
    conversion. The first run scans the file to index its frames, and the cache keeps the index. Then each form is tried on
    at most 16 frames, which may take some seconds; --backend none skips this.

    Folder of images, glob or pattern such as 'walk/frame{:06d}.png': describes the images as one sequence, their order,
    and how many of them are cached.

    File at an address such as s3://bucket/a.tif, which --sources must allow: a TIFF is described from its header. A file of another
    format is converted into the cache, since it must be downloaded for this.

    COCO or kwcoco dataset (.json or .zip): counts its content. With --image-id, lists the files of an image and their
    position in it. Positions and scales are in the order y, x; angles are in degrees, counter-clockwise.

    \b
    For example:
      ndframes info scan.tif
      ndframes info scan.tif --backend npy
      ndframes info scan.tif --json | jq .crop
      ndframes info s3://imagery/scan.tif --sources s3://imagery/
      ndframes info walk.mp4
      ndframes info walk/
      ndframes info 'walk/left*.png'
      ndframes info data.kwcoco.json
      ndframes info data.kwcoco.json --image-id 7
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    facts, rows = _collect_facts(path, image_id, workdir, backend, page, orientation, sources)
    if as_json:
        echo_json(facts)
    else:
        echo_table(rows)


def _collect_facts(
    path: str,
    image_id: str | None,
    workdir: str | None,
    backend: str,
    page: int | None,
    orientation: Orientation,
    sources: tuple[str, ...],
) -> tuple[dict[str, Any], dict[str, str]]:
    """The facts as plain data, and as rows of a table."""
    from .facts.dataset import collect_dataset, collect_dataset_image, rows_of_dataset, rows_of_dataset_image
    from .facts.image import collect_image, rows_of_image
    from .facts.sequence import collect_sequence, rows_of_sequence
    from .facts.video import collect_video, rows_of_video

    if image_id is None and is_dataset(path):
        facts = collect_dataset(path, read_dataset(path))
        return facts, rows_of_dataset(facts)
    clip = find_clip(path)
    if clip is not None and image_id is None and page is None and is_url(path):
        raise CommandError(
            f"{show_path(path)} is a video at an address, which 'ndframes info' does not try; 'ndframes prepare' converts it, and "
            "'ndframes info' describes a copy on this machine"
        )
    if clip is not None and image_id is None and page is None:
        if clip.is_video:
            facts = collect_video(path, workdir, backend)
            return facts, rows_of_video(facts)
        facts = collect_sequence(clip, workdir, backend)
        return facts, rows_of_sequence(facts)
    image = resolve_image(path, image_id, page=page, orientation=orientation, sources=sources)
    if image.dataset is not None:
        facts = collect_dataset_image(image, workdir, backend)
        return facts, rows_of_dataset_image(facts)
    facts = collect_image(image, workdir, backend)
    return facts, rows_of_image(facts)
