"""Georeferences: files of one image placed by them, entries that keep them, and coordinates of xarray."""

from __future__ import annotations

import os

import numpy as np
import pytest
import rasterio
import tifffile
import xarray
from rasterio.transform import Affine

import ndframes as nf

UTM = "EPSG:32633"
NORTH_UP = Affine(10, 0, 500_000, 0, -10, 4_000_000)
ROTATED = Affine(7, 3, 500_000, 2, -8, 4_000_000)


def picture(seed, shape=(48, 64), dtype=np.uint8):
    return np.random.default_rng(seed).integers(1, 255, shape).astype(dtype)


def write(path, pixels, transform=NORTH_UP, crs=UTM, driver="GTiff", **options):
    bands = pixels if pixels.ndim == 3 else pixels[..., None]
    profile = {"height": bands.shape[0], "width": bands.shape[1], "count": bands.shape[2], "dtype": bands.dtype}
    with rasterio.open(path, "w", driver=driver, crs=crs, transform=transform, **profile, **options) as file:
        file.write(bands.transpose(2, 0, 1))
    return path


def bands_of(tmp_path, **options):
    """RGB, and a band at a quarter of its resolution that begins 2 x 3 of its pixels before, and reaches beyond it."""
    rgb, nir = picture(0, (48, 64, 3)), picture(1, (20, 30), np.uint16)
    write(tmp_path / "rgb.tif", rgb)
    write(tmp_path / "nir.tif", nir, Affine(40, 0, 500_000 - 120, 0, -40, 4_000_000 + 80), **options)
    return rgb, nir


@pytest.mark.parametrize("backend", [None, "npy", "cog"])
def test_files_are_placed_by_their_georeference(tmp_path, backend):
    rgb, nir = bands_of(tmp_path)
    info = nf.PathInfo.from_files({"r|g|b": tmp_path / "rgb.tif", "nir": tmp_path / "nir.tif"}, align="georeference")
    assert (info.image_id, info.shape, info.channels[0].img_from_src) == ("rgb", (48, 64), None)
    assert info.channels[1].matrix.tolist() == [[4, 0, -12], [0, 4, -8], [0, 0, 1]]
    frames = nf.SimpleFrames({7: info}, workdir=tmp_path / "work", backend=backend)
    fused = frames.load_region(7, channels="nir|g", interpolation="nearest")
    np.testing.assert_array_equal(fused[..., 1], rgb[..., 1])
    np.testing.assert_array_equal(fused[..., 0], nir.repeat(4, 0).repeat(4, 1)[8:56, 12:76])
    np.testing.assert_array_equal(
        frames.load_region(7, np.s_[5:17, 9:30], "nir|g", interpolation="nearest"), fused[5:17, 9:30]
    )


def test_rotated_files_are_placed_by_their_georeference(tmp_path):
    one = write(tmp_path / "one.tif", picture(0), ROTATED)
    other = write(tmp_path / "other.tif", picture(1, (24, 32)), ROTATED @ Affine(2, 0, 6, 0, 2, -4))
    info = nf.PathInfo.from_files({"a": one, "b": other}, align="georeference", image_id="x", default="b")
    assert (info.image_id, info.default) == ("x", ("b",))
    assert info.channels[1].matrix.tolist() == [[2, 0, 6], [0, 2, -4], [0, 0, 1]]


def test_files_over_one_extent(tmp_path):
    np.save(tmp_path / "rgb.npy", picture(0, (48, 64, 3)))
    np.save(tmp_path / "mask.npy", picture(1, (12, 32)))
    files = {"r|g|b": tmp_path / "rgb.npy", "mask": nf.ChannelInfo(tmp_path / "mask.npy", nodata=0)}
    info = nf.PathInfo.from_files(files, align="extent")
    assert info.channels[1].matrix.tolist() == [[2, 0, 0], [0, 4, 0], [0, 0, 1]]
    assert info.channels[1].nodata == 0
    whole = nf.open(info)
    np.testing.assert_array_equal(whole.shape, (48, 64, 4))
    mask = nf.SimpleFrames([info], backend=None).load_region("rgb", channels="mask", interpolation="nearest")[..., 0]
    np.testing.assert_array_equal(mask, picture(1, (12, 32)).repeat(4, 0).repeat(2, 1))
    aligned = nf.PathInfo.from_files({"a": tmp_path / "mask.npy"})
    assert aligned.channels[0].is_aligned


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("align", ["extent", "georeference"])
def test_upright_files_are_placed_as_they_are_turned(tmp_path, tag, align):
    """The same picture, stored as the tag says and upright, covers itself, at another resolution."""
    stored = picture(2, (48, 64, 3))
    keys = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633)
    scales, tie = (10.0, 10.0, 0.0), (0, 0, 0, 500_000.0, 4_000_000.0, 0.0)
    tags = [(33550, "d", 3, scales, True), (33922, "d", 6, tie, True), (34735, "H", 16, keys, True)]
    for name, value, pixels in (("turned.tif", tag, stored), ("plain.tif", 1, stored)):
        turn = (274, "H", 1, value, True)
        tifffile.imwrite(tmp_path / name, pixels, photometric="rgb", metadata=None, extratags=[turn, *tags])
    turned = nf.ChannelInfo(tmp_path / "turned.tif", orientation="upright")
    upright = nf.open(turned)[...]
    if align == "georeference":  # the other file lies as the first one is stored
        other, wanted = tmp_path / "plain.tif", upright
    else:
        np.save(tmp_path / "half.npy", upright[::2, ::2])
        other, wanted = tmp_path / "half.npy", upright[::2, ::2].repeat(2, 0).repeat(2, 1)
    info = nf.PathInfo.from_files({"r|g|b": turned, "x|y|z": other}, align=align, image_id="s")
    assert info.shape == upright.shape[:2]
    image = nf.SimpleFrames([info], backend=None).load_region("s", interpolation="nearest")
    np.testing.assert_array_equal(image[..., :3], upright)
    np.testing.assert_array_equal(image[..., 3:], wanted)


