"""What a PATH on the command line names: an image, a frame of a video or a sequence, or an image of a COCO dataset."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .common import CommandError, backend_of, show_path

if TYPE_CHECKING:
    from ..frames.clip import Clip
    from ..frames.coco import Space
    from ..frames.frames import Frames

__all__ = ["Source", "find_clip", "frame_option", "image_id_option", "is_dataset", "open_source", "read_dataset"]
_Command = TypeVar("_Command", bound=Callable[..., Any])
_DATASET_SUFFIXES = (".json", ".zip")
_ZIP_MAGIC = b"PK"
_LISTED_IDS = 8


def image_id_option(command: _Command) -> _Command:
    """``--image-id``."""
    return click.option(
        "--image-id", metavar="ID", help="Which image of a COCO dataset.  [default: the only one, where there is one]"
    )(command)


def frame_option(default: str) -> Callable[[_Command], _Command]:
    """``--frame``, and what is taken without it."""
    return click.option(
        "--frame",
        type=int,
        metavar="N",
        help="Which frame of a video, or which image of a folder, a glob or a pattern, in their order: 0 is the first one, -1 "
        f"the last.  [default: {default}]",
    )


@dataclass(frozen=True, slots=True)
class Source:
    """One image, as named on the command line.

    Attributes:
        path: the image, or the dataset or the video that it is in.
        image_id: of the image among the frames.
        dataset: what the dataset's file holds; ``None`` for an image of its own.
        space: on which grid an image of a dataset is read.
        page: the number of the frame of a video; ``None`` for what is no video.
        moment: which of the frames of a video or a sequence it is, in words; empty for an image alone.
        siblings: all images of the sequence that it is of.
    """

    path: str
    image_id: Hashable
    dataset: Mapping[str, Any] | None = None
    space: Space = "image"
    page: int | None = None
    moment: str = ""
    siblings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The image in words."""
        name = show_path(os.path.basename(self.path))
        if self.page is not None:
            return f"frame {self.page:,} of {name}"
        return name if self.dataset is None else f"image {self.image_id} of {name}"

    def open_frames(self, workdir: str | None, backend: str | None) -> Frames:
        """Frames that hold the image, by that backend."""
        from ..frames.coco import CocoFrames
        from ..frames.simple import SimpleFrames

        if self.page is not None:
            from .stills import StillFrames

            return StillFrames(self.path, self.page, workdir=workdir, backend=backend)
        if self.dataset is None:
            return SimpleFrames({self.path: self.path}, workdir=workdir, backend=backend)
        folder = os.path.dirname(os.path.abspath(self.path))
        return CocoFrames(self.dataset, space=self.space, bundle_dpath=folder, workdir=workdir, backend=backend)

    def choose_frames(
        self, channels: str | Sequence[str] | None, workdir: str | None, backend: str | None
    ) -> tuple[Frames, str]:
        """The frames to read ``channels`` by, and how that is in words.

        Without a backend, cache entries are used where all that is needed are there, and nothing is converted. A video by
        ``"auto"`` is its own source.
        """
        frames = self.open_frames(workdir, backend_of(backend or "auto"))
        files = frames.explain(self.image_id, (slice(0), slice(0)), channels).files
        if all(file.is_cached for file in files):
            return frames, "from the cache"
        if backend not in (None, "none") and any(file.entry_path is not None for file in files):
            return frames, f"through {'a new cache entry' if len(files) == 1 else 'new cache entries'}"
        return self.open_frames(workdir, None), "from the source"

    def check_is_other_file(self, output: str, frames: Frames) -> None:
        """See to it that ``output`` is none of the files that are read."""
        if not os.path.exists(output):
            return
        files = [self.path, *self.siblings, *(item.path for item in frames.pathinfo(self.image_id).channels)]
        if any(os.path.exists(file) and os.path.samefile(file, output) for file in files):
            raise CommandError(f"{show_path(output)} is the source itself; write to another file")


def is_dataset(path: str) -> bool:
    """Whether a path names a COCO dataset, by its ending."""
    return path.lower().endswith(_DATASET_SUFFIXES)


def find_clip(path: str) -> Clip | None:
    """The video, folder, glob or pattern that a path names; ``None`` for an image."""
    from ..frames.clip import Clip, to_clip

    return to_clip(path) or (Clip(path) if Clip(path).is_video else None)


