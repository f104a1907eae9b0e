"""The errors of this package.

All of them are subclasses of :class:`NdframesError`. Most also inherit the builtin error that fits::

    NdframesError
     ├─ ImageIdError (KeyError)                   no image with this id
     ├─ ChannelError (LookupError)                no channel with this code
     ├─ RegionError (ValueError)                  not a region, or not one of this image
     │   ├─ RegionIndexError (IndexError)         an integer index is out of bounds
     │   └─ RegionTooLargeError (MemoryError)     the result exceeds the limit in bytes
     ├─ PathInfoError (ValueError)                an invalid description of an image or a file
     ├─ NotInitializedError (AttributeError)      a subclass of Frames did not call super().__init__()
     ├─ BackendError (ValueError)                 an unknown backend, option or value
     ├─ HashidError (ValueError)                  no key for a source in this hashid mode
     ├─ UnsupportedError (NotImplementedError)    valid, but not supported by this version
     ├─ MissingExtraError (ImportError)           an optional package is not installed
     ├─ SourceError (OSError)                     a source file cannot be read
     │   ├─ SourceMissingError (FileNotFoundError)
     │   ├─ SourceAccessError (PermissionError)
     │   ├─ SourceKindError                       a directory without images, FIFO, socket or device
     │   ├─ SourceChangedError                    it changed during a conversion or a read
     │   └─ UnreadableImageError                  empty, truncated, damaged, or not an image
     ├─ CacheError (OSError)                      the cache folder cannot be used
     │   ├─ CacheFullError                        not enough space
     │   └─ CacheEntryError                       an invalid entry
     │       ├─ CacheEntryDamagedError            its bytes differ from those that were written
     │       └─ CacheEntryGoneError (FileNotFoundError)   it was removed or replaced
     ├─ StoreError (OSError)                      an object store that cannot be used
     │   ├─ StoreUnavailableError (ConnectionError)   it does not answer
     │   ├─ StoreAccessError (PermissionError)    it refuses the credentials, or has no such bucket
     │   ├─ ObjectGoneError (FileNotFoundError)   an object does not exist, or is in another state
     │   └─ ObjectTooLongError           an object that must be small is not
     ├─ OutputError (OSError)                     an output file cannot be written
     ├─ VideoWriteError (ValueError)              frames or options that give no video
     ├─ MovieError (ValueError)                   a movie of fields that cannot be written or read
     │   ├─ MovieRangeError                       values outside of the limits, or NaN
     │   ├─ MovieGridError                        a field of another shape, dtype or number of channels
     │   └─ MovieFormatError                      a file that is not a movie of fields, or a container that cannot hold one
     ├─ StreamError (ValueError)                  a source, window or pipeline that is not allowed
     │   ├─ StreamOpenError (OSError)             a source that does not open, or never sends a frame
     │   ├─ StreamStalledError (OSError)          a source that has stopped sending
     │   ├─ StreamConfigurationError              a configuration file that is not allowed
     │   ├─ SinkError (OSError)                   results that could not be passed on
     │   └─ AlgorithmError (RuntimeError)         an algorithm that raised an error, hung or died
     ├─ ServerError (OSError)                     an HTTP server that cannot listen or start
     ├─ RemoteError (OSError)                     a server of frames that cannot be reached, or cannot answer
     ├─ AccessError (ValueError)                  a token or a name of a host that is not allowed
     ├─ IiifError (ValueError)                    an image request of IIIF that is not allowed, or not offered
     ├─ PatchError (ValueError)                   patches that cannot be made, or a state of others
     ├─ SharedMemoryError (OSError)               no shared memory for a chunk
     ├─ WorkerDied (RuntimeError)                 a worker process that reads ahead died
     └─ PrepareError (RuntimeError)               some images could not be prepared
         └─ WorkerCrashError                      a worker process died on one image

A message says what failed on which image or file, which value was found, and what to do. Errors pickle.
"""

from __future__ import annotations

