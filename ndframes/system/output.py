"""Output files that are written whole or not at all."""

from __future__ import annotations

import os
import uuid
from typing import IO, TYPE_CHECKING

from ..errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["check_output_path", "write_atomically"]


def write_atomically(path: str, write: Callable[[IO[bytes]], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename it to ``path``, replacing an existing file.

    Raises:
        OutputError: the system refuses; the temporary file is removed.
    """
    check_output_path(path)
    final = os.path.realpath(path)  # keeps a symbolic link, and replaces the file behind it
    temporary = os.path.join(os.path.dirname(final), f".{uuid.uuid4().hex}.part")
    try:
        with open(temporary, "x+b") as file:
            write(file)
        os.replace(temporary, final)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def check_output_path(path: str) -> None:
    """Check that the folder of ``path`` exists, and that ``path`` is a regular file or does not exist.

    Raises:
        OutputError: otherwise.
    """
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise OutputError(f"{path} cannot be written: there is no folder {folder}; create it first")
    if os.path.exists(path) and not os.path.isfile(path):
        raise OutputError(f"{path} cannot be written: it exists and is not a regular file")
