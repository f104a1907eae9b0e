"""Damaged files: errors name the file, say that it is truncated only if it is, and nothing is printed."""

import random
import re
from pathlib import Path

import numpy as np
import pytest
from kit.synthetic import SAMPLES

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
