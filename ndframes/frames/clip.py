"""Clip: a video, the images of a folder, or the images that match a pattern, as a sequence of frames in order."""

from __future__ import annotations

import errno
import glob
import os
import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from ..errors import PathInfoError, SourceKindError, SourceMissingError, shorten
from ..spec.kinds import IMAGE_SUFFIXES, is_video_path
from ..spec.pathinfo import (
    ChannelInfo,
    PathInfo,
    SequenceInfo,
    coerce_count,
    coerce_frame_range,
    slice_frames,
)
from ..system.objects.addresses import is_url
from ..system.stamp import source_error, stat_source
from ..text import count_noun

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from ..errors import SourceError

__all__ = ["IMAGE_SUFFIXES", "Clip", "list_sources", "natural_key", "to_clip"]
_WILD = re.compile(r"[*?[]")
# %d and %06d, as in printf; {}, {:d}, {:06d} and {frame:06d}, as in str.format.
_NUMBER = re.compile(r"%(?:0([0-9]+))?d|\{\w*(?::(?:0([0-9]+))?d?)?\}")


@dataclass(frozen=True, slots=True)
class Clip:
    r"""A video, the images of a folder, or the images that match a pattern: a sequence of frames ``(t, y, x, channel)``.

    ``path`` is one of four:

    - a video, recognized by the ending of its name;
    - a folder: the files in it that have the ending of an image (:data:`~ndframes.spec.kinds.IMAGE_SUFFIXES`), without hidden
      files and without subfolders;
    - a glob such as ``"walk/*.png"`` or ``"walk/*/left.png"``: the files that match it. If it leaves the ending open
      (``"walk/left*"``), only files with the ending of an image match, as in a folder;
    - a pattern with one number, such as ``"walk/frame{:06d}.png"`` or ``"walk/frame%06d.png"``: the files that have this name
      for some number. Numbers may be missing. Wildcards of a glob have no meaning in such a pattern.

    A path that exists is taken literally, even if its name looks like a glob or a pattern. The file system is not searched
    before :meth:`find_images`.

    Attributes:
        path: the video, folder, glob or pattern: ``str`` or path-like, stored as ``str``.
        frame_number: a regular expression with one group, which matches the number of a frame in the name of its file (for a
            glob: in its path from the first folder with a wildcard on). Each file must have exactly one number, and no two
            files the same one. Frames are sorted by it. ``None``: frames are sorted by the number of the pattern, otherwise by
            name, where digits compare as numbers.
        frame_range: ``(start, stop)``: only the frames at these positions in the sorted sequence, counted from 0, without
            ``stop``. A ``stop`` of ``None`` is the end. The sequence then starts with frame ``start``.
        stream: the number of the stream in a video, as :func:`ndframes.video_metadata` lists them; ``None``: the one that
            FFmpeg prefers, by its marks, number of frames and bit rate. Covers, thumbnails and streams of one frame come
            last.
        pixel_format: for a video, as in :class:`ChannelInfo`.
        frame_errors: for a video, as in :class:`ChannelInfo`.

    Raises:
        PathInfoError: a value is not valid.

    Example:
        >>> import numpy as np
        >>> import ndframes as nf
        >>> folder = getfixture("tmp_path")
        >>> for number in (9, 10, 7):
        ...     np.save(folder / f"frame{number}.npy", np.full((4, 6), number, np.uint8))
        >>> walk = nf.open(folder)
        >>> walk.shape, walk[:, 0, 0, 0].tolist(), walk.frame_ids
        ((3, 4, 6, 1), [7, 9, 10], ('frame7.npy', 'frame9.npy', 'frame10.npy'))
        >>> walk = nf.open(nf.Clip(folder, frame_number=r"frame(\d+)", frame_range=(1, 3)))
        >>> walk.frame_ids, walk[0, 0, 0].tolist()
        ((9, 10), [9])
    """

    path: str
    frame_number: str | None = field(default=None, kw_only=True)
    frame_range: tuple[int, int | None] | None = field(default=None, kw_only=True)
    stream: int | None = field(default=None, kw_only=True)
    pixel_format: str | None = field(default=None, kw_only=True)
    frame_errors: str = field(default="raise", kw_only=True)

    # The types that callers may pass; the fields have the types that are stored.
    if TYPE_CHECKING:

        def __init__(
            self,
            path: str | os.PathLike[str],
            *,
            frame_number: str | None = None,
            frame_range: Iterable[int | None] | None = None,
            stream: int | None = None,
            pixel_format: str | None = None,
            frame_errors: str = "raise",
        ) -> None: ...

    def __post_init__(self) -> None:
        # The instance is frozen, hence object.__setattr__.
        object.__setattr__(self, "stream", coerce_count("stream", self.stream))
        # ChannelInfo checks the path and the other options of videos.
        object.__setattr__(self, "path", self.to_channel().path)
        _check_expression(self.frame_number)
        object.__setattr__(self, "frame_range", coerce_frame_range(self.frame_range))

    @property
    def is_video(self) -> bool:
        """Whether it is a video file or an animation, and not images."""
        # Imported here, because a mapping of paths needs no reader.
        from ..entries.source import is_video_file

        if is_url(self.path):  # what else would be no clip
            return True
        # A folder may be called walk.mp4, and a glob may end in .mp4.
        return not os.path.isdir(self.path) and not _is_glob(self.path) and is_video_file(self.path)

    def find_images(self) -> dict[Hashable, str]:
        """Find the image files that exist now: a mapping in order from the id of each frame to its path.

        The id of a frame is its number if it has one, otherwise the name of its file.

        Raises:
            SourceMissingError: the folder does not exist, or no file matches.
            SourceKindError: the folder has no images, or is a file.
            SourceError: the folder cannot be read.
            PathInfoError: a file does not have exactly one number, two files have the same number, or ``frame_range`` goes
                beyond the frames.

        Example:
            >>> folder = getfixture("tmp_path")
            >>> for name in ("a2.png", "a10.png", "a1.png", "a.json"):
            ...     (folder / name).touch()
            >>> list(Clip(folder).find_images())
            ['a1.png', 'a2.png', 'a10.png']
            >>> list(Clip(folder / "a%d.png").find_images())
            [1, 2, 10]
        """
        root, pattern = (self.path, "") if os.path.isdir(self.path) else _split_path(self.path)
        is_numbered = _NUMBER.search(pattern) is not None
        if is_numbered and self.frame_number is not None:
            raise PathInfoError(f"{self.path} contains the number of a frame, so leave out frame_number")
        if is_numbered:
            names = _match_pattern(root, pattern)
        elif self.frame_number is None:
            names = {name: name for name in sorted(_list_images(root, pattern), key=natural_key)}
        else:
            names = _match_expression(self.path, _list_images(root, pattern), self.frame_number)
        if not names:
            raise _nothing_found(self.path, root, pattern, "images")
        kept = slice_frames(list(names.items()), self.frame_range, self.path, "images")
        return {frame: os.path.join(root, name) for frame, name in kept}

    def to_pathinfo(self, image_id: Hashable) -> PathInfo:
        """Describe the video, or the sequence of the files that exist now, for :meth:`ndframes.Frames.build_pathinfo`.

        Raises:
            NdframesError: as :meth:`find_images`.

        Example:
            >>> (getfixture("tmp_path") / "frame7.png").touch()
            >>> info = Clip(getfixture("tmp_path") / "frame{:d}.png").to_pathinfo("walk")
            >>> info.num_frames, info.images[0].image_id
            (1, 7)
        """
        options = {"frame_number": self.frame_number, "stream": self.stream, "pixel_format": self.pixel_format}
        options |= {"frame_errors": None if self.frame_errors == "raise" else self.frame_errors}
        misplaced = [
            name for name, value in options.items() if value is not None and (name == "frame_number") == self.is_video
        ]
        if misplaced:
            is_or_not, kind = ("is", "images") if self.is_video else ("is not", "a video")
            raise PathInfoError(f"{self.path} {is_or_not} a video; {' and '.join(misplaced)} is for {kind}")
        if self.is_video:
            return PathInfo(image_id, (self.to_channel(),), frame_range=self.frame_range)
        images = [PathInfo(frame, (ChannelInfo(path),)) for frame, path in self.find_images().items()]
        return SequenceInfo.of(image_id, images)

    def __repr__(self) -> str:
        options = [(item.name, getattr(self, item.name), item.default) for item in fields(self)[1:]]
        shown = [f"{name}={value!r}" for name, value, default in options if value != default]
        return f"Clip({', '.join([repr(self.path), *shown])})"

    def to_channel(self, *, page: int | None = None, series: int | None = None) -> ChannelInfo:
        """The video as a file of an image; ``page`` is the number of one of its frames, ``series`` replaces ``stream``."""
        return ChannelInfo(
            self.path,
            page=page,
            series=self.stream if series is None else series,
            pixel_format=self.pixel_format,
            frame_errors=self.frame_errors,
        )


