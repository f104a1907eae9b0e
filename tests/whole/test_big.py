"""Converting a source that is much larger than the memory allowed for it."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import ndframes as nf

CODE = """
import json, re, sys, time
import ndframes as nf
path, workdir, backend = sys.argv[1:]
frames = nf.SimpleFrames({"big": path}, workdir=workdir, backend=backend)
started = time.perf_counter()
report = frames.prepare()
print(json.dumps({
    "prepared": report.prepared,
    "bytes_written": report.bytes_written,
    "seconds": time.perf_counter() - started,
    # not ru_maxrss, which a child inherits from the process that started it
    "peak_bytes": int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024,
}))
"""


def write_big_tiff(path, edge: int) -> np.ndarray:
    """Write an ``edge`` x ``edge`` RGB TIFF of repeated photographs strip by strip; return the repeated pattern."""
    import tifffile

    frames = nf.SimpleFrames.demo(backend=None)
    pattern = np.concatenate([frames.load_region(name, np.s_[:400, :450]) for name in ("coffee", "astronaut")], 1)
    columns = -(-edge // pattern.shape[1])

    def strips():
        for top in range(0, edge, 100):
            rows = (np.arange(top, min(top + 100, edge))) % pattern.shape[0]
            yield np.tile(pattern[rows], (1, columns, 1))[:, :edge]

    tifffile.imwrite(path, strips(), shape=(edge, edge, 3), dtype=np.uint8, rowsperstrip=100, photometric="rgb")
    return pattern


def convert_in_child(path, workdir, backend):
    run = subprocess.run(
        [sys.executable, "-c", CODE, str(path), str(workdir), backend], check=True, capture_output=True, text=True
    )
    return json.loads(run.stdout)


@pytest.mark.parametrize("backend", ["cog", "npy"])
@pytest.mark.parametrize("edge", [3_000, pytest.param(30_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_conversion_memory_does_not_grow_with_the_image(tmp_path, edge, backend, capsys):
    path = tmp_path / "big.tif"
    pattern = write_big_tiff(path, edge)
    figures = convert_in_child(path, tmp_path, backend)
    with capsys.disabled():
        print(
            f"\n{edge:,} px, {backend}: peak {figures['peak_bytes'] / 1e6:.0f} MB, {figures['seconds']:.1f} s", end=" "
        )
    assert figures["prepared"] == 1
    assert figures["peak_bytes"] < 600e6
    frames = nf.SimpleFrames({"big": path}, workdir=tmp_path, backend=backend)
    assert frames.prepare().present == 1
    rng = np.random.default_rng(0)
    for _ in range(50):
        top, left = rng.integers(0, edge - 200, 2).tolist()
        rows, cols = (np.arange(start, start + 200) for start in (top, left))
        wanted = pattern[np.ix_(rows % pattern.shape[0], cols % pattern.shape[1])]
        np.testing.assert_array_equal(frames.load_region("big", np.s_[top : top + 200, left : left + 200]), wanted)
