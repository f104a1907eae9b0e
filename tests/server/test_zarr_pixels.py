"""Zarr: every array has the pixels of ``load_region``, through zarr-python, whatever is stored and however it is sent."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.http_requests import Site
from kit.synthetic import DTYPES, picture
from kit.zarr_copies import ask_site, is_equal, list_chunks, read_levels

import ndframes as nf
from ndframes.server import serve
from ndframes.server.zarr_chunks import ZarrImages
from ndframes.server.zarr_metadata import parse_key

pytest.importorskip("zarr")
CODECS = {
    name: {"type": "cog", "config": {"compress": name, "blocksize": 32}}
    for name in ("AUTO", "NONE", "ZSTD", "LZW", "DEFLATE", "LERC", "JPEG", "WEBP")
}
CODECS["predictor"] = {"type": "cog", "config": {"compress": "ZSTD", "predictor": "YES", "blocksize": 32}}
FORMS = ("zarr", "zarr-planar")


def ask_directly(frames, image_id, form="zarr"):
    """A function that has a key made in this thread, as the server makes it."""
    images = ZarrImages(frames, is_planar=form == "zarr-planar")

    def ask(text):
        key = parse_key(text)
        if key.chunk is None:
            return json.dumps(images.describe(image_id, "name", key), allow_nan=False).encode()
        return images.load(image_id, key)

    return ask


def wanted_levels(frames, image_id, count):
    """What the arrays must hold: a frame of time is left out if it is the only one."""
    levels = [frames.load_region(image_id, **({"scale": 0.5**level} if level else {})) for level in range(count)]
    return [level[0] if level.ndim == 4 and len(level) == 1 else level for level in levels]


def check(frames, image_id, folder, form="zarr", *, level_count=None):
    got = read_levels(ask_directly(frames, image_id, form), folder)
    for level, (found, wanted) in enumerate(zip(got, wanted_levels(frames, image_id, len(got)), strict=True)):
        assert is_equal(found, wanted), (image_id, form, level, found.shape, wanted.shape, found.dtype, wanted.dtype)
    assert level_count in (None, len(got))


def write_all(folder, shape, bands, dtypes):
    sources = {}
    for dtype, count in product(dtypes, bands):
        np.save(folder / f"{dtype}.{count}.npy", picture((*shape, count), dtype))
        sources[f"{dtype}.{count}"] = folder / f"{dtype}.{count}.npy"
    return sources


def check_codec(tmp_path, codec, shape, bands, forms, dtypes=DTYPES):
    frames = nf.SimpleFrames(
        write_all(tmp_path, shape, bands, dtypes), workdir=tmp_path / "work", backend=CODECS[codec]
    )
    readable = [name for name in frames if is_readable(frames, name)]
    assert len(readable) >= (2 if codec == "LERC" else len(dtypes) * len(bands)) / 2
    # Not by the fixture, which allows no thread of others: zarr-python starts some.
    with serve(frames) as service:
        site = Site(service.address)
        for name, form in product(readable, forms):
            got = read_levels(ask_site(site, f"/{form}/{name}"), tmp_path / "copies" / form / name)
            for level, (found, wanted) in enumerate(zip(got, wanted_levels(frames, name, len(got)), strict=True)):
                assert is_equal(found, wanted), (name, form, level)


def is_readable(frames, name):
    """Whether a codec has the dtype."""
    try:
        frames.load_image(name)
    except nf.NdframesError:
        return False
    return True


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_and_dtype(tmp_path, at_rest, codec):
    dtypes = DTYPES if codec in ("AUTO", "NONE") else ("bool", "uint8", "int16", "float32", "complex64")
    check_codec(tmp_path, codec, (75, 52), (3,), ("zarr",), dtypes)


@pytest.mark.slow
@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_dtype_and_number_of_bands(tmp_path, at_rest, codec):
    check_codec(tmp_path, codec, (303, 171), (1, 3, 4, 8), FORMS)


@settings(max_examples=25, derandomize=False)
@given(
    shape=st.tuples(st.integers(1, 600), st.integers(1, 400)),
    bands=st.integers(1, 4),
    dtype=st.sampled_from(DTYPES),
    backend=st.sampled_from([None, "npy", *CODECS.values()]),
    form=st.sampled_from(FORMS),
)
def test_any_shape(tmp_path_factory, shape, bands, dtype, backend, form):
    folder = tmp_path_factory.mktemp("any")
    np.save(folder / "a.npy", picture((*shape, bands), dtype))
    frames = nf.SimpleFrames({"a": folder / "a.npy"}, workdir=folder / "work", backend=backend)
    check(frames, "a", folder / "copy", form)


@pytest.fixture
def stack(tmp_path):
    return np.stack([picture((101, 137, 3), seed=number) for number in range(11)])


RAW = {"type": "cog", "config": {"compress": "NONE"}}


@pytest.mark.parametrize(
    ("backend", "form"),
    [(None, "zarr"), ("intra", "zarr"), ("npy", "zarr-planar"), ("cog", "zarr"), ("cog", "zarr-planar"), (RAW, "zarr")],
    ids=str,
)
def test_videos(tmp_path, stack, backend, form):
    nf.write_video(tmp_path / "a.mkv", stack, fps=10, codec="ffv1")
    # A tile in time holds 8 frames.
    ranges = {"end": (8, 11), "middle": (3, 10), "first": (0, 5), "one": (8, 9)}
    clips = {name: nf.Clip(tmp_path / "a.mkv", frame_range=some) for name, some in ranges.items()}
    clips["all"] = nf.Clip(tmp_path / "a.mkv")
    frames = nf.SimpleFrames(clips, workdir=tmp_path / "work", backend=backend)
    assert is_equal(frames.load_image("all"), stack)
    for name in clips:
        check(frames, name, tmp_path / name, form)


def test_sequences_of_images_that_are_stored_in_different_ways(tmp_path, stack, at_rest):
    folder = tmp_path / "walk"
    folder.mkdir()
    for number in range(4):
        np.save(folder / f"{number}.npy", stack[number])
    codecs = ["AUTO", "DEFLATE", "NONE", "AUTO"]

    def pick(_, info):
        return {
            "type": "cog",
            "config": {"compress": codecs[int(info.path[-5])], "blocksize": 32 if "3" in info.path[-5] else 64},
        }

    frames = nf.SimpleFrames(
        {"walk": folder, "one": nf.Clip(folder, frame_range=(1, 2))}, workdir=tmp_path / "w", backend=pick
    )
    for name, form in product(frames, FORMS):
        check(frames, name, tmp_path / f"{name}-{form}", form)


def test_sequences_of_several_dtypes(tmp_path, at_rest):
    folder = tmp_path / "walk"
    folder.mkdir()
    for number, dtype in enumerate(("int16", "float32", "uint8")):
        np.save(folder / f"{number}.npy", picture((60, 90, 2), dtype))
    frames = nf.SimpleFrames({"walk": folder}, workdir=tmp_path / "work", backend=CODECS["AUTO"])
    for form in FORMS:
        check(frames, "walk", tmp_path / form, form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("backend", [None, "npy", CODECS["AUTO"]], ids=["direct", "npy", "auto"])
def test_images_of_several_files(tmp_path, at_rest, backend, form):
    for name, shape, dtype in [
        ("rgb", (301, 333, 3), "uint8"),
        ("nir", (76, 84, 1), "uint16"),
        ("far", (301, 333, 1), "int16"),
    ]:
        np.save(tmp_path / f"{name}.npy", picture(shape, dtype))
    turn = [[0.9, 0.2, 5], [-0.2, 0.9, 60], [0, 0, 1]]
    rgb, far = (nf.ChannelInfo(tmp_path / f"{n}.npy", channels=c) for n, c in [("rgb", "r|g|b"), ("far", "far")])
    nir = nf.ChannelInfo(tmp_path / "nir.npy", channels="nir", img_from_src=np.diag([4, 4, 1]))
    turned = nf.ChannelInfo(tmp_path / "rgb.npy", channels="r|g|b", img_from_src=turn)
    real = nf.ChannelInfo(tmp_path / "far.npy", channels="far", quantization={"quant_max": 10_000, "nodata": -32768})
    infos = {
        "aligned": nf.PathInfo("aligned", (rgb, far)),
        "scaled": nf.PathInfo("scaled", (rgb, nir), shape=(301, 333)),
        "turned": nf.PathInfo("turned", (turned,), shape=(311, 350)),
        "real": nf.PathInfo("real", (real,)),
        "part": nf.PathInfo("part", (rgb, far), default="b|r"),
        "second": nf.PathInfo("second", (rgb, far), default="far"),
        "larger": nf.PathInfo("larger", (nf.ChannelInfo(tmp_path / "rgb.npy", shape=(301, 333)),), shape=(320, 400)),
    }
    frames = nf.SimpleFrames(infos, workdir=tmp_path / "work", backend=backend)
    for name in infos:
        check(frames, name, tmp_path / name, form)


@pytest.mark.parametrize("kind", ["nearest", "cubic"])
def test_levels_of_an_image_with_an_interpolation_of_its_own(tmp_path, at_rest, kind):
    np.save(tmp_path / "a.npy", picture((633, 199, 1)))
    info = nf.ChannelInfo(tmp_path / "a.npy", interpolation=kind)
    frames = nf.SimpleFrames({"a": info}, workdir=tmp_path / "work", backend=CODECS["AUTO"])
    check(frames, "a", tmp_path / "copy", level_count=3 if kind == "nearest" else 6)
    if kind == "nearest":  # labels, and not means of labels
        labels = read_levels(ask_directly(frames, "a"), tmp_path / "again")[2]
        assert np.array_equal(labels, frames.load_image("a")[2::4, 2::4][: labels.shape[0], : labels.shape[1]])


def test_pictures_that_are_turned(tmp_path, at_rest):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture((60, 90, 3))).save(tmp_path / "a.jpg", exif=exif)
    frames = nf.SimpleFrames(
        {"a": tmp_path / "a.jpg"}, workdir=tmp_path / "w", backend=CODECS["AUTO"], orientation="upright"
    )
    assert frames["a"].shape == (90, 60, 3)
    check(frames, "a", tmp_path / "copy")


def test_stored_tiles_are_sent_as_they_are(tmp_path, at_rest):
    np.save(tmp_path / "a.npy", picture((75, 52, 3)))
    nf.write_video(
        tmp_path / "v.mkv", np.stack([picture((75, 52, 3), seed=n) for n in range(11)]), fps=10, codec="ffv1"
    )
    sources = {"a": tmp_path / "a.npy", "v": tmp_path / "v.mkv"}
    for codec in ("AUTO", "NONE", "predictor", "LZW"):
        frames = nf.SimpleFrames(sources, workdir=tmp_path / codec, backend=CODECS[codec])
        for name in sources:
            ask = ask_directly(frames, name)
            path = json.loads(ask("zarr.json"))["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"]
            array = json.loads(ask(f"{path}/zarr.json"))
            codecs = [each["name"] for each in array["codecs"]]
            is_stored = codec in ("AUTO", "NONE")
            assert codecs[0] == ("transpose" if is_stored else "bytes")
            assert ("zstd" in codecs) == (codec == "AUTO")
            if is_stored:
                entry = frames.image(name).opened(0).entry
                stored = set(entry.read_stored(range(entry.trailer.segment_count)))
                chunks = {ask(f"{path}/{key}") for key in list_chunks(array)}
                assert chunks <= stored
                assert len(chunks) > 3


def test_pixels_outside_of_the_array_are_the_fill_value(tmp_path, at_rest):
    np.save(tmp_path / "a.npy", picture((75, 52, 1)) | 1)
    frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path / "work", backend=None)
    ask = ask_directly(frames, "a")
    state = json.loads(ask("zarr.json"))["attributes"]["ndframes"]["state"]
    chunk = np.frombuffer(ask(f"{state}/0/c/0/0/0"), np.uint8).reshape(256, 256)
    assert np.array_equal(chunk[:75, :52, None], frames.load_image("a"))
    assert not chunk[75:].any()
    assert not chunk[:, 52:].any()
