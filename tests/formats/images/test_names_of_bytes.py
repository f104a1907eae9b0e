"""Names that are not UTF-8, in every format: a process of its own reads them, since a library may crash."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kit.synthetic import SAMPLES

NAMES = [
    "png colour 2 depth 8", "jpg rgb", "jp2 uint8", "j2k uint8", "webp rgb", "bmp rgb", "bmp palette", "gif palette", "ppm 8",
    "pgm 16", "ppm letters", "pbm letters", "pbm bits", "ntf raw", "sgi rgb", "hdr rgb", "avif rgb", "qoi rgb", "psd rgb",
    "ico rgba", "dds rgba", "npy float32", "tif dtype uint16",
]  # fmt: skip
SCRIPT = """
import os, pickle, sys
import numpy as np
import ndframes as nf
wanted = pickle.loads(sys.stdin.buffer.read())
for name, pixels in wanted.items():
    path = os.fsdecode(name)
    for backend in (None, "cog", "npy"):
        frames = nf.SimpleFrames({"x": path}, workdir="work", backend=backend)
        got = [frames.load_image("x"), frames.load_regions([("x", None)])[0], np.asarray(nf.open(path, workdir="work", backend=backend))]
        assert not frames.prepare().failed
        for pixels_of_one in got:
            np.testing.assert_array_equal(pixels_of_one, pixels.reshape(pixels_of_one.shape), err_msg=repr(name))
        repr(frames.load_frame("x")), frames.load_frame("x")._repr_html_(), list(frames.cache.ls())
    data = open(path, "rb").read()
    open(path, "wb").write(data[:len(data) // 3])
    try:
        nf.open(path, workdir="work").__array__()
    except nf.NdframesError as error:
        assert os.path.basename(path) in str(error), error
print("read", len(wanted))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have names of characters")
def test_names_that_are_not_utf8(tmp_path):
    wanted = {}
    for number, name in enumerate(NAMES):
        path, pixels = SAMPLES[name].make(tmp_path)
        renamed = os.fsencode(tmp_path) + b"/caf\xe9%d." % number + os.fsencode(Path(path).suffix[1:])
        os.rename(path, renamed)
        wanted[renamed] = np.asarray(pixels)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], input=pickle.dumps(wanted), cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-3000:]
    assert done.stdout.decode().strip() == f"read {len(NAMES)}"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have names of characters")
def test_an_animation_whose_name_is_not_utf8(tmp_path):
    from PIL import Image

    import ndframes as nf

    frames = [Image.fromarray(np.full((8, 9, 3), value, np.uint8)) for value in (10, 200)]
    for suffix in ("gif", "png", "webp"):
        path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff." + suffix.encode())
        frames[0].save(tmp_path / "a", suffix, save_all=True, append_images=frames[1:])
        os.rename(tmp_path / "a", path)
        for backend in (None, "npy"):
            assert np.asarray(nf.open(path, workdir=tmp_path / "work", backend=backend)).shape == (2, 8, 9, 3)
