"""Stored tiles of videos and sequences: what a client unpacks has the pixels of ``load_region``."""

from __future__ import annotations

import numpy as np
import pytest
import zstandard
from kit.damage import damage
from kit.synthetic import picture

import ndframes as nf

SHAPE = (100, 136, 3)
TILED = {"type": "cog", "config": {"blocksize": 64}}


def unpack(data: bytes) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
        return reader.read()


@pytest.fixture
def frames(tmp_path, at_rest):
    pixels = np.stack([picture(SHAPE, seed=number) for number in range(11)])
    nf.write_video(tmp_path / "clip.mkv", pixels, fps=10, codec="ffv1")
    folder = tmp_path / "walk"
    folder.mkdir()
    for number in range(3):
        np.save(folder / f"{number}.npy", pixels[number])
    sources = {"clip": tmp_path / "clip.mkv", "walk": folder}
    return nf.SimpleFrames(sources, workdir=tmp_path / "work", backend=TILED, verify="first-touch")


def test_tiles_of_a_video(frames, serve_frames):
    site, _ = serve_frames(frames)
    answer = site.ask("/frames/clip/tiles").json
    (file,) = answer["files"]
    assert answer["is_image"] is True
    assert file["tile_frames"] == 8
    assert file["tile_times"] == 2
    assert file["levels"] == [{"shape": [100, 136], "tile_rows": 2, "tile_cols": 3}]
    path = f"/frames/clip/{file['state']}/tiles/0"
    raw, packed = site.ask(path).body, site.ask(path, **{"Accept-Encoding": "zstd"})
    assert packed.headers["content-encoding"] == "zstd"
    assert unpack(packed.body) == raw
    tiles = np.frombuffer(raw, file["dtype"]).reshape(2, 2, 3, 8, *file["tile_shape"])
    whole = tiles.transpose(0, 3, 1, 4, 2, 5, 6).reshape(16, 128, 192, 3)
    assert np.array_equal(whole[:11, :100, :136], frames.load_region("clip"))
    one = site.ask(f"{path}?t=1&rows=0&cols=2").body
    assert one == tiles[1, 0, 2].tobytes()
    assert site.ask(f"{path}?t=1:&rows=0:1&cols=2").body == one


def test_tiles_of_the_images_of_a_sequence(frames, serve_frames):
    site, _ = serve_frames(frames)
    states = set()
    for number in range(3):
        (file,) = site.ask(f"/frames/walk/tiles?t={number}").json["files"]
        states.add(file["state"])
        body = site.ask(f"/frames/walk/{file['state']}/tiles/0?t={number}&rows=0&cols=1").body
        tile = np.frombuffer(body, file["dtype"]).reshape(file["tile_shape"])
        assert np.array_equal(tile, frames.load_region("walk", np.s_[number, :64, 64:128]))
    assert len(states) == 3
    # The state of one image does not open another.
    assert site.ask(f"/frames/walk/{file['state']}/tiles/0?t=0").status == 410


def test_a_damaged_entry_of_a_sequence_is_made_again(frames, serve_frames):
    site, _ = serve_frames(frames)
    (file,) = site.ask("/frames/walk/tiles?t=2").json["files"]
    path = f"/frames/walk/{file['state']}/tiles/0?t=2"
    wanted = site.ask(path).body
    entry = frames.image("walk").image_at(2).opened(0).entry
    damage(entry.path, entry.trailer.payload_bytes - 100)
    assert site.ask(path).body == wanted


def test_files_that_are_not_the_image(tmp_path, frames, serve_frames):
    folder = tmp_path / "walk"
    info = nf.ChannelInfo(folder / "0.npy", channels="r|g|b")
    placed = nf.ChannelInfo(folder / "0.npy", channels="r|g|b", img_from_src=np.diag([2.0, 2.0, 1.0]))
    real = nf.ChannelInfo(folder / "0.npy", channels="r|g|b", quantization={"quant_max": 255})
    infos = {
        "same": nf.PathInfo("same", (info,)),
        "order": nf.PathInfo("order", (info,), default="b|g|r"),
        "placed": nf.PathInfo("placed", (placed,)),
        "real": nf.PathInfo("real", (real,)),
        "two": nf.PathInfo("two", (info, nf.ChannelInfo(folder / "1.npy", channels="u|v|w"))),
        "part": nf.Clip(tmp_path / "clip.mkv", frame_range=(0, 9)),
    }
    site, _ = serve_frames(nf.SimpleFrames(infos, workdir=tmp_path / "work", backend=TILED))
    assert [site.ask(f"/frames/{name}/tiles").json["is_image"] for name in infos] == [True, *[False] * 5]


@pytest.mark.parametrize(
    "path",
    ["clip/tiles?t=0", "walk/tiles", "walk/tiles?t=3", "walk/tiles?t=-1", "walk/tiles?t=0:2", "walk/tiles?t=0,1"],
)
def test_times_without_files(frames, serve_frames, path):
    site, _ = serve_frames(frames)
    reply = site.ask(f"/frames/{path}")
    assert (reply.status, reply.json["error"]["type"]) == (400, "RegionError")


@pytest.mark.parametrize("query", ["t=2", "t=-1", "t=::2", "t=0,1", "t=1:1"])
def test_tiles_outside_of_a_video(frames, serve_frames, query):
    site, _ = serve_frames(frames)
    (file,) = site.ask("/frames/clip/tiles").json["files"]
    reply = site.ask(f"/frames/clip/{file['state']}/tiles/0?{query}")
    assert (reply.status, reply.json["error"]["type"]) == (400, "RegionError")


def test_a_video_without_tiles(frames, serve_frames):
    frames.backend = None
    site, _ = serve_frames(frames)
    reply = site.ask("/frames/clip/tiles")
    assert (reply.status, reply.json["error"]["type"]) == (400, "UnsupportedError")
