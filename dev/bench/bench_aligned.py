"""Crops of an image whose channels are files of different scales, files in the page cache.

Three tasks of 128 x 128 pixels, with interleaved rounds of all contenders on the same crops:

- *five*: five channels, whose files are as fine as the image, or two, four, six and ten times as coarse. Contenders:
  ndframes over each form of entry; ndsampler over its npy cache; kwcoco's ``imdelay``, the base of ndsampler and others,
  with its default ``optimize``.
- *coarse*: one channel, four times as coarse; *turned*: one channel, rotated by 30 degrees. The baseline of both is a bare
  ``cv2.warpAffine`` on the whole file in memory, given the crop's matrix.

"largest difference" is that to kwcoco without optimisation, of 65,535 levels, away from the border of the image. OpenCV uses
32-bit coordinates, so contenders that pass it a whole file differ by some levels far from the file's corner.

    pip install ".[bench]"
    python dev/bench/bench_aligned.py --folder /var/tmp/bench --json dev/bench/results/aligned.json
    python dev/bench/bench_aligned.py --quick
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import ndframes as nf
from data.bundle import FACTORS, ROTATED, ensure_bundle, find_matrices
from kit.crops import Crop, draw_anywhere
from kit.measurements import Measurements, Round, time_reads
from kit.options import is_chosen, make_parser, open_folder, parse_options
from kit.output import print_absent, print_table, write_json
from kit.processes import ContenderError, ContenderProcess, open_contender, running
from pages.figures import Dots
from pages.page import Page, Row, Table, number, times, unique
from peers.base import Contender
from peers.entries import FORMS

_TASKS = {"five": tuple(FACTORS), "coarse": ("B4",), "turned": (ROTATED,)}
_MARGIN_PX = 16
_COMPARED = 3


@dataclass
class Aligned(Contender):
    """Reads crops of some channels of the bundle."""

    bundle: Path
    workdir: Path
    task: str = field(default="five", kw_only=True)

    @property
    def codes(self) -> tuple[str, ...]:
        """The channels to read."""
        return _TASKS[self.task]


@dataclass
class NdframesAligned(Aligned):
    """``CocoFrames.load_region``."""

    form: str = field(default="auto", kw_only=True)
    role = "ndframes"

    def build(self) -> None:
        self._make().prepare()

    def open(self) -> None:
        self._frames = self._make()

    def read(self, crop: Crop) -> np.ndarray:
        return self._frames.load_region(1, crop.region, self.codes)

    def _make(self) -> nf.CocoFrames:
        return nf.CocoFrames(self.bundle, workdir=self.workdir / "ndframes", backend=FORMS[self.form])


@dataclass
class NdsamplerAligned(Aligned):
    """ndsampler over its npy cache."""

    requires = ("ndsampler", "kwcoco")

    def build(self) -> None:
        self.open()
        self._frames.prepare()
        self.close()

    def open(self) -> None:
        import kwcoco
        from ndsampler.coco_frames import CocoFrames

        dset = kwcoco.CocoDataset(str(self.bundle))
        self._frames = CocoFrames(dset, workdir=str(self.workdir / "ndsampler"), backend="npy")

    def read(self, crop: Crop) -> np.ndarray:
        return self._frames.load_region(1, crop.region, channels=list(self.codes))


@dataclass
class KwcocoAligned(Aligned):
    """kwcoco's ``imdelay``, cropped and finalized."""

    optimize: bool = field(default=True, kw_only=True)
    requires = ("kwcoco",)

    def open(self) -> None:
        import kwcoco

        self._image = kwcoco.CocoDataset(str(self.bundle)).coco_image(1)

    def read(self, crop: Crop) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            delayed = self._image.imdelay("|".join(self.codes))
            return delayed.crop(crop.region).finalize(optimize=self.optimize)


@dataclass
class BareWarp(Aligned):
    """``cv2.warpAffine`` on the whole file in memory: only the resampling itself."""

    role = "baseline"

    def open(self) -> None:
        import cv2
        import tifffile

        cv2.setNumThreads(1)
        (code,) = self.codes
        self._pixels = tifffile.imread(self.bundle.parent / f"{code}.tif")
        shape = tifffile.imread(self.bundle.parent / "B1.tif").shape
        self._src_from_img = np.linalg.inv(find_matrices(shape)[code])
        self._flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        self._warp, self._border = cv2.warpAffine, cv2.BORDER_REPLICATE

    def read(self, crop: Crop) -> np.ndarray:
        matrix = self._src_from_img.copy()
        matrix[:2, 2] += matrix[:2, :2] @ (crop.left + 0.5, crop.top + 0.5) - 0.5
        shape = crop.right - crop.left, crop.bottom - crop.top
        pixels = self._warp(self._pixels, matrix[:2], shape, flags=self._flags, borderMode=self._border)
        return pixels[:, :, None]


def make_contenders(bundle: Path, folder: Path, task: str) -> list[Contender]:
    common = (bundle, folder)
    contenders: list[Contender] = [] if task == "five" else [BareWarp("cv2.warpAffine", "raw", *common, task=task)]
    contenders += [
        NdframesAligned(f"ndframes {form}", form, *common, task=task, form=form)
        for form in ("npy", "none", "zstd", "auto")
    ]
    contenders.append(NdsamplerAligned("ndsampler npy", "raw", *common, task=task))
    contenders.append(KwcocoAligned("kwcoco imdelay", "raw", *common, task=task))
    return contenders


