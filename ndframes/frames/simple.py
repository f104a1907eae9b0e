"""SimpleFrames: a mapping from image ids to paths; and ``open`` for a single file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ..spec.pathinfo import ChannelInfo, PathInfo
from .clip import Clip, to_clip
from .collection import is_member
from .frames import Frames
from .photographs import demo_paths

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from typing_extensions import Unpack

    from ..spec.backends import BackendSpec
    from .lazyframe import LazyFrame
    from .options import ClipOptions, FramesOptions

__all__ = ["SimpleFrames", "open_frame"]


class SimpleFrames(Frames):
    """Frames over a mapping from ids to paths: each an image, a video, or images that make a sequence.

    Args:
        id_to_path: mapping from hashable ids to paths; read when an image is first asked for. A folder of images, a glob such
            as ``"walk/*.png"`` or a pattern such as ``"walk/frame{:06d}.png"`` is a sequence; see :class:`Clip`, which
            may stand here too. Its files are listed once, when it is first asked for.
        **options: as for :class:`Frames`.

    Example:
        >>> import ndframes as nf
        >>> frames = nf.SimpleFrames.demo(backend=None)
        >>> len(frames), frames.image_ids[0], "astronaut" in frames
        (8, 'astronaut', True)
        >>> frames.load_region("astronot")
        Traceback (most recent call last):
        ndframes.errors.ImageIdError: no image 'astronot'; close: astronaut
    """

    def __init__(
        self, id_to_path: Mapping[Any, str | os.PathLike[str] | Clip], **options: Unpack[FramesOptions]
    ) -> None:
        super().__init__(**options)
        self._id_to_path = dict(id_to_path)

    @property
    def image_ids(self) -> Sequence[Hashable]:
        """The mapping's keys, in its order."""
        return list(self._id_to_path)

    def build_pathinfo(self, image_id: Hashable) -> PathInfo:
        """One channel: the file; of a folder or pattern, the images that are there now.

        Raises:
            SourceError: there is no image in the folder, or none that matches.
            PathInfoError: its frames cannot be numbered.
        """
        source = self._id_to_path[image_id]
        folder = to_clip(source)
        if folder is not None:
            return folder.to_pathinfo(image_id)
        return PathInfo(image_id, (ChannelInfo(source),))

    def __contains__(self, image_id: object) -> bool:
        return is_member(self._id_to_path, image_id)

    @classmethod
    def demo(cls, **options: Any) -> SimpleFrames:
        """A few real photographs, by name, from scikit-image's wheel; works offline.

        Raises:
            MissingExtraError: scikit-image is not installed.
        """
        return cls(demo_paths(), **options)


def open_frame(
    path: str | os.PathLike[str] | Clip,
    *,
    workdir: str | os.PathLike[str] | None = None,
    backend: BackendSpec = None,
    channels: str | Sequence[str] | None = None,
    **clip: Unpack[ClipOptions],
) -> LazyFrame:
    """Open one file as an array that stays on disk; ``ndframes.open`` is this function.

    Args:
        path: an image of any kind that is read, a video, or images that make a sequence: a folder, a glob or a pattern; see
            :class:`Clip`.
        workdir: where a cache goes, if ``backend`` asks for one, and the index of a video.
        backend: as for :class:`Frames`; ``None`` reads the file directly.
        channels: which channels; ``None``: all.
        **clip: of a video or a sequence, what :class:`Clip` takes: ``frame_range``, ``frame_number``, ``stream``,
            ``pixel_format``, ``frame_errors``.

    Example:
        >>> import ndframes as nf
        >>> nf.open(nf.demo_paths()["moon"])[250:252, 100:103].tolist()
        [[[112], [112], [109]], [[112], [112], [109]]]
    """
    source = Clip(path, **clip) if clip else path  # type: ignore[arg-type]
    name = source.path if isinstance(source, Clip) else os.fsdecode(source)
    frames = SimpleFrames({name: source}, workdir=workdir, backend=backend)
    return frames.load_frame(name, channels)
