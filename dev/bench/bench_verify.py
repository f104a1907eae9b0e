"""What checking an entry costs while it is read: ``verify="open"``, ``"first-touch"`` and ``"always"``.

One image, a mosaic of photographs; random crops; every mode reads the same crops, in turn, so that a noisy machine is
noisy for all of them. "first" is the first visit to a crop by a newly opened image, with the file in the system's page cache;
"again" is a crop among those visited before. The floor is the same crop as a slice of a numpy memmap, copied.

    python dev/bench/bench_verify.py --json verify.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from mosaic import make_mosaic

import ndframes as nf

MODES = ("open", "first-touch", "always")
BACKENDS = {
    "npy": "npy",
    "cog zstd": {"type": "cog", "config": {"compress": "ZSTD"}},
    "cog none": {"type": "cog", "config": {"compress": "NONE"}},
}


def microseconds(call) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1e6


def measure(path: Path, workdir: Path, whole: np.ndarray, backend, crop_px: int, crops: int) -> dict[str, dict]:
    frames = {mode: nf.SimpleFrames({"a": path}, workdir=workdir, backend=backend, verify=mode) for mode in MODES}
    frames["open"].prepare()
    rng = np.random.default_rng(crop_px)
    corners = rng.integers(0, whole.shape[0] - crop_px, (crops, 2)).tolist()
    for mode in MODES:
        frames[mode].load_region("a", np.s_[:1, :1])
    times = {name: {mode: [] for mode in MODES} for name in ("first", "again")}
    floor = []
    mapped = np.load(path, mmap_mode="r")
    for visit in ("first", "again"):
        for top, left in corners:
            region = np.s_[top : top + crop_px, left : left + crop_px]
            floor.append(microseconds(lambda region=region: mapped[region].copy()))
            for mode in MODES:
                crop = []
                times[visit][mode].append(
                    microseconds(
                        lambda mode=mode, region=region, crop=crop: crop.append(frames[mode].load_region("a", region))
                    )
                )
                assert np.array_equal(crop[0], whole[region]), "a wrong crop is no time"
    medians = {visit: {mode: statistics.median(times[visit][mode]) for mode in MODES} for visit in times}
    total = {mode: sum(times["first"][mode]) for mode in MODES}
    return {
        "crop_px": crop_px,
        "memmap_us": statistics.median(floor),
        **{f"{visit}_us": medians[visit] for visit in medians},
        "first_total_ratio": total["first-touch"] / total["open"],
        "again_ratio": medians["again"]["first-touch"] / medians["again"]["open"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extent", type=int, default=8192, help="edge of the image in pixels")
    parser.add_argument("--crops", type=int, default=300, help="crops of each size")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "mosaic.npy")
        whole = make_mosaic(path, (options.extent, options.extent))
        time.sleep(2.1)  # until the source's stamp is settled: before that, every read looks at its content
        for name, backend in BACKENDS.items():
            for crop_px in (64, 256, 1024):
                found = measure(path, Path(folder, "work"), whole, backend, crop_px, options.crops)
                results.append({"backend": name, **found})
                first, again = found["first_us"], found["again_us"]
                print(
                    f"{name:9} {crop_px:5} px  memmap {found['memmap_us']:7.0f} us"
                    f"  first: open {first['open']:7.0f}, first-touch {first['first-touch']:7.0f}, always {first['always']:7.0f}"
                    f"  again: open {again['open']:7.0f}, first-touch {again['first-touch']:7.0f}"
                    f"  (x{found['first_total_ratio']:.2f} over all first visits, x{found['again_ratio']:.2f} again)",
                    flush=True,
                )
    if options.json:
        options.json.write_text(
            json.dumps({"extent": options.extent, "crops": options.crops, "results": results}, indent=2)
        )


if __name__ == "__main__":
    main()
