"""Videos that are replaced, or grow, between the moment they are indexed and the moment a decoder opens them."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from kit.every_frame import decode_in_order
from kit.videos import Encoding, read_number

import ndframes as nf
from ndframes.entries import frame_index

OLD = Encoding("libx264")
# Its frame 5 has the time of frame 10 of the old one.
NEW = Encoding("libx264", times=lambda number: 2 * number, first=500)


def read(path, work, backend):
    return nf.SimpleFrames({"a": path}, workdir=work, backend=backend).load_region("a", 10)


WAYS = {
    "video": lambda path, work: read(path, work, None),
    "npy": lambda path, work: read(path, work, "npy"),
    "intra": lambda path, work: read(path, work, "intra"),
    "batch": lambda path, work: nf.SimpleFrames({"a": path}, workdir=work).load_regions([("a", 10)])[0],
    "open": lambda path, work: nf.open(path, workdir=work)[10],
}


@pytest.fixture
def once_indexed(monkeypatch):
    """Calls a function once, after the next index was found."""

    def arrange(change) -> None:
        changes, find = [change], frame_index.find_index

        def find_and_change(*args, **options):
            found = find(*args, **options)
            if changes:
                changes.pop()()
            return found

        monkeypatch.setattr(frame_index, "find_index", find_and_change)

    return arrange


@pytest.fixture(params=["just written", "old"])
def age(request, monkeypatch):
    if request.param == "old":
        monkeypatch.setattr("ndframes.system.stamp._LONGEST_TICK_NS", 0)


@pytest.mark.usefixtures("age")
@pytest.mark.parametrize("way", WAYS)
def test_a_replaced_video_is_opened_again(tmp_path, once_indexed, way):
    path, other = tmp_path / "a.mp4", tmp_path / "b.mp4"
    OLD(path, 30)
    NEW(other, 30)
    right = decode_in_order(other)[10].pixels
    once_indexed(lambda: os.replace(other, path))
    found = WAYS[way](path, tmp_path / "work")
    assert read_number(found) == 510
    assert np.array_equal(found, right)
    assert not other.exists()


def test_read_video_of_a_replaced_video_is_an_error(tmp_path, monkeypatch):
    path, other = tmp_path / "a.mp4", tmp_path / "b.mp4"
    OLD(path, 30)
    NEW(other, 30)
    find = frame_index.find_index

    def find_and_replace(*args):
        found = find(*args)
        os.replace(other, path)
        return found

    monkeypatch.setattr("ndframes.movie.read.find_index", find_and_replace)
    with pytest.raises(nf.SourceChangedError, match=r"a\.mp4 was replaced or removed"):
        nf.read_video(path, [10], workdir=tmp_path / "work")
    monkeypatch.undo()
    assert read_number(nf.read_video(path, [10], workdir=tmp_path / "work")[0]) == 510


def test_a_recording_is_read_while_it_grows(tmp_path, once_indexed):
    whole, path = tmp_path / "whole.ts", tmp_path / "a.ts"
    OLD(whole, 60)
    data = whole.read_bytes()
    half = len(data) // 188 // 2 * 188
    path.write_bytes(data[:half])
    count = len(nf.open(path, workdir=tmp_path / "work"))
    assert 20 < count < 40

    def go_on() -> None:
        with path.open("ab") as file:
            file.write(data[half:])

    once_indexed(go_on)
    assert read_number(nf.open(path, workdir=tmp_path / "work")[17]) == 17
    assert path.stat().st_size == len(data)
    assert len(nf.open(path, workdir=tmp_path / "work")) == 60


def test_an_old_video_that_is_written_to_is_opened_again(tmp_path, monkeypatch, once_indexed):
    monkeypatch.setattr("ndframes.system.stamp._LONGEST_TICK_NS", 0)
    path, other = tmp_path / "a.mp4", tmp_path / "b.mp4"
    OLD(path, 30)
    NEW(other, 60)  # longer, so that it might be taken for one that has grown
    assert other.stat().st_size > path.stat().st_size
    once_indexed(lambda: shutil.copyfile(other, path))
    assert read_number(nf.open(path, workdir=tmp_path / "work")[10]) == 510
