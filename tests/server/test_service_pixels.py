"""Services: each answer holds the pixels of ``load_region``, for every dtype, number of bands, backend and kind of image."""

from __future__ import annotations

import io
import zipfile
from urllib.parse import quote

import imagecodecs
import numpy as np
import pytest
import tifffile
from kit.coco_bundles import make_bundle
from kit.numbered import write_clip
from kit.synthetic import DTYPES, picture

import ndframes as nf

SHAPE = (61, 83)
BACKENDS = {
    "direct": None,
    "npy": "npy",
    "auto": "auto",
    **{
        name: {"type": "cog", "config": {"compress": name, "blocksize": 64}}
        for name in ("NONE", "ZSTD", "LZW", "DEFLATE", "LERC", "JPEG", "WEBP")
    },
    "predictor": {"type": "cog", "config": {"compress": "DEFLATE", "predictor": "YES", "blocksize": 64}},
}
#: Queries, and the regions that they mean.
REGIONS = {
    "": None,
    "y=0:20&x=-30:": np.s_[:20, -30:],
    "y=::-3&x=50:2:-7": np.s_[::-3, 50:2:-7],
    "y=7": np.s_[7],
    "y=-1&x=3&c=0": np.s_[-1, 3, 0],
    "y=5:5": np.s_[5:5],
    "y=40:100000000000000000&x=:-80": np.s_[40 : 10**17, :-80],
    "c=::-1": np.s_[:, :, ::-1],
}


def load_npy(body: bytes) -> np.ndarray:
    return np.load(io.BytesIO(body), allow_pickle=False)


def is_equal(got, wanted) -> bool:
    same = got.dtype == wanted.dtype and got.shape == wanted.shape
    return same and np.array_equal(got, wanted, equal_nan=got.dtype.kind in "fc")


def try_to_load(frames, *request, **options):
    try:
        return frames.load_region(*request, **options)
    except nf.NdframesError as error:
        return type(error).__name__


@pytest.mark.parametrize("form", BACKENDS)
def test_every_dtype_and_number_of_bands(tmp_path, serve_frames, form):
    sources = {}
    for dtype in DTYPES:
        for bands in (1, 3, 6):
            name = f"{dtype}.{bands}"
            np.save(tmp_path / f"{name}.npy", picture((*SHAPE, bands), dtype))
            sources[name] = tmp_path / f"{name}.npy"
    frames = nf.SimpleFrames(sources, workdir=tmp_path / "work", backend=BACKENDS[form])
    site, remote = serve_frames(frames)
    assert list(remote) == list(sources)
    compared = 0
    for name in sources:
        wanted = try_to_load(frames, name)
        reply = site.ask(f"/frames/{name}/region")
        if isinstance(wanted, str):
            # A lossy codec lacks most dtypes. The server says so in the same way.
            assert reply.json["error"]["type"] == wanted
            assert try_to_load(remote, name) == wanted
            continue
        assert is_equal(load_npy(reply.body), wanted)
        assert is_equal(remote.load_region(name, np.s_[-20:, ::2]), frames.load_region(name, np.s_[-20:, ::2]))
        assert (remote[name].shape, remote[name].dtype) == (frames[name].shape, frames[name].dtype)
        tiff = site.ask(f"/frames/{name}/region?format=tif").body
        (tmp_path / "answer.tif").write_bytes(tiff)
        assert is_equal(nf.open(tmp_path / "answer.tif")[...], wanted)
        compared += 1
    assert compared >= (3 if form in ("JPEG", "WEBP") else 10)


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """An image of 16 bits and three bands, and one of 8 bits and four."""
    folder = tmp_path_factory.mktemp("colours")
    np.save(folder / "deep.npy", picture((*SHAPE, 3), "uint16"))
    np.save(folder / "rgba.npy", picture((*SHAPE, 4), "uint8"))
    return nf.SimpleFrames(folder, workdir=folder / "work")


