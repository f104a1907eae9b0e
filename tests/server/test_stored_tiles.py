"""Stored tiles: what a client unpacks has the pixels of ``load_region``, and damaged bytes never leave."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
import tifffile
import zstandard
from kit.damage import damage
from kit.synthetic import DTYPES, picture

import ndframes as nf
from ndframes.server import ServiceLimits
from ndframes.server.stored import accepts_zstd

SHAPE = (200, 136)
BACKENDS = {
    name: {"type": "cog", "config": {"compress": name, "blocksize": 64}}
    for name in ("NONE", "ZSTD", "LZW", "DEFLATE", "LERC", "JPEG", "WEBP")
}
BACKENDS["predictor"] = {"type": "cog", "config": {"compress": "ZSTD", "predictor": "YES", "blocksize": 64}}
BACKENDS["auto"] = "auto"


def unpack(data: bytes) -> bytes:
    """The content of several frames of zstd, one after the other."""
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
        return reader.read()


def assemble(data: bytes, file: dict, level: int) -> np.ndarray:
    """The image from all tiles of a level."""
    shape, down, across = (file["levels"][level][name] for name in ("shape", "tile_rows", "tile_cols"))
    height, width, bands = file["tile_shape"]
    tiles = np.frombuffer(data, file["dtype"]).reshape(down, across, height, width, bands)
    whole = tiles.swapaxes(1, 2).reshape(down * height, across * width, bands)
    return whole[: shape[0], : shape[1]]


def is_equal(got, wanted) -> bool:
    same = got.dtype == wanted.dtype and got.shape == wanted.shape
    return same and np.array_equal(got, wanted, equal_nan=got.dtype.kind in "fc")


@pytest.mark.parametrize("form", BACKENDS)
def test_every_codec_dtype_and_number_of_bands(tmp_path, serve_frames, form):
    sources = {}
    for dtype in DTYPES:
        for bands in (1, 3, 5):
            name = f"{dtype}.{bands}"
            np.save(tmp_path / f"{name}.npy", picture((*SHAPE, bands), dtype))
            sources[name] = tmp_path / f"{name}.npy"
    frames = nf.SimpleFrames(sources, workdir=tmp_path / "work", backend=BACKENDS[form])
    site, _ = serve_frames(frames)
    compared = zstd = 0
    for name in sources:
        try:
            wanted = frames.load_image(name)
        except nf.NdframesError:
            continue  # a codec lacks most dtypes
        (file,) = site.ask(f"/frames/{name}/tiles").json["files"]
        path = f"/frames/{name}/{file['state']}/tiles/0"
        raw, packed = site.ask(path), site.ask(path, **{"Accept-Encoding": "gzip, zstd"})
        assert "content-encoding" not in raw.headers
        assert is_equal(assemble(raw.body, file, 0), wanted)
        is_packed = packed.headers.get("content-encoding") == "zstd"
        assert is_packed == file["is_zstd"]
        assert unpack(packed.body) == raw.body if is_packed else packed.body == raw.body
        # A codec that lacks a dtype is replaced by ZSTD, and a predictor that does not apply is left out.
        page = tifffile.TiffFile(frames.image(name).opened(0).entry.path).pages[0]
        assert is_packed == (page.compression == 50000 and page.predictor == 1 and not name.startswith("bool"))
        page.parent.close()
        half = site.ask(f"/frames/{name}/{file['state']}/tiles/1").body
        if not name.startswith("bool"):
            assert is_equal(assemble(half, file, 1), frames.load_region(name, scale=0.5))
        compared += 1
        zstd += is_packed
    assert compared >= (2 if form in ("JPEG", "WEBP") else 12)
    assert (zstd == 0) == (form in ("NONE", "LZW", "DEFLATE"))


@pytest.fixture
def frames(tmp_path, at_rest):
    np.save(tmp_path / "a.npy", picture((*SHAPE, 3), "uint16"))
    return nf.SimpleFrames(
        {"a": tmp_path / "a.npy"}, workdir=tmp_path / "work", backend=BACKENDS["ZSTD"], verify="first-touch"
    )


def tiles_of(site):
    (file,) = site.ask("/frames/a/tiles").json["files"]
    return file, f"/frames/a/{file['state']}/tiles"


def test_rectangles_of_tiles(frames, serve_frames):
    site, _ = serve_frames(frames)
    file, path = tiles_of(site)
    assert file["levels"][0] == {"shape": [200, 136], "tile_rows": 4, "tile_cols": 3}
    size = 64 * 64 * 3 * 2
    whole = site.ask(f"{path}/0").body
    assert len(whole) == 12 * size
    assert site.ask(f"{path}/0?rows=1&cols=2").body == whole[5 * size : 6 * size]
    assert site.ask(f"{path}/0?rows=1:3&cols=0:3").body == whole[3 * size : 9 * size]
    assert site.ask(f"{path}/0?rows=3:100&cols=1:").body == whole[10 * size :]


def test_answers_are_kept_and_compared_by_coding(frames, serve_frames):
    site, _ = serve_frames(frames)
    _, path = tiles_of(site)
    raw, packed = site.ask(f"{path}/0"), site.ask(f"{path}/0", **{"Accept-Encoding": "zstd"})
    for reply in (raw, packed):
        assert reply.headers["cache-control"] == "private, max-age=31536000, immutable"
        assert reply.headers["vary"] == "accept-encoding"
        assert reply.headers["x-content-type-options"] == "nosniff"
    assert raw.headers["etag"] != packed.headers["etag"] != site.ask(f"{path}/1").headers["etag"]
    again = site.ask(f"{path}/0", **{"If-None-Match": raw.headers["etag"]})
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", raw.headers["etag"])
    assert site.ask(f"{path}/0", **{"If-None-Match": packed.headers["etag"]}).status == 200
    both = {"If-None-Match": f"{raw.headers['etag']}, {packed.headers['etag']}", "Accept-Encoding": "zstd"}
    assert site.ask(f"{path}/0", **both).headers["etag"] == packed.headers["etag"]
    anything = site.ask(f"{path}/0", **{"If-None-Match": "*"})
    assert (anything.status, anything.body, anything.headers["etag"]) == (304, b"", raw.headers["etag"])
    assert site.ask(f"{path}/9", **{"If-None-Match": "*"}).status == 400


def test_damaged_bytes_never_leave(frames, serve_frames):
    site, _ = serve_frames(frames)
    file, path = tiles_of(site)
    wanted = site.ask(f"{path}/0").body
    for number in (0, 7):
        (entry,) = frames.cache.ls()
        with tifffile.TiffFile(entry.path) as tiff:
            place = tiff.pages[0].dataoffsets[number] + 100
        # In place: the file stays the one that is open, and its tiles have been checked before.
        damage(entry.path, place)
        reply = site.ask(f"{path}/0")
        if number == 0:
            assert (reply.status, reply.body == wanted) == (200, True)
            assert frames.cache.stat().quarantined == 1
    # An entry that fails again is not made a third time: the source is read, which has no tiles.
    assert (reply.status, reply.json["error"]["type"]) == (400, "UnsupportedError")
    whole = np.load(io.BytesIO(site.ask("/frames/a/region").body))
    assert np.array_equal(whole, assemble(wanted, file, 0))


def test_damage_that_changes_the_times_of_an_entry(frames, serve_frames):
    site, _ = serve_frames(frames)
    _, path = tiles_of(site)
    wanted = site.ask(f"{path}/0").body
    (entry,) = frames.cache.ls()
    with tifffile.TiffFile(entry.path) as tiff:
        place = tiff.pages[0].dataoffsets[0] + 100
    damage(entry.path, place)
    times = os.stat(entry.path)
    os.utime(entry.path, ns=(times.st_atime_ns, times.st_mtime_ns + 10**9))
    reply = site.ask(f"{path}/0")
    assert (reply.status, reply.body == wanted) == (200, True)
    assert frames.cache.stat().quarantined == 1


def test_an_entry_that_is_evicted_or_replaced(frames, serve_frames, tmp_path):
    site, _ = serve_frames(frames)
    file, path = tiles_of(site)
    wanted = site.ask(f"{path}/0").body
    frames.cache.clear()
    frames.refresh()
    # It is made again; the same bytes have the same state.
    assert site.ask(f"{path}/0").body == wanted
    np.save(tmp_path / "a.npy", picture((*SHAPE, 3), "uint16", seed=1))
    reply = site.ask(f"{path}/0")
    assert (reply.status, reply.json["error"]["type"]) == (410, "CacheEntryGoneError")
    changed, path = tiles_of(site)
    assert changed["state"] != file["state"]
    assert is_equal(assemble(site.ask(f"{path}/0").body, changed, 0), frames.load_image("a"))


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("9", 400), ("-1", 400), ("x", 400), ("0?rows=9", 400), ("0?rows=-1", 400), ("0?rows=::2", 400), ("0?rows=2:1", 400),
        ("0?cols=a", 400), ("0?file=1", 400), ("0?file=-1", 400), ("0?tile=1", 400), ("0?rows=99999999999999999999", 400),
        ("", 404), ("../../../../etc/passwd", 404),
    ],
)  # fmt: skip
def test_tiles_that_are_not_there(frames, serve_frames, end, status):
    site, _ = serve_frames(frames)
    _, path = tiles_of(site)
    assert site.ask(f"{path}/{end}").status == status
    assert site.ask("/frames/q/00/tiles/0").status == 404
    assert site.ask("/frames/a/00/tiles/0").status == 410


def test_too_many_tiles(frames, serve_frames):
    site, _ = serve_frames(frames, limits=ServiceLimits(max_pixels=64 * 64 * 3))
    _, path = tiles_of(site)
    assert site.ask(f"{path}/0?rows=0").status == 200
    assert site.ask(f"{path}/0?rows=0:2").status == 413


@pytest.mark.parametrize("backend", [None, "npy"])
def test_images_without_tiles(frames, serve_frames, backend):
    frames.backend = backend
    site, _ = serve_frames(frames)
    reply = site.ask("/frames/a/tiles")
    assert (reply.status, reply.json["error"]["type"]) == (400, "UnsupportedError")


@pytest.mark.parametrize(
    ("text", "accepts"),
    [("", False), ("gzip", False), ("zstd", True), ("ZSTD", True), ("br, zstd ; q=0.1", True), ("zstd;q=0.0", False), ("*", False),
     ("zstdx", False), ("zstd;q=2", False)],
)  # fmt: skip
def test_who_accepts_zstd(text, accepts):
    assert accepts_zstd({"accept-encoding": text}) is accepts