def read_round(contender: Contender, crops: list[Crop]) -> tuple[Round, list[np.ndarray]]:
    """Return the times, and the pixels of the first crops."""
    times_us, cpu_seconds = time_reads(crops, contender.read)
    return Round(times_us, cpu_seconds), [np.asarray(contender.read(crop)) for crop in crops[:_COMPARED]]


def open_in_process(process: ContenderProcess) -> None:
    process.call(open_contender)


def run_task(task: str, bundle: Path, folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time one task, and compare the pixels of some crops of each round."""
    shape = (options.height, options.width)
    contenders = [item for item in make_contenders(bundle, folder, task) if is_chosen(item.name, options)]
    reference = ContenderProcess(KwcocoAligned("reference", "raw", bundle, folder, task=task, optimize=False))
    reference.call(open_contender)
    rng = np.random.default_rng(options.seed)
    draw = draw_anywhere(shape, options.crop, options.crops)
    try:
        with running(contenders, open_in_process) as entrants:
            found = {process.name: Measurements() for process in entrants.processes}
            differences = dict.fromkeys(found, 0.0)
            for round_number in range(-options.warmup, options.rounds):
                crops = [crop for crop in draw(rng) if is_inner(crop, shape, task)]
                expected = [np.asarray(pixels, float) for pixels in reference.call(read_round, crops[:_COMPARED])[1]]
                for process in entrants.shuffled(rng):
                    one, got = process.call(read_round, crops)
                    largest = max(float(np.abs(mine - its).max()) for mine, its in zip(got, expected, strict=True))
                    differences[process.name] = max(differences[process.name], largest)
                    if round_number >= 0:
                        found[process.name].rounds.append(one)
    finally:
        reference.close()
    rows = list_results(task, contenders, found, differences, entrants.absent)
    print_results(task, rows)
    return rows


def is_inner(crop: Crop, shape: tuple[int, int], task: str) -> bool:
    """Whether a crop is so far inside the files of its channels that their borders do not matter."""
    corners = np.array([[x, y, 1] for x in (crop.left, crop.right) for y in (crop.top, crop.bottom)]).T
    matrices = find_matrices(shape)
    for code in _TASKS[task]:
        x, y, _ = np.linalg.inv(matrices[code]) @ corners * FACTORS.get(code, 1)
        if min(x.min(), y.min()) < _MARGIN_PX or x.max() > shape[1] - _MARGIN_PX or y.max() > shape[0] - _MARGIN_PX:
            return False
    return True


def list_results(
    task: str,
    contenders: list[Contender],
    found: dict[str, Measurements],
    differences: dict[str, float],
    absent: dict[str, str],
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    own = found.get("ndframes npy")
    for contender in contenders:
        row: dict[str, Any] = {
            "job": task,
            "contender": contender.name,
            "role": contender.role,
            "codec": contender.codec,
        }
        if contender.name in absent:
            rows.append({**row, "status": absent[contender.name]})
            continue
        mine = found[contender.name]
        row |= {"status": "measured", "largest_difference": differences[contender.name], **mine.summarize()}
        row["ratio_to_ndframes"] = None if own is None else mine.ratio_to(own)
        rows.append(row)
    return rows


def print_results(task: str, rows: list[dict[str, Any]]) -> None:
    cells = [
        (
            row["contender"],
            f"{row['median_us']:.0f}",
            f"{row['ratio_to_ndframes'] or 0:.2f}",
            f"{row['largest_difference']:.3g}",
        )
        for row in rows
        if row["status"] == "measured"
    ]
    print_table(task, ("", "median us", "x ndframes npy", "largest difference"), cells)
    print_absent(rows)


def render(rows: Sequence[Row]) -> Page:
    """One table and one figure per task."""
    tables, figures = [], []
    titles = {
        "five": "128 px of five channels of different scales",
        "coarse": "128 px of one channel, four times as coarse",
        "turned": "128 px of one channel, rotated by 30 degrees",
    }
    header = ["", "µs per crop", "ratio to ndframes npy", "largest difference"]
    for task in unique(row["job"] for row in rows):
        mine = [row for row in rows if row["job"] == task]
        cells = [
            [
                row["contender"],
                number(row["median_us"]),
                times(row["ratio_to_ndframes"]),
                number(row["largest_difference"]),
            ]
            for row in mine
        ]
        tables.append(Table(titles[task], header, cells))
        names = [row["contender"] for row in mine]
        figures.append(Dots(titles[task], "µs per crop", names, {"median": [row["median_us"] for row in mine]}))
    return Page(tables, figures)


def main() -> None:
    quick = "--height 1024 --width 1024 --rounds 2 --warmup 0 --crops 20"
    parser = make_parser(__doc__, quick=quick, shape=(4096, 4096), rounds=9, warmup=2)
    parser.add_argument("--crop", type=int, default=128, help="edge of the crops in pixels")
    parser.add_argument("--crops", type=int, default=50, help="crops in a round")
    options = parse_options(parser)
    results = []
    with open_folder(options) as folder:
        bundle = ensure_bundle(folder, (options.height, options.width))
        try:
            for task in _TASKS:
                results += run_task(task, bundle, folder, options)
        except ContenderError as error:
            raise SystemExit(str(error)) from error
        write_json(options, __file__, folder, results)


if __name__ == "__main__":
    main()