def to_clip(path: object) -> Clip | None:
    """The clip of a folder, glob or pattern; ``None`` for a path of a file, and for anything that is not a path.

    Example:
        >>> to_clip("walk/*.png"), to_clip(__file__)
        (Clip('walk/*.png'), None)
    """
    if isinstance(path, Clip):
        return path
    if not isinstance(path, (str, os.PathLike)):
        return None
    name = os.fsdecode(path)
    # A missing path without a wildcard stays a file: the error for a missing file is the clearer one.
    return Clip(name) if os.path.isdir(name) or _is_glob(name) else None


def list_sources(path: str) -> list[str]:
    """The images and videos of a folder, or the files that a glob or pattern matches; the path itself if it is a file.

    As in :meth:`Clip.find_images`, but with videos: each file is a source of its own, sorted by name.

    Raises:
        SourceMissingError: the folder does not exist, or no file matches.
        SourceKindError: the folder holds neither images nor videos.
        SourceError: the folder cannot be read.
    """
    if is_url(path):
        return [path]
    if not os.path.isdir(path) and not _is_glob(path):
        stat_source(path)  # raises if there is none
        return [path]
    root, pattern = (path, "") if os.path.isdir(path) else _split_path(path)
    if _NUMBER.search(pattern):
        names = [*_match_pattern(root, pattern).values()]
    else:
        names = sorted(_list_images(root, pattern, with_videos=True), key=natural_key)
    if not names:
        raise _nothing_found(path, root, pattern, "images or videos")
    return [os.path.join(root, name) for name in names]


