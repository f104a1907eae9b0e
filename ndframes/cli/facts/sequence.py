"""Facts about a sequence of images, for ``ndframes info``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ..common import backend_of, show_path, to_typed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...frames.clip import Clip

__all__ = ["collect_sequence", "rows_of_sequence"]
_Facts = dict[str, Any]


def collect_sequence(clip: Clip, workdir: str | None, backend: str) -> _Facts:
    """Describe the images of a folder, glob or pattern as one array. Reads all headers, and converts nothing."""
    from ...frames.simple import SimpleFrames

    path = clip.path
    direct = SimpleFrames({path: clip}, workdir=workdir, backend=None)
    frame = direct.load_frame(path)
    files = [info.path for info in direct.pathinfo(path).channels]
    facts: _Facts = {
        "path": path,
        "images": len(files),
        "first_file": to_typed(files[0]),
        "last_file": to_typed(files[-1]),
        "frame_ids": frame.frame_ids,
        "file_bytes": sum(os.path.getsize(file) for file in files),
        "format": direct.image(path).opened(0).reader.format,
        "shape": frame.shape,
        "dtype": frame.dtype.name,
        "channels": frame.channels,
        "decoded_bytes": frame.nbytes,
        "cache": None,
    }
    if backend_of(backend) is not None:
        frames = SimpleFrames({path: clip}, workdir=workdir, backend=backend)
        surveys = [frames.survey_channel(path, info) for info in frames.pathinfo(path).channels]
        # A survey without a job has found a complete entry of the present state.
        cached = sum(1 for survey in surveys if survey.key is not None and survey.job is None)
        facts["cache"] = {"workdir": str(frames.cache.workdir), "cached_images": cached}
    return facts


def rows_of_sequence(facts: _Facts) -> dict[str, str]:
    """The facts as text, by label."""
    from ...text import count_noun, format_bytes

    count, height, width, bands = facts["shape"]
    first, last = (show_path(facts[name]) for name in ("first_file", "last_file"))
    rows = {
        "path": show_path(facts["path"]),
        "format": f"{count_noun(count, 'image')}, the first a {facts['format']}, {format_bytes(facts['file_bytes'])}",
        "files": f"{first}\nto {last}" if count > 1 else first,
        # Numbers come from a pattern; folders and globs have file names instead.
        **({"numbers": _describe_numbers(facts["frame_ids"])} if isinstance(facts["frame_ids"][0], int) else {}),
        "size": f"{count:,} x {height:,} x {width:,} px (time x height x width), {format_bytes(facts['decoded_bytes'])} decoded",
        "pixels": f"{facts['dtype']}, {count_noun(bands, 'channel')}: {'|'.join(facts['channels'])}",
    }
    if facts["cache"] is not None:
        rows["cache"] = f"{facts['cache']['cached_images']:,} of {count_noun(count, 'image')} cached"
    return rows


def _describe_numbers(numbers: Sequence[int]) -> str:
    first, last = numbers[0], numbers[-1]
    missing = last - first + 1 - len(numbers)
    return f"{first} to {last}, {f'{missing:,}' if missing else 'none'} missing"
