"""Animated GIF, PNG, WebP and AVIF files: the frames that Pillow composes, from every way in."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

import ndframes as nf
from ndframes.errors import UnreadableImageError
from ndframes.formats.images.animation import is_animation

HEIGHT, WIDTH = 30, 40
COUNT = 5


def opaque(number: int) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    pixels[5:20] = 90  # parts that stay the same are left out of later frames
    return Image.fromarray(pixels)


def clear(number: int) -> Image.Image:
    pixels = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    pixels[4:12, 3 * number : 3 * number + 9] = (250, 20 * number, 3, 255)
    return Image.fromarray(pixels)


def save(path, make, **options) -> None:
    frames = [make(number) for number in range(COUNT)]
    if path.suffix == ".gif":
        frames = [frame.quantize(64) if frame.mode == "RGB" else frame for frame in frames]
    durations = [20 * (1 + number) for number in range(COUNT)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, **options)


def compose(path) -> np.ndarray:
    """All frames by Pillow, RGBA."""
    with Image.open(path) as image:
        frames = []
        for number in range(image.n_frames):
            image.seek(number)
            frames.append(np.asarray(image.convert("RGBA")))
    return np.stack(frames)


def trim(wanted: np.ndarray) -> np.ndarray:
    """Without alpha, if all of it is opaque."""
    return wanted if wanted[..., 3].min() < 255 else wanted[..., :3]


def block(left: int, top: int, width: int, height: int, value: int, *, dispose: int, clear_index: int | None) -> bytes:
    """A frame of a GIF: one colour of the global palette, with its place and its disposal."""
    file = io.BytesIO()
    image = Image.new("P", (width, height), value)
    image.putpalette(PALETTE)
    image.save(file, "GIF", optimize=False)
    data = file.getvalue()
    control = struct.pack("<BHB", dispose << 2 | (clear_index is not None), 5, clear_index or 0)
    descriptor = b"," + struct.pack("<4HB", left, top, width, height, 0)
    return b"!\xf9\x04" + control + b"\0" + descriptor + data[_code_at(data) : -1]


def _code_at(data: bytes) -> int:
    """The position behind the descriptor of the only frame."""
    table = 3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0
    place = 13 + table
    while data[place] == 0x21:
        place += 2
        while data[place]:
            place += 1 + data[place]
        place += 1
    local = 3 << (data[place + 9] & 7) + 1 if data[place + 9] & 0x80 else 0
    return place + 10 + local


PALETTE = [*(255, 0, 0), *(0, 255, 0), *(0, 0, 255), *(9, 9, 9)] + [7, 7, 7] * 252


def write_gif(path, frames, *, background: int = 3) -> None:
    screen = b"GIF89a" + struct.pack("<2H3B", WIDTH, HEIGHT, 0xF7, background, 0)
    path.write_bytes(screen + bytes(PALETTE) + b"".join(frames) + b";")


GIFS = {
    "kept": [block(0, 0, WIDTH, HEIGHT, 0, dispose=1, clear_index=None), block(5, 4, 9, 8, 1, dispose=1, clear_index=None),
             block(9, 9, 20, 3, 2, dispose=1, clear_index=None)],
    "cleared": [block(0, 0, WIDTH, HEIGHT, 0, dispose=1, clear_index=None), block(5, 4, 9, 8, 1, dispose=2, clear_index=None),
                block(9, 9, 20, 3, 2, dispose=1, clear_index=None)],
    "restored": [block(0, 0, WIDTH, HEIGHT, 0, dispose=1, clear_index=None), block(5, 4, 9, 8, 1, dispose=3, clear_index=None),
                 block(9, 9, 20, 3, 2, dispose=3, clear_index=None), block(1, 1, 2, 2, 1, dispose=0, clear_index=None)],
    "small first frame": [block(10, 8, 9, 8, 1, dispose=1, clear_index=None), block(0, 0, 6, 6, 2, dispose=1, clear_index=None)],
    "small first frame, transparent": [block(10, 8, 9, 8, 1, dispose=2, clear_index=7), block(0, 0, 6, 6, 2, dispose=1, clear_index=7)],
    "transparent parts": [block(0, 0, WIDTH, HEIGHT, 0, dispose=1, clear_index=None), block(5, 4, 9, 8, 1, dispose=1, clear_index=1),
                          block(9, 9, 20, 3, 2, dispose=1, clear_index=9)],
}  # fmt: skip

SAVED = {
    "a.gif": (opaque, {}),
    "clear.gif": (clear, {"disposal": 2}),
    "a.png": (opaque, {}),
    "a.apng": (clear, {"disposal": 1, "blend": 1}),
    "b.png": (clear, {"disposal": 2, "blend": 0}),
    "first.png": (clear, {"default_image": True}),
    "a.webp": (opaque, {"lossless": True}),
    "clear.webp": (clear, {"lossless": True}),
    "a.avif": (opaque, {"quality": 90}),
    "named": (opaque, {"format": "GIF"}),
}


def make(name, tmp_path):
    path = tmp_path / (name if name in SAVED else "made.gif")
    if name in SAVED:
        save(path, SAVED[name][0], **SAVED[name][1])
    else:
        write_gif(path, GIFS[name])
    return path


@pytest.mark.parametrize("name", [*SAVED, *GIFS])
def test_frames_are_those_of_pillow(name, tmp_path):
    path = make(name, tmp_path)
    wanted = trim(compose(path))
    assert len(wanted) > 1
    assert is_animation(str(path))
    video = nf.open(path, workdir=tmp_path / "work")
    assert (video.shape, video.dtype) == (wanted.shape, np.uint8)
    np.testing.assert_array_equal(np.asarray(video), wanted)
    np.testing.assert_array_equal(video[[1, 0, 1], 3:20:2, 5:9], wanted[[1, 0, 1], 3:20:2, 5:9])
    np.testing.assert_array_equal(nf.read_video(path, workdir=tmp_path / "work"), wanted)


@pytest.mark.parametrize("name", ["a.gif", "a.apng", "clear.webp", "a.avif", "cleared"])
@pytest.mark.parametrize("backend", [None, "auto", "cog", "npy"])
def test_every_backend_and_page(name, backend, tmp_path):
    path = make(name, tmp_path)
    wanted = trim(compose(path))
    frames = nf.SimpleFrames({"x": path}, workdir=tmp_path / "work", backend=backend)
    for _ in range(2):
        np.testing.assert_array_equal(frames.load_image("x"), wanted)
        np.testing.assert_array_equal(
            frames.load_regions([("x", np.s_[2, 3:9]), ("x", np.s_[0, 3:9])]), wanted[[2 % len(wanted), 0], 3:9]
        )
        if len(wanted) > 2:
            np.testing.assert_array_equal(frames.load_region("x", np.s_[2:0:-1, ::3, 4:]), wanted[2:0:-1, ::3, 4:])
        assert not frames.prepare().failed

    class Pages(nf.Frames):
        image_ids = range(len(wanted))

        def build_pathinfo(self, image_id):
            return nf.PathInfo(image_id, (nf.ChannelInfo(path, page=image_id),))

    pages = Pages(workdir=tmp_path / "work", backend=backend)
    for number in (1, 0, len(wanted) - 1):
        np.testing.assert_array_equal(pages.load_image(number), wanted[number])


def test_times_and_metadata(tmp_path):
    for name in ("a.gif", "a.png", "a.webp", "a.avif"):
        path = make(name, tmp_path)
        video = nf.open(path, workdir=tmp_path / "work")
        np.testing.assert_allclose(video.times, [0, 0.02, 0.06, 0.12, 0.2])
        np.testing.assert_array_equal(video.at_time(0.07), np.asarray(video)[2])
        assert video.fps == pytest.approx(COUNT / 0.3)
        found = nf.video_metadata(path, workdir=tmp_path / "work")
        assert found.shape == video.metadata.shape == video.shape
        assert found.duration == pytest.approx(0.3)


def test_a_page_that_is_not_there(tmp_path):
    path = make("a.gif", tmp_path)

    class Page(nf.Frames):
        image_ids = ("x",)

        def build_pathinfo(self, image_id):
            return nf.PathInfo(image_id, (nf.ChannelInfo(path, page=COUNT),))

    with pytest.raises(UnreadableImageError, match=r"a\.gif has 5 frames, counted from 0; frame 5 does not exist"):
        Page(workdir=tmp_path / "work", backend=None).load_image("x")


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "avif"])
@pytest.mark.parametrize("make_frame", [opaque, clear])
def test_one_frame_is_an_image(suffix, make_frame, tmp_path):
    path = tmp_path / f"a.{suffix}"
    make_frame(2).save(path, **({"lossless": True} if suffix == "webp" else {}))
    assert not is_animation(str(path))
    with Image.open(path) as image:
        wanted = np.asarray(image.convert("RGBA"))
    for backend in (None, "cog", "npy"):
        got = np.asarray(nf.open(path, workdir=tmp_path / "work", backend=backend))
        assert got.ndim == 3
        np.testing.assert_array_equal(got, wanted[:, :, : got.shape[2]])
        assert got.shape[2] == 4 or wanted[:, :, 3].min() == 255


def test_an_animation_with_one_saved_frame_is_an_image(tmp_path):
    for suffix in ("gif", "png", "webp"):
        path = tmp_path / f"a.{suffix}"
        frame = opaque(0)
        frame.save(path, save_all=True, append_images=[frame.copy()] if suffix == "gif" else [], duration=50)
        if not is_animation(str(path)):
            assert nf.open(path).shape == (HEIGHT, WIDTH, 3)


def test_a_sequence_of_files_with_an_animation_says_so(tmp_path):
    folder = tmp_path / "walk"
    folder.mkdir()
    opaque(0).save(folder / "f0.png")
    save(folder / "f1.png", opaque)
    with pytest.raises(UnreadableImageError, match=r"f1\.png is an animation of 5 frames"):
        np.asarray(nf.open(folder, workdir=tmp_path / "work"))


def test_more_than_eight_bits_are_refused(tmp_path):
    path = make("a.png", tmp_path)
    data = bytearray(path.read_bytes())
    data[24] = 16
    path.write_bytes(data)
    with pytest.raises(UnreadableImageError, match=r"a\.png"):
        np.asarray(nf.open(path, workdir=tmp_path / "work"))


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.avif"])
def test_damage_is_an_error(name, tmp_path):
    path = make(name, tmp_path)
    data = path.read_bytes()
    for kept in (0.3, 0.6, 0.9):
        path.write_bytes(data[: int(kept * len(data))])
        try:
            got = np.asarray(nf.open(path, workdir=tmp_path / f"work{kept}"))
        except UnreadableImageError as error:
            assert name in str(error)  # noqa: PT017 - other ends are possible
        else:
            wanted = trim(compose(path))  # Pillow finds fewer frames
            np.testing.assert_array_equal(got, wanted if len(wanted) > 1 else wanted[0])


def test_a_cut_gif_never_reads_as_fewer_frames(tmp_path):
    path = make("a.gif", tmp_path)
    data, wanted = path.read_bytes(), trim(compose(path))
    ends = [
        len(data) - 2,
        *(at + 1 for at in range(len(data) // 3, len(data) - 1) if data[at : at + 2] in (b"\0!", b"\0,")),
    ]
    for stop in ends:  # between blocks, too
        path.write_bytes(data[:stop])
        with pytest.raises(UnreadableImageError, match=r"a\.gif.*(truncated|damaged)"):
            np.asarray(nf.open(path, workdir=tmp_path / "work"))
    path.write_bytes(data)
    np.testing.assert_array_equal(np.asarray(nf.open(path, workdir=tmp_path / "work")), wanted)


def test_a_still_gif_may_lack_the_mark_of_its_end(tmp_path):
    path = tmp_path / "a.gif"
    opaque(1).quantize(64).save(path)
    data = path.read_bytes()
    with Image.open(path) as image:
        wanted = np.asarray(image.convert("RGB"))
    path.write_bytes(data[:-1])
    np.testing.assert_array_equal(np.asarray(nf.open(path)), wanted)
    path.write_bytes(data[:-3])
    with pytest.raises(UnreadableImageError, match=r"a\.gif is truncated"):
        np.asarray(nf.open(path))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
@pytest.mark.parametrize("disposal", [0, 1, 2])
def test_frames_of_a_png_do_not_depend_on_those_read_before(mode, disposal, tmp_path):
    path = tmp_path / "a.png"
    chance = np.random.default_rng(disposal)
    written = []
    for _ in range(4):
        pixels = chance.integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8)
        pixels[..., 3] = np.where(chance.random((HEIGHT, WIDTH)) < 0.4, 0, 255)
        written.append(Image.fromarray(pixels).convert(mode))
    written[0].save(path, save_all=True, append_images=written[1:], disposal=disposal, blend=1)
    wanted = []
    for number in range(4):  # each from a file just opened
        with Image.open(path) as image:
            image.seek(number)
            wanted.append(np.asarray(image.convert("RGBA")))
    wanted = trim(np.stack(wanted))
    if disposal and mode == "RGBA":  # each frame is drawn onto nothing
        own = np.stack([np.asarray(frame) for frame in written])
        np.testing.assert_array_equal(np.where(own[..., 3:] > 0, own, 0), np.where(wanted[..., 3:] > 0, wanted, 0))
    np.testing.assert_array_equal(np.asarray(nf.open(path, workdir=tmp_path / "work")), wanted)
    order = [2, 0, 3, 1]
    np.testing.assert_array_equal(nf.open(path, workdir=tmp_path / "work")[order], wanted[order])
    np.testing.assert_array_equal(nf.open(path, workdir=tmp_path / "work", page=3), wanted[3])


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "avif"])
@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_an_animation_with_the_name_of_a_still_image_is_an_error(suffix, name, tmp_path):
    save(tmp_path / f"made.{suffix}", opaque)
    path = (tmp_path / f"made.{suffix}").rename(tmp_path / name)
    for page in (None, 0):
        with pytest.raises(UnreadableImageError, match=name.replace(".", r"\.")):
            np.asarray(nf.open(path, workdir=tmp_path / "work", page=page))
    with pytest.raises(UnreadableImageError, match=rf"rename it to end in \.{suffix}"):
        np.asarray(nf.open(path, workdir=tmp_path / "work"))


def test_the_entry_replaces_an_animation_that_is_gone(tmp_path):
    path = make("a.gif", tmp_path)
    wanted = trim(compose(path))
    frames = nf.SimpleFrames({"x": path}, workdir=tmp_path / "work", backend="npy", when_source_missing="use")
    frames.prepare()
    path.unlink()
    again = nf.SimpleFrames({"x": path}, workdir=tmp_path / "work", backend="npy", when_source_missing="use")
    np.testing.assert_array_equal(again.load_image("x"), wanted)


def test_other_ways_to_use_an_animation(tmp_path):
    from click.testing import CliRunner

    from ndframes.cli import main

    path = make("a.gif", tmp_path)
    wanted = trim(compose(path))
    for options in ([], ["--json"]):
        result = CliRunner().invoke(main, ["info", str(path), *options])
        assert result.exit_code == 0, result.output
        assert str(COUNT) in result.output
    frames = nf.SimpleFrames({"x": path}, workdir=tmp_path / "work")
    assert frames.extents("x") == wanted.shape[:3]
    assert "a.gif" in str(frames.explain("x"))
    part = nf.open(path, frame_range=(1, 4), workdir=tmp_path / "work")
    np.testing.assert_array_equal(np.asarray(part), wanted[1:4])
    with pytest.raises(nf.VideoWriteError, match="is an animation of several frames"):
        nf.write_video(tmp_path / "a.mp4", [path], fps=5)
    with pytest.raises(nf.NdframesError, match="pixel_format"):
        np.asarray(nf.open(path, pixel_format="gray", workdir=tmp_path / "work"))