def natural_key(name: str) -> tuple[list[Any], str]:
    """A sort key for names that compares runs of digits as numbers.

    Example:
        >>> sorted(["f10.png", "f2.png", "f02.png", "e11.png"], key=natural_key)
        ['e11.png', 'f02.png', 'f2.png', 'f10.png']
    """
    parts = re.split("([0-9]+)", name)
    # The name itself orders names that differ only in leading zeros.
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


def _split_path(path: str) -> tuple[str, str]:
    """The folder before the first wildcard or number, and the pattern relative to it."""
    if os.path.lexists(path):
        raise SourceKindError(f"{path} is a file, not a folder of images or a pattern; open it as an image")
    # A folder that exists is taken literally, even if its name contains wildcards.
    root, pattern = os.path.split(path)
    if not os.path.isdir(root):
        first = min((match.start() for match in (_WILD.search(path), _NUMBER.search(path)) if match), default=0)
        cut = path.rfind(os.sep, 0, first) + 1
        root, pattern = path[:cut], path[cut:]
    if not _is_pattern(pattern):
        raise source_error(path, FileNotFoundError(errno.ENOENT, "no such folder"))
    return root, pattern


def _is_glob(path: str) -> bool:
    # The keys of objects may contain any character, and cannot be searched.
    return _is_pattern(path) and not is_url(path) and not os.path.lexists(path)


def _is_pattern(path: str) -> bool:
    return bool(_WILD.search(path) or _NUMBER.search(path))


def _list_images(root: str, pattern: str, *, with_videos: bool = False) -> set[str]:
    """The images (and videos) of a folder, or the files in it that a glob matches."""
    if not pattern:
        return {name for name in _list_files(root) if _is_source(name, with_videos)}
    ending = os.path.splitext(pattern)[1]
    is_any_ending = not ending or _WILD.search(ending)
    return {
        name for name in _glob(root, pattern) if not is_any_ending or _is_source(os.path.basename(name), with_videos)
    }


