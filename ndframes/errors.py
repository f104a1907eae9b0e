"""What can go wrong, as a tree.

Every error of this package is a :class:`NdframesError`, and each leaf is also the builtin that a reader of the
traceback would expect::

    NdframesError
     ├─ ImageIdError (KeyError)                   no image of that id
     ├─ ChannelError (LookupError)                no channel of that code
     ├─ RegionError (ValueError)                  not a region, or not of this image
     │   ├─ RegionIndexError (IndexError)         an integer index lies outside the image
     │   └─ RegionTooLargeError (MemoryError)     more bytes than the limit allows
     ├─ PathInfoError (ValueError)                a description of an image or of a file that cannot be
     ├─ BackendError (ValueError)                 unknown backend, option or value
     ├─ HashidError (ValueError)                  a source cannot be keyed the way that was asked for
     ├─ UnsupportedError (NotImplementedError)    well formed, but not something that this version does
     ├─ MissingExtraError (ImportError)           an optional package is not installed
     ├─ SourceError (OSError)                     the file that was to be read
     │   ├─ SourceMissingError (FileNotFoundError)
     │   ├─ SourceAccessError (PermissionError)
     │   ├─ SourceKindError                       a directory without images, FIFO, socket or device
     │   ├─ SourceChangedError                    it changed while it was being converted or read
     │   └─ UnreadableImageError                  empty, truncated, damaged, or no image at all
     ├─ CacheError (OSError)                      the cache folder
     │   ├─ CacheFullError                        not enough space left
     │   └─ CacheEntryError                       an entry is not what it should be
     │       ├─ CacheEntryDamagedError            its bytes are not those that were written
     │       └─ CacheEntryGoneError (FileNotFoundError)   it was removed or replaced
     ├─ OutputError (OSError)                     a file that was to be written
     ├─ VideoWriteError (ValueError)              frames, or a wish, of which no video can be made
     └─ PrepareError (RuntimeError)               some images could not be prepared
         └─ WorkerCrashError                      a worker process died on one image

A message says what failed on which image or file, what was found, and what to do. Errors pickle.
"""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, get_args

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = [
    "BackendError",
    "CacheEntryDamagedError",
    "CacheEntryError",
    "CacheEntryGoneError",
    "CacheError",
    "CacheFullError",
    "ChannelError",
    "HashidError",
    "ImageIdError",
    "MissingExtraError",
    "NdframesError",
    "OutputError",
    "PathInfoError",
    "PrepareError",
    "RegionError",
    "RegionIndexError",
    "RegionTooLargeError",
    "SourceAccessError",
    "SourceChangedError",
    "SourceError",
    "SourceKindError",
    "SourceMissingError",
    "UnreadableImageError",
    "UnsupportedError",
    "VideoWriteError",
    "WorkerCrashError",
    "check_choice",
    "name_image",
    "naming_image",
    "shorten",
]
_SYSTEM_ATTRIBUTES = ("errno", "strerror", "filename", "filename2", "name", "path")  # of OSError and ImportError


class NdframesError(Exception):
    """The root of every error that this package raises.

    Attributes:
        image_id: the image that was being worked on, where there was one; it leads the message.

    Example:
        >>> import pickle
        >>> error = RegionError("stop lies before start")
        >>> error.image_id = "scene"
        >>> print(error)
        image 'scene': stop lies before start
        >>> print(pickle.loads(pickle.dumps(error)))
        image 'scene': stop lies before start
    """

    image_id: Hashable = None

    def __str__(self) -> str:
        message = " ".join(str(arg) for arg in self.args)
        return message if self.image_id is None else f"image {shorten(self.image_id)}: {message}"

    def __reduce__(self) -> tuple[type[NdframesError], tuple[object, ...], dict[str, object]]:
        # OSError keeps errno and its kin outside of __dict__, and does not pickle what was set after it was made
        kept = {name: value for name in _SYSTEM_ATTRIBUTES if (value := getattr(self, name, None)) is not None}
        return type(self), self.args, {**kept, **self.__dict__}


class ImageIdError(NdframesError, KeyError):
    """No image of that id."""


class ChannelError(NdframesError, LookupError):
    """No channel of that code; the message lists the ones there are."""


class RegionError(NdframesError, ValueError):
    """Not a region, or one that does not fit this image's axes."""


class RegionIndexError(RegionError, IndexError):
    """An integer index that lies outside the image."""


class RegionTooLargeError(RegionError, MemoryError):
    """A request for more bytes than the limit allows; raised before anything is allocated."""


