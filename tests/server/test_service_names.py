"""Names: each image has one, of allowed characters, that is a key and never a path."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ndframes as nf
from ndframes.server.names import Names, key_from_json, key_to_json

ids = st.one_of(
    st.text(max_size=20),
    st.integers(),
    st.tuples(st.integers(), st.text(max_size=3)),
    st.sampled_from(["..", ".", "a", "a-2"]),
)


@given(st.lists(ids, unique=True, max_size=20))
def test_every_id_has_a_name_of_its_own(image_ids):
    names = Names(nf.SimpleFrames(dict.fromkeys(image_ids, "x.png")))
    listed = list(names)
    assert len(set(listed)) == len(image_ids) == names.image_count
    for name, image_id in zip(listed, image_ids, strict=True):
        assert re.fullmatch(r"[A-Za-z0-9_.-]{1,128}", name)
        assert name not in (".", "..")
        assert names.find(name) == image_id
        assert names.name_of(image_id) == name
        key = key_from_json(key_to_json(image_id, name))
        assert key == (image_id if isinstance(image_id, int) else name)


def test_names_that_are_kept_come_first():
    names = Names(nf.SimpleFrames({"x/a": "1.png", "a": "2.png", 7: "3.png", "7": "4.png"}))
    assert list(names) == ["a-2", "a", "7", "7-2"]
    with pytest.raises(nf.ImageIdError, match="no image 'aa'; close: a"):
        names.find("aa")
    assert names.name_of([]) is None


def test_videos_of_a_dataset_follow_its_images():
    dataset = {"images": [{"id": 3, "file_name": "a.png"}], "videos": [{"id": 1}, {"id": "x y"}]}
    names = Names(nf.CocoFrames(dataset))
    assert list(names) == ["3", "video-1", "video-x-y"]
    assert names.image_count == 1
    assert names.find("video-1") == ("video", 1)
    assert key_from_json(key_to_json(("video", 1), "video-1")) == ("video", 1)
