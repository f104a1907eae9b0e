"""Proofs of entry points in files that are too large to be proved whole."""

from __future__ import annotations

import numpy as np
import pytest
from kit.every_frame import compare
from kit.videos import Recipe, read_number

import ndframes as nf
from ndframes.video.indexing import build_index

#: 40 of these are more than a proof decodes.
LARGE = {"shape": (448, 480), "count": 40}


@pytest.mark.parametrize("codec", ["mpeg1", "mpeg2"])
def test_another_way_is_found_where_no_seek_ends_at_its_packet(tmp_path, codec):
    """A seek in a program stream ends at a packet of its own, which holds the end of the frame before as well."""
    path = Recipe("mpg", codec, gop=1, **LARGE).make(tmp_path)
    index = build_index(str(path))
    assert index.keys.tolist() == list(range(40))
    video = nf.open(path, workdir=tmp_path / "work")
    whole = video[:]
    assert [read_number(frame) for frame in whole] == list(range(40))
    for number in (39, 20, 0, 38):
        assert np.array_equal(video[number], whole[number])


@pytest.mark.parametrize(("container", "codec"), [("mp4", "h264"), ("mkv", "h264"), ("ts", "h264"), ("obu", "av1")])
def test_times_of_intact_files_are_used(tmp_path, container, codec):
    index = build_index(str(Recipe(container, codec, 2 if codec == "h264" else 0, gop=4, **LARGE).make(tmp_path)))
    assert index.has_exact_times
    assert index.keys.tolist() == list(range(0, 40, 4))


@pytest.mark.parametrize("container", ["mp4", "mkv", "avi"])
def test_a_large_file_that_begins_inside_a_group_of_frames(tmp_path, container):
    path = Recipe(container, "mpeg4", damage="begins-inside", **LARGE).make(tmp_path)
    found = compare(path, orders=("random", "backwards"), accesses=20)
    assert found.expected == 38
    assert found.is_exact, str(found)
