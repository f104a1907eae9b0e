"""Shared by the commands: options, one-line errors, JSON and tables."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from typing import IO, Any, TypeVar

import click

from ..errors import NdframesError
from ..errors import describe_error as describe_any_error
from ..system.sources import current_folder
from ..text import hide_secrets

__all__ = [
    "CommandError",
    "UserPath",
    "backend_of",
    "backend_option",
    "describe_error",
    "echo_json",
    "echo_table",
    "json_option",
    "reading_backend_option",
    "show_path",
    "to_typed",
    "workdir_option",
]
_Command = TypeVar("_Command", bound=Callable[..., Any])


class CommandError(click.ClickException):
    """An error that ends the program with one line on stderr and exit status 2."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:  # noqa: ARG002 - click's signature
        """Print the error on stderr."""
        click.echo(f"ndframes: error: {self.message}", err=True)


class UserPath(click.Path):
    """A path whose ``~`` is the home folder: shells do not expand it in quotes, or behind ``=``."""

    def __init__(self, *, file_okay: bool = True, dir_okay: bool = True) -> None:
        # Reading it gives the error that tells why.
        super().__init__(file_okay=file_okay, dir_okay=dir_okay, readable=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As click's; ``value`` is a text."""
        return super().convert(os.path.expanduser(value), param, ctx)


def workdir_option(command: _Command) -> _Command:
    """Add ``--workdir`` to a command."""
    return click.option(
        "--workdir",
        type=UserPath(file_okay=False),
        envvar="NDFRAMES_WORKDIR",
        metavar="DIR",
        help="The folder that holds the cache, or its address: s3://bucket/prefix.  [default: $NDFRAMES_WORKDIR, else ~/.cache/ndframes]",
    )(command)


def backend_option(choices: tuple[str, ...], *, default: str | None, text: str) -> Callable[[_Command], _Command]:
    """Add ``--backend`` with the choices of one command."""
    return click.option(
        "--backend", type=click.Choice(choices), default=default, show_default=default is not None, help=text
    )


def reading_backend_option(command: _Command) -> _Command:
    """Add ``--backend`` to a command that reads one region."""
    return backend_option(
        ("auto", "cog", "npy", "intra", "none"),
        default=None,
        text="Read from a cache entry of this form, and create it if it is missing. 'none' reads the source, and so does "
        "'auto' for a video.  [default: the 'auto' entry if it exists, else the source; nothing is converted]",
    )(command)


def json_option(command: _Command) -> _Command:
    """Add ``--json`` to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout, and nothing else.")(command)


def backend_of(name: str) -> str | None:
    """Convert the value of ``--backend`` to that of :class:`ndframes.Frames`."""
    return None if name == "none" else name


def describe_error(error: BaseException) -> str:
    """Describe an error in one line, with its image unless the message names it.

    Example:
        >>> error = NdframesError("a.tif does not exist")
        >>> error.image_id = "a.tif"
        >>> describe_error(error)
        'a.tif does not exist'
        >>> describe_error(ValueError("odd"))
        'ValueError: odd'
    """
    if not isinstance(error, NdframesError):
        text = describe_any_error(error)
    else:
        text = " ".join(str(part) for part in error.args)
        # For a single file the id is its path, which most messages contain already.
        shown = None if error.image_id is None else hide_secrets(str(error.image_id))
        if shown is not None and shown not in text:
            text = f"{shown}: {text}"
    text = to_typed(text)
    # Messages of libraries may have line breaks, and paths may have bytes that are not UTF-8.
    return show_path(" ".join(text.split()))


def to_typed(text: str) -> str:
    """A text with the paths in the current folder as people type them; frames have made them absolute."""
    return text.replace(os.path.join(current_folder(), ""), "")


def show_path(path: object) -> str:
    """Format a path for printing; undecodable bytes are replaced."""
    return click.format_filename(str(path))


def echo_json(value: object) -> None:
    """Print a value as JSON; other types are converted to strings, and so are NaN and infinities, which JSON lacks.

    Example:
        >>> echo_json({"nodata": float("nan"), "limits": (0, float("-inf"))})
        {
          "nodata": "NaN",
          "limits": [
            0,
            "-Infinity"
          ]
        }
    """
    click.echo(json.dumps(_to_finite(value), indent=2, default=str, allow_nan=False))


def _to_finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _to_finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        # The names that JavaScript and GDAL use.
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def echo_table(rows: Mapping[str, object]) -> None:
    """Print names and values in two columns; the lines of a value are aligned."""
    width = max(len(name) for name in rows) + 2
    for name, value in rows.items():
        first, *rest = str(value).split("\n")
        click.echo(f"{name:<{width}}{first}")
        for line in rest:
            click.echo(f"{'':<{width}}{line}")
