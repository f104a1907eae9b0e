"""What frames of a video cost: ndframes, torchcodec, decord and OpenCV on the same H.264 files, in memory, one thread each.

Photographs that a camera pans over: 500 frames of 1080p with a key frame at least every 12 or every 250 frames, and 120 frames of
4K; B-frames as x264 makes them by default. All contenders take turns, each in a process of its own, on the same numbers:

- *frame*: single frames anywhere; *window*: 16 neighbours at once; *batch*: 32 frames anywhere at once, in order;
  *sequence*: 100 frames one after the other, by number. Milliseconds a request.
- *open*: until the number of frames is known. ndframes finds the frames when it is first asked for a video ("first"), and
  knows them from its cache after that.
- *crop*: 128 x 128 pixels of 16 frames of the 4K video.

ndframes keeps the frames decoded last, 64 MB of them, which is a fiftieth of a clip. "intra", "npy" and "cog" are forms of its
cache: a video of which each frame is a key frame, the pixels as they are (10 GB for these clips), and tiles in space and time.
Each contender's frames are held against what decoding from the beginning gives: equal to the last pixel, or it is said by how
much they differ. Who gives another frame than the one that was asked for takes no part.

torchcodec is installed by hand, of a version that was built for the torch that there is, and finds FFmpeg in PyAV's wheel:

    pip install ".[bench]"
    pip install torch==2.13.0 torchcodec==0.13.0 --extra-index-url https://download.pytorch.org/whl/cpu
    python dev/bench/bench_video.py --folder /var/tmp/bench --json dev/bench/results/video.json
    python dev/bench/bench_video.py --folder /var/tmp/bench --clips gop12 --jobs frame open --rounds 2       # a look
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from clips import CLIPS, Clip, ensure_clip
from contest import Samples, Turn
from crops import digest
from lanes import Lane, LaneError
from outcome import is_chosen, make_parser, open_folder, print_absent, print_table, write_json
from players import Decord, NdframesPlayer, OpenCV, Player, Torchcodec
from stills import Stills, WrongFrameError

_WINDOW = 16
_BATCH = 32
_SEQUENCE = 100
_CROP_PX = 128
_CHECKED = 8

Request = tuple[Any, ...]


def make_players(path: Path, folder: Path) -> list[Player]:
    """All contenders. Those that read a cached form are named by it."""
    workdir = folder / "ndframes"
    return [
        NdframesPlayer("ndframes", "h264", path, workdir),
        NdframesPlayer("ndframes, first", "h264", path, workdir, is_first=True),
        NdframesPlayer("ndframes intra", "intra", path, workdir, backend="intra"),
        NdframesPlayer("ndframes npy", "npy", path, workdir, backend="npy"),
        NdframesPlayer("ndframes cog", "cog", path, workdir, backend="cog"),
        Torchcodec("torchcodec exact", "h264", path),
        Torchcodec("torchcodec exact, its threads", "h264", path, threads=None),
        Torchcodec("torchcodec approximate", "h264", path, mode="approximate"),
        Decord("decord", "h264", path),
        Decord("decord, its threads", "h264", path, threads=None),
        OpenCV("OpenCV", "h264", path),
        OpenCV("OpenCV, its threads", "h264", path, threads=None),
    ]


# -- jobs: what is asked for in a round, and how it is read ------------------------------------------------------------


def draw_frames(clip: Clip, rng: np.random.Generator) -> list[Request]:
    return [(number,) for number in rng.choice(clip.count, 16, replace=False).tolist()]


def draw_windows(clip: Clip, rng: np.random.Generator) -> list[Request]:
    return [(first, _WINDOW) for first in rng.integers(0, clip.count - _WINDOW, 4).tolist()]


def draw_batches(clip: Clip, rng: np.random.Generator) -> list[Request]:
    return [(sorted(rng.choice(clip.count, _BATCH, replace=False).tolist()),)]


def draw_sequences(clip: Clip, rng: np.random.Generator) -> list[Request]:
    return [(int(rng.integers(0, clip.count - _SEQUENCE)), _SEQUENCE)]


def draw_crops(clip: Clip, rng: np.random.Generator) -> list[Request]:
    corners = [rng.integers(0, extent - _CROP_PX, 4).tolist() for extent in clip.shape]
    firsts = rng.integers(0, clip.count - _WINDOW, 4).tolist()
    return [(first, _WINDOW, top, left, _CROP_PX) for first, top, left in zip(firsts, *corners, strict=True)]


def draw_openings(clip: Clip, rng: np.random.Generator) -> list[Request]:  # noqa: ARG001 - they are all alike
    return [()] * 8


DRAWERS: dict[str, Callable[[Clip, np.random.Generator], list[Request]]] = {
    "open": draw_openings,
    "frame": draw_frames,
    "window": draw_windows,
    "batch": draw_batches,
    "sequence": draw_sequences,
    "crop": draw_crops,
}
READERS: dict[str, str] = {
    "open": "open_and_count",
    "frame": "read",
    "window": "read_window",
    "batch": "read_frames",
    "sequence": "read_following",
    "crop": "crop",
}
#: Jobs of the small clips and of the large one.
JOBS = {1080: ("open", "frame", "window", "batch", "sequence"), 2160: ("open", "frame", "crop")}


def numbers_of(job: str, request: Request) -> list[int]:
    """The frames that a request asks for, in order."""
    if job == "frame":
        return [request[0]]
    return list(request[0]) if job == "batch" else list(range(request[0], request[0] + request[1]))


# -- in the contender's process ----------------------------------------------------------------------------------------


def open_player(player: Player) -> int:
    return player.open_and_count()


def take_turn(player: Player, job: str, requests: Sequence[Request]) -> Turn:
    """Answer the requests of a round one by one."""
    read = getattr(player, READERS[job])
    times_us, cpu_seconds = [], 0.0
    for request in requests:
        if job == "open":
            player.rest()
        cpu_started, started = time.process_time(), time.perf_counter()
        answer = read(*request)
        times_us.append((time.perf_counter() - started) * 1e6)
        cpu_seconds += time.process_time() - cpu_started
        del answer
    return Turn(times_us, [], cpu_seconds)


def show(player: Player, job: str, request: Request) -> list[tuple[bytes, np.ndarray]]:
    """The frames of a request: a digest of each, and a part of its pixels."""
    answer = getattr(player, READERS[job])(*request)
    frames = [answer] if job == "frame" else list(answer)
    return [(digest(pixels), Stills.thin_out(pixels)) for pixels in frames]


# -- the contest -------------------------------------------------------------------------------------------------------


def run_clip(clip: Clip, folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All contenders and all jobs on one clip."""
    path = ensure_clip(folder, clip)
    stills = Stills(path, clip.count)
    players = [player for player in make_players(path, folder) if is_chosen(player.name, options)]
    rows = []
    absent: dict[str, str] = {}
    lanes: dict[str, Lane] = {}
    try:
        for player in players:
            open_lane(player, clip, lanes, absent)
        for job in JOBS[clip.shape[0]]:
            if options.jobs is None or job in options.jobs:
                rows += run_job(job, clip, players, lanes, absent, stills, options)
    finally:
        for lane in lanes.values():
            lane.close()
    return rows


