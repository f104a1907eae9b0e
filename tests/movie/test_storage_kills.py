"""Writers of movies that are killed: what they promised is there, and right, and can be continued."""

from __future__ import annotations

import multiprocessing
import os
import random
import time

import numpy as np
import pytest
from kit.movie_writer import SHAPE, field_of, write_for_ever

import ndframes as nf

KINDS = [
    (container, durable, bits)
    for container in ("mkv", "mp4", "mov", "avi")
    for durable in ("frame", "second", "close")
    for bits in (16, "exact")
    if (container, bits) != ("avi", "exact")
]
SECONDS = 60


@pytest.fixture(scope="module")
def processes():
    """Processes that start fast: forked from one that has loaded everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["kit.movie_writer", "av", "ndframes.movie.storage", "ndframes.video.fields.sinks"])
    return context


def kill_writer(processes, path: str, mode: str, durable: str, bits: int | str, fields: int, delay: float):
    """Start a writer, kill it after some fields and a delay; return the numbers that it sent and when, and the time of the kill."""
    receiver, sender = processes.Pipe(duplex=False)
    writer = processes.Process(target=write_for_ever, args=(path, mode, durable, bits, sender))
    writer.start()
    sender.close()
    sent = []
    while len(sent) < fields:
        assert receiver.poll(SECONDS), "the writer writes nothing"
        sent.append(receiver.recv())
    time.sleep(delay)
    killed = time.monotonic()
    writer.kill()
    writer.join(SECONDS)
    try:
        while receiver.poll(0):
            sent.append(receiver.recv())
    except EOFError:
        pass
    receiver.close()
    return sent, killed


def count_promised(sent, killed: float, durable: str) -> int:
    """How many fields must be readable: all but the newest, or those that are older than a second."""
    if durable == "frame":
        return sent[-1][0]
    return max((number + 1 for number, moment in sent if killed - moment > 1), default=0) if durable == "second" else 0


def check_file(path: str, bits: int | str, promised: int) -> int:
    if not os.path.exists(path):
        assert not promised
        return 0
    movie = nf.MovieStorage(path)
    assert len(movie) >= promised
    assert not movie.is_complete
    tolerance = 0.5001 / 65535 if bits == 16 else 0
    for number in {*range(min(len(movie), 3)), *range(max(0, len(movie) - 40), len(movie))}:
        assert np.abs(movie[number] - field_of(number, bits)).max() <= tolerance
    assert movie.times.tolist() == [number / 3 for number in range(len(movie))]
    return len(movie)


def kill_and_check(processes, folder, kind, rng: random.Random) -> None:
    container, durable, bits = kind
    path = str(folder / f"{rng.getrandbits(60)}.{container}")
    sent, killed = kill_writer(processes, path, "w", durable, bits, rng.randint(1, 12), rng.random() * 0.02)
    count = check_file(path, bits, count_promised(sent, killed, durable))
    if not count or container == "avi":
        return
    # Killed again while it continues the file.
    sent, killed = kill_writer(processes, path, "a", durable, bits, rng.randint(1, 4), rng.random() * 0.01)
    count = check_file(path, bits, max(count, count_promised(sent, killed, durable)))
    with nf.MovieStorage(path, mode="a") as movie:
        assert len(movie) == count
        movie.append(field_of(count, bits), count / 3)
    movie = nf.MovieStorage(path)
    assert movie.is_complete
    assert len(movie) == count + 1
    last = field_of(count, bits)
    assert np.abs(movie[count] - last).max() <= 1e-5
    assert np.abs(movie[0] - field_of(0, bits)).max() <= 1e-5
    assert nf.read_video(path, pixel_format="picture").shape[:3] == (count + 1, *SHAPE)
    os.unlink(path)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind)))
def test_a_killed_writer_leaves_what_it_promised(processes, tmp_path, kind):
    rng = random.Random(repr(kind))
    for _ in range(2):
        kill_and_check(processes, tmp_path, kind, rng)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind)))
def test_two_hundred_killed_writers(processes, tmp_path, kind):
    rng = random.Random(f"slow {kind}")
    for _ in range(200):
        kill_and_check(processes, tmp_path, kind, rng)


@pytest.mark.parametrize("container", ["mkv", "mp4"])
@pytest.mark.parametrize("bits", [16, "exact"])
def test_a_file_cut_anywhere_has_its_complete_fields(tmp_path, container, bits):
    path, cut = tmp_path / f"a.{container}", tmp_path / f"cut.{container}"
    with nf.MovieStorage(path, mode="w", bits=bits) as movie:
        for number in range(6):
            movie.append(field_of(number, bits), number / 3)
    data = path.read_bytes()
    places = nf.MovieStorage(path)._source.places.table
    first = int(min(places["picture"][0], places["values"][0] or places["picture"][0]))
    ends = [int(max(row["picture"] + row["picture_bytes"], row["values"] + row["values_bytes"])) for row in places]
    rng = random.Random(7)
    for length in sorted(rng.sample(range(first, len(data)), 60)):
        cut.write_bytes(data[:length])
        movie = nf.MovieStorage(cut)
        complete = sum(end <= length for end in ends)
        assert len(movie) == complete
        assert not movie.is_complete
        for number in range(len(movie)):
            assert np.abs(movie[number] - field_of(number, bits)).max() <= (0 if bits == "exact" else 1e-5)
        if len(movie):
            with nf.MovieStorage(cut, mode="a") as continued:
                continued.append(field_of(9, bits), 99)
            movie = nf.MovieStorage(cut)
            assert np.abs(movie[-1] - field_of(9, bits)).max() <= 1e-5
            assert movie.times[-1] == 99