class PathInfoError(NdframesError, ValueError):
    """A :class:`~ndframes.PathInfo` or :class:`~ndframes.ChannelInfo` with a value that cannot be."""


class BackendError(NdframesError, ValueError):
    """An unknown backend, option or value; the message names the allowed ones."""


class HashidError(NdframesError, ValueError):
    """A source that cannot be keyed by the ``hashid_mode`` that was asked for."""


class UnsupportedError(NdframesError, NotImplementedError):
    """A well-formed request for something that this version does not do."""


class MissingExtraError(NdframesError, ImportError):
    """An optional package is missing; the message is the ``pip install`` line that mends it."""


class SourceError(NdframesError, OSError):
    """A source file could not be read."""


class SourceMissingError(SourceError, FileNotFoundError):
    """There is no file at the source's path."""


class SourceAccessError(SourceError, PermissionError):
    """The source may not be read by this user."""


class SourceKindError(SourceError):
    """The path is a directory without images, a FIFO, a socket or a device, not a file."""


class SourceChangedError(SourceError):
    """The source changed while it was being converted, again and again; or was replaced or removed while it was read."""


class UnreadableImageError(SourceError):
    """The file is empty, truncated, damaged, or not an image of a kind that is read."""


class CacheError(NdframesError, OSError):
    """The cache folder cannot be used as it is."""


class CacheFullError(CacheError):
    """Too little space is left for a new entry."""


class CacheEntryError(CacheError):
    """An entry is not what it should be: freshly written, it failed its check; or a newer version wrote it."""


class CacheEntryDamagedError(CacheEntryError):
    """An entry's bytes are not those that were written. Reading mends this where the source is there."""


class CacheEntryGoneError(CacheEntryError, FileNotFoundError):
    """An entry was removed, or replaced, since it was found. Reading mends this where the source is there."""


class OutputError(NdframesError, OSError):
    """A file that was to be written cannot be, there or in that format."""


class VideoWriteError(NdframesError, ValueError):
    """Frames of which no video can be made, or a codec, quality or rate that is none; the message names the allowed ones."""


class PrepareError(NdframesError, RuntimeError):
    """Some images could not be prepared; the message lists every one of them.

    Attributes:
        report: the :class:`~ndframes.PrepareReport` of the run, ``None`` where one image alone was at stake.
    """

    report: object = None


class WorkerCrashError(PrepareError):
    """A worker process died while it converted this image."""


def name_image(error: NdframesError, image_id: Hashable) -> None:
    """Make ``error`` name the image ``image_id``, unless it names one.

    Example:
        >>> error = ChannelError("no channel 'q'")
        >>> name_image(error, 7)
        >>> print(error)
        image 7: no channel 'q'
    """
    if error.image_id is None and not isinstance(error, ImageIdError):  # which says it already
        error.image_id = image_id


class naming_image:  # noqa: N801 - reads as a function, and is one but for its speed: it stands around each crop of a batch
    """Within this context, an error of ours that does not name its image yet is made to name ``image_id``.

    Example:
        >>> with naming_image(7):
        ...     raise ChannelError("no channel 'q'")
        Traceback (most recent call last):
        ndframes.errors.ChannelError: image 7: no channel 'q'
    """

    __slots__ = ("_image_id",)

    def __init__(self, image_id: Hashable) -> None:
        self._image_id = image_id

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, NdframesError):
            name_image(error, self._image_id)


def shorten(value: object) -> str:
    """``repr(value)``, short enough for a message, whatever the value is.

    Example:
        >>> shorten(range(3)), shorten(list(range(1000)))
        ('range(0, 3)', '[0, 1, 2, 3, 4, 5, ...]')
    """
    brief = reprlib.Repr()
    brief.maxstring = brief.maxother = 120
    brief.maxlong = 60
    try:
        return " ".join(line.strip() for line in brief.repr(value).splitlines())
    except ValueError:  # Python prints no whole number of more than 4,300 digits
        return (
            f"<a whole number of {value.bit_length()} bits>" if isinstance(value, int) else f"<{type(value).__name__}>"
        )


def check_choice(name: str, value: object, choices: object) -> None:
    """Refuse a value that is none of a ``Literal``.

    Raises:
        ValueError: it is not.
    """
    allowed = get_args(choices)
    if value not in allowed:
        raise ValueError(f"{name}={shorten(value)}; allowed: {', '.join(map(repr, allowed))}")
