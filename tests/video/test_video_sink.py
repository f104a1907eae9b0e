"""VideoSink: a video appears complete or not at all, and leaves no threads."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from kit.writing import FRAMES, QUICK, assert_nothing_there, pan

import ndframes as nf
from ndframes.video.codecs import choose_encoding
from ndframes.video.sink import VideoSink

# -- whole, or not at all ---------------------------------------------------------------------------------------------


def test_a_file_has_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "a.mkv"
    path.write_bytes(b"as it was")
    writer = nf.VideoWriter(path, 25, codec="ffv1")
    for frame in FRAMES:
        writer.append(frame)
        assert path.read_bytes() == b"as it was"
    assert len(writer) == 3
    report = writer.close()
    assert writer.closed
    assert writer.close() is report
    np.testing.assert_array_equal(nf.open(path)[:], FRAMES)
    assert_nothing_there(tmp_path, "a.mkv")
    with pytest.raises(nf.VideoWriteError, match="takes no more frames, it was closed"):
        writer.append(FRAMES[0])


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    os.symlink(tmp_path / "there" / "b.mkv", tmp_path / "a.mkv")
    nf.write_video(tmp_path / "a.mkv", FRAMES, 25, codec="ffv1")
    assert (tmp_path / "a.mkv").is_symlink()
    np.testing.assert_array_equal(nf.open(tmp_path / "there" / "b.mkv")[:], FRAMES)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "ffv1"])
def test_an_error_or_ctrl_c_leaves_what_was_there(tmp_path, codec, error):
    path = tmp_path / "a.mkv"
    path.write_bytes(b"as it was")
    threads = len(os.listdir("/proc/self/task"))

    wide = pan(3, (64, 80))

    def make():
        yield from wide
        if error is KeyboardInterrupt:
            os.kill(os.getpid(), signal.SIGINT)
        raise error

    with pytest.raises(error):
        nf.write_video(path, make(), 25, codec=codec, preset=QUICK[codec])
    with pytest.raises(error), nf.VideoWriter(path, 25, codec=codec, preset=QUICK[codec]) as writer:  # noqa: PT012
        writer.append(wide[0])
        raise error
    assert "given up" in repr(writer)
    assert path.read_bytes() == b"as it was"
    assert_nothing_there(tmp_path, "a.mkv")
    assert len(os.listdir("/proc/self/task")) == threads


def test_a_frame_that_is_refused_does_not_end_the_video(tmp_path):
    with nf.VideoWriter(tmp_path / "a.mkv", 25, codec="ffv1") as writer:
        writer.append(FRAMES[0])
        with pytest.raises(nf.VideoWriteError, match="frame 1 is 8 x 16"):
            writer.append(FRAMES[1, :8])
        writer.append(FRAMES[1])
    np.testing.assert_array_equal(nf.open(tmp_path / "a.mkv")[:], FRAMES[:2])


def test_a_writer_that_is_dropped_leaves_nothing(tmp_path):
    writer = nf.VideoWriter(tmp_path / "a.mkv", 25)
    writer.append(FRAMES[0])
    assert len(os.listdir(tmp_path)) == 1
    del writer
    assert_nothing_there(tmp_path)


KILLED = """
import sys, itertools, numpy as np, ndframes as nf
random = np.random.default_rng(0)
with nf.VideoWriter(sys.argv[1], 25, codec="ffv1") as writer:
    for number in itertools.count():
        writer.append(random.integers(0, 256, (128, 128, 3), dtype=np.uint8))
        if number == 20:
            print("there", flush=True)
"""


@pytest.mark.parametrize("before", [None, b"as it was"])
def test_a_killed_process_leaves_no_half_video_under_the_name(tmp_path, before):
    path = tmp_path / "a.mkv"
    if before is not None:
        path.write_bytes(before)
    environment = {**os.environ, "PYTHONPATH": str(Path(nf.__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout.readline() == b"there\n"
        process.kill()
    assert (path.read_bytes() if path.exists() else None) == before
    (hidden,) = [name for name in os.listdir(tmp_path) if name != "a.mkv"]
    assert re.fullmatch(r"\.a\.mkv\.[0-9a-f]{32}\.part", hidden)
    assert (tmp_path / hidden).stat().st_size > 100_000  # it was in the middle of it


FULL = """
import resource, sys, numpy as np, ndframes as nf
resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))
random = np.random.default_rng(0)
try:
    nf.write_video(sys.argv[1], (random.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(int(sys.argv[2]))), 25)
except nf.OutputError as error:
    print(error)
"""


@pytest.mark.parametrize("count", [9, 60])  # at the end, and on the way
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.avi"])
def test_a_full_disk_is_an_error_and_nothing_is_left(tmp_path, name, count):
    environment = {**os.environ, "PYTHONPATH": str(Path(nf.__file__).parents[1])}
    command = [sys.executable, "-c", FULL, str(tmp_path / name), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == f"{tmp_path / name} cannot be written: File too large\n"
    assert_nothing_there(tmp_path)


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "ffv1", "mjpeg"])
def test_no_thread_is_left_that_a_forked_child_would_wait_for(tmp_path, codec):
    before = len(os.listdir("/proc/self/task"))
    nf.write_video(tmp_path / "a.mkv", pan(9, (64, 96)), 25, codec=codec, preset=QUICK[codec])
    assert len(os.listdir("/proc/self/task")) == before


def use_in_child(writer: nf.VideoWriter) -> None:
    with pytest.raises(nf.VideoWriteError, match="belongs to the process that opened it"):
        writer.append(FRAMES[0])
    writer.abort()
    del writer


@pytest.mark.parametrize("codec", ["h264", "ffv1"])
def test_a_forked_child_leaves_the_video_to_its_parent(tmp_path, codec):
    frames = pan(12, (64, 96))
    with nf.VideoWriter(tmp_path / "a.mkv", 25, codec=codec, quality=0 if codec == "h264" else None) as writer:
        for frame in frames[:6]:
            writer.append(frame)
        child = multiprocessing.get_context("fork").Process(target=use_in_child, args=(writer,))
        child.start()
        child.join(20)
        assert child.exitcode == 0
        for frame in frames[6:]:
            writer.append(frame)
    np.testing.assert_array_equal(nf.open(tmp_path / "a.mkv")[:], frames)


def test_a_sink_that_nobody_got_leaves_nothing(tmp_path):
    """As when Ctrl-C comes before its caller has it."""
    path = str(tmp_path / ".a.mkv.part")
    shape, dtype = FRAMES[0].shape, FRAMES[0].dtype
    encoding = choose_encoding(
        "a.mkv", codec="ffv1", quality=None, preset=None, intra=False, pixel_format=None, shape=shape, dtype=dtype
    )
    sink = VideoSink(path, "matroska", encoding, shape, Fraction(25), None)
    assert os.path.exists(path)
    del sink
    assert os.listdir(tmp_path) == []
