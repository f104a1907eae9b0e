"""Clip: frames that follow each other: a video, images in a folder, images that match a pattern; found, and put in order."""

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
    coerce_frame_range,
    slice_frames,
)
from ..system.stamp import source_error
from ..text import count_noun

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from ..errors import SourceError

__all__ = ["IMAGE_SUFFIXES", "Clip", "natural_key", "to_clip"]
_WILD = re.compile(r"[*?[]")
_NUMBER = re.compile(r"%(?:0([0-9]+))?d|\{\w*(?::(?:0([0-9]+))?d?)?\}")


@dataclass(frozen=True, slots=True)
class Clip:
    r"""A video, the images of a folder, or those that a pattern matches: frames of a sequence ``(t, y, x, channel)``.

    ``path`` is one of four:

    - a video, told by its name's ending;
    - a folder: the files in it whose names end as images' do (:data:`~ndframes.spec.kinds.IMAGE_SUFFIXES`); hidden ones and
      folders in it are left out;
    - a glob such as ``"walk/*.png"`` or ``"walk/*/left.png"``: the files that it matches, whatever they are called; where it
      leaves the ending open (``"walk/left*"``), of those only images, as in a folder;
    - a pattern with one number, such as ``"walk/frame{:06d}.png"`` or ``"walk/frame%06d.png"``: the files that are called so
      for some number. Numbers may be missing; the rest of the pattern is taken as it stands.

    A file or folder that is called like a glob or a pattern is itself. Nothing is looked for before :meth:`find_images`.

    Attributes:
        path: the video, the folder, the glob or the pattern; ``str`` or path-like, kept as ``str``.
        frame_number: a regular expression whose one group is the number of a frame, in the file's name (of a glob: in what
            the path has from the first wildcard's folder on). It must find one in every file, and another one in each.
            Frames are then ordered by it. ``None``: by the number of the pattern, or else by name, in which runs of digits
            compare as numbers.
        frame_range: ``(start, stop)``: only the frames at these places, ``stop`` excluded, counted from 0 after they were put
            in order; a ``stop`` of ``None`` is the end. The sequence begins with frame ``start``.
        stream: of a video, the number of its stream; ``None``: the first one that is no attached picture.
        pixel_format: of a video; see :class:`ChannelInfo`.
        frame_errors: of a video, likewise.

    Raises:
        PathInfoError: a value cannot be.

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
        object.__setattr__(self, "path", self._channel().path)
        _check_expression(self.frame_number)
        object.__setattr__(self, "frame_range", coerce_frame_range(self.frame_range))

    @property
    def is_video(self) -> bool:
        """Whether it is a video file; else images."""
        return is_video_path(self.path) and not os.path.isdir(self.path) and not _is_glob(self.path)

    def find_images(self) -> dict[Hashable, str]:
        """The files that are there now, in order: a mapping from the id of each frame to its path.

        An id is the frame's number where there is one, else the file's name.

        Raises:
            SourceMissingError: there is no such folder, or no file matches.
            SourceKindError: the folder holds no image, or it is a file.
            SourceError: the folder cannot be read.
            PathInfoError: a file has no number, or several, or the number of another; or fewer frames are there than
                ``frame_range`` says.

        Example:
            >>> folder = getfixture("tmp_path")
            >>> for name in ("a2.png", "a10.png", "a1.png", "a.json"):
            ...     (folder / name).touch()
            >>> list(Clip(folder).find_images())
            ['a1.png', 'a2.png', 'a10.png']
            >>> list(Clip(folder / "a%d.png").find_images())
            [1, 2, 10]
        """
        root, rest = (self.path, "") if os.path.isdir(self.path) else _split(self.path)
        is_numbered = _NUMBER.search(rest) is not None
        if is_numbered and self.frame_number is not None:
            raise PathInfoError(f"{self.path} says where a frame's number is, and so does frame_number; leave one out")
        if is_numbered:
            found = _match_number(root, rest)
        elif self.frame_number is None:
            found = {name: name for name in sorted(_list_names(root, rest), key=natural_key)}
        else:
            found = _find_numbers(self.path, _list_names(root, rest), self.frame_number)
        if not found:
            raise self._nothing(root, rest)
        kept = slice_frames(list(found.items()), self.frame_range, self.path, "images")
        return {frame: os.path.join(root, name) for frame, name in kept}

    def to_pathinfo(self, image_id: Hashable) -> PathInfo:
        """The video, or the sequence of the files that are there now, for :meth:`ndframes.Frames.build_pathinfo`.

        Raises:
            NdframesError: as :meth:`find_images`.

        Example:
            >>> (getfixture("tmp_path") / "frame7.png").touch()
            >>> info = Clip(getfixture("tmp_path") / "frame{:d}.png").to_pathinfo("walk")
            >>> info.num_frames, info.images[0].image_id
            (1, 7)
        """
        named = {"frame_number": self.frame_number, "stream": self.stream, "pixel_format": self.pixel_format}
        named |= {"frame_errors": None if self.frame_errors == "raise" else self.frame_errors}
        misplaced = [
            name for name, value in named.items() if value is not None and (name == "frame_number") == self.is_video
        ]
        if misplaced:
            kinds = ("images", "a video") if self.is_video else ("a video", "images")
            raise PathInfoError(f"{self.path} is {kinds[1]}; {' and '.join(misplaced)} is for {kinds[0]}")
        if self.is_video:
            return PathInfo(image_id, (self._channel(),), frame_range=self.frame_range)
        images = [PathInfo(frame, (ChannelInfo(path),)) for frame, path in self.find_images().items()]
        return SequenceInfo.of(image_id, images)

    def __repr__(self) -> str:
        named = [(item.name, getattr(self, item.name), item.default) for item in fields(self)[1:]]
        return f"Clip({', '.join([repr(self.path), *(f'{name}={value!r}' for name, value, usual in named if value != usual)])})"

    def _channel(self) -> ChannelInfo:
        return ChannelInfo(
            self.path, series=self.stream, pixel_format=self.pixel_format, frame_errors=self.frame_errors
        )

    def _nothing(self, root: str, rest: str) -> SourceError:
        """The error where nothing is found."""
        names = _scan(root)
        there = f"{count_noun(len(names), 'file')}, such as {min(names)}" if names else "no file"
        if rest:
            return SourceMissingError(
                f"{self.path} does not exist, and as a pattern it matches nothing; {root or 'the working directory'} holds "
                f"{there}"
            )
        return SourceKindError(
            f"{root} is a directory without images, it holds {there}; give the path of an image, or of a folder of images, "
            "which are told by endings such as .png"
        )


def to_clip(path: object) -> Clip | None:
    """The folder or pattern that ``path`` names; ``None`` for a file, or what is none of them.

    Example:
        >>> to_clip("walk/*.png"), to_clip(__file__)
        (Clip('walk/*.png'), None)
    """
    if isinstance(path, Clip):
        return path
    if not isinstance(path, (str, os.PathLike)):
        return None
    name = os.fsdecode(path)
    return Clip(name) if os.path.isdir(name) or _is_glob(name) else None


def natural_key(name: str) -> tuple[list[Any], str]:
    """What names are sorted by so that runs of digits compare as numbers.

    Example:
        >>> sorted(["f10.png", "f2.png", "f02.png", "e11.png"], key=natural_key)
        ['e11.png', 'f02.png', 'f2.png', 'f10.png']
    """
    parts = re.split("([0-9]+)", name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


def _split(path: str) -> tuple[str, str]:
    """The folder in which a pattern begins, and the pattern as seen from there."""
    if os.path.lexists(path):
        raise SourceKindError(f"{path} is a file, not a folder of images, nor a pattern; open it as an image")
    root, rest = os.path.split(path)
    if not os.path.isdir(root):
        first = min((found.start() for found in (_WILD.search(path), _NUMBER.search(path)) if found), default=0)
        cut = path.rfind(os.sep, 0, first) + 1
        root, rest = path[:cut], path[cut:]
    if not _is_pattern(rest):
        raise source_error(path, FileNotFoundError(errno.ENOENT, "no such folder"))
    return root, rest


def _is_glob(path: str) -> bool:
    return _is_pattern(path) and not os.path.lexists(path)


def _is_pattern(path: str) -> bool:
    return bool(_WILD.search(path) or _NUMBER.search(path))


def _list_names(root: str, rest: str) -> set[str]:
    """The images of a folder, or what a glob matches there."""
    if not rest:
        return {name for name in _scan(root) if _is_image(name)}
    ending = os.path.splitext(rest)[1]
    is_open = not ending or _WILD.search(ending)
    return {name for name in _glob(root, rest) if not is_open or _is_image(os.path.basename(name))}


def _is_image(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _scan(folder: str) -> list[str]:
    """The names of the files in a folder; a link to nothing is one, so that no frame is passed over in silence."""
    try:
        with os.scandir(folder or os.curdir) as entries:
            return [entry.name for entry in entries if not entry.is_dir()]
    except OSError as error:
        raise source_error(folder, error) from error


def _glob(root: str, pattern: str) -> list[str]:
    names = glob.glob(pattern, root_dir=root or None, recursive=True)
    return [name for name in names if not os.path.isdir(os.path.join(root, name))]


def _match_number(root: str, pattern: str) -> dict[Hashable, str]:
    """The files that are called as the pattern says for some number, by that number."""
    field, *more = _NUMBER.finditer(pattern)
    if more:
        raise PathInfoError(
            f"{os.path.join(root, pattern)} has {len(more) + 1} numbers; the pattern of a frame has one"
        )
    before, after, width = pattern[: field.start()], pattern[field.end() :], int(field[1] or field[2] or 1)
    exact = re.compile(f"{re.escape(before)}([0-9]+){re.escape(after)}")
    found: dict[int, str] = {}
    for name in _glob(root, f"{glob.escape(before)}[0-9]*{glob.escape(after)}"):
        match = exact.fullmatch(name)
        if match and (len(match[1]) == width or (len(match[1]) > width and match[1][0] != "0")):
            found[int(match[1])] = name
    return dict(sorted(found.items()))


def _find_numbers(path: str, names: Iterable[str], expression: str) -> dict[Hashable, str]:
    """The files by the numbers that the expression finds in their names."""
    found: dict[int, str] = {}
    for name in sorted(names):
        matches = re.findall(expression, name)
        try:
            (number,) = map(int, matches)
        except ValueError as error:
            told = f"finds {', '.join(map(repr, matches))}" if matches else "finds nothing"
            raise PathInfoError(
                f"{path}: frame_number={expression!r} {told} in {name!r}, where one whole number must be; change it, or choose "
                "the files by a glob"
            ) from error
        if number in found:
            raise PathInfoError(
                f"{path}: frame_number={expression!r} finds {number} in both {found[number]!r} and {name!r}; change it, or "
                "choose the files by a glob"
            )
        found[number] = name
    return dict(sorted(found.items()))


def _check_expression(expression: object) -> None:
    if expression is None:
        return
    try:
        groups = re.compile(expression).groups if isinstance(expression, str) else 0
    except re.error as error:
        raise PathInfoError(f"frame_number={shorten(expression)} is no regular expression: {error}") from error
    if groups != 1:
        raise PathInfoError(
            f"frame_number must be a regular expression of which one group is the number, such as r'frame(\\d+)', got "
            f"{shorten(expression)}"
        )
