"""pvio's functions and videos: its signatures, conventions and errors, with the frames that decoding shows."""

from __future__ import annotations

import inspect
import json
import logging
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from kit.videos import Encoding, read_number

import ndframes as nf
from ndframes.compat import pvio
from ndframes.compat.pvio import io, util, video_io
from ndframes.compat.pvio.video import EncodedVideo, ImageDirVideo, Video

COUNT = 26


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """MPEG-TS, in which pvio finds other frames than are asked for."""
    path = tmp_path_factory.mktemp("pvio") / "walk.ts"
    Encoding("libx264", options={"preset": "veryfast", "bf": "2"}, gop=8)(path, COUNT)
    return path


@pytest.fixture(scope="module")
def pixels(path):
    return nf.read_video(path)


@pytest.fixture
def images(tmp_path):
    """Images whose order by number is not that of their names; the values are the numbers."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in (2, 10, 1, 7):
        np.save(folder / f"frame{number}.npy", np.full((6, 8, 3), number, np.uint8))
    return folder


def write(path, count, **options):
    io.write_frames_to_video(path, [np.full((32, 48, 3), 9 * n, np.uint8) for n in range(count)], 5, **options)


# -- io ---------------------------------------------------------------------------------------------------------------


def test_the_names_and_arguments_of_pvio():
    assert set(pvio.__all__) == {
        "VideoMetadata", "read_frames_from_video", "write_frames_to_video", "write_image_paths_to_video",
        "check_num_frames", "get_video_metadata", "Video", "EncodedVideo", "ImageDirVideo", "VideoCollectionDataset",
        "VideoCollectionDataLoader", "SimpleVideoCollectionLoader",
    }  # fmt: skip
    assert all(getattr(pvio, name).__doc__ for name in (*pvio.__all__, "iter_frames_from_video"))
    assert pvio.VideoMetadata is video_io.VideoMetadata
    assert util.balance_load_lpt({"a": 1}, 2) == [["a"], []]
    with pytest.raises(AttributeError, match="read_frames"):
        pvio.read_frames  # noqa: B018
    arguments = list(inspect.signature(io.write_frames_to_video).parameters)
    assert arguments[:3] == ["video_path", "frames", "fps"]
    assert {"mode", "quality", "preset", "extra_ffmpeg_params", "log_interval", "quiet"} == set(arguments[3:])


@pytest.mark.parametrize("numbers", [[7, 3, 7], (0,), range(20, 26), [np.int64(25)]])
def test_frames_in_any_order(path, pixels, numbers):
    frames, fps = io.read_frames_from_video(path, numbers)
    assert [read_number(frame) for frame in frames] == [int(number) for number in numbers]
    np.testing.assert_array_equal(np.stack(frames), pixels[list(numbers)])
    assert fps == 25.0


def test_all_frames_and_none(path, pixels):
    frames, _ = io.read_frames_from_video(str(path))
    np.testing.assert_array_equal(np.stack(frames), pixels)
    np.testing.assert_array_equal(np.stack(list(io.iter_frames_from_video(path))), pixels)
    assert io.read_frames_from_video(path, []) == ([], 25.0)
    with pytest.raises(IndexError, match="26"):
        io.read_frames_from_video(path, [COUNT])


@pytest.mark.parametrize(
    ("shape", "dtype"), [((16, 24), np.uint8), ((16, 24), np.uint16), ((16, 24, 3), np.uint16), ((16, 24, 4), np.uint8)]
)
def test_frames_keep_their_depth_and_channels(tmp_path, shape, dtype):
    given = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (3, *shape), dtype)
    nf.write_video(tmp_path / "deep.mkv", given, fps=5, codec="ffv1")
    frames, _ = io.read_frames_from_video(tmp_path / "deep.mkv", [2, 0])
    assert frames[0].dtype == dtype
    np.testing.assert_array_equal(np.stack(frames), given[[2, 0]])
    # Version 0.1.3 has 8-bit RGB alone.
    frames, _ = video_io.read_frames_from_video(tmp_path / "deep.mkv", [2])
    wanted = given[2] if dtype == np.uint8 else given[2] >> 8
    wanted = np.repeat(wanted[:, :, None], 3, axis=2) if wanted.ndim == 2 else wanted[:, :, :3]
    assert frames[0].dtype == np.uint8
    np.testing.assert_array_equal(frames[0], wanted)


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv"])
def test_written_frames(tmp_path, name):
    write(tmp_path / name, 6, quality=10, preset="ultrafast")
    frames, fps = io.read_frames_from_video(tmp_path / name)
    assert fps == 5
    np.testing.assert_allclose(np.stack(frames).mean((1, 2, 3)), 9 * np.arange(6), atol=2)


def test_quality_is_that_of_the_encoder(tmp_path):
    noise = list(np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3), np.uint8))
    sizes = []
    for quality in (0, 20, 45):
        io.write_frames_to_video(tmp_path / "a.mp4", noise, 5, quality=quality, preset="ultrafast", mode="gpu")
        sizes.append((tmp_path / "a.mp4").stat().st_size)
    assert sizes[0] > sizes[1] > sizes[2]
    io.write_frames_to_video(tmp_path / "b.mp4", noise, 5, preset="ultrafast", extra_ffmpeg_params=["-crf", "45"])
    assert (tmp_path / "b.mp4").stat().st_size == sizes[2]


def test_images_become_a_video(tmp_path, images):
    paths = [images / f"frame{number}.npy" for number in (10, 1)]
    io.write_image_paths_to_video(tmp_path / "a.mkv", paths, 5, quality=0)
    np.testing.assert_allclose(nf.read_video(tmp_path / "a.mkv").mean((1, 2, 3)), [10, 1], atol=1)
    with pytest.raises(FileNotFoundError, match="frame3.npy"):
        io.write_image_paths_to_video(tmp_path / "b.mp4", [paths[0], images / "frame3.npy"], 5)
    assert not (tmp_path / "b.mp4").exists()


def test_lines_are_logged_on_request(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    write(tmp_path / "a.mp4", 6, log_interval=2, preset="ultrafast")
    assert [record.getMessage() for record in caplog.records] == [f"Written frame {n}" for n in (2, 4, 6)]
    caplog.clear()
    write(tmp_path / "a.mp4", 6, log_interval=2, preset="ultrafast", quiet=True)
    assert not caplog.records
    frames = [np.zeros((32, 48, 3), np.uint8)] * 4
    video_io.write_frames_to_video(tmp_path / "a.mp4", frames, 5, log_interval=3, log_level=logging.WARNING)
    assert [record.getMessage() for record in caplog.records] == ["Written frame 1/4", "Written frame 4/4"]


@pytest.mark.parametrize(
    ("frames", "options", "message"),
    [
        ([], {}, "no frame"),
        ([np.zeros((32, 48, 3), np.uint8), np.zeros((32, 32, 3), np.uint8)], {}, "48|32"),
        ([np.zeros((32, 48, 3), np.uint8)], {"mode": "tpu"}, "mode='tpu'"),
    ],
)
def test_what_gives_no_video(tmp_path, frames, options, message):
    with pytest.raises(ValueError, match=message):
        io.write_frames_to_video(tmp_path / "a.mp4", frames, 5, **options)
    with pytest.raises(nf.UnsupportedError, match="-vf"):
        io.write_frames_to_video(tmp_path / "a.mp4", frames, 5, extra_ffmpeg_params=["-vf", "hflip"])
    with pytest.raises(nf.UnsupportedError, match="libtheora"):
        video_io.write_frames_to_video(tmp_path / "a.mp4", frames, 5, codec="libtheora")
    assert os.listdir(tmp_path) == []


# -- metadata ---------------------------------------------------------------------------------------------------------


def test_metadata_by_attribute_name_and_position(path):
    metadata = io.get_video_metadata(path, cache_metadata=False)
    assert metadata == (COUNT, (64, 96), 25.0)
    count, size, fps = metadata
    assert (metadata.n_frames, metadata.frame_size, metadata.fps) == (count, size, fps)
    assert (metadata["n_frames"], metadata["frame_size"], metadata["fps"]) == (count, size, fps)
    assert dict(metadata) == metadata._asdict()
    assert metadata[-1] == fps
    with pytest.raises(KeyError, match="duration"):
        metadata["duration"]
    assert io.check_num_frames(path) == COUNT
    assert not path.with_name("walk.ts.metadata.json").exists()


def test_metadata_is_kept_until_the_video_changes(tmp_path):
    video, beside = tmp_path / "a.mp4", tmp_path / "a.mp4.metadata.json"
    write(video, 3, preset="ultrafast")
    assert io.get_video_metadata(video)["n_frames"] == 3
    kept = json.loads(beside.read_text())
    status = video.stat()
    assert kept == {
        "n_frames": 3, "frame_size": [32, 48], "fps": 5.0, "size": status.st_size, "mtime_ns": status.st_mtime_ns,
    }  # fmt: skip
    beside.write_text(json.dumps({**kept, "n_frames": 77}))
    assert io.get_video_metadata(video).n_frames == 77
    assert io.get_video_metadata(video, use_cached_metadata=False).n_frames == 3
    beside.write_text(json.dumps({"n_frames": 77, "frame_size": [1, 1], "fps": 2}))  # as 0.1.3 wrote it
    assert video_io.get_video_metadata(video).n_frames == 3
    write(video, 5, preset="ultrafast")
    assert io.get_video_metadata(video, metadata_suffix=".metadata.json").n_frames == 5
    assert json.loads(beside.read_text())["n_frames"] == 5


@pytest.mark.parametrize("text", ["no json", "[]", '{"size": %d, "mtime_ns": %d, "fps": 5}'])
def test_damaged_metadata_is_an_error(tmp_path, text):
    write(tmp_path / "a.mp4", 3, preset="ultrafast")
    status = (tmp_path / "a.mp4").stat()
    text = text % (status.st_size, status.st_mtime_ns) if "%" in text else text
    (tmp_path / "a.mp4.metadata.json").write_text(text)
    with pytest.raises(ValueError, match=r"a.mp4.metadata.json is damaged .*use_cached_metadata=False"):
        io.get_video_metadata(tmp_path / "a.mp4")


def test_what_is_no_video(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    for name in (tmp_path / "a.txt", tmp_path / "b.mp4", nf.demo_paths()["coffee"]):
        with pytest.raises(RuntimeError, match="Failed to open video file"):
            io.check_num_frames(name)


# -- videos -----------------------------------------------------------------------------------------------------------


def as_pvio(frame):
    return torch.from_numpy(frame).permute(2, 0, 1).float() / 255.0


@pytest.mark.parametrize("span", [None, (5, 23)])
def test_an_encoded_video(path, pixels, span):
    video = EncodedVideo(path, span, buffer_size=4, cache_metadata=False)
    with pytest.raises(RuntimeError, match="not set up"):
        len(video)
    video.setup()
    start, stop = span or (0, COUNT)
    assert len(video) == video.n_frames_in_range == stop - start
    assert (video.n_frames_in_source_video, video.frame_range_effective) == (COUNT, (start, stop))
    assert (video.frame_size, video.fps) == ((64, 96), 25.0)
    for index in (0, 3, 1, 2, 17, 9):
        assert torch.equal(video.read_frame(index), as_pvio(pixels[start + index]))
    # What is kept are frames as they are stored, whatever was done to them.
    assert torch.equal(video.read_frame(9, lambda frame: frame * 0), torch.zeros(3, 64, 96))
    assert torch.equal(video.read_frame(9), as_pvio(pixels[start + 9]))
    video.close()
    assert torch.equal(video.read_frame(9), as_pvio(pixels[start + 9]))
    for index in (stop - start, -1):
        with pytest.raises(IndexError, match=f"frame {index} of"):
            video.read_frame(index)


def test_gray_and_alpha_are_rgb_and_integers_on_request(tmp_path):
    for shape in ((4, 16, 24), (4, 16, 24, 4)):
        given = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
        nf.write_video(tmp_path / "a.mkv", given, fps=5, codec="ffv1")
        video = EncodedVideo(tmp_path / "a.mkv", dtype=None, use_cached_metadata=False)
        video.setup()
        wanted = np.repeat(given[2][:, :, None], 3, axis=2) if given.ndim == 3 else given[2][:, :, :3]
        assert video.read_frame(2).dtype == torch.uint8
        np.testing.assert_array_equal(video.read_frame(2).permute(1, 2, 0).numpy(), wanted)


def test_a_folder_of_images(images):
    video = ImageDirVideo(images, frame_range=(1, 4))
    video.setup()
    assert (len(video), video.frame_size, video.fps) == (3, (6, 8), None)
    assert video.frame_id_vir2phy == {0: 2, 1: 7, 2: 10}
    assert video.frame_id_phy2vir == {2: 0, 7: 1, 10: 2}
    assert [path.name for path in video.vir_frame_id_to_path.values()] == ["frame2.npy", "frame7.npy", "frame10.npy"]
    assert list(video.phy_frame_id_to_path) == [1, 2, 7, 10]
    for index, value in enumerate((2, 7, 10)):
        assert torch.equal(video.read_frame(index), torch.full((3, 6, 8), value / 255))
    with pytest.raises(IndexError, match="frame 3 of 3"):
        video.read_frame(3)
    by_name = ImageDirVideo(images, frame_id_regex=None)
    by_name.setup()
    assert [round(255 * by_name.read_frame(index).max().item()) for index in range(4)] == [1, 10, 2, 7]


def test_deep_gray_images_of_several_sizes(tmp_path):
    np.save(tmp_path / "frame1.npy", np.full((4, 6), 30000, np.uint16))
    np.save(tmp_path / "frame2.npy", np.full((8, 8), 0.25, np.float32))
    video = ImageDirVideo(tmp_path)
    video.setup()
    assert torch.equal(video.read_frame(0), torch.full((1, 4, 6), 30000.0) / 65535)
    assert torch.equal(video.read_frame(1), torch.full((1, 8, 8), 0.25))


def test_reading_before_setup_warns(images, caplog):
    video = ImageDirVideo(images)
    assert video.read_frame(0).shape == (3, 6, 8)
    video.setup()
    assert ["not set up yet" in caplog.messages[0], "set up already" in caplog.messages[1]] == [True, True]


@pytest.mark.parametrize("span", [(0, 27), (-1, 3), (5, 5), (1,), 7, (1, 2, 3)])
def test_ranges_that_are_not_allowed(path, span):
    with pytest.raises(ValueError, match="frame_range"):
        EncodedVideo(path, span, cache_metadata=False).setup()


def test_videos_that_are_not_there(tmp_path, images):
    for video in (EncodedVideo(tmp_path / "a.mp4"), EncodedVideo(tmp_path), ImageDirVideo(tmp_path / "a")):
        with pytest.raises(FileNotFoundError, match=str(tmp_path)):
            video.setup()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="No image files found"):
        ImageDirVideo(tmp_path / "empty").setup()
    with pytest.raises(ValueError, match="0 matches found"):
        ImageDirVideo(images, frame_id_regex=r"shot(\d+)").setup()
    with pytest.raises(ValueError, match="no whole number"):
        ImageDirVideo(images, frame_id_regex="(frame)").setup()


def test_a_video_of_ones_own():
    class Own(Video):
        def _validate_init_params(self):
            pass

        def _load_metadata(self):
            return 4, (2, 3), None

        def _read_frame(self, index, transform=None):
            return torch.full((1, 2, 3), float(self.frame_range_effective[0] + index))

    video = Own("anywhere", (1, 3))
    video.setup()
    assert (len(video), video.read_frame(1).max().item()) == (2, 2.0)
    with pytest.raises(TypeError, match="abstract"):
        Video("anywhere")


# -- without torch ----------------------------------------------------------------------------------------------------


def test_only_tensors_need_torch(path, tmp_path):
    script = """
import sys
sys.modules["torch"] = None
import ndframes.compat.pvio as pvio
from ndframes.compat.pvio import util, video_io
print(len(pvio.read_frames_from_video(sys.argv[1], [3])[0]), pvio.check_num_frames(sys.argv[1]))
video = pvio.EncodedVideo(sys.argv[1], cache_metadata=False)
video.setup()
for use in (lambda: video.read_frame(0), lambda: pvio.VideoCollectionDataset, lambda: __import__("ndframes.compat.pvio.torch")):
    try:
        use()
    except ImportError as error:
        print(type(error).__name__, error.name, 'pip install "ndframes[torch]"' in str(error))
"""
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"1 {COUNT}"] + ["MissingExtraError torch True"] * 3
