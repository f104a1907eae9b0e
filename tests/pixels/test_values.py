"""Which numbers are nodata."""

import numpy as np
import pytest

from ndframes.pixels.values import ValueEncoding, equals_nodata
from ndframes.spec.nodata import ColourKey, pack_nodata, unpack_nodata


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_integers_are_compared_exactly(dtype):
    limits = np.iinfo(dtype)
    for value in {limits.min, limits.max, 0, 1, 2**53 + 1}:
        if not limits.min <= value <= limits.max:
            continue
        near = [other for other in (value - 1, value, value + 1) if limits.min <= other <= limits.max]
        assert equals_nodata(np.array(near, dtype), value).tolist() == [other == value for other in near]
    stored = np.array([limits.min, 0, limits.max], dtype)
    for value in (limits.max + 1, limits.min - 1, 0.5, np.nan, np.inf, -1e30, 2.0**64):
        assert not equals_nodata(stored, value).any()
    assert equals_nodata(stored, 0.0).tolist() == [item == 0 for item in stored.tolist()]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("text", ["-9999", "-9999.1", "1e20", "-3.4028234663852886e+38", "-3.4028235e+38", "0.1", "0"])
def test_floats_are_compared_within_their_precision(dtype, text):
    value = float(text)
    near = value * (1 + 1e-5) + 1e-5
    if abs(value) > 3.4e38:  # the largest float32, whose text may round to more
        near = -3.3e38
    first = value if dtype == "float64" or abs(value) < 3.4e38 else np.finfo(np.float32).min
    stored = np.array([first, near, 1.5, np.nan, -np.inf], dtype)
    assert equals_nodata(stored, value).tolist() == [True, False, False, False, False]


def test_float_nodata_agrees_with_gdal(tmp_path):
    """Neighbours of the sentinel too: GDAL allows a few units of the last place."""
    import rasterio

    for text in (-9999.9, 1e-3, 3.14159265358979, 1e20):
        centre = np.float32(text)
        around = [centre]
        for direction in (-np.inf, np.inf):
            step = centre
            for _ in range(8):
                step = np.nextafter(step, np.float32(direction))
                around.append(step)
        stored = np.array([around], np.float32)
        with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", width=stored.size, height=1, count=1, dtype="float32",
                           nodata=text, transform=rasterio.Affine(2, 0, 0, 0, 2, 0)) as file:  # fmt: skip
            file.write(stored, 1)
        with rasterio.open(tmp_path / "a.tif") as file:
            wanted = file.read_masks(1) == 0
        np.testing.assert_array_equal(equals_nodata(stored, text), wanted)


def mask(nodata, stored, bands):
    encoding = ValueEncoding(stored.dtype, nodata, None)
    return encoding.decode(stored, "mask", bands)[1]


def test_one_value_a_band():
    stored = np.array([[[1, 2, 3], [2, 1, 1]]], np.uint8)
    assert mask((1, None, 3), stored, range(3)).tolist() == [[[True, False, True], [False, False, False]]]
    assert mask((1, None, 3), stored[:, :, [2, 0]], [2, 0]).tolist() == [[[True, True], [False, False]]]
    assert mask(1, stored, range(3)).tolist() == [[[True, False, False], [False, True, True]]]


def test_a_colour_needs_all_bands():
    stored = np.array([[[1, 2, 3], [1, 2, 4], [1, 2, 3]]], np.uint8)
    encoding = ValueEncoding(stored.dtype, ColourKey((1, 2, 3)), None)
    assert encoding.needs_all_bands("mask")
    assert not encoding.needs_all_bands("keep")
    assert mask(ColourKey((1, 2, 3)), stored, range(3)).tolist() == [[[True] * 3, [False] * 3, [True] * 3]]


@pytest.mark.parametrize("nodata", [None, 0, -9999.5, 2**63 - 1, (1, None, 2.5), ColourKey((1, 2, 3))])
def test_packing(nodata):
    import json

    assert unpack_nodata(json.loads(json.dumps(pack_nodata(nodata)))) == nodata