@pytest.mark.parametrize("query", REGIONS)
def test_slices_as_numpy_has_them(colours, serve_frames, query):
    site, remote = serve_frames(colours)
    whole = colours.load_image("deep")
    wanted = whole[()] if REGIONS[query] is None else whole[REGIONS[query]]
    reply = site.ask(f"/frames/deep/region?{query}")
    assert reply.headers["content-type"] == "application/x-npy"
    assert is_equal(load_npy(reply.body), wanted)
    got = remote.load_region("deep", REGIONS[query])
    assert is_equal(got, wanted)
    assert got.flags.owndata
    assert got.flags.writeable
    assert got.flags.c_contiguous
    assert is_equal(remote["deep"][() if REGIONS[query] is None else REGIONS[query]], wanted)


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("scale=0.37", {"scale": 0.37}),
        ("scale=0.5,0.25&interpolation=cubic", {"scale": (0.5, 0.25), "interpolation": "cubic"}),
        ("shape=31x17&antialias=false", {"shape": (31, 17), "antialias": False}),
        ("shape=200,100&interpolation=nearest", {"shape": (200, 100), "interpolation": "nearest"}),
        ("y=-9:20&x=70:99&pad=constant&fill=7", {"pad": "constant", "fill": 7}),
        ("y=-9:20&x=70:99&pad=reflect", {"pad": "reflect"}),
        ("nodata=nan", {"nodata": "nan"}),
        ("channels=2|0", {"channels": "2|0"}),
    ],
)
def test_options(colours, serve_frames, query, options):
    site, remote = serve_frames(colours)
    codes = colours["deep"].channels
    if "channels" in options:
        options = {"channels": f"{codes[2]}|{codes[0]}"}
        query = f"channels={quote(options['channels'])}"
    region = np.s_[-9:20, 70:99] if "pad" in options else None
    wanted = colours.load_region("deep", region, **options)
    assert is_equal(load_npy(site.ask(f"/frames/deep/region?{query}").body), wanted)
    assert is_equal(remote.load_region("deep", region, **options), wanted)
    batch = remote.load_regions([("deep", region), ("deep", region)], **options)
    assert is_equal(batch, np.stack([wanted, wanted]))


def test_pngs_of_8_and_16_bits(colours, serve_frames):
    site, _ = serve_frames(colours)
    for name, dtype in (("deep", "uint16"), ("rgba", "uint8")):
        reply = site.ask(f"/frames/{name}/region?y=3:40&format=png")
        assert reply.headers["content-type"] == "image/png"
        decoded = imagecodecs.png_decode(reply.body)
        assert decoded.dtype == dtype
        assert is_equal(decoded, colours.load_region(name, np.s_[3:40]))
    tiff = site.ask("/frames/deep/region?x=::3&format=tif")
    assert tiff.headers["content-type"] == "image/tiff"
    assert is_equal(tifffile.imread(io.BytesIO(tiff.body)), colours.load_region("deep", np.s_[:, ::3]))


def test_masks_come_as_a_zip(tmp_path, serve_frames):
    pixels = np.arange(30, dtype=np.int16).reshape(5, 6, 1)
    np.save(tmp_path / "a.npy", pixels)
    frames = nf.SimpleFrames({"a": nf.ChannelInfo(str(tmp_path / "a.npy"), nodata=7)}, workdir=tmp_path / "work")
    site, remote = serve_frames(frames)
    wanted = frames.load_region("a", nodata="mask")
    with zipfile.ZipFile(io.BytesIO(site.ask("/frames/a/region?nodata=mask&format=zip").body)) as archive:
        assert archive.namelist() == ["0.npy", "0.mask.npy"]
        assert is_equal(load_npy(archive.read("0.npy")), wanted.data)
        assert is_equal(load_npy(archive.read("0.mask.npy")), wanted.mask)
    reply = site.ask("/frames/a/region?nodata=mask")
    assert (reply.status, reply.json["error"]["type"]) == (400, "OutputError")
    for got in (remote.load_region("a", nodata="mask"), remote.load_regions([("a", None)], nodata="mask")[0]):
        assert isinstance(got, np.ma.MaskedArray)
        assert is_equal(got.data, wanted.data)
        assert is_equal(got.mask, wanted.mask)


