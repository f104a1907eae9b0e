"""Pictures that are joined from stored JPEG tiles: they decode to the pixels of ``load_region``, and only where these are stored."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
import tifffile

import ndframes as nf
from ndframes.formats.tiled import jpeg
from ndframes.server.splices import find_splice

PHOTO = nf.open(nf.demo_paths()["coffee"])[...]
SHAPE = (700, 901)
TILE_PX = 64


def frames_over(folder, *, blocksize=TILE_PX, bands=3, quality=90, **options):
    path = folder / "a.npy"
    pixels = np.pad(
        PHOTO, [(0, new - old) for new, old in zip(SHAPE, PHOTO.shape, strict=False)] + [(0, 0)], "symmetric"
    )
    np.save(path, pixels[:, :, :bands])
    config = {"compress": "JPEG", "blocksize": blocksize, "quality": quality}
    return nf.SimpleFrames({"a": path}, workdir=folder / "work", backend={"type": "cog", "config": config}, **options)


@pytest.fixture
def frames(tmp_path, at_rest):
    return frames_over(tmp_path)


def ask(site, top, left, height, width, factor=1, end="default.jpg") -> np.ndarray:
    size = f"{width // factor},{height // factor}"
    reply = site.ask(f"/iiif/a/{left},{top},{width},{height}/{size}/0/{end}")
    assert (reply.status, reply.headers["content-type"]) == (200, "image/jpeg"), reply.text
    return imagecodecs.jpeg8_decode(reply.body)


def read(frames, top, left, height, width, factor=1) -> np.ndarray:
    region = np.s_[top : top + height, left : left + width]
    pixels = frames.load_region("a", region, shape=(height // factor, width // factor))
    return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels


@pytest.mark.parametrize(("bands", "blocksize", "quality"), [(3, 64, 90), (1, 64, 90), (3, 128, 30), (3, 48, 100)])
def test_windows_on_segments_have_the_stored_pixels(tmp_path, at_rest, serve_frames, bands, blocksize, quality):
    """Those of full resolution and of overviews, inside a tile, across tiles, and at the edges of the image."""
    frames = frames_over(tmp_path, bands=bands, blocksize=blocksize, quality=quality)
    site, _ = serve_frames(frames)
    unit = jpeg.find_segment_px(blocksize)
    rng = np.random.default_rng(0)
    for factor in (1, 2, 4, 8):
        for _ in range(6):
            top, left = (int(rng.integers(0, extent // factor // 2)) for extent in SHAPE)
            top, left = top // 8 * 8, left // unit * unit
            height = int(rng.integers(1, SHAPE[0] // factor - top + 1))
            width = (
                int(rng.integers(1, (SHAPE[1] // factor - left) // unit + 1)) * unit
                if left + unit < SHAPE[1] // factor
                else 0
            )
            if not width:
                continue
            window = [factor * each for each in (top, left, height, width)]
            assert np.array_equal(ask(site, *window, factor), read(frames, *window, factor)), (window, factor)
    # One stored tile, and the lower edge, which cuts the last block.
    assert np.array_equal(
        ask(site, blocksize, 0, blocksize, blocksize), read(frames, blocksize, 0, blocksize, blocksize)
    )
    edge = SHAPE[0] - 8 * 3 - 4, unit, 8 * 3 + 4, 2 * unit
    assert np.array_equal(ask(site, *edge), read(frames, *edge))


@pytest.mark.parametrize("blocksize", [TILE_PX, 48])
def test_the_tiles_of_the_description_are_joined(tmp_path, at_rest, serve_frames, blocksize):
    frames = frames_over(tmp_path, blocksize=blocksize)
    site, _ = serve_frames(frames)
    info = site.ask("/iiif/a/info.json").json
    ((tile_px, factors),) = [(tiles["width"], tiles["scaleFactors"]) for tiles in info["tiles"]]
    assert tile_px % blocksize == 0
    assert tile_px >= 512
    joined = 0
    for factor in factors:
        step = tile_px * factor
        for top in range(0, SHAPE[0], step):
            for left in range(0, SHAPE[1], step):
                height, width = min(step, SHAPE[0] - top), min(step, SHAPE[1] - left)
                out = -(-height // factor), -(-width // factor)
                reply = site.ask(f"/iiif/a/{left},{top},{width},{height}/{out[1]},{out[0]}/0/default.jpg")
                pixels = imagecodecs.jpeg8_decode(reply.body)
                wanted = frames.load_region("a", np.s_[top : top + height, left : left + width], shape=out)
                assert pixels.shape == wanted.shape
                is_equal = np.array_equal(pixels, wanted)
                # The tiles inside the image are joined; those at its right edge are encoded.
                assert is_equal or left + step > SHAPE[1] or top + step > SHAPE[0]
                joined += is_equal
    assert joined >= 1


@pytest.mark.parametrize(
    "path",
    [
        "1,0,128,128/128,128/0/default.jpg",  # not on a segment
        "0,1,128,128/128,128/0/default.jpg",
        "0,0,128,100/96,75/0/default.jpg",  # resampled
        "0,0,192,192/64,64/0/default.jpg",
        "0,0,128,128/^256,256/0/default.jpg",
        "0,0,128,128/128,128/90/default.jpg",
        "0,0,128,128/128,128/!0/default.jpg",
        "0,0,128,128/128,128/0/gray.jpg",
        "0,0,128,128/128,128/0/bitonal.jpg",
        "0,0,128,128/128,128/0/default.webp",
    ],
)
def test_other_pictures_are_encoded(frames, serve_frames, path):
    """They are close to the pixels of the same picture without loss, and not those that are stored."""
    site, _ = serve_frames(frames)
    reply, exact = (site.ask(f"/iiif/a/{each}") for each in (path, f"{path.rpartition('.')[0]}.png"))
    decode = imagecodecs.webp_decode if path.endswith("webp") else imagecodecs.jpeg8_decode
    pixels, wanted = decode(reply.body), imagecodecs.png_decode(exact.body)
    pixels = pixels[:, :, 0] if wanted.ndim == 2 and pixels.ndim == 3 else pixels
    assert pixels.shape == wanted.shape
    assert not np.array_equal(pixels, wanted)


def test_images_whose_pixels_are_not_those_of_one_file(tmp_path, at_rest):
    """Each would be joined if it were not for one thing."""
    frames = frames_over(tmp_path)
    window = (slice(0, 128), slice(0, 128))
    assert find_splice(frames, "a", window, (128, 128)) is not None
    assert find_splice(frames, "a", window, (64, 64)) is not None
    source = frames.pathinfo("a").channels[0].path

    def find(shape=(128, 128), default=None, **fields):
        info = nf.PathInfo("a", [nf.ChannelInfo(source, **fields)], default=default)
        one = nf.SimpleFrames({"a": info}, workdir=tmp_path / "work", backend=frames.backend)
        splice = find_splice(one, "a", window, shape)
        # Whatever is joined has the pixels.
        if splice is not None:
            assert np.array_equal(imagecodecs.jpeg8_decode(splice.load()), one.load_region("a", window, shape=shape))
        return splice

    assert find() is not None
    assert find((64, 64)) is not None
    # Pixels without data keep their values.
    assert find(nodata=7) is not None
    assert find((64, 64), nodata=7) is not None
    quantization = {"orig_min": 0.0, "orig_max": 1.0, "quant_min": 0, "quant_max": 255}
    assert find(quantization=quantization) is None
    assert find(default=("b", "g", "r")) is None
    assert find(default=("r", "g")) is None
    assert find(interpolation="nearest") is not None
    assert find((64, 64), interpolation="nearest") is None
    assert find((64, 64), interpolation="cubic") is not None
    assert find(img_from_src=[[1, 0, 3], [0, 1, 0], [0, 0, 1]]) is None
    for backend in (None, "auto", "npy", {"type": "cog", "config": {"compress": "WEBP"}}):
        other = nf.SimpleFrames({"a": source}, workdir=tmp_path / "work", backend=backend)
        assert find_splice(other, "a", window, (128, 128)) is None


def test_pixels_of_a_subclass_are_never_bypassed(tmp_path, at_rest, serve_frames):
    class Inverted(nf.SimpleFrames):
        def load_region(self, *arguments, **options):
            return 255 - super().load_region(*arguments, **options)

    plain = frames_over(tmp_path)
    frames = Inverted({"a": plain.pathinfo("a").channels[0].path}, workdir=tmp_path / "work", backend=plain.backend)
    site, _ = serve_frames(frames)
    pixels = ask(site, 0, 0, 128, 128)
    assert np.abs(pixels.astype(int) - frames.load_region("a", np.s_[:128, :128])).mean() < 12


def test_a_damaged_tile_never_leaves(frames, serve_frames, damage_tile):
    site, _ = serve_frames(frames)
    wanted = ask(site, 0, 0, 128, 128)
    (entry,) = frames.cache.ls()
    damage_tile(entry.path, 1)
    # Decoded once from the entry that was made again, and then joined from it.
    assert np.abs(ask(site, 0, 0, 128, 128).astype(int) - wanted).mean() < 6
    assert frames.cache.stat().quarantined == 1
    assert np.array_equal(ask(site, 0, 0, 128, 128), wanted)


def test_stored_tiles_as_one_jpeg(frames, serve_frames):
    site, _ = serve_frames(frames)
    (file,) = site.ask("/frames/a/tiles").json["files"]
    assert file["is_jpeg"]
    path = f"/frames/a/{file['state']}/tiles"
    reply = site.ask(f"{path}/0?rows=1&cols=2&format=jpg")
    (entry,) = frames.cache.ls()
    with tifffile.TiffFile(entry.path) as tiff:
        page, data = tiff.pages[0], entry.path.read_bytes()
        pieces = {data[at : at + size] for at, size in zip(page.dataoffsets, page.databytecounts, strict=True)}
    assert reply.body in pieces
    assert reply.headers["content-type"] == "image/jpeg"
    for level, rows, cols in ((0, "0:11", "3:15"), (0, "2:4", "0"), (1, ":", ":")):
        query = f"rows={rows}&cols={cols}"
        raw, joined = site.ask(f"{path}/{level}?{query}"), site.ask(f"{path}/{level}?{query}&format=jpg")
        pixels = imagecodecs.jpeg8_decode(joined.body)
        down, across = (extent // TILE_PX for extent in pixels.shape[:2])
        tiles = np.frombuffer(raw.body, np.uint8).reshape(down, across, TILE_PX, TILE_PX, 3)
        assert np.array_equal(pixels, tiles.swapaxes(1, 2).reshape(pixels.shape))
        assert raw.headers["etag"] != joined.headers["etag"]


@pytest.mark.parametrize("query", ["format=png", "format=", "format=JPG"])
def test_forms_that_there_are_not(frames, serve_frames, query):
    site, _ = serve_frames(frames)
    (file,) = site.ask("/frames/a/tiles").json["files"]
    assert site.ask(f"/frames/a/{file['state']}/tiles/0?{query}").status == 400


def test_no_jpeg_of_other_tiles(tmp_path, at_rest, serve_frames):
    frames = frames_over(tmp_path)
    frames.backend = "auto"
    site, _ = serve_frames(frames)
    (file,) = site.ask("/frames/a/tiles").json["files"]
    assert not file["is_jpeg"]
    reply = site.ask(f"/frames/a/{file['state']}/tiles/0?format=jpg")
    assert (reply.status, "not stored as JPEG" in reply.text) == (400, True)


def test_tiles_without_restart_markers_are_sent_one_by_one(tmp_path, at_rest, serve_frames, monkeypatch):
    """As another writer might make them."""
    frames = frames_over(tmp_path)

    def encode(tile, quality):
        return imagecodecs.jpeg8_encode(tile, level=quality, subsampling="444")

    monkeypatch.setattr("ndframes.formats.tiled.codecs.encode_jpeg_tile", encode)
    site, _ = serve_frames(frames)
    (file,) = site.ask("/frames/a/tiles").json["files"]
    path = f"/frames/a/{file['state']}/tiles/0?format=jpg"
    assert site.ask(f"{path}&rows=0&cols=0").status == 200
    assert site.ask(f"{path}&rows=0:2&cols=0").status == 400
    assert np.array_equal(ask(site, 0, 0, TILE_PX, TILE_PX), read(frames, 0, 0, TILE_PX, TILE_PX))
    assert np.abs(ask(site, 0, 0, 128, 128).astype(int) - read(frames, 0, 0, 128, 128)).mean() < 12
