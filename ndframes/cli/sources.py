"""What a PATH on the command line names: an image, or one of the images of a COCO dataset."""

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
from .sequences import refuse_folder

if TYPE_CHECKING:
    from ..coco import Space
    from ..frames import Frames

__all__ = ["Source", "image_id_option", "is_dataset", "open_source", "read_dataset"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_DATASET_SUFFIXES = (".json", ".zip")
_ZIP_MAGIC = b"PK"
_LISTED_IDS = 8


def image_id_option(command: _Command) -> _Command:
    """``--image-id``."""
    return click.option(
        "--image-id", metavar="ID", help="Which image of a COCO dataset.  [default: the only one, where there is one]"
    )(command)


@dataclass(frozen=True, slots=True)
class Source:
    """One image, as named on the command line.

    Attributes:
        path: the image, or the dataset that it is in.
        image_id: of the image among the frames.
        dataset: what the dataset's file holds; ``None`` for an image of its own.
        space: on which grid an image of a dataset is read.
    """

    path: str
    image_id: Hashable
    dataset: Mapping[str, Any] | None = None
    space: Space = "image"

    @property
    def name(self) -> str:
        """The image in words."""
        name = show_path(os.path.basename(self.path))
        return name if self.dataset is None else f"image {self.image_id} of {name}"

    def open_frames(self, workdir: str | None, backend: str | None) -> Frames:
        """Frames that hold the image, by that backend."""
        from ..coco import CocoFrames
        from ..frames import SimpleFrames

        if self.dataset is None:
            return SimpleFrames({self.path: self.path}, workdir=workdir, backend=backend)
        folder = os.path.dirname(os.path.abspath(self.path))
        return CocoFrames(self.dataset, space=self.space, bundle_dpath=folder, workdir=workdir, backend=backend)

    def choose_frames(
        self, channels: str | Sequence[str] | None, workdir: str | None, backend: str | None
    ) -> tuple[Frames, str]:
        """The frames to read ``channels`` by, and how that is in words.

        Without a backend, cache entries are used where all that is needed are there, and nothing is converted.
        """
        frames = self.open_frames(workdir, backend_of(backend or "auto"))
        files = frames.explain(self.image_id, (slice(0), slice(0)), channels).files
        if all(file.is_cached for file in files):
            return frames, "from the cache"
        if backend not in (None, "none"):
            return frames, f"through {'a new cache entry' if len(files) == 1 else 'new cache entries'}"
        return self.open_frames(workdir, None), "from the source"

    def check_is_other_file(self, output: str, frames: Frames) -> None:
        """See to it that ``output`` is none of the files that are read."""
        if not os.path.exists(output):
            return
        files = [self.path, *(item.path for item in frames.pathinfo(self.image_id).channels)]
        if any(os.path.exists(file) and os.path.samefile(file, output) for file in files):
            raise CommandError(f"{show_path(output)} is the source itself; write to another file")


def is_dataset(path: str) -> bool:
    """Whether a path names a COCO dataset, by its ending."""
    return path.lower().endswith(_DATASET_SUFFIXES)


def open_source(path: str, image_id: str | None, *, space: Space | None = None) -> Source:
    """The image that the arguments name.

    Raises:
        CommandError: there is no such image, or several and none is named, a folder of them included, or an option that an image of its own has not.
    """
    if is_dataset(path):
        dataset = read_dataset(path)
        return Source(path, _find_image(path, dataset, image_id), dataset, space or "image")
    refuse_folder(path)
    for option, value in (("--image-id", image_id), ("--space", space)):
        if value is not None:
            raise CommandError(f"{show_path(path)} is an image; {option} is for a COCO dataset, a .json or .zip file")
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