import operator
import reprlib
from numbers import Real
from typing import TYPE_CHECKING, Any, get_args

from .text import hide_secrets

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

__all__ = [
    "AccessError",
    "AlgorithmError",
    "BackendError",
    "CacheEntryDamagedError",
    "CacheEntryError",
    "CacheEntryGoneError",
    "CacheError",
    "CacheFullError",
    "ChannelError",
    "HashidError",
    "IiifError",
    "ImageIdError",
    "MissingExtraError",
    "MovieError",
    "MovieFormatError",
    "MovieGridError",
    "MovieRangeError",
    "NdframesError",
    "NotInitializedError",
    "ObjectGoneError",
    "ObjectTooLongError",
    "OutputError",
    "PatchError",
    "PathInfoError",
    "PrepareError",
    "RegionError",
    "RegionIndexError",
    "RegionTooLargeError",
    "RemoteError",
    "ServerError",
    "SharedMemoryError",
    "SinkError",
    "SourceAccessError",
    "SourceChangedError",
    "SourceError",
    "SourceKindError",
    "SourceMissingError",
    "StoreAccessError",
    "StoreError",
    "StoreUnavailableError",
    "StreamConfigurationError",
    "StreamError",
    "StreamOpenError",
    "StreamStalledError",
    "UnreadableImageError",
    "UnsupportedError",
    "VideoWriteError",
    "WorkerCrashError",
    "WorkerDied",
    "check_choice",
    "check_keywords",
    "describe_error",
    "name_image",
    "naming_image",
    "shorten",
    "to_byte_count",
    "to_seconds",
]
_SYSTEM_ATTRIBUTES = ("errno", "strerror", "filename", "filename2", "name", "path")  # of OSError and ImportError


