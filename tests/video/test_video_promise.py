"""How many frames a header promises, and the warning about a file that ends early."""

from __future__ import annotations

import json
import logging
import pickle
from fractions import Fraction

import av
import numpy as np
import pytest
from kit.commands import run
from kit.videos import CODECS, CONTAINERS, Encoding, Recipe, list_clips, read_number, uneven

import ndframes as nf
from ndframes.video.promise import is_cut_off

#: Containers that tell how long the file is, and whether they tell how many frames there are.
TELLING = {
    "mp4": True,
    "mov": True,
    "3gp": True,
    "mkv": True,
    "webm": True,
    "avi": True,
    "flv": True,
    "ivf": True,
    "wmv": False,
    "fragmented": False,
}
SILENT = ("ts", "m2ts", "mpg", "ogv", "raw-h264", "nut")


def recipe_of(container: str, **options) -> Recipe:
    codec = CONTAINERS[container][2][0]
    return Recipe(container, codec, 2 if 2 in CODECS[codec].bframes else 0, **options)


def warnings_of(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if "is truncated" in record.getMessage()]


@pytest.mark.parametrize("container", TELLING)
def test_a_truncated_file_warns_once(tmp_path, caplog, container):
    caplog.set_level(logging.WARNING, "ndframes")
    path = recipe_of(container, damage="no-end").make(tmp_path)
    assert is_cut_off(str(path))
    video = nf.open(path, workdir=tmp_path)
    assert 1 <= len(video) < 40
    assert read_number(video[0]) == 0
    (text,) = warnings_of(caplog)
    assert f"{path.name} is truncated" in text
    assert f"and has {len(video)} of 40 frames; " in text or f"and has {len(video)} frames; " in text
    assert f"ends after {path.stat().st_size:,} bytes" in text
    assert (" of 40 " in text) == TELLING[container]
    found = nf.video_metadata(path, workdir=tmp_path)
    assert (found.frames, found.promised_frames) == (len(video), 40 if TELLING[container] else None)
    nf.read_video(path, [0], workdir=tmp_path)
    pickle.loads(pickle.dumps(video))[0]
    assert len(warnings_of(caplog)) == 1


@pytest.mark.parametrize("container", [*TELLING, *SILENT])
def test_a_complete_file_promises_what_it_has(tmp_path, caplog, container):
    caplog.set_level(logging.WARNING, "ndframes")
    path = recipe_of(container).make(tmp_path)
    found = nf.video_metadata(path, workdir=tmp_path)
    assert found.frames == 40
    assert found.promised_frames in ((40,) if TELLING.get(container) else (40, None))
    assert not is_cut_off(str(path))
    assert not warnings_of(caplog)


@pytest.mark.parametrize("container", SILENT)
def test_a_file_that_does_not_tell_its_length_never_warns(tmp_path, caplog, container):
    caplog.set_level(logging.WARNING, "ndframes")
    path = recipe_of(container, damage="no-end").make(tmp_path)
    assert len(nf.open(path, workdir=tmp_path)) < 40
    assert nf.video_metadata(path, workdir=tmp_path).promised_frames is None
    assert not warnings_of(caplog)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe("mp4", "h264", 2, damage="edited"),
        Recipe("mov", "mpeg4", 2, damage="edited"),
        Recipe("mp4", "h264", 2, damage="reordered-edits"),
        Recipe("mp4", "h264", 2, damage="negative-times"),
        Recipe("mkv", "vp8", damage="hidden"),
        Recipe("avi", "mpeg4", 2, damage="packed"),
        Recipe("avi", "mpeg4", 2, damage="no-avi-index"),
        Recipe("mkv", "h264", 2, damage="joined"),
        Recipe("fragmented", "h264", 2, damage="joined"),
        Recipe("mp4", "h264", 2, damage="no-sync-table"),
    ],
    ids=lambda recipe: recipe.name,
)
def test_files_that_show_fewer_frames_than_they_store_are_complete(tmp_path, caplog, recipe):
    caplog.set_level(logging.WARNING, "ndframes")
    path = recipe.make(tmp_path)
    nf.open(path, workdir=tmp_path)[0]
    # The index of an AVI is at its end, so that a file without it is cut off, but has all frames.
    assert is_cut_off(str(path)) == (recipe.damage == "no-avi-index")
    assert not warnings_of(caplog)
    if recipe.damage in ("edited", "reordered-edits", "negative-times"):
        found = nf.video_metadata(path, workdir=tmp_path)
        assert found.promised_frames == found.frames < 40


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_variable_rates_promise_only_a_stored_count(tmp_path, caplog, suffix):
    caplog.set_level(logging.WARNING, "ndframes")
    path = tmp_path / f"a.{suffix}"
    Encoding(
        "libx264",
        times=uneven,
        time_base=Fraction(1, 1000),
        container_options={"movflags": "faststart"} if suffix == "mp4" else {},
    )(path, 40)
    assert nf.video_metadata(path, workdir=tmp_path).promised_frames == (40 if suffix == "mp4" else None)
    assert not warnings_of(caplog)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert len(nf.open(path, workdir=tmp_path)) < 40
    assert len(warnings_of(caplog)) == 1


def test_a_longer_sound_is_no_promise_of_frames(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "ndframes")
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, width=96, height=64, pix_fmt="yuv420p")
        sound = container.add_stream("pcm_s16le", rate=8000)
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), number, np.uint8), format="rgb24")
            frame.pts = number
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for number in range(40):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            samples.sample_rate, samples.pts = 8000, 800 * number
            container.mux(sound.encode(samples))
        container.mux(sound.encode(None))
    assert nf.video_metadata(path, workdir=tmp_path).promised_frames == 20
    assert not warnings_of(caplog)


def test_the_command_line_prints_what_is_promised(tmp_path, monkeypatch):
    monkeypatch.setenv("NDFRAMES_WORKDIR", str(tmp_path / "work"))
    path = Recipe("mkv", "h264", damage="no-end").make(tmp_path)
    count = len(nf.open(path))
    for words in (("info", "--backend", "none"), ("video", "info")):
        assert f"{count} (its header promises 40), " in run(*words, path)
    assert json.loads(run("video", "info", path, "--json"))["promised_frames"] == 40
    whole = Recipe("mkv", "h264").make(tmp_path)
    assert "promises" not in run("video", "info", whole)


@pytest.mark.slow
def test_no_clip_of_the_kit_is_cut_off(tmp_path):
    for clip in list_clips():
        clip.make(tmp_path / clip.name)
        assert not is_cut_off(str(tmp_path / clip.name)), clip.name