def test_files_that_cannot_be_placed(tmp_path):
    bands_of(tmp_path)
    plain = tmp_path / "plain.npy"
    np.save(plain, picture(0))
    rgb = tmp_path / "rgb.tif"
    other = write(tmp_path / "other.tif", picture(0), crs="EPSG:32634")
    with pytest.raises(nf.PathInfoError, match="plain.npy has no georeference; align='extent' lays"):
        nf.PathInfo.from_files({"r|g|b": rgb, "a": plain}, align="georeference")
    with pytest.raises(
        nf.PathInfoError, match=r"different coordinate reference systems \(WGS 84 / UTM zone 34N, WGS 84 / UTM"
    ):
        nf.PathInfo.from_files({"r|g|b": rgb, "a": other}, align="georeference")
    with pytest.raises(ValueError, match="align='crs'; allowed: 'georeference', 'extent'"):
        nf.PathInfo.from_files({"r|g|b": rgb}, align="crs")
    for files in ({}, [rgb], "rgb.tif"):
        with pytest.raises(nf.PathInfoError, match="give a mapping from channels to paths"):
            nf.PathInfo.from_files(files)
    with pytest.raises(nf.SourceMissingError):
        nf.PathInfo.from_files({"a": tmp_path / "gone.tif"}, align="extent")


@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED])
@pytest.mark.parametrize("crs", [UTM, "EPSG:4326", "+proj=laea +lat_0=52 +lon_0=10 +x_0=1 +y_0=2 +ellps=GRS80", None])
@pytest.mark.parametrize(("driver", "suffix"), [("GTiff", "tif"), ("HFA", "img")])
def test_entries_keep_the_georeference(tmp_path, transform, crs, driver, suffix):
    pixels = picture(3, (300, 200))
    path = write(tmp_path / f"a.{suffix}", pixels, transform, crs, driver)
    source = nf.ChannelInfo(path, driver=None if driver == "GTiff" else driver)
    frames = nf.SimpleFrames({"a": source}, workdir=tmp_path / "work")
    np.testing.assert_array_equal(frames["a"][..., 0], pixels)
    (entry,) = frames.cache.ls()
    with rasterio.open(path) as source, rasterio.open(entry.path) as kept:
        assert kept.transform.almost_equals(source.transform, 1e-9)
        assert kept.crs == source.crs
        np.testing.assert_array_equal(kept.read(1), pixels)
    assert frames.cache.verify(read_data=True).ok


def test_files_without_a_georeference_get_none(tmp_path):
    np.save(tmp_path / "a.npy", picture(0, (300, 200)))
    frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path / "work", backend="cog")
    frames.load_region("a")
    (entry,) = frames.cache.ls()
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(entry.path) as kept:
        assert kept.crs is None
    assert "spatial_ref" not in frames["a"].to_xarray().coords


# -- xarray -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [None, "npy", "cog"])
def test_coordinates_of_a_georeferenced_image(tmp_path, backend):
    rgb, _ = bands_of(tmp_path)
    frames = nf.SimpleFrames({"scene": tmp_path / "rgb.tif"}, workdir=tmp_path / "work", backend=backend)
    array = frames["scene"].to_xarray()
    assert (array.name, array.dims, array.encoding["grid_mapping"]) == ("scene", ("y", "x", "channel"), "spatial_ref")
    with rasterio.open(tmp_path / "rgb.tif") as source:
        east, south = source.xy(47, 63)
        crs = source.crs
    assert (float(array.x[-1]), float(array.y[-1])) == (east, south)
    reference = array.spatial_ref.attrs
    assert rasterio.CRS.from_wkt(reference["crs_wkt"]) == rasterio.CRS.from_wkt(reference["spatial_ref"]) == crs
    assert Affine.from_gdal(*map(float, reference["GeoTransform"].split())) == NORTH_UP
    np.testing.assert_array_equal(array.values, rgb)
    # The place is in the entry, too.
    if backend is not None:
        os.remove(tmp_path / "rgb.tif")
        lost = nf.SimpleFrames(
            {"scene": tmp_path / "rgb.tif"}, workdir=tmp_path / "work", backend=backend, when_source_missing="use"
        )
        xarray.testing.assert_identical(lost["scene"].to_xarray().coords.to_dataset(), array.coords.to_dataset())


