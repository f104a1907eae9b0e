"""Facts about a video and the cost of its cache forms, for ``ndframes info``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..common import backend_of, show_path
from .entries import count_entry_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ...frames.frames import Frames
    from ...spec.backends import Backend

__all__ = ["collect_video", "count_frames", "describe_stream", "rows_of_video"]
_Facts = dict[str, Any]


def collect_video(path: str, workdir: str | None, backend: str) -> _Facts:
    """Describe a video, its cached forms, and the cost of each form. Converts a few frames to estimate that."""
    from ...entries.estimates import advise, estimate_forms
    from ...frames.simple import SimpleFrames
    from ...spec.kinds import is_video_path

    frames = SimpleFrames({path: path}, workdir=workdir, backend=None)
    video: Any = frames.image(path)
    metadata = video.metadata
    facts: _Facts = {
        "path": path,
        "file_bytes": metadata.file_bytes,
        "format": metadata.format,
        "shape": metadata.shape,
        "dtype": metadata.dtype,
        "channels": video.channels,
        "decoded_bytes": metadata.raw_bytes,
        "video": metadata.to_dict(),
        "cache": None,
        "costs": None,
        "advice": None,
    }
    if backend_of(backend) is not None:
        facts["cache"] = {"workdir": str(frames.cache.workdir), "entries": list(_find_entries(path, frames))}
        if is_video_path(path):  # an animation is cached like an image
            estimates = estimate_forms(video.reader)
            facts["costs"] = [estimate.to_dict() for estimate in estimates]
            facts["advice"] = advise(estimates)
    return facts


def rows_of_video(facts: _Facts) -> dict[str, str]:
    """The facts as text, by label."""
    from ...text import count_noun, format_bytes

    video = facts["video"]
    count, height, width, bands = facts["shape"]
    rate = "unknown rate" if video["fps"] is None else f"{video['fps']:.6g} per second"
    rows = {
        "path": show_path(facts["path"]),
        "format": f"{video['codec']} in {facts['format']}, {format_bytes(facts['file_bytes'])}",
        "size": f"{count:,} x {height:,} x {width:,} px (time x height x width), {format_bytes(facts['decoded_bytes'])} decoded",
        "pixels": f"{facts['dtype']}, {count_noun(bands, 'channel')}: {'|'.join(facts['channels'])}; stored as "
        f"{video['pixel_format']}",
        "frames": f"{count_frames(video)}, {rate}{'' if video['is_constant_rate'] else ' on average'}, duration "
        f"{video['duration']:.6g} s",
        "key frames": "all frames"
        if video["keyframe_count"] == count
        else f"{video['keyframe_count']:,}, every {video['mean_gop']:.4g} frames on average",
    }
    if video["rotation"]:
        rows["rotation"] = f"{video['rotation']} degrees clockwise for display"
    if len(video["streams"]) > 1:
        rows["streams"] = "\n".join(map(describe_stream, video["streams"]))
    if facts["cache"] is not None:
        rows["cache"] = "\n".join(map(_describe_entry, facts["cache"]["entries"])) or "no entries yet"
    if facts["costs"] is not None:
        rows["costs"] = "\n".join(_tabulate_costs(facts["costs"]))
        rows["advice"] = facts["advice"]
    return rows


def count_frames(video: Mapping[str, Any]) -> str:
    """The number of frames, and the number that the header promises if it differs."""
    count, promised = video["frames"], video["promised_frames"]
    return f"{count:,}" if promised in (None, count) else f"{count:,} (its header promises {promised:,})"


def describe_stream(stream: Mapping[str, Any]) -> str:
    """One line about a video stream."""
    from ...text import count_noun

    parts = [stream["codec"] or "no decoder", f"{stream['height']:,} x {stream['width']:,} px"]
    if stream["frames"] is not None:
        parts.append(count_noun(stream["frames"], "frame"))
    parts.extend(stream["disposition"])
    return f"{stream['number']}: {', '.join(parts)}{' (read)' if stream['is_chosen'] else ''}"


def _find_entries(path: str, frames: Frames) -> Iterator[_Facts]:
    """The entries of the current state of the video, with any options."""
    from ...frames.simple import SimpleFrames
    from ...spec.backends import Backend

    (info,) = frames.pathinfo(path).channels
    for form in _list_forms(path, frames):
        with_form = SimpleFrames({path: path}, workdir=frames.cache.workdir, backend=form)
        survey = with_form.survey_channel(path, info)
        if survey.key is not None and survey.job is None:
            entry = frames.cache.path(survey.key)
            defaults = Backend(type=form.type).to_dict()
            options = {name: value for name, value in form.to_dict().items() if value != defaults[name]}
            yield {
                "form": form.type,
                "options": options,
                "entry_path": str(entry),
                "entry_bytes": count_entry_bytes(frames, entry),
            }


def _list_forms(path: str, frames: Frames) -> list[Backend]:
    """The forms of all entries of the video, those of its former states included."""
    from ...cache.keys import Keyer
    from ...cache.trailer import open_trailer
    from ...errors import CacheEntryError
    from ...spec.backends import Backend

    (info,) = frames.pathinfo(path).channels
    names = Backend(type="npy").to_dict().keys()
    found: dict[Backend, None] = {}
    # There is no list of the forms that were made: the trailers of the video's entries tell.
    for entry in frames.cache.ls_forms(Keyer("PATH").lost_source_id(info) or ""):
        try:
            trailer, _ = open_trailer(str(entry.path), entry.key, frames.cache.files)
        except CacheEntryError:  # damaged: 'ndframes cache verify' reports it
            continue
        form: Mapping[str, Any] = trailer.meta["key"]["backend"]
        if form.keys() == names:  # the entry of the frame index has others
            found[Backend(**form)] = None
    return sorted(found, key=lambda form: form.type)


def _describe_entry(entry: _Facts) -> str:
    from ...text import format_bytes

    options = ", ".join(f"{name} {value}" for name, value in entry["options"].items())
    return f"{entry['form']}{f' ({options})' if options else ''}, {format_bytes(entry['entry_bytes'])}"


def _tabulate_costs(costs: list[_Facts]) -> list[str]:
    """A line for each form, in columns, and a line about the method."""
    from ...text import format_bytes, format_seconds

    lines = [("form", "on disk", "per frame", "per crop", "to prepare")]
    for cost in costs:
        is_source = cost["form"] == "none"
        lines.append(
            (
                cost["form"],
                "nothing" if is_source else format_bytes(cost["entry_bytes"]),
                format_seconds(cost["frame_seconds"]),
                format_seconds(cost["crop_seconds"]),
                "nothing" if is_source else format_seconds(cost["prepare_seconds"]),
            )
        )
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return [
        *("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines),
        "estimated from at most 16 frames, on this machine; a crop is 128 x 128 px of 16 frames",
    ]
