"""Rates of frames on the command line."""

from __future__ import annotations

from fractions import Fraction

import click

__all__ = ["parse_rate"]


def parse_rate(ctx: click.Context, param: click.Parameter, value: str | None) -> float | Fraction | None:
    """Parse ``25``, ``29.97`` or ``30000/1001``."""
    if value is None:
        return None
    try:
        return Fraction(value) if "/" in value else float(value)
    except (ValueError, ZeroDivisionError) as error:
        raise click.BadParameter(
            f"{value!r}; write frames per second, such as 25, 29.97 or 30000/1001", ctx, param
        ) from error
