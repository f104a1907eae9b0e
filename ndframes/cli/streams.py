"""The standard streams of the program: those that are missing or cannot be written."""

from __future__ import annotations

import os
import sys
import traceback
from typing import IO

import click

__all__ = ["drop_unwritten_text", "fill_standard_descriptors", "is_from_stream"]
_STANDARD_DESCRIPTORS = (0, 1, 2)


def fill_standard_descriptors() -> None:
    """Open the null device for each standard stream that is closed.

    The next file that the program opens would get its descriptor, and what libraries print would go into that file.
    """
    for descriptor in _STANDARD_DESCRIPTORS:
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor, which is this one


def is_from_stream(error: OSError) -> bool:
    """Whether an error was raised by a write to stdout or stderr: all text of the program is written by ``click.echo``."""
    return any(frame.f_code is click.echo.__code__ for frame, _ in traceback.walk_tb(error.__traceback__))


def drop_unwritten_text() -> None:
    """Send text that cannot be written to the null device; Python writes it again at exit, and would fail again."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            _redirect_to_null(stream)


def _redirect_to_null(stream: IO[str]) -> None:
    try:
        descriptor = stream.fileno()
    except (AttributeError, OSError, ValueError):  # a stream of another program, or a closed one
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