def test_batches(colours, serve_frames):
    site, remote = serve_frames(colours)
    body = b'{"requests": [{"id": "deep", "region": {"y": [0, 9], "x": "::2"}}, {"id": "deep", "region": [[9, 18], [null, null, 2]]}]}'
    requests = [("deep", np.s_[0:9, ::2]), ("deep", np.s_[9:18, ::2])]
    assert is_equal(load_npy(site.ask("/regions", "POST", body=body).body), colours.load_regions(requests))
    mixed = b'[{"id": "deep", "region": [3]}, {"id": "rgba"}]'
    reply = site.ask("/regions", "POST", body=mixed)
    assert reply.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(reply.body)) as archive:
        assert is_equal(load_npy(archive.read("0.npy")), colours.load_region("deep", np.s_[3]))
        assert is_equal(load_npy(archive.read("1.npy")), colours.load_image("rgba"))
    many = [("deep", np.s_[y : y + 5, x : x + 5]) for y in range(0, 50, 3) for x in range(0, 70, 5)]
    for threads in (1, 5):
        assert is_equal(remote.load_regions(many, workers=threads), colours.load_regions(many))
    out = np.zeros((len(many), 5, 5, 3), np.uint16)
    assert remote.load_regions(many, out=out) is out
    assert is_equal(out, colours.load_regions(many))
    assert remote.load_regions([]) == []
    got = remote.load_regions([("deep", np.s_[3]), ("rgba", None)])
    assert [item.shape for item in got] == [(83, 3), (*SHAPE, 4)]


def test_aligned_channels_and_videos_of_a_dataset(tmp_path, serve_frames):
    dataset, folder = make_bundle(tmp_path)
    frames = nf.CocoFrames(dataset, bundle_dpath=folder, workdir=tmp_path / "work")
    site, remote = serve_frames(frames)
    assert list(remote.image_ids) == list(frames.image_ids)
    for image_id in frames.image_ids:
        codes = frames[image_id].channels
        assert remote[image_id].channels == codes
        wanted = frames.load_region(image_id, np.s_[2:30, -40:], codes[::-1])
        query = f"y=2:30&x=-40:&channels={quote('|'.join(codes[::-1]), safe='')}"
        assert is_equal(load_npy(site.ask(f"/frames/{image_id}/region?{query}").body), wanted)
        assert is_equal(remote.load_region(image_id, np.s_[2:30, -40:], codes[::-1]), wanted)
    for video_id in frames.video_ids:
        key = ("video", video_id)
        assert is_equal(remote.load_region(key, np.s_[:, 3:20]), frames.load_region(key, np.s_[:, 3:20]))
        assert remote[key].shape == frames[key].shape


def test_videos_and_sequences(tmp_path, serve_frames):
    write_clip(tmp_path / "clip.mp4", 12)
    (tmp_path / "walk").mkdir()
    for number in range(4):
        tifffile.imwrite(tmp_path / "walk" / f"{number}.tif", picture((40, 50, 3), seed=number), photometric="rgb")
    sources = {"clip": tmp_path / "clip.mp4", "walk": str(tmp_path / "walk")}
    frames = nf.SimpleFrames(sources, workdir=tmp_path / "work")
    site, remote = serve_frames(frames)
    for name, kind in (("clip", "video"), ("walk", "sequence")):
        assert site.ask(f"/frames/{name}").json["kind"] == kind
        wanted = frames.load_region(name, np.s_[3:0:-2, 4:30, ::3])
        assert is_equal(load_npy(site.ask(f"/frames/{name}/region?t=3:0:-2&y=4:30&x=::3").body), wanted)
        assert is_equal(remote[name][3:0:-2, 4:30, ::3], wanted)
        one = frames.load_region(name, np.s_[2])
        assert is_equal(imagecodecs.png_decode(site.ask(f"/frames/{name}/region?t=2&format=png").body), one)
        small = frames.load_region(name, np.s_[1:3], scale=0.5)
        assert is_equal(remote.load_region(name, np.s_[1:3], scale=0.5), small)
        assert len(remote[name].frame_ids) == len(frames[name])
        listed = frames[name][:][[3, 1, -1, 3], :9]
        assert is_equal(load_npy(site.ask(f"/frames/{name}/region?t=3,1,-1,3&y=0:9").body), listed)
        assert is_equal(remote.load_region(name, ([3, 1, -1, 3], slice(0, 9))), listed)
        assert is_equal(remote[name][[3, 1, -1, 3]], frames[name][[3, 1, -1, 3]])
        body = site.ask(f"/frames/{name}/region?t=3,1,3&nodata=mask&format=zip").body
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            assert archive.namelist() == ["0.npy", "0.mask.npy"]
        reply = site.ask(f"/frames/{name}/region?t=3,99,1")
        assert (reply.status, reply.json["error"]["type"]) == (400, "RegionIndexError")
    reply = site.ask("/frames/clip/region?format=png")
    assert (reply.status, reply.json["error"]["type"]) == (400, "OutputError")
