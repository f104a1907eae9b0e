"""What ``ndframes stream`` prints: the line of progress, and what a run has done."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from ..system.terminal import is_terminal

__all__ = ["Progress", "describe_run", "format_columns"]
_BAR_WIDTH = 20
_RATE_SECONDS = 3.0
_LINE_SECONDS = 10.0  # between two lines in a log file
_REASONS = ("busy", "late", "error")


class Progress:
    """A line of progress on stderr: rewritten on a terminal, a new one now and then in a log file.

    Args:
        duration: how long the run takes at most, in seconds; ``None``: until its sources end.
        is_quiet: whether nothing is printed.
    """

    def __init__(self, duration: float | None, *, is_quiet: bool) -> None:
        self._duration = duration
        self._is_quiet = is_quiet
        self._is_terminal = is_terminal(sys.stderr)
        self._begin = self._printed = time.monotonic()
        self._samples: deque[tuple[float, int]] = deque([(self._begin, 0)])
        self._width = 0

    @property
    def seconds(self) -> float:
        """Since the begin of the run."""
        return time.monotonic() - self._begin

    def show(self, stats: Mapping[str, Any], state: str) -> None:
        """Print the line, if it is time for it."""
        now = time.monotonic()
        if self._is_quiet or not (self._is_terminal or now - self._printed >= _LINE_SECONDS):
            return
        self._printed = now
        text = self._describe(stats, state, now)
        if self._is_terminal:
            click.echo(f"\r{text:<{self._width}}", err=True, nl=False)
            self._width = len(text)
        else:
            click.echo(text, err=True)

    def end(self) -> None:
        """Remove the line from the terminal."""
        if self._is_terminal and self._width:
            click.echo(f"\r{'':<{self._width}}\r", err=True, nl=False)

    def _describe(self, stats: Mapping[str, Any], state: str, now: float) -> str:
        sources, algorithms = stats["sources"].values(), stats["algorithms"].values()
        frames = sum(each["captured"] for each in sources)
        parts = [
            f"{frames:,} frames",
            f"{self._measure_rate(frames, now):.1f} fps",
            f"{sum(each['processed'] for each in algorithms):,} windows",
            f"{sum(sum(each['dropped'].values()) for each in algorithms):,} dropped",
            f"{sum(each['reconnects'] for each in sources):,} reconnects",
        ]
        line = ", ".join(parts) + (f"; {state}" if state != "running" else "")
        share = self._find_share(list(sources), now)
        if share is None:
            return line
        filled = int(share * _BAR_WIDTH)
        return f"[{'#' * filled}{'-' * (_BAR_WIDTH - filled)}] {share:4.0%} {line}"

    def _measure_rate(self, frames: int, now: float) -> float:
        """Frames a second in the last seconds."""
        self._samples.append((now, frames))
        while len(self._samples) > 2 and now - self._samples[1][0] > _RATE_SECONDS:
            self._samples.popleft()
        begin, before = self._samples[0]
        return (frames - before) / (now - begin) if now > begin else 0.0

    def _find_share(self, sources: Sequence[Mapping[str, Any]], now: float) -> float | None:
        """The part of the run that is done; ``None`` if its length is not known."""
        shares = []
        if self._duration is not None:
            shares.append((now - self._begin) / self._duration)
        if sources and all(each["expected"] for each in sources):
            shares.append(sum(each["decoded"] for each in sources) / sum(each["expected"] for each in sources))
        return min(1.0, max(shares)) if shares else None


def describe_run(stats: Mapping[str, Any], seconds: float) -> dict[str, str]:
    """The rows of a table of what a run has done: by source, by algorithm with latencies, by sink."""
    rows: dict[str, str] = {}
    head: tuple[str, ...]
    if stats["sources"]:
        head = ("name", "frames", "fps", "left out", "reconnects", "stalls", "state")
        lines = [_describe_source(name, each, seconds) for name, each in stats["sources"].items()]
        rows["sources"] = format_columns([head, *lines])
    if stats["algorithms"]:
        head = ("name", "windows", "processed", *_REASONS, "p50 ms", "p95 ms", "p99 ms", "max ms")
        lines = [_describe_algorithm(name, each) for name, each in stats["algorithms"].items()]
        rows["algorithms"] = format_columns([head, *lines])
    for name, each in stats["sinks"].items():
        rows.setdefault("sinks", "")
        counts = ", ".join(f"{count:,} {what}" for what, count in each.items())
        rows["sinks"] += ("\n" if rows["sinks"] else "") + f"{name}: {counts}"
    return rows


def _describe_source(name: str, counts: Mapping[str, Any], seconds: float) -> tuple[str, ...]:
    left_out = counts["decoded"] - counts["captured"]
    rate = counts["captured"] / seconds if seconds else 0.0
    numbers = (counts["captured"], rate, left_out, counts["reconnects"], counts["stalls"])
    return (name, *(f"{each:,.1f}" if isinstance(each, float) else f"{each:,}" for each in numbers), counts["state"])


def _describe_algorithm(name: str, counts: Mapping[str, Any]) -> tuple[str, ...]:
    numbers = [counts["scheduled"], counts["processed"], *(counts["dropped"][reason] for reason in _REASONS)]
    latencies = [counts["latency_ms"][name] for name in ("p50", "p95", "p99", "max")]
    return (
        name,
        *(f"{each:,}" for each in numbers),
        *(f"{each:,.1f}" if each == each else "-" for each in latencies),  # noqa: PLR0124 - nan: there is none
    )


def format_columns(rows: Iterable[Sequence[str]]) -> str:
    """Rows of a table as lines: the first column to the left, the others to the right.

    Example:
        >>> print(format_columns([("name", "frames"), ("camera", "7")]))
        name    frames
        camera       7
    """
    listed = list(rows)
    widths = [max(len(row[place]) for row in listed) for place in range(len(listed[0]))]
    return "\n".join(
        "  ".join(
            f"{text:>{width}}" if place else f"{text:<{width}}"
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in listed
    )