class NdframesError(Exception):
    """The base class of all errors of this package.

    Attributes:
        image_id: the image on which the operation failed, or ``None``; the message begins with it.

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
        # The builtin parents would show the repr of a message (KeyError), or an errno before it (OSError).
        message = " ".join(str(arg) for arg in self.args)
        # The id of an image may be its address.
        shown = hide_secrets(self.image_id) if isinstance(self.image_id, str) else self.image_id
        return message if shown is None else f"image {shorten(shown)}: {message}"

    def __reduce__(self) -> tuple[type[NdframesError], tuple[object, ...], dict[str, object]]:
        # OSError keeps errno and its like outside of __dict__, and pickles only what its constructor got.
        kept = {name: value for name in _SYSTEM_ATTRIBUTES if (value := getattr(self, name, None)) is not None}
        return type(self), self.args, {**kept, **self.__dict__}


class ImageIdError(NdframesError, KeyError):
    """There is no image with this id."""


class ChannelError(NdframesError, LookupError):
    """There is no channel with this code; the message lists the available ones."""


class RegionError(NdframesError, ValueError):
    """A value that is not a region, or does not fit the axes of this image."""


class RegionIndexError(RegionError, IndexError):
    """An integer index that is out of bounds."""


class RegionTooLargeError(RegionError, MemoryError):
    """A result of more bytes than the limit; raised before memory is allocated."""


class PathInfoError(NdframesError, ValueError):
    """An invalid value in a :class:`~ndframes.PathInfo` or :class:`~ndframes.ChannelInfo`."""


class NotInitializedError(NdframesError, AttributeError):
    """A subclass of :class:`~ndframes.Frames` whose ``__init__`` did not call ``super().__init__()``."""


class BackendError(NdframesError, ValueError):
    """An unknown backend, option or value; the message names the allowed ones."""


class HashidError(NdframesError, ValueError):
    """A source for which this ``hashid_mode`` gives no key."""


class UnsupportedError(NdframesError, NotImplementedError):
    """A valid request that this version does not support."""


class MissingExtraError(NdframesError, ImportError):
    """An optional package is not installed; the message gives the ``pip install`` command."""


class SourceError(NdframesError, OSError):
    """A source file cannot be read."""


class SourceMissingError(SourceError, FileNotFoundError):
    """There is no file at the path of the source."""


class SourceAccessError(SourceError, PermissionError):
    """This user has no permission to read the source."""


class SourceKindError(SourceError):
    """The path is not a file but a directory without images, a FIFO, a socket or a device."""


class SourceChangedError(SourceError):
    """The source changed during each attempt to convert it, or was replaced or removed during a read."""


class UnreadableImageError(SourceError):
    """The file is empty, truncated or damaged, or its format is not supported."""


class CacheError(NdframesError, OSError):
    """The cache folder cannot be used."""


class CacheFullError(CacheError):
    """There is not enough space for a new entry."""


class CacheEntryError(CacheError):
    """An invalid entry: it failed the check after writing, or a newer version wrote it."""


class CacheEntryDamagedError(CacheEntryError):
    """The bytes of an entry differ from those that were written. Reads convert the source again if it exists."""


class CacheEntryGoneError(CacheEntryError, FileNotFoundError):
    """An entry was removed or replaced after it was found. Reads convert the source again if it exists."""


class StoreError(NdframesError, OSError):
    """An object store that cannot be used: it answers what it must not, or its address is not allowed."""


class StoreUnavailableError(StoreError, ConnectionError):
    """An object store that does not answer, or answers with errors only, also after some tries."""


class StoreAccessError(StoreError, PermissionError):
    """An object store that refuses the credentials, or has no such bucket."""


class ObjectGoneError(StoreError, FileNotFoundError):
    """An object that does not exist any more, or is in another state."""


class ObjectTooLongError(StoreError):
    """An object that is read as a whole, and is too long for that."""


class OutputError(NdframesError, OSError):
    """An output file cannot be written at this path or in this format."""


class VideoWriteError(NdframesError, ValueError):
    """Frames that cannot be encoded, or an invalid codec, quality or rate; the message names the allowed values."""


class MovieError(NdframesError, ValueError):
    """A movie of fields that cannot be written or read."""


class MovieRangeError(MovieError):
    """A field has values outside of the limits, or NaN, and the movie refuses them."""


class MovieGridError(MovieError):
    """A field has another shape, dtype or number of channels than the first one of its movie."""


class MovieFormatError(MovieError):
    """A file that is not a movie of fields, or a container that cannot hold one."""


class StreamError(NdframesError, ValueError):
    """A source, window or pipeline that is not allowed, or cannot go on."""


class StreamOpenError(StreamError, OSError):
    """A source that does not open, or sends no frame within its limit."""


class StreamStalledError(StreamError, OSError):
    """A source that has stopped sending frames."""


class StreamConfigurationError(StreamError):
    """A configuration file that is not allowed; the message has a line for each problem.

    Attributes:
        problems: all problems, each with ``file``, ``line``, ``key`` and ``text``.
    """

    problems: tuple[Any, ...] = ()


class SinkError(StreamError, OSError):
    """Results that could not be passed on; the message names the sink, its target and the first result."""


class AlgorithmError(StreamError, RuntimeError):
    """An algorithm that raised an error, hung, or whose worker died; the message names it, its source and the frames."""


class ServerError(NdframesError, OSError):
    """An HTTP server that cannot listen at its port, or does not start."""


class RemoteError(NdframesError, OSError):
    """A server of frames that cannot be reached, is too busy, or sends no answer that can be read."""


class AccessError(NdframesError, ValueError):
    """A token, or the name of a host, that a server cannot have."""


class IiifError(NdframesError, ValueError):
    """An image request of IIIF that is not allowed, or asks for what is not offered.

    Attributes:
        status: of HTTP: 400 or 501.
    """

    status: int = 400


class PatchError(NdframesError, ValueError):
    """Patches that cannot be made from a dataset, or the state of other patches."""


class SharedMemoryError(NdframesError, OSError):
    """There is no shared memory, or no file descriptor, for a chunk on its way from a worker process."""


class WorkerDied(NdframesError, RuntimeError):  # noqa: N818 - a fixed name
    """A worker process that reads ahead died. What it was reading is lost.

    Attributes:
        pid: the id of the process.
        signal: the number of the signal that ended it; ``None`` if it exited.
        request: the first request of the chunk that it was reading; ``None`` if it had none.
    """

    pid: int | None = None
    signal: int | None = None
    request: object = None


class PrepareError(NdframesError, RuntimeError):
    """Some images could not be prepared; the message lists all of them.

    Attributes:
        report: the :class:`~ndframes.PrepareReport` of the run; ``None`` for an error of a single image.
    """

    report: object = None


class WorkerCrashError(PrepareError):
    """A worker process died during the conversion of this image."""


def name_image(error: NdframesError, image_id: Hashable) -> None:
    """Set the image id of ``error``, unless it has one.

    Example:
        >>> error = ChannelError("no channel 'q'")
        >>> name_image(error, 7)
        >>> print(error)
        image 7: no channel 'q'
    """
    if error.image_id is None and not isinstance(error, ImageIdError):  # whose message names it already
        error.image_id = image_id


class naming_image:  # noqa: N801 - used like a function; a class, because a generator is slower and each crop enters one
    """Set the image id of an :class:`NdframesError` that the context raises, unless it has one.

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
    """``repr(value)``, shortened for a message.

    Example:
        >>> shorten(range(3)), shorten(list(range(1000)))
        ('range(0, 3)', '[0, 1, 2, 3, 4, 5, ...]')
    """
    brief = reprlib.Repr()
    # The defaults, 30 characters, cut most paths.
    brief.maxstring = brief.maxother = 120
    brief.maxlong = 60
    try:
        return " ".join(line.strip() for line in brief.repr(value).splitlines())
    except ValueError:  # Python does not print integers of more than 4,300 digits
        return (
            f"<a whole number of {value.bit_length()} bits>" if isinstance(value, int) else f"<{type(value).__name__}>"
        )


