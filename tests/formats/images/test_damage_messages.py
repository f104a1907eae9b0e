"""Damaged files: errors name the file, say that it is truncated only if it is, and nothing is printed."""

import random
import re
import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from kit.synthetic import SAMPLES
from PIL import Image

import ndframes as nf
from ndframes.errors import UnreadableImageError
from ndframes.formats.images.sniff import open_image
from ndframes.system.handles import HandlePool

NAMES = [
    "png colour 2 depth 8", "png interlaced rgb 8", "png palette depth 4 of 4", "jpg rgb", "jpg progressive", "jp2 uint8",
    "j2k uint8", "webp rgb", "webp lossy", "bmp rgb", "bmp palette", "gif palette", "ppm 8", "pgm 16", "ppm letters", "pbm bits",
    "ntf raw", "sgi rgb", "hdr rgb", "avif rgb", "qoi rgb", "psd rgb", "ico rgba", "dds rgba", "npy float32",
]  # fmt: skip
#: The formats whose ends are known.
ENDS = ("png", "jpg", "webp", "bmp", "gif", "ppm 8", "pgm 16", "pbm bits", "ppm letters", "qoi", "npy")


def read(path) -> np.ndarray:
    pool = HandlePool()
    try:
        return open_image(nf.ChannelInfo(str(path)), pool).read_all()
    finally:
        pool.close()


def check_message(error: UnreadableImageError, path: Path) -> None:
    text = str(error)
    assert path.name in text
    assert not re.search(
        r"/proc/self|/dev/fd|/vsi|descriptor|\btmp\w{6,}\b(?!/)", text.replace(str(path.parent), "")
    ), text
    assert "may be truncated" not in text


@pytest.mark.parametrize("name", NAMES)
def test_a_cut_file_is_said_to_be_truncated(name, tmp_path, capfd):
    made, wanted = SAMPLES[name].make(tmp_path)
    data = Path(made).read_bytes()
    path = tmp_path / "cut.bin"
    for kept in (0.2, 0.5, 0.9):
        path.write_bytes(data[: int(kept * len(data))])
        try:
            got = read(path)
        except UnreadableImageError as error:
            check_message(error, path)
            if name.startswith(ENDS):
                assert "truncated" in str(error), str(error)  # noqa: PT017
        else:  # what was cut holds no pixels
            assert name.startswith(("j2k", "jp2", "ntf", "psd", "ico")), name
            assert got.shape == wanted.shape
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_not_said_to_be_truncated(name, tmp_path, capfd):
    made, _ = SAMPLES[name].make(tmp_path)
    data = Path(made).read_bytes()
    chance = random.Random(name)
    path = tmp_path / "bad.bin"
    for _ in range(6):
        bad = bytearray(data)
        for _ in range(6):
            bad[chance.randrange(min(12, len(bad) // 2), len(bad) - 64)] = chance.randrange(256)
        path.write_bytes(bad)
        try:
            read(path)
        except UnreadableImageError as error:
            check_message(error, path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("bands", [1, 3])
def test_gdal_names_the_file_and_prints_nothing(bands, tmp_path, capfd):
    """GDAL knows the file as /proc/self/fd/N, names it by that number alone, and prints errors of its decoding threads."""
    pixels = np.random.default_rng(bands).integers(0, 256, (40, 48, bands), np.uint8)
    data = bytearray(imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k"))
    at = data.find(b"\xff\x51") + 10
    assert data[at : at + 4] == struct.pack(">I", 40)
    data[at : at + 4] = struct.pack(">I", 400)  # ten tiles, of which one is there
    path = tmp_path / "bad.bin"
    path.write_bytes(data)
    for _ in range(10):
        with pytest.raises(UnreadableImageError) as caught:
            read(path)
        check_message(caught.value, path)
        assert not re.search(r"(?<![\w/.])\d+, band \d", str(caught.value)), str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("suffix", ["jp2", "j2k"])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("tile", [None, (32, 32)])
def test_a_cut_jpeg_2000_is_an_error(suffix, mode, tile, tmp_path, capfd):
    whole, path = tmp_path / f"a.{suffix}", tmp_path / "cut.bin"
    pixels = np.random.default_rng(1).integers(0, 256, (90, 110, len(mode)), np.uint8)
    image = Image.fromarray(pixels[:, :, 0] if mode == "L" else pixels)
    image.save(whole, **({"tile_size": tile} if tile else {}))
    np.testing.assert_array_equal(read(whole), pixels)
    data = whole.read_bytes()
    for stop in (len(data) // 4, len(data) // 2, len(data) - 1000, len(data) - 40):
        path.write_bytes(data[:stop])
        for backend in (None, "npy", "cog"):
            with pytest.raises(UnreadableImageError) as caught:
                np.asarray(nf.open(path, workdir=tmp_path / "work", backend=backend))
            check_message(caught.value, path)
    assert capfd.readouterr().err == ""
