"""An entry of 3 GB is published to an object store and read from it in less than 600 MB."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from kit.memory_peaks import BOUND_BYTES, convert_in_child

READ = """
import json, sys
import numpy as np
import ndframes as nf
path, workdir, edge = sys.argv[1:]
frames = nf.SimpleFrames({"big": path}, workdir=workdir, backend="npy")
pixels = np.load(path, mmap_mode="r")
rng = np.random.default_rng(0)
wrong = 0
for _ in range(30):
    top, left = rng.integers(0, int(edge) - 256, 2).tolist()
    region = np.s_[top : top + 256, left : left + 256]
    wrong += not np.array_equal(frames.load_region("big", region), pixels[region])
# Not mapped files: the source is mapped only to compare.
status = open("/proc/self/status").read()
anonymous = int(status.split("RssAnon:")[1].split()[0]) * 1024
print(json.dumps({"wrong": wrong, "anonymous": anonymous, "checked": frames.cache.verify(read_data=True).ok}))
"""


@pytest.mark.parametrize("edge", [2_000, pytest.param(32_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_memory_does_not_grow_with_the_entry(bucket, tmp_path, edge, capsys):
    path = tmp_path / "big.npy"
    pixels = np.lib.format.open_memmap(path, "w+", np.uint8, (edge, edge, 3))
    rng = np.random.default_rng(0)
    for top in range(0, edge, 500):
        pixels[top : top + 500] = rng.integers(0, 255, (min(500, edge - top), edge, 3), np.uint8)
    del pixels
    figures, peaks = convert_in_child(path, bucket, "npy", 0)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path), bucket, str(edge)], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    with capsys.disabled():
        print(f"\n{edge:,} px: {max(peaks.values())[0] / 1e6:.0f} MB, then {found['anonymous'] / 1e6:.0f} MB", end=" ")
    assert figures["prepared"] == 1
    assert max(peak for peak, _ in peaks.values()) < BOUND_BYTES
    assert (found["wrong"], found["checked"]) == (0, True)
    assert found["anonymous"] < BOUND_BYTES
    path.unlink()
