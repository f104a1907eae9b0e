"""SimpleFrames: frames over a mapping from image ids to paths; and ``open`` for a single file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import PathInfoError, shorten
from ..spec.pathinfo import ChannelInfo, PathInfo
from .clip import Clip, to_clip
from .collection import is_member
from .frames import Frames
from .photographs import demo_paths

if TYPE_CHECKING:
    import os
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from typing_extensions import Unpack

    from ..items.parts import OverviewMode
    from ..spec.backends import BackendSpec
    from .lazyframe import LazyFrame
    from .options import FramesOptions

__all__ = ["SimpleFrames", "open"]


class SimpleFrames(Frames):
    """Frames over a mapping from ids to paths of images, videos and sequences of images.

    Args:
        id_to_path: a mapping from hashable ids to paths or :class:`Clip` objects; it is copied. A folder of images, a glob such
            as ``"walk/*.png"`` or a pattern such as ``"walk/frame{:06d}.png"`` is a sequence; see :class:`Clip`. Its files are
            listed once, when it is first used.
        **options: as for :class:`Frames`.

    Raises:
        PathInfoError: ``id_to_path`` is not a mapping.

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
        try:
            self._id_to_path = dict(id_to_path)
        except (TypeError, ValueError) as error:
            raise PathInfoError(
                f"id_to_path must be a mapping from ids to paths, got {shorten(id_to_path)}; number a list of paths by "
                "dict(enumerate(paths))"
            ) from error

    @property
    def image_ids(self) -> Sequence[Hashable]:
        """The mapping's keys, in its order."""
        return list(self._id_to_path)

    def build_pathinfo(self, image_id: Hashable) -> PathInfo:
        """Describe an image or a video by its file, and a sequence by the image files that exist now.

        Raises:
            SourceError: the folder has no images, or no file matches the pattern.
            PathInfoError: the frames of the sequence cannot be numbered.
        """
        source = self._id_to_path[image_id]
        # Not in the constructor: a mapping of thousands of paths must not look at each of them.
        clip = to_clip(source)
        if clip is not None:
            return clip.to_pathinfo(image_id)
        return PathInfo(image_id, (ChannelInfo(source),))

    def __contains__(self, image_id: object) -> bool:
        # Without building the list of image_ids.
        return is_member(self._id_to_path, image_id)

    @classmethod
    def demo(cls, **options: Any) -> SimpleFrames:
        """Frames over real photographs of scikit-image's wheel, by name; works offline.

        Raises:
            MissingExtraError: scikit-image is not installed.
        """
        return cls(demo_paths(), **options)


def open(  # noqa: A001, PLR0913 - the name that errors of Python show; one keyword for each option
    path: str | os.PathLike[str] | Clip,
    *,
    workdir: str | os.PathLike[str] | None = None,
    backend: BackendSpec = None,
    overviews: OverviewMode = "own",
    channels: str | Sequence[str] | None = None,
    frame_number: str | None = None,
    frame_range: Iterable[int | None] | None = None,
    stream: int | None = None,
    pixel_format: str | None = None,
    frame_errors: str = "raise",
) -> LazyFrame:
    """Open one file as an array that stays on disk. It is exported as ``ndframes.open``.

    Args:
        path: an image, a video, or a sequence of images: a folder, a glob or a pattern; see :class:`Clip`.
        workdir: the folder of the cache, which holds the index of a video and, with a ``backend``, the cache entry.
        backend: as for :class:`Frames`; ``None`` reads the file directly.
        overviews: as for :class:`Frames`; ``"source"`` for thumbnails of huge slides.
        channels: as for :meth:`Frames.load_frame`.
        frame_number: for a sequence, as for :class:`Clip`.
        frame_range: for a video or a sequence, as for :class:`Clip`.
        stream: for a video, as for :class:`Clip`.
        pixel_format: for a video, as for :class:`Clip`.
        frame_errors: for a video, as for :class:`Clip`.

    Raises:
        PathInfoError: an option is not valid for this file, or is given beside a :class:`Clip`.
        NdframesError: the file cannot be read, or another option is not valid.

    Example:
        >>> import ndframes as nf
        >>> nf.open(nf.demo_paths()["moon"])[250:252, 100:103].tolist()
        [[[112], [112], [109]], [[112], [112], [109]]]
    """
    source = path
    # A default asks for nothing, so it is allowed for every kind of file.
    if (frame_number, frame_range, stream, pixel_format, frame_errors) != (None, None, None, None, "raise"):
        source = Clip(
            path,  # type: ignore[arg-type]  # Clip raises PathInfoError for a Clip
            frame_number=frame_number,
            frame_range=frame_range,
            stream=stream,
            pixel_format=pixel_format,
            frame_errors=frame_errors,
        )
    # The path is the image id: it names the file in messages and in the repr.
    name = source.path if isinstance(source, Clip) else ChannelInfo(source).path
    frames = SimpleFrames({name: source}, workdir=workdir, backend=backend, overviews=overviews)
    return frames.load_frame(name, channels)
