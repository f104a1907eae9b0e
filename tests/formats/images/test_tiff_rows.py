"""TIFFs that store each row of the image as a page: what tifffile writes for ``(h, w, c)`` unless c is named channels."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from kit.synthetic import picture

import ndframes as nf
from ndframes.errors import UnreadableImageError
from ndframes.formats.images.sniff import open_image
from ndframes.system.handles import HandlePool

LAYOUTS = {
    "raw": {},
    "big": {"bigtiff": True},
    "one page": {"truncate": True},
    "strips": {"rowsperstrip": 7},
    "deflate": {"compression": "zlib"},
    "predictor": {"compression": "zlib", "predictor": True},
    "tiles": {"compression": "zlib", "tile": (16, 16)},
    "raw tiles": {"tile": (16, 16)},
    "axes": {"metadata": {"axes": "YXC"}},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2", "float32", "int32"])
@pytest.mark.parametrize("bands", [2, 3, 4])
def test_rows_of_pages_are_an_image(tmp_path, layout, dtype, bands):
    pixels = picture((60, 83, bands), np.dtype(dtype).newbyteorder("=")).astype(dtype)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric="minisblack", **LAYOUTS[layout])
    with tifffile.TiffFile(path) as file:
        assert file.pages[0].shape == (83, bands)  # else this tests nothing
    frame = nf.open(path)
    assert frame.dtype == pixels.dtype.newbyteorder("=")
    np.testing.assert_array_equal(frame[...], pixels)
    np.testing.assert_array_equal(frame[50:3:-4, 5:80:3, ::-1], pixels[50:3:-4, 5:80:3, ::-1])
    np.testing.assert_array_equal(frame[59, 7:9, 1], pixels[59, 7:9, 1])
    np.testing.assert_array_equal(nf.SimpleFrames({0: path}, backend=None).load_region(0, np.s_[3:9]), pixels[3:9])


def test_a_row_of_pages_can_still_be_chosen(tmp_path):
    pixels = picture((60, 83, 2))
    path = str(tmp_path / "a.tif")
    tifffile.imwrite(path, pixels, photometric="minisblack")
    pool = HandlePool()
    reader = open_image(nf.ChannelInfo(path, page=17), pool)
    np.testing.assert_array_equal(reader.read_all()[:, :, 0], pixels[17])
    np.testing.assert_array_equal(open_image(nf.ChannelInfo(path, series=0), pool).read_all(), pixels)
    pool.close()


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_rows_of_pages_are_cached_whole(tmp_path, backend, compression):
    pixels = picture((300, 270, 2), "uint16")
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric="minisblack", compression=compression)
    frames = nf.SimpleFrames({0: path}, workdir=tmp_path / "work", backend=backend)
    if backend is not None:
        assert frames.prepare().prepared == 1
    np.testing.assert_array_equal(frames.load_image(0), pixels)
    np.testing.assert_array_equal(frames.load_region(0, np.s_[250:290, 3:270:5]), pixels[250:290, 3:270:5])


@pytest.mark.parametrize(
    ("shape", "metadata"),
    [
        ((12, 40, 30), {}),
        ((12, 40, 13), {}),
        ((12, 40, 4), {"axes": "TYX"}),
        ((12, 40, 3), {"axes": "ZYX"}),
        ((12, 40, 2), None),
        ((3, 12, 40, 2), {}),
    ],
)
def test_a_stack_stays_a_stack(tmp_path, shape, metadata):
    """Where nothing says that pages are rows, one has to be chosen."""
    pixels = picture((np.prod(shape[:-1]), shape[-1])).reshape(shape)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric="minisblack", metadata=metadata)
    with pytest.raises(nf.UnreadableImageError, match=r"page=0 ... page=|choose one with page="):
        nf.open(path).shape  # noqa: B018


def test_a_description_alone_makes_no_rows(tmp_path):
    """A copy of one of the pages, which kept the words."""
    pixels = picture((83, 2))
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric="minisblack", metadata=None, description='{"shape": [60, 83, 2]}')
    np.testing.assert_array_equal(nf.open(path)[:, :, 0], pixels)
    tifffile.imwrite(path, pixels, photometric="minisblack", metadata=None, description='{"shape": [60, 83,')
    np.testing.assert_array_equal(nf.open(path)[:, :, 0], pixels)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.5, 0.9, 0.999])
def test_what_is_left_of_a_file_is_no_image(tmp_path, compression, kept):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture((60, 83, 2)), photometric="minisblack", compression=compression)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(UnreadableImageError):
        nf.open(path)[...]


def test_too_few_pages_are_no_image(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        for number in range(5):
            description = '{"shape": [60, 83, 2]}' if not number else None
            file.write(
                picture((83, 2), seed=number),
                photometric="minisblack",
                metadata=None,
                description=description,
                compression="zlib",
            )
    with pytest.raises(UnreadableImageError, match=r"60 rows.* 5;|do not match its description"):
        nf.open(path)[...]
