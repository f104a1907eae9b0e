"""The standard streams of this process, each of which may be missing."""

from __future__ import annotations

import os
import sys

__all__ = ["has_stderr", "is_terminal"]
_STDERR_DESCRIPTOR = 2


def is_terminal(stream: object) -> bool:
    """Whether a stream such as ``sys.stderr`` is an open terminal.

    Daemons and ``pythonw`` have no streams (``None``), other programs replace them by objects without ``isatty``.

    Example:
        >>> import io
        >>> is_terminal(None), is_terminal(io.StringIO())
        (False, False)
    """
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except (AttributeError, ValueError, OSError):  # ValueError: the stream is closed
        return False


def has_stderr() -> bool:
    """Whether the descriptor of stderr is open, and was when this process began.

    If it was not, the descriptor belongs to a file that this process opened since.
    """
    if sys.__stderr__ is None:
        return False
    try:
        os.fstat(_STDERR_DESCRIPTOR)
    except OSError:
        return False
    return True
