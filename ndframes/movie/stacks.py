"""Stacks: files of several fields that a movie is made of: arrays on disk, folders of them, and movies."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import MissingExtraError, MovieError, SourceError, SourceMissingError, UnreadableImageError
from ..frames.clip import natural_key
from ..text import count_noun
from .storage import MovieStorage

if TYPE_CHECKING:
    from .._typing import Array

__all__ = ["Stack", "open_stack", "times_beside"]
_ZARR_NAMES = ("zarr.json", ".zarray", ".zgroup")


class Stack(ABC):
    """Several fields in a file or folder, read one by one.

    Args:
        path: the file or folder.
        times: the time of each field.
    """

    def __init__(self, path: str, times: Array) -> None:
        self.path = path
        self.times = times

    def __len__(self) -> int:
        return len(self.times)

    @abstractmethod
    def read(self, number: int) -> Array:
        """One field: ``(y, x)`` or ``(y, x, channel)``."""

    def __iter__(self) -> Iterator[Array]:
        return (self.read(number) for number in range(len(self)))

    @property
    def movie(self) -> MovieStorage | None:
        """The movie that the fields are in, if they are in one."""
        return None


class _ArrayStack(Stack):
    """The fields of an array ``(t, y, x)`` or ``(t, y, x, channel)``."""

    def __init__(self, path: str, array: Any, times: str | None) -> None:
        if array.ndim not in (3, 4):
            raise MovieError(
                f"{path} has the shape {tuple(array.shape)}; fields are (t, y, x) or (t, y, x, channel): reshape it"
            )
        super().__init__(path, _find_times(times, array.shape[0]))
        self._array = array

    def read(self, number: int) -> Array:
        return np.asarray(self._array[number])


class _FolderStack(Stack):
    """The fields of the ``.npy`` files of a folder, in the order of the numbers in their names."""

    def __init__(self, path: str, names: Sequence[str], times: str | None) -> None:
        super().__init__(path, _find_times(times, len(names)))
        self._names = names

    def read(self, number: int) -> Array:
        return np.array(_map(os.path.join(self.path, self._names[number])))


class _MovieStack(Stack):
    """The fields of a movie."""

    def __init__(self, path: str, times: str | None) -> None:
        self._movie = MovieStorage(path)
        stored = self._movie.times
        super().__init__(path, stored if times is None else _read_times(times, len(stored)))

    def read(self, number: int) -> Array:
        return self._movie[number]

    @property
    def movie(self) -> MovieStorage | None:
        return self._movie


def open_stack(path: str, times: str | None = None) -> Stack:
    """Open the fields of a file or folder.

    Args:
        path: an array ``(t, y, x)`` or ``(t, y, x, channel)`` in an ``.npy`` file or a folder of Zarr; a folder of ``.npy``
            files of one field each; or a movie.
        times: an ``.npy`` or text file with the time of each field. ``None``: those of a movie; else the file
            ``NAME.times.npy`` beside ``NAME.npy``, or the numbers 0, 1, 2, ...

    Raises:
        SourceError: a file is missing or damaged.
        MovieError: it holds no fields, or the number of times is another one.
        MissingExtraError: it is a folder of Zarr, and zarr is not installed.
    """
    if not os.path.exists(path):
        raise SourceMissingError(f"{path} does not exist; check the path")
    stack = _open_folder(path, times) if os.path.isdir(path) else _open_file(path, times)
    if not len(stack):
        raise MovieError(f"{path} has no fields")
    return stack


def times_beside(path: str) -> str:
    """The file beside an array that holds the time of each field."""
    return f"{os.path.splitext(path)[0]}.times.npy"


def _open_file(path: str, times: str | None) -> Stack:
    if not path.lower().endswith(".npy"):
        return _MovieStack(path, times)
    beside = times_beside(path)
    return _ArrayStack(path, _map(path), beside if times is None and os.path.exists(beside) else times)


def _open_folder(path: str, times: str | None) -> Stack:
    inside = os.listdir(path)
    if any(name in inside for name in _ZARR_NAMES):
        return _ArrayStack(path, _open_zarr(path), times)
    names = sorted((name for name in inside if name.lower().endswith(".npy") and name[0] != "."), key=natural_key)
    if not names:
        raise MovieError(f"{path} has no fields; give a folder of .npy files, or one of Zarr")
    return _FolderStack(path, names, times)


def _open_zarr(path: str) -> Any:
    try:
        import zarr
    except ImportError as error:
        raise MissingExtraError(f"{path}: reading Zarr needs zarr: pip install zarr", name="zarr") from error
    try:
        found = zarr.open(path, mode="r")
    # zarr raises errors of its own and of its codecs.
    except Exception as error:
        raise UnreadableImageError(f"{path} cannot be read by zarr: {error}") from error
    if not hasattr(found, "dtype"):
        raise MovieError(f"{path} is a group of arrays: {', '.join(sorted(found))}; give the folder of one of them")
    return found


def _map(path: str) -> Array:
    """The array of an ``.npy`` file, as a memory map."""
    try:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise UnreadableImageError(f"{path} is not an array of numbers, or damaged: {error}") from error
    return array


def _find_times(path: str | None, count: int) -> Array:
    return np.arange(count, dtype=np.float64) if path is None else _read_times(path, count)


def _read_times(path: str, count: int) -> Array:
    try:
        loaded = np.load(path, allow_pickle=False) if path.lower().endswith(".npy") else np.loadtxt(path, ndmin=1)
        times = np.asarray(loaded, np.float64)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, TypeError) as error:
        raise MovieError(f"{path} is not a list of times: {error}; give one number for each field") from error
    if times.shape != (count,) or not np.isfinite(times).all():
        raise MovieError(
            f"{path} has times of the shape {times.shape}; give {count_noun(count, 'finite number')}, one for each field"
        )
    return times
