"""The PATH argument of commands: an image, a frame of a video or a sequence, or an image of a COCO dataset."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import shorten
from ..system.objects.addresses import is_url
from .common import CommandError, backend_of, show_path

if TYPE_CHECKING:
    from ..frames.clip import Clip
    from ..frames.coco import Space
    from ..frames.frames import Frames
    from ..frames.options import FramesOptions
    from ..spec.pathinfo import Orientation

__all__ = [
    "ImageArgument",
    "find_clip",
    "frame_option",
    "image_id_option",
    "is_dataset",
    "orientation_option",
    "page_option",
    "read_dataset",
    "resolve_image",
    "sources_option",
]
_Command = TypeVar("_Command", bound=Callable[..., Any])
_DATASET_SUFFIXES = (".json", ".zip")
_ZIP_MAGIC = b"PK"
_LISTED_IDS = 8


def image_id_option(command: _Command) -> _Command:
    """Add ``--image-id`` to a command."""
    return click.option(
        "--image-id", metavar="ID", help="Which image of a COCO dataset.  [default: the only image, if there is one]"
    )(command)


def frame_option(default: str) -> Callable[[_Command], _Command]:
    """Add ``--frame`` to a command; ``default`` describes what is read without it."""
    return click.option(
        "--frame",
        type=int,
        metavar="N",
        help="Which frame of a video, or which image of a folder, glob or pattern, in order: 0 is the first, -1 the last.  "
        f"[default: {default}]",
    )


def page_option(command: _Command) -> _Command:
    """Add ``--page`` to a command."""
    return click.option(
        "--page", type=click.IntRange(0), metavar="N", help="Which image of a file that holds several: 0 is the first."
    )(command)


def orientation_option(command: _Command) -> _Command:
    """Add ``--orientation`` to a command."""
    return click.option(
        "--orientation",
        type=click.Choice(("stored", "upright")),
        default="stored",
        show_default=True,
        help="Read images as they are stored, or turned upright as their EXIF data or TIFF tag says.",
    )(command)


def sources_option(command: _Command) -> _Command:
    """Add ``--sources`` to a command."""
    return click.option(
        "--sources",
        multiple=True,
        metavar="PREFIX",
        help="An address under which files may be read, such as s3://imagery/ or https://host/path/; may be repeated.  [default: "
        "none, only files of this machine]",
    )(command)


@dataclass(frozen=True, slots=True)
class ImageArgument:
    """One image, as named on the command line.

    Attributes:
        path: the file of the image, or of its dataset or video.
        image_id: the id of the image in :meth:`open_frames`.
        dataset: the content of the dataset file; ``None`` if there is no dataset.
        space: the grid on which to read an image of a dataset.
        page: the number of a frame in a video, or of an image in a file of several; ``None``: the only or first one.
        position: which frame of a video or sequence the image is, such as ``"frame 3 of 12"``; else empty.
        siblings: the files of all images of a sequence.
        orientation: whether images are turned upright.
        sources: the addresses under which files may be read.
    """

    path: str
    image_id: Hashable
    dataset: Mapping[str, Any] | None = None
    space: Space = "image"
    page: int | None = None
    position: str = ""
    siblings: tuple[str, ...] = ()
    orientation: Orientation = "stored"
    sources: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """A title for a picture of the image."""
        name = show_path(os.path.basename(self.path))
        if self.page is not None:
            return f"{self.page_noun} {self.page:,} of {name}"
        return name if self.dataset is None else f"image {self.image_id} of {name}"

    @property
    def page_noun(self) -> str:
        """What a page of the file is called."""
        from ..spec.kinds import is_video_path

        return "frame" if is_video_path(self.path) else "page"

    def open_frames(self, workdir: str | None, backend: str | None) -> Frames:
        """Open frames that hold the image, with a backend."""
        from ..frames.coco import CocoFrames
        from ..frames.simple import SimpleFrames
        from ..spec.pathinfo import ChannelInfo

        options: FramesOptions = {
            "workdir": workdir,
            "backend": backend,
            "orientation": self.orientation,
            "sources": self.sources,
        }
        if self.dataset is None:
            return SimpleFrames({self.path: ChannelInfo(self.path, page=self.page)}, **options)
        folder = os.path.dirname(os.path.abspath(self.path))
        return CocoFrames(self.dataset, space=self.space, bundle_dpath=folder, **options)

    def choose_frames(
        self, channels: str | Sequence[str] | None, workdir: str | None, backend: str | None
    ) -> tuple[Frames, str]:
        """Open the frames from which to read ``channels``, and say in words where the pixels come from.

        Without a backend, cache entries are used if all of them exist, and nothing is converted but files at addresses that cannot
        be read in parts.
        """
        frames = self.open_frames(workdir, backend_of(backend or "auto"))
        # An empty region: only the entries matter, not the cost.
        self.check_is_image(frames)
        files = frames.explain(self.image_id, (slice(0), slice(0)), channels).files
        if all(file.is_cached for file in files):
            return frames, "from the cache"
        # With "auto", a video has no entry and is its own source.
        if backend not in (None, "none") and any(file.entry_path is not None for file in files):
            return frames, f"through {'a new cache entry' if len(files) == 1 else 'new cache entries'}"
        direct = self.open_frames(workdir, None)
        if backend is None and self.sources and not self.can_read(direct):
            return frames, "through the cache"
        return direct, "from the source"

    def check_is_image(self, frames: Frames) -> None:
        """Check that a file at an address, of which only the content tells, is no animation.

        Raises:
            CommandError: it is.
        """
        if is_url(self.path) and len(frames.summarize(self.image_id).shape) > 3:
            raise CommandError(
                f"{show_path(self.path)} is an animation at an address, whose frames this command cannot choose; download it first"
            )

    def can_read(self, frames: Frames) -> bool:
        """Whether frames without a backend read all files of the image: at addresses, only those that are read in parts."""
        from ..errors import BackendError

        try:
            frames.explain(self.image_id, (slice(0), slice(0)))
        except BackendError:
            return False
        return True

    def check_not_source(self, output: str, frames: Frames) -> None:
        """Check that ``output`` is not one of the files that are read.

        Raises:
            CommandError: it is.
        """
        if not os.path.exists(output):
            return
        files = [self.path, *self.siblings, *(item.path for item in frames.pathinfo(self.image_id).channels)]
        # Not by path: a link may have another name.
        if any(os.path.exists(file) and os.path.samefile(file, output) for file in files):
            raise CommandError(f"{show_path(output)} is the source itself; write to another file")


def is_dataset(path: str) -> bool:
    """Whether a path has the extension of a COCO dataset."""
    # The datasets themselves are files of this machine.
    return path.lower().endswith(_DATASET_SUFFIXES) and not is_url(path)


def find_clip(path: str) -> Clip | None:
    """The video, folder, glob or pattern that a path names; ``None`` for an image."""
    from ..frames.clip import Clip, to_clip
    from ..spec.kinds import is_video_path

    if is_url(path):
        return Clip(path) if is_video_path(path) else None
    return to_clip(path) or (Clip(path) if Clip(path).is_video else None)


def resolve_image(
    path: str,
    image_id: str | None,
    *,
    space: Space | None = None,
    frame: int | None = None,
    defaults_to_first: bool = False,
    workdir: str | None = None,
    page: int | None = None,
    orientation: Orientation = "stored",
    sources: Sequence[str] = (),
) -> ImageArgument:
    """Find the image that the arguments name.

    Args:
        path: an image, a video, a folder, a glob, a pattern, or a dataset.
        image_id: of an image of a dataset.
        space: the grid on which to read an image of a dataset.
        frame: the position of a frame in a video or a sequence; negative numbers count from the end.
        defaults_to_first: whether the first frame is used if ``frame`` is ``None``.
        workdir: the folder that holds the cache, which stores the frame index of a video.
        page: the number of an image in a file of several.
        orientation: whether images are turned upright.
        sources: the addresses under which files may be read.

    Raises:
        CommandError: the image does not exist, the choice is ambiguous, or an option does not apply.
        SourceError: the video or the folder cannot be read.
    """
    if is_dataset(path):
        if frame is not None:
            raise CommandError(
                f"{show_path(path)} is a COCO dataset; choose an image with --image-id (--frame is for videos and sequences)"
            )
        if page is not None:
            raise CommandError(f"{show_path(path)} is a COCO dataset; --page is for files that hold several images")
        dataset = read_dataset(path)
        found = _find_image_id(path, dataset, image_id)
        return ImageArgument(path, found, dataset, space or "image", orientation=orientation, sources=tuple(sources))
    clip = find_clip(path)
    kind = "an image" if clip is None else "a video" if clip.is_video else "a sequence of images"
    for option, value in (("--image-id", image_id), ("--space", space)):
        if value is not None:
            raise CommandError(f"{show_path(path)} is {kind}; {option} is only for COCO datasets (.json or .zip)")
    if clip is not None:
        if page is not None:
            raise CommandError(
                f"{show_path(path)} is {kind}; choose one of its frames with --frame (--page is for files)"
            )
        chosen = _resolve_frame(clip, frame, workdir, tuple(sources), defaults_to_first=defaults_to_first)
        return replace(chosen, orientation=orientation)
    if frame is not None:
        raise CommandError(f"{show_path(path)} is an image; --frame is only for videos, folders, globs and patterns")
    return ImageArgument(path, path, page=page, orientation=orientation, sources=tuple(sources))


def read_dataset(path: str) -> Mapping[str, Any]:
    """Read the file of a COCO dataset.

    Raises:
        CommandError: the file cannot be read, or is not a dataset.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
        # A zip file is recognized by its content, since its name may end in .json.
        dataset = json.loads(_unzip(content) if content.startswith(_ZIP_MAGIC) else content)
    except FileNotFoundError as error:
        raise CommandError(f"{show_path(path)} does not exist; check the path") from error
    except RecursionError as error:
        raise CommandError(
            f"{show_path(path)} cannot be read as a COCO dataset: its lists or objects are nested too deeply"
        ) from error
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        raise CommandError(f"{show_path(path)} cannot be read as a COCO dataset: {reason}") from error
    if not isinstance(dataset, dict) or not _is_list_of_dicts(dataset.get("images")):
        raise CommandError(f"{show_path(path)} is not a COCO dataset: it has no list of images with ids")
    for key in ("annotations", "categories", "videos"):
        if not _is_list_of_dicts(dataset.get(key) or [], has_ids=key == "videos"):
            with_ids = " with ids" if key == "videos" else ""
            raise CommandError(f"{show_path(path)} is not a COCO dataset: {key!r} is not a list of objects{with_ids}")
    for key in ("images", "videos"):
        _check_ids(path, key, [item["id"] for item in dataset.get(key) or []])
    return dict(dataset)


