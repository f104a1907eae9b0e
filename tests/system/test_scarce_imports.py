"""A process that has no file descriptor left at its first read reads correctly as soon as it has some again."""

from __future__ import annotations

import sys
from importlib import import_module

import numpy as np
import pytest
import tifffile
from kit.limits import run_limited
from kit.synthetic import picture
from PIL import Image

import ndframes as nf
from ndframes.formats.extensions import extensions_of_tiff
from ndframes.system.imports import import_package

FIRST_READ = """
import os, sys
import ndframes as nf

folder, free_count = sys.argv[1], int(sys.argv[2])
cases = [("a.png", {"type": "cog", "config": {"compress": name}}) for name in ("ZSTD", "DEFLATE", "JPEG", "LERC", "WEBP")]
cases += [("a.png", "npy"), ("a.mp4", "cog"), ("a.mp4", "intra")]
cases += [(name, None) for name in ("a.png", "a.jpg", "a.npy", "lzw.tif", "jpeg.tif", "a.mp4")]

class Pages(nf.Frames):
    image_ids = ("lzw.tif", "jpeg.tif")

    def build_pathinfo(self, image_id):
        return nf.PathInfo(image_id, (nf.ChannelInfo(f"{folder}/{image_id}", page=0),))

def read(name, backend):
    options = {"workdir": folder, "backend": backend}
    frames = Pages(**options) if name.endswith(".tif") else nf.SimpleFrames({name: f"{folder}/{name}"}, **options)
    region = slice(3, 40), slice(5, 60)
    return frames.load_region(name, (slice(0, 2), *region) if name == "a.mp4" else region)

greedy, failures = [], 0
if free_count >= 0:
    try:
        while True:
            greedy.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    for _ in range(free_count):
        os.close(greedy.pop())
    for case in cases:
        try:
            read(*case)
        except Exception:
            failures += 1
    for descriptor in greedy:
        os.close(descriptor)
import numpy as np
for number, case in enumerate(cases):
    if free_count < 0:
        np.save(f"{folder}/{number}.expected", read(*case))
        os.rename(f"{folder}/{number}.expected.npy", f"{folder}/{number}.expected")
    else:
        assert np.array_equal(read(*case), np.load(f"{folder}/{number}.expected")), case
print(failures)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A file of each kind, its entries, and what a process without a limit reads of them."""
    path = tmp_path_factory.mktemp("scarce")
    pixels = picture((120, 160, 3))
    for name in ("a.png", "a.jpg"):
        Image.fromarray(pixels).save(path / name)
    np.save(path / "a.npy", pixels)
    tifffile.imwrite(path / "lzw.tif", pixels, compression="lzw", predictor=True, metadata=None)
    tifffile.imwrite(path / "jpeg.tif", pixels, compression="jpeg", metadata=None)
    nf.write_video(path / "a.mp4", [np.roll(pixels, number, 1) for number in range(3)], fps=10)
    assert run_limited(FIRST_READ, 64, str(path), "-1").split() == ["0"]
    return path


@pytest.mark.parametrize("free_count", range(4))
def test_the_first_read_may_lack_descriptors(folder, free_count):
    """Through every backend, whatever part of a library is the one that cannot be imported."""
    failures = int(run_limited(FIRST_READ, 64, str(folder), str(free_count)))
    assert failures > 0 or free_count >= 2


NO_STUB = """
import os
from ndframes.formats.extensions import load_extensions

greedy = []
try:
    while True:
        greedy.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
try:
    load_extensions("_deflate")
except (ImportError, OSError) as error:
    print("Too many open files" in str(error))
for descriptor in greedy:
    os.close(descriptor)
print(load_extensions("_deflate").deflate_crc32(b"pixels"))
"""


def test_an_extension_that_does_not_load_is_an_error_and_no_stub():
    assert run_limited(NO_STUB, 32).split() == ["True", "3457236171"]


def test_the_extensions_of_each_compression_are_those_that_tifffile_uses():
    checked = 0
    for compression in map(int, tifffile.COMPRESSION):
        if compression == 1 or compression not in tifffile.TIFF.DECOMPRESSORS:
            continue
        name = tifffile.TIFF.DECOMPRESSORS[compression].__name__.replace("jpeg_decode", "jpeg8_decode")
        modules = [import_module(f"imagecodecs.{module}") for module in extensions_of_tiff(compression)]
        if name != "stub_decode":  # which stands for a codec that this build lacks
            assert any(hasattr(module, name) for module in modules), (compression, name)
            checked += 1
    assert checked >= 15


def test_a_package_whose_import_failed_half_way_is_whole_after_the_next(tmp_path, monkeypatch):
    """Python keeps the submodules that were loaded, but does not bind them to the new package."""
    package = tmp_path / "half_imported"
    package.mkdir()
    (package / "first.py").write_text("VALUE = 7\n")
    (package / "second.py").write_text("from half_imported import first\nVALUE = first.VALUE\nraise OSError\n")
    (package / "__init__.py").write_text(
        "import half_imported.first\nimport half_imported.second\nTOTAL = first.VALUE + second.VALUE\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        for _ in range(2):
            with pytest.raises(OSError, match="^$"):
                import_package("half_imported")
            assert "half_imported" not in sys.modules
        kept = sys.modules["half_imported.first"]
        (package / "second.py").write_text("from half_imported import first\nVALUE = 2 * first.VALUE\n")
        whole = import_package("half_imported")
        assert (whole.TOTAL, whole.first) == (21, kept)
        assert import_package("half_imported") is whole is sys.modules["half_imported"]
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "half_imported"]:
            del sys.modules[name]
