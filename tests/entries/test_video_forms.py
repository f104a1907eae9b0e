"""Videos in the cache: every form of every kind equals numpy slicing of the frames that decoding from the beginning shows."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import threading
import time

import av
import numpy as np
import pytest
import tifffile
from kit.forking import in_fork
from kit.tilework import segments_of
from kit.videos import draw, list_clips

import ndframes as nf
from ndframes.video.index import decode_all
from ndframes.video.indexing import build_index
from ndframes.video.planes import to_pixels

CLIPS = {clip.name: clip for clip in list_clips()}
TILES = {"type": "cog", "config": {"blocksize": 32, "blockframes": 6}}
FORMS = {"npy": "npy", "cog": "cog", "tiles": TILES, "intra": "intra"}
LOSSY = {"type": "intra", "config": {"quality": 8}}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A clip's path and its frames, made at the first request."""
    folder, found = tmp_path_factory.mktemp("clips"), {}

    def make(name: str):
        if name not in found:
            path = str(folder / name)
            CLIPS[name].make(folder / name)
            index = build_index(path)
            found[name] = (
                path,
                np.stack([to_pixels(frame, is_gray=index.is_gray) for frame in decode_all(path, index.stream)]),
            )
        return found[name]

    return make


def open_prepared(path, workdir, form, **options) -> nf.LazyFrame:
    """A video, read from its cache entry."""
    frames = nf.SimpleFrames({"a": path}, workdir=workdir, backend=form, **options)
    report = frames.prepare()
    assert (report.prepared, report.failed) == (1, ())
    assert frames.image("a").opened(0).is_cached
    return frames.load_frame("a")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CLIPS)
def test_every_form_of_every_video_is_the_video(made, tmp_path, name, form):
    path, frames = made(name)
    video = open_prepared(path, tmp_path, FORMS[form])
    assert (video.shape, video.dtype) == (frames.shape, frames.dtype)
    np.testing.assert_array_equal(np.asarray(video), frames)
    count, height, width, bands = frames.shape
    rng = np.random.default_rng(len(name))
    for _ in range(6):
        start, top, left = (int(rng.integers(0, extent)) for extent in (count, height, width))
        index = np.s_[start : start + 17, top : top + 40, left : left + 40]
        np.testing.assert_array_equal(video[index], frames[index])
    for index in (
        np.s_[::-7], np.s_[40:3:-9, ::-3, 4:50:5, ::-1], np.s_[7, 9], np.s_[-1, -1, -1, -1], np.s_[5:5], [7, 3, 7, count - 1, 0],
        np.s_[[8, 2], 10:20, -9:], np.s_[..., bands - 1], np.s_[3:30:4, 60:2:-7],
    ):  # fmt: skip
        np.testing.assert_array_equal(video[index], frames[index])


@pytest.mark.parametrize("name", ["plain.mp4", "odd.mp4", "gray.mp4", "ten.mp4", "ffv1.mkv", "turned3.mp4"])
def test_a_named_quality_loses_a_little(made, tmp_path, name):
    path, frames = made(name)
    video = open_prepared(path, tmp_path, LOSSY)
    assert (video.shape, video.dtype) == (frames.shape, frames.dtype)
    difference = np.abs(np.asarray(video).astype(float) - frames)
    assert 0 < difference.mean() < 0.006 * np.iinfo(frames.dtype).max
    lossless = nf.Cache(tmp_path / "lossless")
    open_prepared(path, lossless.workdir, "intra")
    sizes = [
        next(e.size_bytes for e in cache.ls() if e.path.suffix == ".avi") for cache in (nf.Cache(tmp_path), lossless)
    ]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("name", ["sixteen.mkv", "alpha.mkv"])
def test_a_quality_for_what_h264_does_not_hold_is_refused(made, tmp_path, name):
    frames = nf.SimpleFrames({"a": made(name)[0]}, workdir=tmp_path, backend=LOSSY)
    with pytest.raises(nf.BackendError, match=f"{name} is .*, which H.264 cannot store; leave quality out"):
        frames.load_region("a", 3)
    assert not [entry for entry in frames.cache.ls() if entry.path.suffix == ".avi"]


def test_a_codec_of_pictures_gives_way_to_a_lossless_one(made, tmp_path, caplog):
    path, frames = made("plain.mp4")
    video = open_prepared(path, tmp_path, {"type": "cog", "config": {"compress": "JPEG"}})
    np.testing.assert_array_equal(video[3:9], frames[3:9])
    assert "plain.mp4: JPEG holds no tiles in space and time; its entry is written as lossless ZSTD" in caplog.text