def test_coordinates_of_a_placed_file_and_of_a_rotated_one(tmp_path):
    bands_of(tmp_path)
    info = nf.PathInfo.from_files({"r|g|b": tmp_path / "rgb.tif", "nir": tmp_path / "nir.tif"}, align="georeference")
    frames = nf.SimpleFrames({"scene": info}, backend=None)
    for channels in ("r|g|b", "nir", "nir|g"):
        array = frames.load_frame("scene", channels).to_xarray()
        assert Affine.from_gdal(*map(float, array.spatial_ref.GeoTransform.split())) == NORTH_UP
        assert float(array.x[0]) == 500_005
    rotated = nf.open(write(tmp_path / "rotated.tif", picture(0), ROTATED)).to_xarray()
    assert Affine.from_gdal(*map(float, rotated.spatial_ref.GeoTransform.split())) == ROTATED
    assert float(rotated.x[0]) == float(rotated.y[0]) == 0.5


def test_times_of_a_video_are_seconds(tmp_path):
    pixels = picture(0, (6, 32, 48, 3))
    nf.write_video(tmp_path / "a.mkv", pixels, 12.5, codec="ffv1")
    video = nf.open(nf.Clip(tmp_path / "a.mkv", frame_range=(2, 6)))
    array = video.to_xarray()
    np.testing.assert_allclose(array.t, video.times)
    np.testing.assert_allclose(np.diff(array.t), 0.08)
    assert array.frame.values.tolist() == [2, 3, 4, 5]
    np.testing.assert_array_equal(array.sel(t=video.times[1]).values, pixels[3])


def test_times_of_images_are_positions(tmp_path):
    for number in (7, 9):
        np.save(tmp_path / f"f{number}.npy", picture(number))
    array = nf.open(tmp_path / "f%d.npy").to_xarray()
    assert (array.t.values.tolist(), array.frame.values.tolist()) == ([0, 1], [7, 9])
    assert nf.open(tmp_path).to_xarray().frame.values.tolist() == ["f7.npy", "f9.npy"]


# -- options of handles -----------------------------------------------------------------------------------------------


@pytest.fixture
def masked(tmp_path):
    pixels = picture(5, (40, 50))
    pixels[3:9, 4:20] = 0
    np.save(tmp_path / "a.npy", pixels)
    np.save(tmp_path / "b.npy", picture(6, (20, 25)))
    files = [nf.ChannelInfo(tmp_path / "a.npy", channels="a", nodata=0), nf.ChannelInfo(tmp_path / "b.npy", channels="b", img_from_src=np.diag([2, 2, 1]))]  # fmt: skip
    return nf.SimpleFrames({"x": nf.PathInfo("x", files)}, backend=None), pixels


def test_handles_take_nodata_and_interpolation(masked):
    frames, pixels = masked
    for options in ({"nodata": "nan"}, {"nodata": "mask"}, {"interpolation": "nearest"}, {"nodata": "nan", "interpolation": {"b": "nearest"}}):  # fmt: skip
        frame, want = frames.load_frame("x", **options), frames.load_region("x", **options)
        assert frame.dtype == want.dtype
        for index in (np.s_[...], np.s_[2:30, 3:], np.s_[[5, 1, 30]]):
            got = frame[index]
            np.testing.assert_array_equal(got, want[index])
            assert type(got) is type(want)
            np.testing.assert_array_equal(np.ma.getmaskarray(got), np.ma.getmaskarray(want)[index])
        lazy = frames["x"].to_dask(chunks=(16, 16, 2), **options)
        assert lazy.dtype == want.dtype
        np.testing.assert_array_equal(np.ma.getmaskarray(lazy.compute()), np.ma.getmaskarray(want))
        np.testing.assert_array_equal(np.ma.filled(lazy.compute(), 9), np.ma.filled(want, 9))
        assert frame.to_dask().name != frames["x"].to_dask().name
        if options.get("nodata") != "mask":
            np.testing.assert_array_equal(frames["x"].to_xarray(**options).values, want)
    assert np.isnan(frames.load_frame("x", "a", nodata="nan")[..., 0][pixels == 0]).all()


def test_options_of_handles_that_are_wrong(masked):
    frames, _ = masked
    with pytest.raises(nf.RegionError, match="nodata='drop'; allowed"):
        frames.load_frame("x", nodata="drop")
    with pytest.raises(nf.RegionError, match="antialias='no'; allowed: True, False"):
        frames.load_region("x", scale=0.5, antialias="no")
    with pytest.raises(nf.RegionError, match="interpolation='best'; allowed"):
        frames["x"].to_dask(interpolation="best")
    with pytest.raises(nf.RegionError, match="xarray has no masked arrays; nodata='nan'"):
        frames["x"].to_xarray(nodata="mask")