def open_source(
    path: str,
    image_id: str | None,
    *,
    space: Space | None = None,
    frame: int | None = None,
    takes_first: bool = False,
    workdir: str | None = None,
) -> Source:
    """The image that the arguments name.

    Args:
        path: an image, a video, a folder, a glob, a pattern, or a dataset.
        image_id: of an image of a dataset.
        space: likewise.
        frame: the place of one frame of a video or a sequence, from its end where it is negative.
        takes_first: whether the first frame is taken where none is named.
        workdir: where the cache is that keeps the index of a video.

    Raises:
        CommandError: there is no such image, or several and none is named, or an option is for something else.
        SourceError: the video or the folder cannot be read.
    """
    if is_dataset(path):
        if frame is not None:
            raise CommandError(
                f"{show_path(path)} is a COCO dataset; --frame is for a video or a sequence, --image-id says which image"
            )
        dataset = read_dataset(path)
        return Source(path, _find_image(path, dataset, image_id), dataset, space or "image")
    clip = find_clip(path)
    kind = "an image" if clip is None else "a video" if clip.is_video else "a sequence of images"
    for option, value in (("--image-id", image_id), ("--space", space)):
        if value is not None:
            raise CommandError(f"{show_path(path)} is {kind}; {option} is for a COCO dataset, a .json or .zip file")
    if clip is not None:
        return _open_frame(clip, frame, workdir, takes_first=takes_first)
    if frame is not None:
        raise CommandError(f"{show_path(path)} is an image; --frame is for a video, a folder, a glob or a pattern")
    return Source(path, path)


def read_dataset(path: str) -> Mapping[str, Any]:
    """What the file of a COCO dataset holds.

    Raises:
        CommandError: it cannot be read, or holds something else.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
        dataset = json.loads(_unzip(content) if content.startswith(_ZIP_MAGIC) else content)
    except FileNotFoundError as error:
        raise CommandError(f"{show_path(path)} does not exist; check the path") from error
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        told = getattr(error, "strerror", None) or error
        raise CommandError(f"{show_path(path)} is no COCO dataset that can be read: {told}") from error
    if not isinstance(dataset, dict) or not _is_listing(dataset.get("images")):
        raise CommandError(f"{show_path(path)} is no COCO dataset: it has no list of images, each with an id")
    for key in ("annotations", "categories", "videos"):
        if not _is_listing(dataset.get(key) or [], has_ids=False):
            raise CommandError(f"{show_path(path)} is no COCO dataset: its {key} are no list of dictionaries")
    return dict(dataset)


def _open_frame(clip: Clip, wanted: int | None, workdir: str | None, *, takes_first: bool) -> Source:
    """One frame of a video or a sequence."""
    from ..frames.simple import open_frame
    from ..text import count_noun

    path = clip.path
    files = () if clip.is_video else tuple(clip.find_images().values())
    count = len(files) or len(open_frame(path, workdir=workdir))
    if wanted is None and not takes_first and count > 1:
        told = f"a video of {count:,} frames" if clip.is_video else f"a sequence of {count:,} images"
        more = "; 'ndframes video extract' saves several" if clip.is_video else f" for {show_path(files[0])}"
        raise CommandError(f"{show_path(path)} is {told}; say which one by --frame, such as --frame 0{more}")
    if wanted is not None and not -count <= wanted < count:
        raise CommandError(
            f"{show_path(path)} has {count_noun(count, 'frame' if clip.is_video else 'image')}, counted from 0, and from the end "
            f"by negative numbers; --frame {wanted} is none of them"
        )
    number = (wanted or 0) % count
    place = "0, the first" if wanted is None and count > 1 else f"{number:,}"
    moment = f"frame {place} of {count:,}"
    if clip.is_video:
        return Source(path, path, page=number, moment=moment)
    return Source(files[number], files[number], moment=moment, siblings=files)


def _is_listing(items: object, *, has_ids: bool = True) -> bool:
    return isinstance(items, list) and all(isinstance(item, dict) and (not has_ids or "id" in item) for item in items)


def _unzip(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = [name for name in archive.namelist() if name.lower().endswith(".json")]
        if len(names) != 1:
            raise ValueError(f"it holds {len(names)} .json files, a dataset is one")
        return archive.read(names[0])


def _find_image(path: str, dataset: Mapping[str, Any], wanted: str | None) -> Hashable:
    ids: list[Hashable] = [image["id"] for image in dataset["images"]]
    if wanted is None and len(ids) == 1:
        return ids[0]
    found = [image_id for image_id in ids if str(image_id) == wanted]
    if found:
        return found[0]
    listed = ", ".join(str(image_id) for image_id in ids[:_LISTED_IDS])
    there = f"it holds {len(ids):,}: {listed}{', ...' if len(ids) > _LISTED_IDS else ''}" if ids else "it holds none"
    if wanted is None:
        raise CommandError(f"{show_path(path)}: say which image by --image-id; {there}")
    raise CommandError(f"{show_path(path)} has no image {wanted!r}; {there}")