def test_auto_leaves_videos_as_they_are(made, tmp_path):
    path, frames = made("plain.mp4")
    both = nf.SimpleFrames({"cam": path, "scene": nf.demo_paths()["moon"]}, workdir=tmp_path)
    np.testing.assert_array_equal(both.load_region("cam", np.s_[5:9, :9]), frames[5:9, :9])
    assert not both.image("cam").opened(0).is_cached
    both.load_region("scene", np.s_[:9])
    assert both.image("scene").opened(0).is_cached


def test_intra_leaves_images_to_auto(tmp_path):
    frames = nf.SimpleFrames({"scene": nf.demo_paths()["moon"]}, workdir=tmp_path, backend="intra")
    frames.prepare()
    assert [entry.path.suffix for entry in frames.cache.ls()] == [".tif"]


@pytest.mark.parametrize("backend", [None, "intra", TILES])
def test_video_frames_are_padded_scaled_and_warped_from_any_form(made, tmp_path, backend):
    path, frames = made("plain.mp4")
    video = nf.SimpleFrames({"a": path}, workdir=tmp_path, backend=backend)
    direct = nf.SimpleFrames({number: write(tmp_path, number, frames) for number in (4, 5)}, backend=None)
    for options in ({"pad": "reflect"}, {"scale": 0.37}, {"shape": (17, 200)}):
        region = np.s_[-3:70, 5:99] if "pad" in options else np.s_[3:60, 5:91]
        got = video.load_region("a", (slice(4, 6), *region), **options)
        for place, number in enumerate((4, 5)):
            np.testing.assert_array_equal(got[place], direct.load_region(number, region, **options))
    turned = video.load_warped("a", [[0, -1, 64], [1, 0, 0], [0, 0, 1]], (96, 64))
    np.testing.assert_array_equal(turned[5], np.rot90(frames[5], -1))


def write(folder, number, frames) -> str:
    np.save(folder / f"{number}.npy", frames[number])
    return str(folder / f"{number}.npy")


# -- other tools ------------------------------------------------------------------------------------------------------


def test_tiles_are_read_by_tifffile(made, tmp_path):
    path, frames = made("odd.mp4")
    open_prepared(path, tmp_path, TILES)
    (entry,) = [entry.path for entry in nf.Cache(tmp_path).ls() if entry.path.suffix == ".tif"]
    np.testing.assert_array_equal(tifffile.imread(entry), frames)
    with tifffile.TiffFile(entry) as tiff:
        page = tiff.pages[0]
        assert (len(tiff.pages), page.tiledepth, page.tilelength, page.tilewidth) == (1, 6, 32, 32)