def describe_error(error: BaseException) -> str:
    """The type of an error of any library and its text, if it has one.

    Example:
        >>> describe_error(KeyError("x")), describe_error(KeyError())
        ("KeyError: 'x'", 'KeyError')
    """
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def check_choice(name: str, value: object, choices: object) -> None:
    """Check that ``value`` is one of the values of a ``Literal``.

    Raises:
        ValueError: otherwise; the message lists the allowed values.
    """
    # From the Literal, so that the check cannot differ from the annotation.
    allowed = get_args(choices)
    if value not in allowed:
        raise ValueError(f"{name}={shorten(value)}; allowed: {', '.join(map(repr, allowed))}")


def check_keywords(function: str, given: Iterable[str], allowed: Iterable[str]) -> None:
    """Check the keywords that a function passes on to another one, whose own error would name that one.

    Raises:
        TypeError: one of them is unknown; the message lists the allowed ones.
    """
    known = sorted(allowed)
    for name in given:
        if name not in known:
            raise TypeError(
                f"{function}() got an unexpected keyword argument {shorten(name)}; allowed: {', '.join(known)}"
            )


def to_byte_count(name: str, value: object) -> int:
    """A number of bytes as an int, from an integer of Python or numpy.

    Raises:
        ValueError: the value is not a whole number of at least 0; the message names the option.
    """
    try:
        # A bool is an integer to Python.
        count = -1 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        count = -1
    if count < 0:
        raise ValueError(f"{name}={shorten(value)}; give a whole number of bytes, 0 or more")
    return count


def to_seconds(name: str, value: object) -> float:
    """A duration in seconds as a float, from a real number of Python or numpy.

    Raises:
        ValueError: the value is not a number of at least 0; the message names the option.
    """
    seconds = -1.0 if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    if not seconds >= 0:
        raise ValueError(f"{name}={shorten(value)}; give a number of seconds, 0 or more")
    return seconds
