"""Files whose names are any bytes that Linux allows."""

from __future__ import annotations

import io
import os
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

import ndframes as nf


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are Unicode")
@pytest.mark.parametrize("suffix", [b".png", b".tif", b".npy", b"-pages.tif"])
@pytest.mark.parametrize("stem", [b"\xff\xfe", b"a\nb", b" ", "e\u0301".encode(), b"x" * 240])
@pytest.mark.parametrize("backend", [None, "cog", "npy"])
def test_any_name_is_read(tmp_path, stem, suffix, backend):
    array = np.random.default_rng(0).integers(0, 255, (70, 80, 3), np.uint8)
    path = os.path.join(os.fsencode(tmp_path), stem + suffix)
    with open(path, "wb") as file:
        if suffix == b".png":
            Image.fromarray(array).save(file, "PNG")
        elif suffix == b".npy":
            np.save(file, array)
        else:
            buffer = io.BytesIO()
            tifffile.imwrite(buffer, array, photometric="rgb")
            file.write(buffer.getvalue())
    frames = nf.SimpleFrames({"a": os.fsdecode(path)}, workdir=tmp_path / "work", backend=backend)
    np.testing.assert_array_equal(frames.load_region("a", np.s_[5:60, ::2]), array[5:60, ::2])
