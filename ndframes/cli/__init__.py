"""The command line: ``ndframes COMMAND``. The module of a command is imported when the command runs."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from .._version import __version__
from ..errors import NdframesError
from ..system.interrupts import lost_interrupts_repeated
from .common import CommandError, describe_error
from .streams import drop_unwritten_text, fill_standard_descriptors, is_from_stream

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]
# The order on the help page, from first steps to maintenance.
_COMMANDS = (
    "demo",
    "prepare",
    "crop",
    "show",
    "info",
    "patches",
    "video",
    "movie",
    "stream",
    "serve",
    "cache",
    "doctor",
)


class _Program(click.Group):
    """A group that imports its commands by name, and reports errors of this package in one line."""

    def list_commands(self, ctx: click.Context) -> Sequence[str]:  # type: ignore[override]  # noqa: ARG002
        return _COMMANDS

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        # The help page imports every command, so their modules import heavy libraries in functions only.
        command: click.Command = getattr(import_module(f".{cmd_name}", __name__), cmd_name)
        return command

    def main(self, *args: Any, **extra: Any) -> Any:
        """As :meth:`click.Group.main`, but a stream on a full disk ends the program with one line, too."""
        fill_standard_descriptors()
        try:
            return super().main(*args, **extra)
        except OSError as error:
            if not is_from_stream(error):
                raise
            try:
                click.echo(f"ndframes: error: the output cannot be written: {error.strerror or error}", err=True)
            except OSError:
                pass  # it is stderr that cannot be written, so nobody can be told
            drop_unwritten_text()
            # A message that could not be printed keeps its exit status.
            sys.exit(getattr(error.__context__, "exit_code", CommandError.exit_code))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with lost_interrupts_repeated():
                return super().invoke(ctx)
        except NdframesError as error:
            raise CommandError(describe_error(error)) from error
        except KeyboardInterrupt:
            # 130 is 128 + SIGINT, which shells report for a process that died of Ctrl-C.
            click.echo("\nndframes: interrupted", err=True)
            ctx.exit(130)


@click.command(cls=_Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "--version", prog_name="ndframes", message="%(prog)s %(version)s")
def main() -> None:
    """Read crops of large images and frames of videos, quickly and exactly.

    Each image is converted once into a cache entry of tiles. A crop then decodes only the tiles that it touches. The
    cache is in a work folder: --workdir, else $NDFRAMES_WORKDIR, else the user's cache folder.

    \b
    For example:
      ndframes demo                                  demonstration with real photographs
      ndframes prepare scans/ --workers 4            fill the cache
      ndframes crop scans/a.tif --region 0:256,512:768 -o a.png
      ndframes show scans/a.tif                      PNG with a legend
      ndframes info scans/a.tif                      format, size, and cost of a crop
      ndframes video encode a/ -o a.mp4 --fps 25     images to a video
      ndframes movie convert a.npy -o a.mkv          numeric fields to a movie
      ndframes stream run cams.yaml --allow mypkg    algorithms over streams
      ndframes serve scans/                          images over HTTP

    Exit status: 0 success; 1 some images failed; 2 invalid arguments or an unreadable source; 130 interrupted.
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
