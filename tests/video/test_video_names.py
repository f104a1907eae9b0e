"""File names that FFmpeg would take for addresses, pipes or patterns; files that name other files."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
from kit.commands import run
from kit.videos import Recipe, read_number

import ndframes as nf
from ndframes.compat.sleap import AsyncVideo

NAMES = [
    "10:30.mp4",
    "2024-05-01T10:30:15.mp4",
    "file:a.mp4",
    "concat:a.mp4|b.mp4",
    "pipe:0.mp4",
    "fd:.mp4",
    "http:a.mp4",
    "data:video.mp4",
    "subfile,,start,0,end,9,,:a.mp4",
    "crypto:a.mp4",
    "cache:file:a.mp4",
    "-.mp4",
    ":a.mp4",
    "100%.mp4",
    "a%03d.mp4",
    "a*.mp4",
    "a?[b].mp4",
    "a{:03d}.mp4",
    "~a b#c;d&e.mp4",
]
WITHOUT_SUFFIX = ["-", "pipe:", "pipe:0", "data:video/mp4;base64,AAAA", "a%03d", "concat:walk"]


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    return Recipe("mp4", "h264", bframes=2).make(tmp_path_factory.mktemp("walk"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NDFRAMES_WORKDIR", str(tmp_path / "work"))
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_that_of_a_file(walk, here, name):
    shutil.copy(walk, name)
    for path in (name, os.path.abspath(name)):
        assert read_number(nf.open(path)[17]) == 17
        assert read_number(nf.read_video(path, [17])[0]) == 17
        assert nf.video_metadata(path).frames == 40
    frames = nf.SimpleFrames({"a": name}, backend="npy")
    frames.prepare()
    assert read_number(frames.load_region("a", 17)) == 17
    listed = nf.SimpleFrames([name])
    assert read_number(listed.load_region(next(iter(listed)), 17)) == 17
    # A name that begins with a dash would be an option.
    assert json.loads(run("video", "info", "--json", "--", name))["frames"] == 40
    assert json.loads(run("info", "--json", "--backend", "none", "--", name))["shape"][0] == 40


@pytest.mark.parametrize("name", WITHOUT_SUFFIX)
def test_names_without_suffix_are_those_of_files(walk, here, name):
    os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
    shutil.copy(walk, name)
    for path in (name, os.path.abspath(name)):
        assert read_number(nf.read_video(path, [17])[0]) == 17
        assert nf.video_metadata(path).frames == 40


def test_datasets_and_other_readers_take_such_names(walk, here):
    name = "10:30.mp4"
    shutil.copy(walk, name)
    dataset = {
        "images": [{"id": 1, "file_name": name, "frame_index": 17, "height": 64, "width": 96}],
        "annotations": [],
        "categories": [],
    }
    (here / "data.json").write_text(json.dumps(dataset))
    assert read_number(nf.CocoFrames(here / "data.json").load_image(1)) == 17
    video = AsyncVideo.from_video(name, frame_idxs=[17, 3], frames_per_chunk=2)
    assert [read_number(frame) for _, frames in video.chunks for frame in frames] == [17, 3]


def test_what_is_no_file_is_missing(here):
    for name in ("http://localhost/a.mp4", "pipe:0", "-", "file:///etc/passwd", "concat:a|b"):
        with pytest.raises(nf.SourceMissingError):
            nf.read_video(name)


def test_written_videos_have_such_names(here):
    frames = np.zeros((3, 32, 32), np.uint8)
    for name in ("10:30.mp4", "file:b.mkv", "pipe:1.mkv", "a%03d.mp4"):
        nf.write_video(name, frames, 25)
        assert os.listdir(here).count(name) == 1
        assert len(nf.open(name)) == 3


LISTS = {
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:4,\nwalk.mp4\n#EXT-X-ENDLIST\n",
    "list.ffconcat": "ffconcat version 1.0\nfile walk.mp4\n",
    "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
    "list.mpd": '<?xml version="1.0"?><MPD></MPD>',
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("suffix", ["", ".mp4"])
def test_lists_of_other_files_are_not_followed(walk, here, name, suffix):
    shutil.copy(walk, "walk.mp4")
    (here / (name + suffix)).write_text(LISTS[name])
    for way in (nf.read_video, nf.video_metadata, *([nf.open] if suffix else [])):
        with pytest.raises(nf.UnreadableImageError, match=f"{name}.* is a playlist or a description of other files"):
            way(name + suffix)
