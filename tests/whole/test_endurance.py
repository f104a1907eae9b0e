"""Many crops of a thousand images with at most 64 open files: no error, and constant memory and descriptors."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

EDGE = 96

READ_ON = """
import json, os, resource, sys, threading, traceback
import numpy as np
import ndframes as nf

paths, backend, workdir, crops, limit, is_late = json.loads(sys.argv[1])
arrays = np.load(workdir + "/arrays.npy")
if not is_late:
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
frames = nf.SimpleFrames(dict(enumerate(paths)), workdir=workdir, backend=backend)
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
THREADS, BLOCKS = 4, 20
wrong, errors, samples = [0] * THREADS, [], []
barrier = threading.Barrier(THREADS)

spare = open(os.devnull)

def read_on(thread):
    global spare
    rng = np.random.default_rng(thread)
    try:
        for block in range(BLOCKS):
            for number in range(crops // BLOCKS // THREADS):
                # First every image by each thread, then random images.
                image = number % len(paths) if block < 4 else int(rng.integers(len(paths)))
                top, left = rng.integers(0, arrays.shape[1] - 40, 2).tolist()
                region = np.s_[top : top + 40, left : left + 33]
                wrong[thread] += not np.array_equal(frames.load_region(image, region)[:, :, 0], arrays[image][region])
            if barrier.wait(300) == 0:
                spare.close()  # frees a descriptor for reading the figures
                with open("/proc/self/statm") as statm:
                    pages = int(statm.read().split()[1])
                samples.append((pages * resource.getpagesize(), len(os.listdir("/proc/self/fd")) - 1))
                spare = open(os.devnull)
            barrier.wait(300)
    except threading.BrokenBarrierError:
        pass  # another thread failed
    except BaseException:
        errors.append(traceback.format_exc())
        barrier.abort()

threads = [threading.Thread(target=read_on, args=(number,)) for number in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
spare.close()
print(json.dumps({"wrong": sum(wrong), "errors": errors, "samples": samples}))
"""


@pytest.fixture(scope="module")
def write_images(tmp_path_factory):
    """A function that writes small images of each kind of source, and their pixels; up to a thousand."""
    import tifffile
    from PIL import Image

    folder = tmp_path_factory.mktemp("thousand")
    arrays = np.random.default_rng(0).integers(0, 256, (1000, EDGE, EDGE), np.uint8)
    np.save(folder / "arrays.npy", arrays)

    def write(count):
        for number, array in enumerate(arrays[:count]):
            if not (folder / f"{number}.npy").exists():
                tifffile.imwrite(folder / f"{number}.tif", array, tile=(32, 32))
                Image.fromarray(array).save(folder / f"{number}.png", compress_level=1)
                np.save(folder / f"{number}.npy", array)
        return folder

    return write


@pytest.mark.parametrize(
    ("images", "crops", "most_growth_bytes"),
    [(200, 2_000, 32e6), pytest.param(1000, 100_000, 5e6, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])],
)
@pytest.mark.parametrize("is_late", [False, True], ids=["limit first", "limit after"])
@pytest.mark.parametrize(
    ("suffix", "backend"), [(".tif", None), (".png", None), (".npy", None), (".tif", "cog"), (".tif", "npy")]
)
def test_descriptors_and_memory_stay_flat(
    write_images, suffix, backend, is_late, images, crops, most_growth_bytes, record_property
):
    folder = write_images(images)
    paths = [str(folder / f"{number}{suffix}") for number in range(images)]
    arguments = json.dumps([paths, backend, str(folder), crops, 64, is_late])
    command = [sys.executable, "-W", "error", "-c", READ_ON, arguments]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=1700)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert not found["errors"], "\n".join(found["errors"])
    assert found["wrong"] == 0
    memory, descriptors = zip(*found["samples"], strict=True)
    settled = len(memory) // 2
    growth = memory[-1] - memory[settled]
    line = (
        f"{crops:,} crops of {images:,} {suffix} by {backend or 'no backend'}: 0 wrong, 0 errors, "
        f"{min(descriptors)} to {max(descriptors)} descriptors, {growth / 1e6:+.2f} MB in the second half"
    )
    print(line)
    record_property("endurance", line)
    assert max(descriptors) < 64
    assert is_late or max(descriptors) - min(descriptors) < 4
    assert growth < most_growth_bytes
