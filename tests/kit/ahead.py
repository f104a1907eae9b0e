"""Processes that read ahead: images for them, scripts that use them, and what they leave behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np

import ndframes as nf

from .waiting import wait_until

SHAPE = (90, 110, 3)
EDGE = 32


def make_arrays(count: int = 4) -> dict[int, np.ndarray]:
    return {number: np.random.default_rng(number).integers(0, 255, SHAPE, np.uint8) for number in range(count)}


def make_frames(folder: Path, count: int = 4, **options) -> nf.SimpleFrames:
    """Frames over the arrays of :func:`make_arrays`."""
    paths = {}
    for number, array in make_arrays(count).items():
        paths[number] = str(folder / f"{number}.npy")
        np.save(paths[number], array)
    return nf.SimpleFrames(paths, workdir=folder / "work", backend=None, **options)


def make_requests(count: int, images: int = 4) -> list:
    """Windows of one size anywhere in the images."""
    rng = np.random.default_rng(5)
    corners = rng.integers(0, (SHAPE[0] - EDGE, SHAPE[1] - EDGE), (count, 2)).tolist()
    return [(number % images, np.s_[y : y + EDGE, x : x + EDGE]) for number, (y, x) in enumerate(corners)]


def count_wrong_pixels(chunk, arrays: dict[int, np.ndarray]) -> int:
    """How many crops of a chunk differ from numpy's."""
    assert len(chunk.requests) == len(chunk.array)
    return sum(
        not np.array_equal(crop, arrays[image_id][region])
        for (image_id, region), crop in zip(chunk.requests, chunk.array, strict=True)
    )


# The child processes that other tests have left running.
_OTHERS: set[int] = set()


def ignore_other_children() -> None:
    """Leave the child processes that run now out of :func:`children`."""
    _OTHERS.clear()
    _OTHERS.update(children())


def children() -> set[int]:
    """The child processes of this process, and of its fork server; the helpers of multiprocessing are left out."""
    found = set()
    for pid in _children_of(os.getpid()):
        if "multiprocessing.forkserver" in _command(pid):
            found |= _children_of(pid)
        elif "multiprocessing.resource_tracker" not in _command(pid):
            found.add(pid)
    return found - _OTHERS


def all_children() -> set[int]:
    """The child processes that any thread of this process has started; the helper of multiprocessing is left out."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            found |= {int(child) for child in (task / "children").read_text().split()}
        except (FileNotFoundError, ProcessLookupError):
            pass  # the thread has ended
    return {pid for pid in found if "multiprocessing.resource_tracker" not in _command(pid)}


def descriptors() -> list[str]:
    """What the open descriptors of this process refer to."""
    gc.collect()
    targets = []
    for name in os.listdir("/proc/self/fd"):
        try:
            targets.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:  # that of the listing itself
            pass
    return sorted(target.partition(":")[0] if target.startswith("socket") else target for target in targets)


def segments() -> set[str]:
    """The named shared memory of the whole machine that Python made."""
    return {name for name in os.listdir("/dev/shm") if name.startswith(("psm_", "ndframes"))}


def session_members(leader: int) -> set[int]:
    """The processes of a session that run."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[3]) == leader and fields[0] != "Z":
                found.add(int(name))
    return found


class Script:
    """A script in a session of its own, so that whatever it starts can be found."""

    def __init__(self, text: str, *arguments: object, from_stdin: bool = False, prefix: tuple[str, ...] = ()) -> None:
        tests = str(Path(__file__).parents[1])
        text = f"import sys; sys.path.insert(0, {tests!r})\n{textwrap.dedent(text)}"
        command = [*prefix, sys.executable, "-u", *(["-"] if from_stdin else ["-c", text]), *map(str, arguments)]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if from_stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        if from_stdin:
            self.process.stdin.write(text)
            self.process.stdin.close()
            self.process.stdin = None

    def read_line(self) -> str:
        return self.process.stdout.readline().strip()

    def signal_group(self, number: int) -> None:
        os.killpg(self.process.pid, number)

    def finish(self, seconds: float = 60) -> tuple[int, str, str]:
        """Its status and output; fails if it, or what it started, does not end."""
        try:
            output, errors = self.process.communicate(timeout=seconds)
            wait_until(lambda: not session_members(self.process.pid), 10)
        finally:
            for pid in session_members(self.process.pid):
                os.kill(pid, signal.SIGKILL)
        return self.process.returncode, output, errors


def run_script(text: str, *arguments: object, **options) -> str:
    """The output of a script that must succeed and print no errors."""
    status, output, errors = Script(text, *arguments, **options).finish()
    assert (status, errors) == (0, ""), errors
    return output


def _children_of(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except FileNotFoundError:
        return ""
