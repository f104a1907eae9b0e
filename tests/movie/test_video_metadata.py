"""video_metadata and read_video."""

from __future__ import annotations

import json
import os
import pickle
import time
from dataclasses import asdict, fields

import av
import numpy as np
import pytest
from kit.videos import list_clips, read_number

import ndframes as nf
from ndframes.entries import frame_index as store
from ndframes.movie import read
from ndframes.video.index import decode_all
from ndframes.video.indexing import build_index
from ndframes.video.planes import to_pixels

CLIPS = {clip.name: clip for clip in list_clips()}
NAMES = (
    "plain.mp4",
    "uneven.mkv",
    "h264.avi",
    "turned1.mp4",
    "gray.mp4",
    "sixteen.mkv",
    "alpha.mkv",
    "odd.mp4",
    "stream.ts",
    "edited.mp4",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The path of each clip, and its frames as decoded from the start."""
    folder, found = tmp_path_factory.mktemp("clips"), {}
    for name in NAMES:
        CLIPS[name].make(folder / name)
        index = build_index(str(folder / name))
        frames = np.stack(
            [to_pixels(frame, is_gray=index.is_gray) for frame in decode_all(str(folder / name), index.stream)]
        )
        found[name] = str(folder / name), frames[-len(index) :]
    return found


# -- metadata ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_metadata_matches_decoding(made, tmp_path, name):
    path, frames = made[name]
    found = nf.video_metadata(path, workdir=tmp_path)
    assert (found.shape, found.dtype) == (frames.shape, frames.dtype.name)
    assert found.raw_bytes == frames.nbytes
    assert found.rotation == 90 * CLIPS[name].turns
    assert found.fps == pytest.approx(25, rel=0.2)
    assert found.file_bytes == os.path.getsize(path)
    assert found.is_constant_rate == (name != "uneven.mkv")
    assert found.duration == pytest.approx(CLIPS[name].count / 25, rel=0.02)
    assert found.bit_rate == pytest.approx(8 * found.file_bytes / found.duration)
    assert found.has_exact_times == (name != "h264.avi")
    index = build_index(path)
    keys = index.keys
    np.testing.assert_array_equal(found.keyframes, keys)
    np.testing.assert_array_equal(found.times, index.seconds)
    np.testing.assert_array_equal(nf.open(path, workdir=tmp_path).times, found.times)
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["keyframe_count"] == len(keys)
    assert plain.keys() - {"keyframe_count"} == {item.name for item in fields(found)} - {"times", "keyframes"}
    assert found.max_gop == np.diff([*keys, len(frames)]).max()
    assert found.mean_gop == pytest.approx(len(frames) / len(keys))
    assert nf.open(path, workdir=tmp_path).metadata == found
    assert pickle.loads(pickle.dumps(found)) == found


def test_names_of_formats_and_codecs(made, tmp_path):
    def names(name):
        found = nf.video_metadata(made[name][0], workdir=tmp_path)
        return found.format, found.codec, found.pixel_format

    assert names("plain.mp4") == ("mp4", "h264", "yuv420p")
    assert names("gray.mp4") == ("mp4", "h264", "gray")
    assert names("sixteen.mkv") == ("matroska", "ffv1", "gray16le")
    assert names("alpha.mkv") == ("matroska", "ffv1", "bgra")
    assert names("h264.avi") == ("avi", "h264", "yuv420p")
    assert names("stream.ts") == ("mpegts", "h264", "yuv420p")
    assert names("odd.mp4") == ("mp4", "h264", "yuv444p")


def test_written_colors_and_metadata_are_read_back(tmp_path):
    frames = np.full((50, 64, 64, 3), 90, np.uint8)
    metadata = {"rig": 3, "notes": ["a", {"b": None}]}
    for ending, codec, name, colors in (
        (".webm", "av1", "webm", ("limited", "smpte170m")),
        (".mov", "hevc", "mov", ("limited", "smpte170m")),
        (".mp4", "mjpeg", "mp4", ("full", "bt470bg")),
        (".mkv", "ffv1", "matroska", (None, None)),
    ):
        path = tmp_path / f"a{ending}"
        nf.write_video(path, frames, 29.97, codec=codec, metadata=metadata)
        found = nf.video_metadata(path)
        assert (found.format, found.codec, found.color_range, found.color_space) == (name, codec, *colors)
        assert found.metadata == metadata
        assert "comment" not in {tag.lower() for tag in found.tags}
        assert found.tags
        assert found.duration == pytest.approx(50 * 1001 / 30000)
        assert found.is_constant_rate


@pytest.mark.parametrize("comment", ["a holiday", '["a"]', "{broken", '{"a": 1}', "[" * 100_000])
def test_comments_are_tags_unless_they_are_a_json_object(tmp_path, comment):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        container.metadata["comment"] = comment
        stream = container.add_stream("ffv1", rate=25)
        stream.height = stream.width = 32
        stream.pix_fmt = "gray"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32), np.uint8), format="gray")))
        container.mux(stream.encode(None))
    found = nf.video_metadata(tmp_path / "a.mkv")
    if comment == '{"a": 1}':
        assert (found.metadata, "COMMENT" in found.tags) == ({"a": 1}, False)
    else:
        assert (found.metadata, found.tags["COMMENT"]) == ({}, comment)


def test_large_metadata_is_read_back(tmp_path):
    metadata = {f"name {number}": ["ä€😀" * 20, number / 7] for number in range(2000)}
    for ending in (".mkv", ".mp4", ".avi", ".mov", ".webm"):
        frames = np.zeros((2, 64, 64, 3), np.uint8)
        nf.write_video(tmp_path / f"a{ending}", frames, 25, metadata=metadata)
        assert nf.video_metadata(tmp_path / f"a{ending}").metadata == metadata


def test_metadata_repr_and_dict(made, tmp_path):
    path, _ = made["plain.mp4"]
    found = nf.video_metadata(path, workdir=tmp_path)
    assert repr(found).startswith(
        f"<VideoMetadata {path!r}: 100 frames of 64 x 96 px, 3 channels, uint8, 25 fps, 4 s; h264 in mp4, 9 key frames, "
    )
    facts = json.loads(json.dumps(found.to_dict()))
    assert facts == {name: getattr(found, name) for name in facts} | {
        "streams": [{**asdict(found.streams[0]), "disposition": ["default"]}]
    }
    assert list(facts)[:4] == ["path", "format", "codec", "frames"]


def test_the_duration_of_one_frame_follows_from_the_rate(tmp_path):
    nf.write_video(tmp_path / "a.mp4", np.zeros((1, 32, 32), np.uint8), 4)
    found = nf.video_metadata(tmp_path / "a.mp4")
    assert (found.frames, found.duration, found.mean_gop, found.is_constant_rate) == (1, 0.25, 1.0, True)


@pytest.mark.parametrize("open_video", [nf.video_metadata, nf.read_video])
def test_other_files_are_refused(tmp_path, open_video):
    (tmp_path / "a.mp4").write_bytes(b"no video" * 500)
    (tmp_path / "a.txt").write_text("hello\n" * 500)
    with pytest.raises(nf.SourceMissingError, match=r"gone\.mp4 does not exist"):
        open_video(tmp_path / "gone.mp4")
    for path in (tmp_path / "a.mp4", tmp_path / "a.txt", nf.demo_paths()["coffee"], nf.demo_paths()["rocket"]):
        with pytest.raises(nf.UnreadableImageError, match=path.name):
            open_video(path)


def test_the_index_is_built_once(made, tmp_path, monkeypatch):
    path, frames = made["plain.mp4"]
    time.sleep(
        max(0.0, os.path.getmtime(path) + 2.1 - time.time())
    )  # a file changed within two seconds is indexed each time
    first = nf.video_metadata(path, workdir=tmp_path)
    monkeypatch.delattr(store, "build_index")
    assert nf.video_metadata(path, workdir=tmp_path) == first
    np.testing.assert_array_equal(nf.read_video(path, [7, 3], workdir=tmp_path), frames[[7, 3]])
    assert len(list(nf.Cache(tmp_path).ls())) == 1


# -- frames -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_frames_are_read_in_any_order(made, tmp_path, name):
    path, frames = made[name]
    np.testing.assert_array_equal(nf.read_video(path, workdir=tmp_path), frames, strict=True)
    last = len(frames) - 1
    for indices in (
        [7, 3, 7, last, 0, -1, -len(frames)],
        range(0, len(frames), 9),
        np.array([5, 2], np.int16),
        (n for n in (1, 0)),
    ):
        wanted = list(indices)
        got = nf.read_video(path, iter(wanted), workdir=tmp_path)
        np.testing.assert_array_equal(got, frames[wanted], strict=True)
        assert got.flags.c_contiguous
        assert got.flags.writeable


def test_no_indices_give_an_empty_array(made, tmp_path):
    got = nf.read_video(made["sixteen.mkv"][0], [], workdir=tmp_path)
    assert (got.shape, got.dtype) == ((0, 64, 96, 1), np.uint16)


def test_channels_are_selected_by_code(made, tmp_path):
    path, frames = made["alpha.mkv"]
    np.testing.assert_array_equal(
        nf.read_video(path, [4, 2], channels="b|a", workdir=tmp_path), frames[[4, 2]][..., [2, 3]]
    )
    with pytest.raises(nf.ChannelError, match=r"no channel 'nir'; there are 'r\|g\|b\|a'"):
        nf.read_video(path, channels="nir", workdir=tmp_path)


@pytest.mark.parametrize(
    ("indices", "error", "message"),
    [
        ([100], nf.RegionIndexError, "index 100 is out of bounds for axis 0, which has 100"),
        ([0, -101], nf.RegionIndexError, "index -101 is out of bounds"),
        ([1.5], nf.RegionError, "1.5"),
        ([True], nf.RegionError, "True"),
        (5, nf.RegionError, r"such as \[5\]"),
        ("5", nf.RegionError, r"such as \[5\]"),
    ],
)
def test_bad_indices_are_refused(made, tmp_path, indices, error, message):
    with pytest.raises(error, match=message):
        nf.read_video(made["plain.mp4"][0], indices, workdir=tmp_path)


def test_a_too_large_result_is_refused_before_allocation(made, tmp_path, monkeypatch):
    monkeypatch.setattr(read, "half_of_memory", lambda: 99 * 64 * 96 * 3)
    path, frames = made["plain.mp4"]
    np.testing.assert_array_equal(nf.read_video(path, range(99), workdir=tmp_path), frames[:99])
    with pytest.raises(nf.RegionTooLargeError, match="100 x 64 x 96 x 3 of uint8"):
        nf.read_video(path, workdir=tmp_path)


def test_frames_show_their_numbers(made, tmp_path):
    path, _ = made["plain.mp4"]
    numbers = np.random.default_rng(0).integers(0, 100, 40).tolist()
    assert [read_number(frame) for frame in nf.read_video(path, numbers, workdir=tmp_path)] == numbers


def test_undecodable_tags_are_printable(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        container.metadata["comment"] = "caf--e"
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "gray"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64), np.uint8), format="gray")))
        container.mux(stream.encode(None))
    path.write_bytes(path.read_bytes().replace(b"caf--e", b"caf\xe9\xffe"))
    tags = nf.video_metadata(path, workdir=tmp_path).tags
    assert tags["COMMENT"] == "caf\ufffd\ufffde"
    print(tags)