def _is_source(name: str, with_videos: bool) -> bool:
    is_image = os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
    return not name.startswith(".") and (is_image or (with_videos and is_video_path(name)))


def _nothing_found(path: str, root: str, pattern: str, noun: str) -> SourceError:
    """The error for a folder or a pattern without files of the kind that is asked for."""
    names = _list_files(root)
    content = f"{count_noun(len(names), 'file')}, such as {min(names)}" if names else "no file"
    if pattern:
        where = root or "the working directory"
        return SourceMissingError(
            f"{path} does not exist, and as a pattern it matches nothing; {where} holds {content}"
        )
    if noun == "images" and any(map(is_video_path, names)):
        return SourceKindError(
            f"{root} is a folder of videos: it holds {content}; SimpleFrames({root!r}) reads each of them by its name, open "
            "reads one file"
        )
    return SourceKindError(
        f"{root} is a directory without {noun}: it holds {content}; give the path of an image, or of a folder of images "
        "with endings such as .png"
    )


def _list_files(folder: str) -> list[str]:
    """The names of the files in a folder."""
    try:
        with os.scandir(folder or os.curdir) as entries:
            # Broken links are kept: reading one raises an error, whereas leaving it out would drop a frame silently.
            return [entry.name for entry in entries if not entry.is_dir()]
    except OSError as error:
        raise source_error(folder, error) from error


def _glob(root: str, pattern: str) -> list[str]:
    names = glob.glob(pattern, root_dir=root or None, recursive=True)
    return [name for name in names if not os.path.isdir(os.path.join(root, name))]


def _match_pattern(root: str, pattern: str) -> dict[Hashable, str]:
    """The files that match a pattern with a number, by their numbers."""
    field, *more = _NUMBER.finditer(pattern)
    if more:
        raise PathInfoError(
            f"{os.path.join(root, pattern)} has {len(more) + 1} numbers; give a pattern with one number"
        )
    before, after, width = pattern[: field.start()], pattern[field.end() :], int(field[1] or field[2] or 1)
    exact = re.compile(f"{re.escape(before)}([0-9]+){re.escape(after)}")
    names: dict[int, str] = {}
    # The glob only narrows the search: it cannot say "digits only".
    for name in _glob(root, f"{glob.escape(before)}[0-9]*{glob.escape(after)}"):
        match = exact.fullmatch(name)
        # As format() writes it: numbers of more digits than the width have no leading zero.
        if match and (len(match[1]) == width or (len(match[1]) > width and match[1][0] != "0")):
            names[int(match[1])] = name
    return dict(sorted(names.items()))


def _match_expression(path: str, names: Iterable[str], expression: str) -> dict[Hashable, str]:
    """The files by the numbers that a regular expression finds in their names."""
    found: dict[int, str] = {}
    for name in sorted(names):
        matches = re.findall(expression, name)
        try:
            (number,) = map(int, matches)
        except ValueError as error:
            result = ", ".join(map(repr, matches)) if matches else "nothing"
            raise PathInfoError(
                f"{path}: frame_number={shorten(expression)} finds {result} in {name!r} instead of one whole number; change it, or "
                "select the files with a glob"
            ) from error
        if number in found:
            raise PathInfoError(
                f"{path}: frame_number={shorten(expression)} finds {number} in both {found[number]!r} and {name!r}; change it, or "
                "select the files with a glob"
            )
        found[number] = name
    return dict(sorted(found.items()))


def _check_expression(expression: object) -> None:
    if expression is None:
        return
    try:
        groups = re.compile(expression).groups if isinstance(expression, str) else 0
    except re.error as error:
        raise PathInfoError(f"frame_number={shorten(expression)} is not a regular expression: {error}") from error
    if groups != 1:
        raise PathInfoError(
            f"frame_number must be a regular expression with one group, which matches the number, such as r'frame(\\d+)', "
            f"got {shorten(expression)}"
        )