def _check_ids(path: str, key: str, ids: Sequence[Any]) -> None:
    """Check that no two records have the same id.

    Raises:
        CommandError: an id occurs twice, or is a list or an object.
    """
    try:
        repeated, count = Counter(ids).most_common(1)[0] if ids else (None, 1)
    except TypeError as error:
        raise CommandError(
            f"{show_path(path)} is not a COCO dataset: an id of its {key} is a list or an object"
        ) from error
    if count > 1:
        raise CommandError(f"{show_path(path)}: the id {shorten(repeated)} belongs to {count:,} {key}")


def _resolve_frame(
    clip: Clip, frame: int | None, workdir: str | None, sources: tuple[str, ...], *, defaults_to_first: bool
) -> ImageArgument:
    """Find one frame of a video or a sequence."""
    from ..frames import simple
    from ..text import count_noun

    path = clip.path
    files = () if clip.is_video else tuple(clip.find_images().values())
    # A video at an address is converted; one on this machine is indexed.
    backend = "auto" if is_url(path) else None
    count = len(files) or len(simple.open(path, workdir=workdir, backend=backend, sources=sources))
    if frame is None and not defaults_to_first and count > 1:
        kind = f"a video of {count:,} frames" if clip.is_video else f"a sequence of {count:,} images"
        hint = ", or save several with 'ndframes video extract'" if clip.is_video else f" for {show_path(files[0])}"
        raise CommandError(f"{show_path(path)} is {kind}; choose one with --frame, such as --frame 0{hint}")
    if frame is not None and not -count <= frame < count:
        raise CommandError(
            f"{show_path(path)} has {count_noun(count, 'frame' if clip.is_video else 'image')}; --frame {frame} is out of "
            f"range, allowed: {-count:,} to {count - 1:,}"
        )
    number = (frame or 0) % count
    place = "0, the first" if frame is None and count > 1 else f"{number:,}"
    position = f"frame {place} of {count:,}"
    if clip.is_video:
        return ImageArgument(path, path, page=number, position=position, sources=sources)
    return ImageArgument(files[number], files[number], position=position, siblings=files)


def _is_list_of_dicts(items: object, *, has_ids: bool = True) -> bool:
    return isinstance(items, list) and all(isinstance(item, dict) and (not has_ids or "id" in item) for item in items)


def _unzip(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = [name for name in archive.namelist() if name.lower().endswith(".json")]
        if len(names) != 1:
            raise ValueError(f"the archive has {len(names)} .json files; a dataset has one")
        return archive.read(names[0])


def _find_image_id(path: str, dataset: Mapping[str, Any], text: str | None) -> Hashable:
    ids: list[Hashable] = [image["id"] for image in dataset["images"]]
    if text is None and len(ids) == 1:
        return ids[0]
    # Ids may be numbers; the command line has text only.
    matches = [image_id for image_id in ids if str(image_id) == text]
    if matches:
        return matches[0]
    listed = ", ".join(str(image_id) for image_id in ids[:_LISTED_IDS])
    summary = f"it has {len(ids):,}: {listed}{', ...' if len(ids) > _LISTED_IDS else ''}" if ids else "it has none"
    if text is None:
        raise CommandError(f"{show_path(path)}: choose an image with --image-id; {summary}")
    raise CommandError(f"{show_path(path)} has no image {text!r}; {summary}")