def open_lane(player: Player, clip: Clip, lanes: dict[str, Lane], absent: dict[str, str]) -> None:
    """A process for a contender, or why it has none."""
    if player.missing:
        absent[player.name] = f"not installed: {', '.join(player.missing)}"
        return
    lane = None
    try:
        player.build()
        lane = Lane(player)
        count = lane.call(open_player)
    except (LaneError, ValueError) as error:
        absent[player.name] = str(error).partition("\n")[0]
        if lane is not None:
            lane.close()
        return
    if count == clip.count:
        lanes[player.name] = lane
    else:
        absent[player.name] = f"it counts {count} frames, there are {clip.count}"
        lane.close()


def run_job(
    job: str,
    clip: Clip,
    players: Sequence[Player],
    lanes: dict[str, Lane],
    absent: dict[str, str],
    stills: Stills,
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    """Rounds of one job; first everybody's frames are held against the right ones."""
    rng = np.random.default_rng(options.seed)
    draw = DRAWERS[job]
    entrants = {name: lane for name, lane in lanes.items() if takes_part(lane.contender, job)}
    here = dict(absent)
    differences: dict[str, float] = {}
    if job != "open":
        checked = draw(clip, np.random.default_rng(options.seed + 1))[:_CHECKED]
        for name in list(entrants):
            try:
                differences[name] = max(check(entrants[name], job, request, stills) for request in checked)
            except (LaneError, WrongFrameError) as error:
                here[name] = str(error).partition("\n")[0]
                del entrants[name]
    samples = {name: Samples() for name in entrants}
    for number in range(-options.warmup, options.rounds):
        requests = draw(clip, rng)
        for name in rng.permutation(list(entrants)).tolist():
            turn = entrants[name].call(take_turn, job, requests)
            if number >= 0:
                samples[name].turns.append(turn)
    return list_results(job, clip, players, samples, differences, here)


def takes_part(player: Player, job: str) -> bool:
    """Nobody opens a video for the first time in order to read from it; the cached forms in tiles are for crops."""
    is_first, backend = getattr(player, "is_first", False), getattr(player, "backend", None)
    return job == "open" if is_first else job == "crop" if backend == "cog" else True


def check(lane: Lane, job: str, request: Request, stills: Stills) -> float:
    """By how much the pixels of an answer differ from the right ones."""
    shown = lane.call(show, job, request)
    if job == "crop":
        first, count, top, left, extent_px = request
        return stills.check_crop(range(first, first + count), top, left, extent_px, [found for found, _ in shown])
    return max(
        stills.check(number, found, some) for number, (found, some) in zip(numbers_of(job, request), shown, strict=True)
    )


def count_cpu_us(samples: Samples) -> float:
    """What a request costs all threads together in the mean: the same on a machine that has other work as well."""
    return 1e6 * sum(turn.cpu_seconds for turn in samples.turns) / sum(len(turn.times_us) for turn in samples.turns)


def list_results(
    job: str,
    clip: Clip,
    players: Sequence[Player],
    samples: dict[str, Samples],
    differences: dict[str, float],
    absent: dict[str, str],
) -> list[dict[str, Any]]:
    """A row for each contender, and as a table."""
    own = samples.get("ndframes")
    rows = []
    for player in players:
        row: dict[str, Any] = {
            "job": job,
            "clip": clip.title,
            "contender": player.name,
            "side": player.side,
            "codec": player.codec,
        }
        if player.name in absent:
            rows.append({**row, "status": absent[player.name]})
        elif player.name in samples:
            mine = samples[player.name]
            row |= {"status": "measured", "largest_difference": differences.get(player.name, 0), **mine.summarize()}
            row["cpu_us"] = count_cpu_us(mine)
            row["ratio_to_ndframes"] = None if own is None else mine.ratio_to(own)
            rows.append(row)
    cells = [
        (
            row["contender"],
            f"{row['median_us'] / 1000:.2f}",
            f"{row['first_quartile_us'] / 1000:.2f}-{row['third_quartile_us'] / 1000:.2f}",
            f"{row['ratio_to_ndframes'] or 0:.2f}",
            f"{row['cpu_us'] / 1000:.2f}",
            f"{row['largest_difference']:.3g}",
        )
        for row in rows
        if row["status"] == "measured"
    ]
    print_table(
        f"{job}, {clip.title}", ("", "median ms", "quartiles", "x ndframes", "cpu ms", "largest difference"), cells
    )
    print_absent(rows)
    return rows


def main() -> None:
    parser = make_parser(__doc__, shape=None)
    parser.add_argument("--clips", nargs="+", choices=list(CLIPS), default=list(CLIPS))
    parser.add_argument("--jobs", nargs="+", choices=list(DRAWERS), help="only these")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--warmup", type=int, default=1, help="rounds before those that count")
    options = parser.parse_args()
    results = []
    with open_folder(options) as folder:
        for name in options.clips:
            results += run_clip(CLIPS[name], folder, options)
        write_json(options, "video", folder, results)


if __name__ == "__main__":
    main()
