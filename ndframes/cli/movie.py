"""``ndframes movie``: describe a movie of numeric fields, make a video for people, convert arrays to movies and back."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import click

from .common import UserPath, echo_json, echo_table, json_option, show_path
from .rates import parse_rate

if TYPE_CHECKING:
    from collections.abc import Callable
    from fractions import Fraction

    from ..movie.storage import MovieStorage

__all__ = ["movie"]
_MANY = 6  # limits of more channels are not printed one by one


def _parse_limit(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
    """Parse ``auto``, a number, or numbers that are separated by commas."""
    if value is None or value == "auto":
        return value
    try:
        numbers = [float(part) for part in value.split(",")]
    except ValueError as error:
        raise click.BadParameter(
            f"{value!r}; write a number, 'auto', or a number for each channel such as 0,-1", ctx, param
        ) from error
    return numbers[0] if len(numbers) == 1 else numbers


def _parse_info(ctx: click.Context, param: click.Parameter, value: str | None) -> dict[str, Any] | None:
    """Parse an object of JSON."""
    if value is None:
        return None
    try:
        info = json.loads(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not JSON: {error}", ctx, param) from error
    if not isinstance(info, dict):
        raise click.BadParameter(f"{value!r}; write an object, such as '{{\"D\": 0.1}}'", ctx, param)
    return info


def _limit_option(name: str, text: str) -> Callable[[Any], Any]:
    return click.option(name, callback=_parse_limit, metavar="NUMBER or auto", help=text)


_output = click.option(
    "-o", "--output", required=True, type=UserPath(dir_okay=False), metavar="FILE", help="The output file."
)


@click.group(short_help="Movies of numeric fields: describe, export for people, convert.")
def movie() -> None:
    """Describe a movie of numeric fields, make a video for people, or convert arrays to movies and back.

    \b
    For example:
      ndframes movie info run.mkv
      ndframes movie export run.mkv -o run.mp4 --cmap magma --channel u
      ndframes movie convert run.npy -o run.mkv --times times.txt
      ndframes movie convert run.mkv -o run.npy
    """  # noqa: D301 - a backspace keeps click from wrapping the examples


@movie.command(short_help="Describe a movie.")
@click.argument("path", type=UserPath())
@json_option
def info(*, path: str, as_json: bool) -> None:
    """Describe a movie of numeric fields: what it holds, its times, and whether its writer closed it.

    \b
    For example:
      ndframes movie info run.mkv
      ndframes movie info run.mkv --json | jq .times
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    from ..movie.storage import MovieStorage

    found = MovieStorage(path)
    if as_json:
        echo_json(_facts(found))
    else:
        echo_table(_rows(found))


