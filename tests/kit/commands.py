"""Run commands of the command line in this process."""

from __future__ import annotations

from click.testing import CliRunner

from ndframes.cli import main


def run(*arguments: object) -> str:
    """What a command prints; its errors are raised."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="ndframes")
    if result.exception is not None:
        raise result.exception
    return result.stdout
