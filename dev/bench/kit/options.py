"""Command-line options that every benchmark has."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def make_parser(
    doc: str, *, quick: str, shape: tuple[int, int] | None = (16384, 12288), rounds: int, warmup: int | None = None
) -> argparse.ArgumentParser:
    """Return a parser with the common options.

    Args:
        doc: the description.
        quick: the options that ``--quick`` stands for.
        shape: default ``(height, width)`` of the image; ``None``: no such options.
        rounds: default number of rounds.
        warmup: default number of rounds before those that count; ``None``: no such option.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="keep the data here for later runs; default: a temporary folder")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--seed", type=int, default=0, help="of the crops and the order of contenders")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="contenders whose name contains one of these")
    parser.add_argument("--quick", action="store_true", help=f"a trial run in seconds: {quick}")
    parser.add_argument("--rounds", type=int, default=rounds, help="interleaved rounds")
    if warmup is not None:
        parser.add_argument("--warmup", type=int, default=warmup, help="rounds before those that count")
    if shape is not None:
        parser.add_argument("--height", type=int, default=shape[0], help="of the image in pixels")
        parser.add_argument("--width", type=int, default=shape[1], help="of the image in pixels")
    parser.set_defaults(quick_options=quick)
    return parser


def parse_options(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line. ``--quick`` changes defaults; options that are given take precedence."""
    options = parser.parse_args()
    if options.quick:
        options = parser.parse_args([*options.quick_options.split(), *sys.argv[1:]])
    del options.quick_options
    return options


def is_chosen(name: str, options: argparse.Namespace) -> bool:
    """Whether ``--only`` includes a contender of this name."""
    return options.only is None or any(text in name for text in options.only)


def is_installed(module: str) -> bool:
    """Whether a module can be imported, found without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False


@contextmanager
def open_folder(options: argparse.Namespace) -> Iterator[Path]:
    """The folder for data: ``--folder``, which is kept, or a temporary one."""
    if options.folder is not None:
        options.folder.mkdir(parents=True, exist_ok=True)
        yield options.folder.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="ndframes-bench-") as folder:
        yield Path(folder).resolve()
