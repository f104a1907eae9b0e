"""ndframes under ndsampler: the same targets give the same pixels, also where ndsampler fails."""

from __future__ import annotations

import os
import pickle
import shutil

import kwimage
import numpy as np
import pytest
import tifffile

import ndframes as nf
from ndframes.compat import ndsampler as compat

# ndsampler and its dependencies warn of deprecated names, and that GDAL's own bindings are missing.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{category}")
    for category in ("DeprecationWarning", "FutureWarning", "UserWarning", "RuntimeWarning")
]

BACKENDS = [None, "npy", "cog"]
COMPRESSIONS = ["auto", "LZW", "DEFLATE", "RAW", "LERC"]
HEIGHT, WIDTH = 132, 180
WINDOWS = [
    {"cx": 60, "cy": 50, "width": 40, "height": 30},
    {"cx": 5, "cy": 5, "width": 40, "height": 40},  # over the corner
    {"cx": WIDTH, "cy": HEIGHT - 3, "width": 31, "height": 50},
    {"cx": WIDTH // 2, "cy": HEIGHT // 2, "width": WIDTH, "height": HEIGHT},
    {"cx": WIDTH // 2, "cy": HEIGHT // 2, "width": WIDTH + 60, "height": HEIGHT + 20},
    {"cx": -100, "cy": -100, "width": 20, "height": 20},  # outside
]
SPACE_SLICES = [
    np.s_[0:HEIGHT, 0:WIDTH],
    np.s_[10:60, 20:90],
    np.s_[-5:20, -7:30],
    np.s_[HEIGHT - 10 : HEIGHT + 20, WIDTH - 20 : WIDTH + 4],
]


@pytest.fixture
def ndsampler():
    import ndsampler

    return ndsampler


@pytest.fixture
def samplers(ndsampler, monkeypatch, tmp_path):
    """A function that makes a stock sampler without a cache, and one over our frames."""

    def make(dset, backend, **options):
        stock = ndsampler.CocoSampler(dset, workdir=tmp_path / "stock")
        with monkeypatch.context() as patch:
            patch.setattr(ndsampler.coco_frames, "CocoFrames", compat.CocoFrames)
            ours = ndsampler.CocoSampler(dset, workdir=tmp_path / "work", backend=backend, **options)
        assert type(stock.frames) is ndsampler.coco_frames.CocoFrames
        assert type(ours.frames) is compat.CocoFrames
        return stock, ours

    return make


@pytest.fixture(scope="module")
def shared_workdir(tmp_path_factory):
    """A cache for tests that only read, so that each photograph is converted once."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def photos():
    return dict(enumerate(map(str, nf.demo_paths().values()), 1))


def same(ours, stock):
    assert ours.dtype == stock.dtype
    np.testing.assert_array_equal(ours, stock)


def far_from_border(target, margin):
    """The part of a sample that is inside the image, ``margin`` or more from its border."""
    tops = [target["cy"] - target["height"] / 2, target["cx"] - target["width"] / 2]
    spans = []
    for top, extent, whole in zip(tops, (target["height"], target["width"]), (HEIGHT, WIDTH), strict=True):
        first = int(np.floor(top))
        spans.append(slice(max(0, margin - first), max(0, min(extent, whole - margin - first))))
    return tuple(spans)


# -- under a sampler --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("kind", "channels"),
    [
        ("shapes8", None),
        ("vidshapes2-aux", None),
        ("vidshapes2-aux", ["disparity"]),
        ("vidshapes2-multispectral", ["B1"]),
        ("vidshapes2-multispectral", ["B10", "B1"]),
    ],
)
def test_an_image_target_gives_the_same_pixels(samplers, demo, kind, channels, backend):
    stock, ours = samplers(demo(kind), backend)
    targets = [{"gid": gid, **window} for gid in (1, 3) for window in WINDOWS]
    if channels is not None:
        targets = [{"channels": channels, **target} for target in targets]
    wanted = [stock.load_sample(dict(target)) for target in targets]
    for _ in range(2):
        for target, want in zip(targets, wanted, strict=True):
            sample = ours.load_sample(dict(target))
            same(sample["im"], want["im"])
            np.testing.assert_array_equal(sample["annots"]["aids"], want["annots"]["aids"])
        ours.frames.prepare()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("code", "margin"), [("B8", 6), ("B8a", 3), ("B11", 3)])
def test_a_warped_channel_gives_the_same_up_to_rounding(samplers, demo, code, margin, backend):
    stock, ours = samplers(demo("vidshapes2-multispectral"), backend)
    compared = 0
    for window in WINDOWS:
        target = {"gid": 2, "channels": [code], **window}
        want, got = stock.load_sample(dict(target))["im"], ours.load_sample(dict(target))["im"]
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        inner = far_from_border(target, margin)
        np.testing.assert_allclose(got[inner].astype(int), want[inner].astype(int), rtol=0, atol=1)
        compared += want[inner].size
    assert compared > 10_000


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_item_gives_the_same_pixels(samplers, demo, backend):
    stock, ours = samplers(demo("shapes8"), backend)
    assert len(ours) == len(stock) > 5
    for index in range(len(stock)):
        same(ours.load_item(index)["im"], stock.load_item(index)["im"])
    assert ours.hashid == stock.hashid
    assert ours.frames.hashid == stock.frames.hashid


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("kind", "channels"),
    [
        ("vidshapes2", None),
        ("vidshapes2-aux", "r|g|b|disparity"),
        ("vidshapes2-aux", "disparity|r"),
        ("vidshapes2-multispectral", None),
        ("vidshapes2-multispectral", "B8|B1"),
    ],
)
def test_a_video_target_gives_the_same_pixels_before_and_after_prepare(samplers, demo, kind, channels, backend):
    dset = demo(kind)
    stock, ours = samplers(dset, backend)
    gids = list(dset.index.vidid_to_gids[1])
    assert len(gids) == 3
    targets = [{"gids": gids, "space_slice": space} for space in SPACE_SLICES]
    if channels is not None:
        targets = [{"channels": channels, **target} for target in targets]
    wanted = [stock.load_sample(dict(target))["im"] for target in targets]
    for _ in range(2):
        for target, want in zip(targets, wanted, strict=True):
            same(ours.load_sample(dict(target))["im"], want)
        for gid in gids:  # the demo writes files of two bands as stacks of rows, which have no image of that shape
            for code in ("r|g|b", "disparity") if "aux" in kind else ("<all>",):
                ours.frames.load_image(gid, code, noreturn=True)


def test_a_video_target_is_read_from_the_cache(samplers, demo):
    """Lossy entries differ from the source: the sampled pixels come from them."""
    dset = demo("vidshapes2")
    stock, ours = samplers(dset, {"type": "cog", "config": {"compress": "JPEG", "quality": 5}})
    gids = list(dset.index.vidid_to_gids[1])
    target = {"gids": gids, "space_slice": SPACE_SLICES[1], "channels": "r|g|b"}
    want = stock.load_sample(dict(target))["im"]
    same(ours.load_sample(dict(target))["im"], want)
    ours.frames.prepare()
    got = ours.load_sample(dict(target))["im"]
    assert not np.array_equal(got, want)
    entries = [ours.frames._lookup_pathinfo(gid)["channels"]["r|g|b"]["cache"] for gid in gids]
    same(got, np.stack([kwimage.imread(entry)[SPACE_SLICES[1]] for entry in entries]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_images_of_a_video_may_lack_each_others_channels(samplers, demo, backend):
    dset = demo("vidshapes2-multispectral").copy()
    gids = list(dset.index.vidid_to_gids[2])
    for gid, lacking in zip(gids, ("B8", "B1", "B10"), strict=True):
        image = dset.imgs[gid]
        image["auxiliary"] = [item for item in image["auxiliary"] if item["channels"] != lacking]
    stock, ours = samplers(dset, backend)
    target = {"gids": gids, "space_slice": SPACE_SLICES[1]}
    want = stock.load_sample(dict(target))["im"]
    assert np.isnan(want).any(axis=(0, 1, 2)).sum() == 3
    for _ in range(2):
        same(ours.load_sample(dict(target))["im"], want)
        ours.frames.prepare()


@pytest.mark.parametrize("backend", ["npy", "cog"])
def test_a_cache_type_means_that_the_entry_is_an_image(demo, tmp_path, backend):
    frames = compat.CocoFrames(demo("vidshapes2-multispectral"), workdir=tmp_path, backend=backend)
    before = frames._lookup_pathinfo(1)["channels"].values()
    assert [chan["cache_type"] for chan in before] == [None] * 5
    assert not any(os.path.exists(chan["cache"]) for chan in before)
    assert frames.prepare([1]).prepared == 5
    after = frames._lookup_pathinfo(1)["channels"].values()
    assert [chan["cache"] for chan in after] == [chan["cache"] for chan in before]
    assert all(os.path.exists(chan["cache"]) for chan in after)
    assert {chan["cache_type"] for chan in after} == ({"cog"} if backend == "cog" else {None})
    for chan in after:
        if chan["cache_type"] is not None:
            same(np.atleast_3d(kwimage.imread(chan["cache"])), np.atleast_3d(kwimage.imread(chan["path"])))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("bands", [1, 2, 3, 4, 5])
def test_kwimage_reads_cached_images(tmp_path, dtype, bands):
    # A Latin square: every pair of dtype, bands and codec occurs.
    compress = COMPRESSIONS[(np.dtype(dtype).num + bands) % len(COMPRESSIONS)]
    pixels = np.random.default_rng(0).integers(0, 120, (70, 90, bands)).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", pixels, planarconfig="contig" if bands > 1 else None, photometric="minisblack")
    backend = {"type": "cog", "config": {"compress": compress}}
    frames = compat.SimpleFrames({1: tmp_path / "a.tif"}, tmp_path, backend)
    frames.prepare()
    chan = frames._lookup_pathinfo(1)["channels"][None]
    assert chan["cache_type"] == "cog"
    same(kwimage.imread(chan["cache"]).reshape(pixels.shape), pixels)


def test_pathinfo_has_the_keys_of_ndsampler(ndsampler, demo, tmp_path):
    for kind in ("shapes8", "vidshapes2-aux", "vidshapes2-multispectral"):
        stock = ndsampler.coco_frames.CocoFrames(demo(kind), workdir=tmp_path, backend=None)
        ours = compat.CocoFrames(demo(kind), workdir=tmp_path, backend=None)
        for gid in (1, 2):
            want, got = stock._lookup_pathinfo(gid), ours._lookup_pathinfo(gid)
            assert set(want) <= set(got)
            assert {key: got[key] for key in ("id", "default", "width", "height", "norm_to_chan_lut")} == {
                key: want[key] for key in ("id", "default", "width", "height", "norm_to_chan_lut")
            }
            assert list(got["channels"]) == list(want["channels"])
            for key, chan in want["channels"].items():
                for name in ("file_name", "path", "channels", "norm_channels", "cache_type"):
                    assert got["channels"][key][name] == chan[name], (key, name)
                # The image's own file has no such key there, and None here.
                assert got["channels"][key]["warp_aux_to_img"] == chan.get("warp_aux_to_img")


def test_old_and_missing_transforms_are_filled_in(tmp_path):
    """Each auxiliary file has a transform: that of the dataset, or a matrix."""
    double = [[2.0, 0.0, 1.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]]
    records = {
        "a": {},
        "b": {"warp_aux_to_img": {"scale": 2}},
        "c": {"warp_img_to_aux": {"matrix": np.linalg.inv(double).tolist()}},
        "d": {"base_to_aux": {"matrix": np.linalg.inv(double).tolist()}},
        "e": {"warp_aux_to_img": {"type": "affine", "matrix": np.eye(3).tolist()}},
    }
    image = {
        "id": 1,
        "file_name": "own.png",
        "width": 8,
        "height": 6,
        "auxiliary": [{"file_name": f"{key}.png", "channels": key, **more} for key, more in records.items()],
    }
    frames = compat.CocoFrames({"images": [image]}, workdir=tmp_path, backend=None)
    channels = frames._lookup_pathinfo(1)["channels"]
    assert list(channels) == [None, *records]
    warps = {key: chan["warp_aux_to_img"] for key, chan in channels.items()}
    assert (warps[None], warps["b"]) == (None, {"scale": 2})
    want = {"a": np.eye(3), "b": np.diag([2, 2, 1]), "c": double, "d": double, "e": np.eye(3)}
    for key, matrix in want.items():
        np.testing.assert_allclose(np.array(kwimage.Affine.coerce(warps[key])), matrix)


@pytest.mark.parametrize(
    ("backend", "described"),
    [
        (None, {"type": None, "config": {}}),
        ("npy", {"type": "npy", "config": {}}),
        ("cog", {"type": "cog", "config": {"compress": "AUTO"}}),
        ("auto", {"type": "cog", "config": {"compress": "AUTO"}}),
        (
            {"type": "cog", "config": {"compress": "JPEG", "blocksize": 64}, "_hack_use_cli": True},
            {"type": "cog", "config": {"compress": "JPEG", "blocksize": 64}},
        ),
    ],
)
def test_the_backend_is_a_dictionary_as_in_ndsampler(ndsampler, photos, tmp_path, backend, described):
    frames = compat.SimpleFrames(photos, tmp_path, backend)
    assert frames._backend == described
    if backend in (None, "npy"):
        stock = ndsampler.abstract_frames.SimpleFrames(photos, tmp_path, backend)
        assert frames._backend["type"] == stock._backend["type"]
    again = compat.AlignableImageData(frames._lookup_pathinfo(1), frames._backend)
    same(again[0:9, 0:7], frames.load_region(1, np.s_[0:9, 0:7]))
    assert pickle.loads(pickle.dumps(frames))._backend == described


# -- SimpleFrames -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "region",
    [
        np.s_[10:42, 20:84],
        np.s_[:-20, :-10],
        np.s_[-20:, 5:9],
        np.s_[500:600, 300:9000],
        np.s_[9000:9010, 0:5],
        np.s_[-5:10, 0:10],
        np.s_[40:20, 0:10],
        (slice(3, 9),),
        (slice(3, 9), slice(None)),
        np.s_[np.int64(3) : np.int64(9), np.uint8(1) : np.int32(4)],
    ],
)
def test_a_region_is_that_of_ndsampler(ndsampler, photos, shared_workdir, region, backend):
    stock = ndsampler.abstract_frames.SimpleFrames(photos, workdir=shared_workdir / "stock", backend=None)
    ours = compat.SimpleFrames(photos, shared_workdir, backend)
    for image_id in (1, 3, 8):
        got, want = ours.load_region(image_id, region), stock.load_region(image_id, region)
        same(got, np.ascontiguousarray(want))
        assert got.ndim == 3
        assert got.flags.writeable


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("region", [None, (), np.s_[:, :], (slice(None),), np.s_[0:, 0:]])
def test_regions_that_select_everything(photos, shared_workdir, region, backend):
    """ndsampler has no defined result."""
    ours = compat.SimpleFrames(photos, shared_workdir, backend)
    for image_id in (1, 8):
        whole = kwimage.imread(photos[image_id])
        same(ours.load_region(image_id, region), np.atleast_3d(whole))


@pytest.mark.parametrize("backend", BACKENDS)
def test_steps_and_bands_are_honored(photos, shared_workdir, backend):
    """ndsampler ignores them."""
    ours, whole = compat.SimpleFrames(photos, shared_workdir, backend), kwimage.imread(photos[2])
    same(ours.load_region(2, np.s_[10:50:3, 90:20:-2]), whole[10:50:3, 90:20:-2])
    same(ours.load_region(2, np.s_[10:50, 20:30, 1:]), whole[10:50, 20:30, 1:])
    same(ours.load_region(2, np.s_[10:50, 20:30], "b|r"), whole[10:50, 20:30, [2, 0]])
    same(ours.load_region(2, np.s_[10:50, 20:30], [None]), whole[10:50, 20:30])
    same(ours.load_region(2, np.s_[-2:2, 0:3], pad="constant", fill=7)[2:], whole[:2, :3])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("is_cached", [True, False])
def test_a_whole_image_has_the_axes_of_its_file(ndsampler, photos, tmp_path, is_cached, backend):
    stock = ndsampler.abstract_frames.SimpleFrames(photos, workdir=tmp_path / "stock", backend=None)
    ours = compat.SimpleFrames(photos, tmp_path / "work", backend)
    for image_id in (1, 3, 8):  # the last is gray
        same(ours.load_image(image_id, cache=is_cached), stock.load_image(image_id, cache=is_cached))
    same(ours[7], stock[7])
    assert ours.load_image(8).ndim == 2
    assert len(list(ours.cache.ls())) == (0 if backend is None else 3 if is_cached else 1)


def test_noreturn_only_fills_the_cache(photos, tmp_path):
    frames = compat.SimpleFrames(photos, tmp_path, "npy")
    assert frames.load_image(8, noreturn=True, cache=False) is None
    assert list(frames.cache.ls()) == []
    assert frames.load_image(8, noreturn=True) is None
    assert len(list(frames.cache.ls())) == 1


def test_a_lazy_frame_reads_what_is_indexed(photos, tmp_path):
    """ndsampler has no defined result."""
    frames = compat.SimpleFrames(photos, tmp_path, "cog")
    whole = kwimage.imread(photos[3])
    same(frames.load_frame(3)[5:70, -30:], whole[5:70, -30:])
    same(frames.load_frame(3, "g")[...], whole[:, :, 1:2])


def test_frames_are_a_sequence_of_images(photos, tmp_path):
    few = {image_id: photos[image_id] for image_id in (1, 8)}
    frames = compat.SimpleFrames(few, tmp_path, "npy")
    assert len(frames) == 2
    for image, path in zip(frames, few.values(), strict=True):
        same(image, kwimage.imread(path))


def test_the_demo_works_offline(tmp_path):
    frames = compat.SimpleFrames.demo(workdir=tmp_path, backend="npy")
    assert frames.load_image(1).shape == (512, 512, 3)
    assert frames.load_region(1, (slice(-20), slice(-10))).shape == (492, 502, 3)


# -- CocoFrames -------------------------------------------------------------------------------------------------------


def test_a_whole_image_of_a_dataset_is_that_of_ndsampler(ndsampler, demo, tmp_path):
    for kind, channels in [
        ("shapes8", ("rgb",)),
        ("vidshapes2-aux", ("r|g|b", "disparity")),
        ("vidshapes2-msi", ("B1", "B10")),
    ]:
        stock = ndsampler.coco_frames.CocoFrames(demo(kind), workdir=tmp_path, backend=None)
        ours = compat.CocoFrames(demo(kind), workdir=tmp_path, backend="cog")
        for code in channels:
            same(np.atleast_3d(ours.load_image(2, code)), np.atleast_3d(stock.load_image(2, code)))
        if channels[0].startswith("r"):
            same(ours.load_image(2), stock.load_image(2))
    got, want = ours.load_image(2, "B8"), stock.load_image(2, "B8")
    assert (got.shape, got.dtype) == (want.shape, want.dtype) == ((HEIGHT, WIDTH, 1), np.uint16)
    assert ours.load_image(2, "B1").shape == (HEIGHT, WIDTH)


def test_channels_have_many_notations(demo, tmp_path):
    """ndsampler splits a string into letters."""
    from delayed_image import FusedChannelSpec

    frames = compat.CocoFrames(demo("vidshapes2-multispectral"), workdir=tmp_path, backend=None)
    want = np.concatenate([np.atleast_3d(frames.load_image(1, code)) for code in ("B10", "B1")], axis=2)
    region = np.s_[9:60, 30:90]
    for channels in ("B10|B1", ["B10", "B1"], ("B10|B1",), FusedChannelSpec.coerce("B10|B1"), iter(["B10", "B1"])):
        same(frames.load_region(1, region, channels), want[region])
    everything = [chan["channels"] for chan in frames._lookup_pathinfo(1)["channels"].values()]
    same(frames.load_region(1, region, "<all>"), frames.load_region(1, region, everything))
    same(frames.load_region(1, region), frames.load_region(1, region, everything))
    with pytest.raises(nf.ChannelError, match="B1"):
        frames.load_region(1, region, "B2")


def test_a_file_without_a_spec_is_the_default_among_several(ndsampler, tmp_path, write_npy):
    import kwcoco

    rng = np.random.default_rng(3)
    base, depth = rng.integers(0, 255, (40, 50, 3), np.uint8), rng.integers(0, 255, (40, 50), np.uint8)
    kwimage.imwrite(tmp_path / "base.png", base)
    kwimage.imwrite(tmp_path / "depth.png", depth)
    dset = kwcoco.CocoDataset()
    dset.add_image(
        file_name=str(tmp_path / "base.png"),
        width=50,
        height=40,
        auxiliary=[{"file_name": str(tmp_path / "depth.png"), "channels": "depth", "width": 50, "height": 40}],
    )
    stock = ndsampler.coco_frames.CocoFrames(dset, workdir=tmp_path, backend=None)
    ours = compat.CocoFrames(dset, workdir=tmp_path, backend="npy")
    region = np.s_[3:20, 4:30]
    same(ours.load_region(1, region), stock.load_region(1, region))
    same(ours.load_region(1, region, ["depth", None]), stock.load_region(1, region, ["depth", None]))
    same(ours.load_image(1), stock.load_image(1))
    same(ours.load_image(1, "depth"), stock.load_image(1, "depth"))
    same(ours.load_region(1, region, "<all>"), np.dstack([base, depth])[region])


def test_ids_are_an_array_and_unknown_ids_are_errors(ndsampler, demo, tmp_path):
    stock = ndsampler.coco_frames.CocoFrames(demo("vidshapes2"), workdir=tmp_path, backend=None)
    ours = compat.CocoFrames(demo("vidshapes2"), workdir=tmp_path, backend=None)
    same(ours.image_ids, stock.image_ids)
    same(ours[3], stock[3])
    for unknown in (99, "nobody", ("video", 99), None):
        with pytest.raises(KeyError):
            ours.load_region(unknown)
        assert unknown not in ours
    assert 1 in ours


# -- user-defined -----------------------------------------------------------------------------------------------------


def own_frames(base):
    """A user-defined class over the base class of either package."""

    class Scenes(base):
        def __init__(self, folder, **options):
            super().__init__(hashid_mode="PIXELS", **options)
            self.folder = folder

        @property
        def image_ids(self):
            return ["a", "b"]

        def _build_pathinfo(self, image_id):
            channels = {
                "r|g|b": {"file_name": f"{image_id}_rgb.png", "channels": "r|g|b", "warp_aux_to_img": None},
                "nir": {
                    "file_name": f"{image_id}_nir.png",
                    "channels": "nir",
                    "warp_aux_to_img": {"type": "affine", "scale": 2},
                },
            }
            for chan in channels.values():
                self._populate_chan_info(chan, root=self.folder)
            return {"id": image_id, "default": "r|g|b", "channels": channels, "width": 60, "height": 40}

    return Scenes


@pytest.fixture
def scenes(tmp_path):
    rng = np.random.default_rng(8)
    for name in "ab":
        kwimage.imwrite(tmp_path / f"{name}_rgb.png", rng.integers(0, 255, (40, 60, 3), np.uint8))
        kwimage.imwrite(tmp_path / f"{name}_nir.png", rng.integers(0, 255, (20, 30), np.uint8))
    return tmp_path


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_users_class_reads_the_same(ndsampler, scenes, backend):
    stock = own_frames(ndsampler.abstract_frames.Frames)(scenes, workdir=scenes / "stock", backend=None)
    ours = own_frames(compat.Frames)(scenes, workdir=scenes / "work", backend=backend)
    region = np.s_[4:30, 7:51]
    for _ in range(2):
        for image_id in "ab":
            same(ours.load_region(image_id, region), stock.load_region(image_id, region))
            same(ours.load_region(image_id, region, width=60, height=40), stock.load_region(image_id, region))
            same(ours.load_image(image_id), stock.load_image(image_id))
            got = ours.load_region(image_id, region, ["nir", "r|g|b"]).astype(int)
            want = stock.load_region(image_id, region, ["nir", "r|g|b"]).astype(int)
            assert np.abs(got - want).max() <= 1
        ours.prepare()
    assert len(list(ours.cache.ls())) == (0 if backend is None else 4)
    assert ours.hashid_mode == "PIXELS"


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_image_from_its_pathinfo_reads_the_same(ndsampler, scenes, backend):
    stock_frames = own_frames(ndsampler.abstract_frames.Frames)(scenes, workdir=scenes / "stock", backend=None)
    frames = own_frames(compat.Frames)(scenes, workdir=scenes / "work", backend=backend)
    stock = stock_frames._load_alignable("a")
    loaded = compat.AlignableImageData(frames._lookup_pathinfo("a"), backend), frames._load_alignable("a")
    region = np.s_[4:30, 7:51]
    for ours in loaded:
        same(ours[region], stock[region])
        same(ours.load_region(region), stock.load_region(region))
        got, want = (image.load_region(region, "<all>", fused=False)["subregions"] for image in (ours, stock))
        assert [part["channels"] for part in got] == [["r|g|b"], ["nir"]]
        for mine, theirs in zip(got, want, strict=True):
            difference = mine["im"].finalize().astype(int) - np.atleast_3d(theirs["im"].finalize())
            assert np.abs(difference).max() <= 1
        same(np.dstack([part["im"].finalize() for part in got]), ours.load_region(region, "<all>"))
    entries = {str(entry.path) for entry in frames.cache.ls()}
    assert entries == (
        set() if backend is None else {chan["cache"] for chan in frames._lookup_pathinfo("a")["channels"].values()}
    )


def test_the_abstract_method_is_named():
    with pytest.raises(TypeError, match="_build_pathinfo"):
        compat.Frames()


# -- the cache --------------------------------------------------------------------------------------------------------


def test_prepare_checks_the_entries(photos, tmp_path):
    """The stamp file of ndsampler does not notice that they were deleted."""
    frames = compat.SimpleFrames(photos, tmp_path, "npy")
    assert frames.prepare([1, 8]).prepared == 2
    assert (frames.prepare().prepared, frames.prepare(workers=2).prepared) == (6, 0)
    shutil.rmtree(frames.cache_dpath)
    assert frames.prepare(workers=2, use_stamp=True).prepared == 8
    same(frames.load_image(2), kwimage.imread(photos[2]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_edited_source_is_seen(tmp_path, backend):
    for value in (10, 99):
        kwimage.imwrite(tmp_path / "a.png", np.full((20, 30 + value), value, np.uint8))
        frames = compat.SimpleFrames({1: tmp_path / "a.png"}, tmp_path / "work", backend)
        assert frames.load_region(1, np.s_[3:5, 3:5]).tolist() == np.full((2, 2, 1), value).tolist()


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_datasets_of_one_file_name_do_not_share_pixels(tmp_path, backend):
    import kwcoco

    for value in (1, 2):
        folder = tmp_path / str(value)
        folder.mkdir()
        kwimage.imwrite(folder / "a.png", np.full((20, 30), value, np.uint8))
        dset = kwcoco.CocoDataset({"images": [{"id": 1, "file_name": "a.png", "width": 30, "height": 20}]})
        dset.bundle_dpath = str(folder)
        frames = compat.CocoFrames(dset, workdir=tmp_path / "work", backend=backend)
        assert frames.load_region(1, np.s_[3:4, 3:5]).ravel().tolist() == [value, value]


def test_ndsamplers_backend_dictionaries_are_accepted(ndsampler, photos, tmp_path):
    for written in (
        ndsampler.abstract_frames.Frames.DEFAULT_COG_CONFIG,
        ndsampler.abstract_frames.Frames.DEFAULT_NPY_CONFIG,
    ):
        frames = compat.SimpleFrames(photos, tmp_path, written)
        assert frames.cache_dpath == str(tmp_path / "ndframes-cache")
        assert frames._lookup_pathinfo(1)["channels"][None]["cache"].endswith(
            ".npy" if written["type"] == "npy" else ".tif"
        )
    assert compat.SimpleFrames(photos, tmp_path, {"type": None, "config": {}}).cache_dpath is None
    for wrong in (
        "tiff",
        {"type": "cog", "config": {"compress": "GZIP"}},
        {"type": "npy", "config": {"compress": "LZW"}},
        {"typ": 1},
    ):
        with pytest.raises(ValueError, match="allowed|keys"):
            compat.SimpleFrames(photos, tmp_path, wrong)


def test_the_backend_can_be_changed(photos, tmp_path):
    frames = compat.SimpleFrames(photos, tmp_path, None)
    assert frames.prepare().prepared == 0
    frames._update_backend("npy")
    assert frames.prepare([1]).prepared == 1
    assert frames.workdir == str(tmp_path)
    same(frames.load_image(1), kwimage.imread(photos[1]))


def test_a_missing_source_is_named(tmp_path):
    frames = compat.SimpleFrames({1: tmp_path / "gone.png"}, tmp_path, "cog")
    chan = frames._lookup_pathinfo(1)["channels"][None]
    assert (chan["cache"], chan["cache_type"]) == (None, None)
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        frames.load_image(1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_frames_and_samplers_pickle(samplers, demo, photos, tmp_path, backend):
    simple = compat.SimpleFrames(photos, tmp_path, backend)
    want = simple.load_region(2, np.s_[5:9, 5:9])
    same(pickle.loads(pickle.dumps(simple)).load_region(2, np.s_[5:9, 5:9]), want)
    stock, ours = samplers(demo("shapes8"), backend)
    target = {"gid": 2, **WINDOWS[1]}
    ours.load_sample(dict(target))
    again = pickle.loads(pickle.dumps(ours))
    same(again.load_sample(dict(target))["im"], stock.load_sample(dict(target))["im"])
    assert again.frames.hashid == stock.frames.hashid
    image = pickle.loads(pickle.dumps(simple._load_alignable(2)))
    same(image[5:9, 5:9], want)