@pytest.mark.parametrize("name", ["plain.mp4", "gray.mp4", "alpha.mkv", "sixteen.mkv"])
def test_key_frames_are_read_by_ffmpeg(made, tmp_path, name):
    path, frames = made(name)
    open_prepared(path, tmp_path, "intra")
    (entry,) = [entry.path for entry in nf.Cache(tmp_path).ls() if entry.path.suffix == ".avi"]
    with av.open(str(entry)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        assert len(packets) == len(frames)
        assert all(packet.is_keyframe for packet in packets)
        container.seek(0)
        index = build_index(path)
        for number, frame in enumerate(container.decode(video=0)):
            np.testing.assert_array_equal(to_pixels(frame, is_gray=index.is_gray), frames[number])


def test_an_array_of_a_video_is_read_by_numpy(made, tmp_path):
    path, frames = made("plain.mkv")
    open_prepared(path, tmp_path, "npy")
    arrays = [np.load(entry.path) for entry in nf.Cache(tmp_path).ls()]
    (array,) = [array for array in arrays if array.ndim == 4]
    np.testing.assert_array_equal(array, frames)


# -- durability -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_entry_is_never_read(made, tmp_path, form, caplog):
    path, frames = made("h264.avi")
    open_prepared(path, tmp_path, FORMS[form])
    (entry,) = [entry for entry in nf.Cache(tmp_path).ls() if entry.size_bytes > 10_000]
    whole = entry.path.read_bytes()
    rng = np.random.default_rng(0)
    # Not the head, nor what is between the packets of an AVI: no read of frames touches those.
    rows = segments_of(entry.path)[1 :: 2 if form == "intra" else 1]
    for row in rng.choice(rows, 6):
        data = bytearray(whole)
        data[int(row["offset"]) + int(rng.integers(row["length"]))] ^= 1 << int(rng.integers(8))
        os.chmod(entry.path, 0o644)
        entry.path.write_bytes(data)
        with caplog.at_level(logging.ERROR):
            video = nf.SimpleFrames({"a": path}, workdir=tmp_path, backend=FORMS[form]).load_frame("a")
            np.testing.assert_array_equal(video[::-1], frames[::-1])
        assert nf.Cache(tmp_path).verify(read_data=True).ok  # it was put away, and made anew


@pytest.mark.parametrize("form", FORMS)
def test_a_changed_video_gets_another_entry(made, tmp_path, form):
    path = tmp_path / "a.mp4"
    shutil.copy(made("plain.mp4")[0], path)  # not made again: x264 does not write the same stream twice
    frames = nf.SimpleFrames({"a": path}, workdir=tmp_path / "w", backend=FORMS[form])
    np.testing.assert_array_equal(frames.load_region("a", 70), made("plain.mp4")[1][70])
    shutil.copy(made("uneven.mp4")[0], tmp_path / "b.mp4")
    os.replace(tmp_path / "b.mp4", path)
    np.testing.assert_array_equal(frames.load_region("a", 70), made("uneven.mp4")[1][70])


@pytest.mark.parametrize("form", FORMS)
def test_the_entry_stands_for_a_video_that_is_gone(made, tmp_path, form):
    path, wanted = tmp_path / "a.mp4", made("plain.mp4")[1]
    shutil.copy(made("plain.mp4")[0], path)
    time.sleep(2.1)  # until then its index is not kept
    options = {"workdir": tmp_path / "w", "backend": FORMS[form], "when_source_missing": "use"}
    nf.SimpleFrames({"a": path}, **options).prepare()
    path.unlink()
    video = nf.SimpleFrames({"a": path}, **options).load_frame("a")
    np.testing.assert_array_equal(video[30:40], wanted[30:40])
    np.testing.assert_allclose(video.times, np.arange(100) / 25)
    with pytest.raises(nf.SourceMissingError):
        nf.SimpleFrames({"a": path}, **{**options, "when_source_missing": "raise"}).load_region("a", 3)


CRASH = """
import os, sys, threading, time
import ndframes as nf
frames = nf.SimpleFrames({"a": sys.argv[1]}, workdir=sys.argv[2], backend=sys.argv[3])
threading.Thread(target=lambda: (time.sleep(float(sys.argv[4])), os.kill(os.getpid(), 9)), daemon=True).start()
frames.prepare()
print("done", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("form", ["npy", "cog", "intra"])
def test_a_killed_conversion_leaves_no_entry_or_a_whole_one(made, tmp_path, form):
    path, frames = made("long.mp4")
    for delay in (0.02, 0.08, 0.15):
        subprocess.run(
            [sys.executable, "-c", CRASH, path, str(tmp_path), form, str(delay)], check=False, capture_output=True
        )
        assert nf.Cache(tmp_path).verify(read_data=True).ok
    video = nf.SimpleFrames({"a": path}, workdir=tmp_path, backend=form).load_frame("a")
    np.testing.assert_array_equal(video[::9], frames[::9])


@pytest.mark.parametrize("workers", [0, 2])
def test_many_videos_are_prepared(made, tmp_path, workers):
    names = ["plain.mp4", "h264.avi", "vp9.webm", "ffv1.mkv"]
    frames = nf.SimpleFrames({name: made(name)[0] for name in names}, workdir=tmp_path, backend="intra")
    report = frames.prepare(workers=workers)
    assert (report.prepared, report.present, report.failed) == (4, 0, ())
    assert frames.prepare(workers=workers).present == 4
    for name in names:
        np.testing.assert_array_equal(frames.load_region(name, np.s_[20:25]), made(name)[1][20:25])


def test_what_does_not_decode_makes_no_entry(tmp_path):
    CLIPS["mjpeg.avi"].make(tmp_path / "a.avi")
    data = bytearray((tmp_path / "a.avi").read_bytes())
    with av.open(str(tmp_path / "a.avi")) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][40]
    start = data.index(bytes(packet)[:64], packet.pos)
    data[start : start + packet.size] = bytes(packet.size)
    (tmp_path / "a.avi").write_bytes(data)
    for form in ("npy", "cog", "intra"):
        frames = nf.SimpleFrames({"a": tmp_path / "a.avi"}, workdir=tmp_path / "w", backend=form)
        report = frames.prepare(errors="collect")
        assert "frame 40 of 100 does not decode" in str(report.failed[0].error)
        assert not [entry for entry in frames.cache.ls() if entry.size_bytes > 10_000]


# -- processes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_fork_with_an_open_entry_reads_it(made, tmp_path, form):
    path, frames = made("plain.mp4")
    video = open_prepared(path, tmp_path, FORMS[form])
    video[3:9]
    in_fork(lambda: np.array_equal(video[::-3], frames[::-3]))
    np.testing.assert_array_equal(video[50:60], frames[50:60])


@pytest.mark.parametrize("form", [None, "intra"])
@pytest.mark.parametrize("count", [15, pytest.param(300, marks=pytest.mark.slow)])
def test_forks_while_threads_decode(made, tmp_path, form, count):
    names = ["plain.mp4", "h264.avi", "vp9.webm", "hevc.mp4", "av1.mp4", "ffv1.mkv"]
    frames = nf.SimpleFrames({name: made(name)[0] for name in names}, workdir=tmp_path, backend=form, tile_bytes=0)
    is_over = threading.Event()
    wrong = []

    def is_right(name: str, number: int) -> bool:
        return np.array_equal(frames.load_region(name, number), made(name)[1][number])

    def read_on(seed: int) -> None:
        rng = np.random.default_rng(seed)
        while not is_over.is_set():
            name, number = str(rng.choice(names)), int(rng.integers(100))
            if not is_right(name, number):
                wrong.append((name, number))

    for name in names:
        assert is_right(name, 50)
    threads = [threading.Thread(target=read_on, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(count):
            time.sleep(0.003 * (turn % 7))
            in_fork(lambda: all(is_right(name, number) for name in names for number in (50, 3, 99)))
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert not wrong


# -- what a read would touch ------------------------------------------------------------------------------------------


def test_explain_counts_frames_and_tiles(made, tmp_path):
    path, _ = made("plain.mp4")  # key frames at 0, 12, 24 ...
    region = np.s_[20:30, 0:32, 40:72]
    direct = nf.SimpleFrames({"a": path}, workdir=tmp_path, backend=None).explain("a", region)
    (file,) = direct.files
    assert (direct.shape, file.reader, file.tiles, file.decoded_bytes) == (
        (10, 32, 32, 3),
        "video",
        18,
        18 * 64 * 96 * 3,
    )
    assert "decodes 18 of its 64 x 96 video frames" in str(direct)
    open_prepared(path, tmp_path, TILES)
    (file,) = nf.SimpleFrames({"a": path}, workdir=tmp_path, backend=TILES).explain("a", region).files
    assert (file.is_cached, file.tiles, file.tile_frames, file.decoded_bytes) == (True, 4, 6, 4 * 6 * 32 * 32 * 3)
    open_prepared(path, tmp_path, "intra")
    (file,) = nf.SimpleFrames({"a": path}, workdir=tmp_path, backend="intra").explain("a", region).files
    assert (file.reader, file.tiles) == ("intra", 10)


# -- one frame of a video as an image ---------------------------------------------------------------------------------


class Rig(nf.Frames):
    """Two cameras of which each frame is an image of four channels."""

    image_ids = range(100)

    def __init__(self, paths, **options):
        super().__init__(**options)
        self.paths = paths

    def build_pathinfo(self, image_id):
        colour, heat = self.paths
        return nf.PathInfo(
            image_id,
            (
                nf.ChannelInfo(colour, channels="r|g|b", page=image_id),
                nf.ChannelInfo(heat, channels="heat", page=image_id, img_from_src=np.diag([2, 2, 1])),
            ),
        )


@pytest.mark.parametrize("backend", [None, "intra", TILES])
def test_frames_of_several_videos_make_images(made, tmp_path, backend):
    (colour, frames), (heat, temperatures) = made("plain.mp4"), made("gray.mp4")
    rig = Rig((colour, heat), workdir=tmp_path, backend=backend)
    for number in (7, 3, 99):
        np.testing.assert_array_equal(
            rig.load_region(number, np.s_[5:40, 6:50], "r|b"), frames[number, 5:40, 6:50, ::2]
        )
        fused = rig.load_region(number, np.s_[:64, :96], "g|heat", interpolation="nearest")
        np.testing.assert_array_equal(fused[..., 0], frames[number, ..., 1])
        np.testing.assert_array_equal(fused[..., 1], temperatures[number].repeat(2, 0).repeat(2, 1)[:64, :96, 0])
    if backend is not None:
        rig.prepare()
        assert len([entry for entry in rig.cache.ls() if entry.size_bytes > 20_000]) == 2
    beyond = nf.ChannelInfo(colour, page=100)
    with pytest.raises(
        nf.UnreadableImageError, match=r"plain\.mp4 has 100 frames, counted from 0; frame 100 does not exist"
    ):
        OneFrame(beyond, workdir=tmp_path, backend=backend).load_region("x")


@pytest.mark.parametrize("backend", ["npy", "intra"])
def test_a_frame_that_was_explained_gets_the_entry_of_its_video_all_the_same(made, tmp_path, backend):
    path, frames = made("plain.mp4")
    one = OneFrame(nf.ChannelInfo(path, page=7), workdir=tmp_path, backend=backend)
    assert not one.explain("x").files[0].is_cached
    np.testing.assert_array_equal(one.load_region("x"), frames[7])
    assert one.image("x").opened(0).is_cached
    assert one.explain("x").files[0].is_cached


class OneFrame(nf.Frames):
    """One image."""

    image_ids = ("x",)

    def __init__(self, channel, **options):
        super().__init__(**options)
        self.channel = channel

    def build_pathinfo(self, image_id):
        return nf.PathInfo(image_id, (self.channel,))


def test_a_range_of_frames_is_a_video(made, tmp_path):
    path, frames = made("plain.mp4")
    for backend in (None, "intra", TILES):
        part = nf.open(path, frame_range=(30, 70), workdir=tmp_path, backend=backend)
        assert (part.shape, list(part.frame_ids)) == ((40, *frames.shape[1:]), list(range(30, 70)))
        np.testing.assert_array_equal(part[::-3, 5:9], frames[30:70][::-3, 5:9])
        np.testing.assert_array_equal(part[[3, -1, 3]], frames[[33, 69, 33]])
        np.testing.assert_allclose(part.times, np.arange(30, 70) / 25)
        assert part.keyframes.tolist() == [6, 18, 30]
        np.testing.assert_array_equal(part.at_time([1.24, 2.0]), frames[[31, 50]])
        with pytest.raises(IndexError):
            part[40]
    with pytest.raises(nf.PathInfoError, match=r"frame_range=\(90, 101\) goes beyond the 100 frames there"):
        nf.open(path, frame_range=(90, 101), workdir=tmp_path)
    with pytest.raises(nf.PathInfoError, match="is a video; frame_number is for images"):
        nf.open(path, frame_number=r"(\d+)", workdir=tmp_path)


def test_the_pattern_of_these_tests_moves():
    assert not np.array_equal(draw(3)[40:], draw(4)[40:])


# -- in datasets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [None, "intra", TILES])
def test_files_of_a_dataset_may_be_videos(made, tmp_path, backend):
    (path, frames), (heat, temperatures) = made("plain.mp4"), made("gray.mp4")
    asset = {"file_name": heat, "channels": "heat", "width": 96, "height": 64}
    size = {"width": 96, "height": 64}
    dataset = {
        "videos": [{"id": 1, "name": "walk", **size}, {"id": 2, "name": "whole", "file_name": path}],
        "images": [
            {
                "id": n,
                "video_id": 1,
                "frame_index": n,
                "file_name": path,
                "channels": "r|g|b",
                "auxiliary": [asset],
                **size,
            }
            for n in (30, 7, 8, 60)
        ]
        + [{"id": 100, "file_name": path, **size}],
    }
    coco = nf.CocoFrames(dataset, workdir=tmp_path, backend=backend)
    np.testing.assert_array_equal(coco.load_region(7, np.s_[3:40, 5:60], "r|g|b"), frames[7, 3:40, 5:60])
    np.testing.assert_array_equal(coco.load_region(60, None, "heat|g")[..., 0], temperatures[60, ..., 0])
    np.testing.assert_array_equal(
        coco.load_region("walk", np.s_[:, 3:40, 5:60], "b"), frames[[7, 8, 30, 60], 3:40, 5:60, 2:]
    )
    np.testing.assert_array_equal(coco.load_region(("video", 1), np.s_[1:3], "heat"), temperatures[[8, 30]])
    np.testing.assert_array_equal(coco.load_region("whole", np.s_[50:60:3, :9]), frames[50:60:3, :9])
    np.testing.assert_array_equal(coco.load_region(100, np.s_[-1]), frames[-1])
    assert coco.load_frame(100).times[25] == 1
    report = coco.prepare()
    assert report.failed == ()
    assert len({entry.key.source_id for entry in coco.cache.ls()}) == 2
    dataset["images"][0]["frame_index"] = -1
    with pytest.raises(
        nf.PathInfoError, match="image 30: frame_index must be the number of a frame in its video file, got -1"
    ):
        coco.load_region(30)
