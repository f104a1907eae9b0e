"""SimpleFrames: frames over files; and ``open`` for a single file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import PathInfoError, shorten
from ..spec.pathinfo import ChannelInfo, PathInfo
from .clip import Clip, to_clip
from .collection import is_member
from .frames import Frames
from .photographs import demo_paths
from .sources import to_sources

if TYPE_CHECKING:
    import os
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from typing_extensions import Unpack

    from ..items.parts import OverviewMode
    from ..spec.backends import BackendSpec
    from ..spec.pathinfo import Orientation
    from .lazyframe import LazyFrame
    from .options import FramesOptions
    from .sources import Source

    _Source = Source | os.PathLike[str]
    _Sources = str | os.PathLike[str] | Mapping[Any, _Source] | Iterable[_Source] | Iterable[tuple[Any, _Source]]

__all__ = ["SimpleFrames", "open"]


class SimpleFrames(Frames):
    """Frames over files: images, videos and sequences of images, by ids.

    Args:
        files: one of these; it is copied, and relative paths are taken from the folder that is current now:

            - a mapping from hashable ids to sources. A source is a path, an address such as ``"s3://bucket/a.tif"``, which
              ``sources=`` must allow, a :class:`Clip`, a :class:`ChannelInfo` or a
              :class:`PathInfo`. The path of a folder of images, a glob such as ``"walk/*.png"`` or a pattern such as
              ``"walk/frame{:06d}.png"`` is one sequence; see :class:`Clip`. Its files are listed once, when it is first used.
            - a list of sources. The id of each is its file's name without ending if these all differ, otherwise its path as
              given; that of a :class:`PathInfo` is its own.
            - the path of a folder: its images and videos, sorted by name, without subfolders and hidden files. They are listed
              now. A glob or a pattern: the files that match.

        **options: as for :class:`Frames`.

    Raises:
        PathInfoError: ``files`` is none of these.
        SourceError: the folder does not exist or holds no images, or no file matches the glob.

    Example:
        >>> import ndframes as nf
        >>> frames = nf.SimpleFrames(list(nf.demo_paths().values()), backend=None)
        >>> len(frames), frames.image_ids[0], frames["coffee"].shape
        (8, 'astronaut', (400, 600, 3))
        >>> frames.load_region("astronot")
        Traceback (most recent call last):
        ndframes.errors.ImageIdError: no image 'astronot'; close: astronaut
    """

    def __init__(self, files: _Sources | None = None, /, **options: Unpack[FramesOptions]) -> None:
        if files is None:
            # By the name that this argument had before sources= allowed addresses.
            named: Any = options.pop("sources", None)
            if named is None:
                raise TypeError(
                    f"{type(self).__name__} needs the files: a mapping of ids to paths, a list, a folder or a glob"
                )
            files = named
        super().__init__(**options)
        self._sources = to_sources(files)

    @property
    def image_ids(self) -> Sequence[Hashable]:
        """The ids, in the order of the sources."""
        return list(self._sources)

    def build_pathinfo(self, image_id: Hashable) -> PathInfo:
        """Describe an image or a video by its file, and a sequence by the image files that exist now.

        Raises:
            SourceError: the folder has no images, or no file matches the pattern.
            PathInfoError: the frames of the sequence cannot be numbered.
        """
        source = self._sources[image_id]
        if isinstance(source, PathInfo):
            return source
        if isinstance(source, ChannelInfo):
            return PathInfo(image_id, (source,))
        # Not in the constructor: a mapping of thousands of paths must not look at each of them.
        clip = to_clip(source)
        if clip is not None:
            return clip.to_pathinfo(image_id)
        assert isinstance(source, str)  # noqa: S101
        return PathInfo(image_id, (ChannelInfo(source),))

    def __contains__(self, image_id: object) -> bool:
        # Without building the list of image_ids.
        return is_member(self._sources, image_id)

    @classmethod
    def demo(cls, **options: Any) -> SimpleFrames:
        """Frames over real photographs of scikit-image's wheel, by name; works offline.

        Raises:
            MissingExtraError: scikit-image is not installed.
        """
        return cls(demo_paths(), **options)


def open(  # noqa: A001, PLR0913 - the name that errors of Python show; one keyword for each option
    path: str | os.PathLike[str] | Clip | ChannelInfo | PathInfo,
    *,
    workdir: str | os.PathLike[str] | None = None,
    backend: BackendSpec = None,
    overviews: OverviewMode = "own",
    channels: str | Sequence[str] | None = None,
    page: int | None = None,
    series: int | None = None,
    frame_number: str | None = None,
    frame_range: Iterable[int | None] | None = None,
    stream: int | None = None,
    pixel_format: str | None = None,
    frame_errors: str = "raise",
    orientation: Orientation = "stored",
    sources: str | Iterable[str] | None = None,
) -> LazyFrame:
    """Open one file as an array that stays on disk. It is exported as ``ndframes.open``.

    Args:
        path: an image, a video, or a sequence of images: a folder, a glob or a pattern; see :class:`Clip`. A
            :class:`ChannelInfo` or a :class:`PathInfo` describes the image in full.
        workdir: the folder of the cache, which holds the index of a video and, with a ``backend``, the cache entry.
        backend: as for :class:`Frames`; ``None`` reads the file directly.
        overviews: as for :class:`Frames`; ``"source"`` for thumbnails of huge slides.
        channels: as for :meth:`Frames.load_frame`.
        page: for a file of several images, which one; for a video, the number of the frame to open as an image. As for
            :class:`ChannelInfo`, counted from 0.
        series: for a TIFF of several series, which one; as for :class:`ChannelInfo`.
        frame_number: for a sequence, as for :class:`Clip`.
        frame_range: for a video or a sequence, as for :class:`Clip`.
        stream: for a video, as for :class:`Clip`.
        pixel_format: for a video, as for :class:`Clip`.
        frame_errors: for a video, as for :class:`Clip`.
        orientation: as for :class:`Frames`.
        sources: as for :class:`Frames`: the addresses that ``path`` may be under.

    Raises:
        PathInfoError: an option is not valid for this file, or is given beside a :class:`Clip`.
        NdframesError: the file cannot be read, or another option is not valid.

    Example:
        >>> import ndframes as nf
        >>> nf.open(nf.demo_paths()["moon"])[250:252, 100:103].tolist()
        [[[112], [112], [109]], [[112], [112], [109]]]
    """
    source: Any = path
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
    if page is not None or series is not None:
        source = _to_page(source, page, series)
    # The path is the image id: it names the file in messages and in the repr.
    name = (
        source.image_id if isinstance(source, PathInfo) else getattr(source, "path", None) or ChannelInfo(source).path
    )
    frames = SimpleFrames(
        {name: source},
        workdir=workdir,
        backend=backend,
        orientation=orientation,
        overviews=overviews,
        sources=sources,
    )
    return frames.load_frame(name, channels)


def _to_page(source: Any, page: int | None, series: int | None) -> ChannelInfo:
    """One image of a file, or one frame of a video."""
    if isinstance(source, (ChannelInfo, PathInfo)):
        raise PathInfoError(f"page={page}, series={series} beside {shorten(source)}; name them in its ChannelInfo")
    clip = source if isinstance(source, Clip) else to_clip(source)
    if clip is None:
        return ChannelInfo(source, page=page, series=series)
    if not clip.is_video or clip.frame_range is not None or clip.frame_number is not None:
        raise PathInfoError(
            f"{clip.path}: page={page}, series={series} choose an image of one file; of a sequence, open(...)[5] is frame 5"
        )
    return clip.to_channel(page=page, series=series)
