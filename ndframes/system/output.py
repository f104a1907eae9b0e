"""Output files that appear whole or not at all."""

from __future__ import annotations

import os
import uuid
from typing import IO, TYPE_CHECKING

from ..errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["check_output_path", "write_atomically"]


def write_atomically(path: str, write: Callable[[IO[bytes]], object]) -> None:
    """Have ``write`` fill a file beside ``path``, then give it that name, replacing what had it.

    Raises:
        OutputError: the system refuses; nothing is left behind.
    """
    check_output_path(path)
    final = os.path.realpath(path)  # a link stays, and what it points to is replaced
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
    """See to it that ``path`` is in a folder that is there, and no file but a regular one has that name.

    Raises:
        OutputError: it is not, or one has.
    """
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise OutputError(f"{path} cannot be written: there is no folder {folder}; create it first")
    if os.path.exists(path) and not os.path.isfile(path):
        raise OutputError(f"{path} cannot be written: it is there already, and no regular file")