@movie.command(short_help="Make a video for people.")
@click.argument("path", type=UserPath())
@_output
@click.option(
    "--cmap",
    default="viridis",
    show_default=True,
    help="The colour map, by its name in matplotlib, such as magma or gray.",
)
@click.option("--channel", help="The channel to show.  [default: the first one]")
@click.option("--fps", callback=parse_rate, metavar="RATE", help="Fields per second.  [default: as in the movie]")
@_limit_option(
    "--vmin", "The value of the first colour; auto: the smallest one of all fields.  [default: as in the movie]"
)
@_limit_option(
    "--vmax", "The value of the last colour; auto: the largest one of all fields.  [default: as in the movie]"
)
@click.option(
    "--scale",
    type=click.IntRange(min=1),
    metavar="FACTOR",
    help="By which whole number fields are enlarged.  [default: small ones to about 480 pixels]",
)
@json_option
def export(*, path: str, output: str, as_json: bool, **options: Any) -> None:
    """Make a video for people: one channel of a movie of numeric fields through a colour map.

    The extension of the output selects the container, as for 'ndframes video encode'. NaN has a colour that the map does not
    have. The output appears complete or not at all.

    \b
    For example:
      ndframes movie export run.mkv -o run.mp4
      ndframes movie export run.mkv -o u.mp4 --channel u --cmap magma --vmin 0 --vmax auto --fps 10
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    from ..movie.storage import MovieStorage

    report = MovieStorage(path).export(output, **options)
    if as_json:
        echo_json(report.to_dict())
    else:
        click.echo(f"{show_path(output)}: {report}")


@movie.command(short_help="Convert arrays to a movie, and a movie to an array.")
@click.argument("path", type=UserPath())
@_output
@click.option(
    "--times",
    type=UserPath(dir_okay=False),
    metavar="FILE",
    help="The time of each field, in an .npy file or a text file.  [default: those of a movie; else NAME.times.npy beside "
    "NAME.npy, or 0, 1, 2, ...]",
)
@click.option(
    "--bits",
    type=click.Choice(("8", "16", "32", "64", "exact")),
    help="How the numbers are stored: levels of 8 or 16 bits between --vmin and --vmax, floats of 32 or 64 bits, or exactly "
    "as they are.  [default: as in a movie that is converted, else exact]",
)
@_limit_option(
    "--vmin", "The lower limit, or one for each channel; auto: from all fields.  [default: that of a movie, else auto]"
)
@_limit_option(
    "--vmax", "The upper limit, or one for each channel; auto: from all fields.  [default: that of a movie, else auto]"
)
@click.option("--channels", metavar="NAMES", help="The names of the channels, such as 'u|v'.")
@click.option(
    "--fps",
    callback=parse_rate,
    metavar="RATE",
    help="Fields per second in a player.  [default: as in a movie, else 25]",
)
@click.option("--info", callback=_parse_info, metavar="JSON", help="Data to be stored in the movie: an object of JSON.")
@click.option(
    "--nan",
    type=click.Choice(("raise", "clip", "channel")),
    help="NaN in levels: refuse it, store the lower limit, or mark it in a channel of its own.  [default: raise]",
)
@json_option
def convert(
    *,
    path: str,
    output: str,
    times: str | None,
    bits: str | None,
    vmin: Any,
    vmax: Any,
    channels: str | None,
    fps: float | Fraction | None,
    info: dict[str, Any] | None,
    nan: str | None,
    as_json: bool,
) -> None:
    """Convert arrays to a movie of numeric fields, and a movie to an array.

    PATH is an .npy file (t, y, x) or (t, y, x, channel), a folder of .npy files of one field each, a folder of Zarr, or a movie,
    also one of py-pde.
    The fields of a folder are sorted by name, and digits compare as numbers.

    The extension of the output selects what is written: .mkv, .mp4, .mov or .avi is a movie; .npy is an array, with the time
    of each field beside it in NAME.times.npy. An existing file is replaced when the new one is complete.

    \b
    For example:
      ndframes movie convert run.npy -o run.mkv --times times.txt
      ndframes movie convert run.npy -o small.mkv --bits 16 --vmin 0 --vmax auto
      ndframes movie convert fields/ -o run.mkv --channels 'u|v' --info '{"D": 0.1}'
      ndframes movie convert run.mkv -o run.npy
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    from ..movie.convert import convert as convert_fields

    given: dict[str, Any] = {
        "bits": int(bits) if bits is not None and bits != "exact" else bits,
        "channels": channels,
        "fps": fps,
        "info": info,
        "nan": nan,
    }
    options = {name: value for name, value in given.items() if value is not None}
    report = convert_fields(path, output, times=times, vmin=vmin, vmax=vmax, **options)
    if as_json:
        echo_json(report.to_dict())
    else:
        click.echo(f"{show_path(output)}: {report}")


def _facts(found: MovieStorage) -> dict[str, Any]:
    times = found.times
    return {
        "path": found.path,
        "fields": len(found),
        "shape": list(found.shape),
        "dtype": found.dtype.name,
        "bits": found.bits,
        "channels": list(found.channels),
        "complex": found.is_complex,
        "vmin": list(found.vmin),
        "vmax": list(found.vmax),
        "times": times.tolist(),
        "fps": float(found.fps),
        "complete": found.is_complete,
        "raw_bytes": found.nbytes,
        "file_bytes": os.path.getsize(found.path),
        "info": found.info,
    }


def _rows(found: MovieStorage) -> dict[str, str]:
    from ..text import count_noun, format_bytes

    facts = _facts(found)
    extents = " x ".join(f"{extent:,}" for extent in found.shape[1:3])
    ratio = facts["raw_bytes"] / facts["file_bytes"]
    return {
        "path": show_path(found.path),
        "fields": f"{len(found):,} of {extents} (y x x), {count_noun(len(found.channels), 'channel')}, {found.dtype}",
        "channels": "|".join(found.channels) + (", real and imaginary parts" if found.is_complex else ""),
        "stored": "exactly" if found.bits == "exact" else f"as levels of {found.bits} bits between the limits",
        "limits": _show_limits(found),
        "times": _show_times(facts["times"]),
        "player": f"{facts['fps']:.6g} fields per second",
        "size": f"{format_bytes(facts['file_bytes'])}, {format_bytes(facts['raw_bytes'])} as arrays, {ratio:.3g} to 1",
        "complete": "yes" if found.is_complete else "no: it is being written, or its writer was killed",
        **(
            {"info": "\n".join(f"{name}: {json.dumps(value)}" for name, value in found.info.items())}
            if found.info
            else {}
        ),
    }


def _show_limits(found: MovieStorage) -> str:
    limits = list(zip(found.channels, found.vmin, found.vmax, strict=True))
    shown = "\n".join(f"{code}: {low:g} to {high:g}" for code, low, high in limits[:_MANY])
    return shown + (f"\nand {len(limits) - _MANY:,} more" if len(limits) > _MANY else "")


def _show_times(times: list[float]) -> str:
    if not times:
        return "none"
    steps = [later - earlier for earlier, later in pairwise(times)]
    between = f", {min(steps):g} to {max(steps):g} apart" if steps else ""
    return f"{times[0]:g} to {times[-1]:g}{between}"
