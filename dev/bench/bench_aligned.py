"""What a crop of an image made of several files costs: five channels of different scales, each in a file of its own.

Two jobs, all contenders in turn on the same crops, in memory:

- *five*: 128 x 128 crops of five channels, whose files are as large as the image, or two, four, six and ten times as coarse:
  ndframes over each form of entry; ndsampler over its npy cache; kwcoco's ``imdelay``, which ndsampler and others build
  on, with ``optimize`` as by default.
- *one*: one channel, four times as coarse, or turned by 30 degrees: ndframes, and as the limit a bare ``cv2.warpAffine`` on the
  whole file in memory, told where the crop lies.

The largest difference is that to kwcoco without optimisation, of 65,535 levels, away from the border of the image. OpenCV
takes points as 32-bit floats, so far from the corner of a file those who give it the whole file are off by some levels.

    pip install ".[bench]"
    python dev/bench/bench_aligned.py --folder /var/tmp/bench --json dev/bench/results/aligned.json
    python dev/bench/bench_aligned.py --height 1024 --width 1024 --rounds 3       # a look
"""

from __future__ import annotations

import argparse
import json
import math
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from contenders import FORMS, Contender
from contest import Samples, Turn, time_reads
from crops import Crop, draw_anywhere
from lanes import Lane, LaneError
from mosaic import ensure_mosaic, making
from outcome import is_chosen, make_parser, open_folder, print_absent, print_table, write_json

import ndframes as nf

_FACTORS = {"B1": 1, "B2": 2, "B4": 4, "B6": 6, "B10": 10}
_JOBS = {"five": tuple(_FACTORS), "coarse": ("B4",), "turned": ("T",)}
_MARGIN_PX = 16


def find_maps(shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """By channel, the matrix from its file to the image."""
    maps = {code: np.diag([factor, factor, 1.0]) for code, factor in _FACTORS.items()}
    cos, sin = math.cos(math.radians(30)), math.sin(math.radians(30))
    half = np.array([shape[1] / 2, shape[0] / 2])
    turn = np.array([[cos, -sin], [sin, cos]])
    maps["T"] = np.eye(3)
    maps["T"][:2, :2] = turn
    maps["T"][:2, 2] = half - turn @ half
    return maps


def ensure_bundle(folder: Path, shape: tuple[int, int]) -> Path:
    """A kwcoco bundle of one image, of which each channel is a file of 16-bit numbers."""
    path = folder / f"aligned-{shape[0]}x{shape[1]}"
    source = np.load(ensure_mosaic(folder, shape, bands=1), mmap_mode="r")
    with making(path) as part:
        if part is not None:
            part.mkdir()
            write_bundle(part, source)
    return path / "data.kwcoco.json"


def write_bundle(folder: Path, source: np.ndarray) -> None:
    import tifffile

    assets = []
    for code, matrix in find_maps(source.shape[:2]).items():
        factor = _FACTORS.get(code, 1)
        pixels = np.ascontiguousarray(source[::factor, ::factor, 0]).astype(np.uint16) * 257
        tifffile.imwrite(folder / f"{code}.tif", pixels, tile=(256, 256))
        assets.append(
            {
                "file_name": f"{code}.tif",
                "channels": code,
                "height": pixels.shape[0],
                "width": pixels.shape[1],
                "warp_aux_to_img": {"type": "affine", "matrix": matrix.tolist()},
            }
        )
    image = {"id": 1, "name": "scene", "file_name": None, "height": source.shape[0], "width": source.shape[1]}
    dataset = {"images": [{**image, "auxiliary": assets}], "videos": [], "annotations": [], "categories": []}
    (folder / "data.kwcoco.json").write_text(json.dumps(dataset))


@dataclass
class Aligned(Contender):
    """Crops of channels of the bundle."""

    bundle: Path
    workdir: Path
    job: str = field(default="five", kw_only=True)

    @property
    def codes(self) -> tuple[str, ...]:
        """Which channels are read."""
        return _JOBS[self.job]


@dataclass
class NdframesAligned(Aligned):
    """``CocoFrames.load_region``."""

    form: str = field(default="auto", kw_only=True)
    side = "ndframes"

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
    """kwcoco's ``imdelay``, the crop finalized."""

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
    """``cv2.warpAffine`` on the whole file in memory, told where the crop lies: no more than what has to be done."""

    side = "limit"

    def open(self) -> None:
        import cv2
        import tifffile

        cv2.setNumThreads(1)
        (code,) = self.codes
        self._pixels = tifffile.imread(self.bundle.parent / f"{code}.tif")
        shape = tifffile.imread(self.bundle.parent / "B1.tif").shape
        self._file_from_image = np.linalg.inv(find_maps(shape)[code])
        self._flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        self._warp, self._border = cv2.warpAffine, cv2.BORDER_REPLICATE

    def read(self, crop: Crop) -> np.ndarray:
        matrix = self._file_from_image.copy()
        matrix[:2, 2] += matrix[:2, :2] @ (crop.left + 0.5, crop.top + 0.5) - 0.5
        shape = crop.right - crop.left, crop.bottom - crop.top
        pixels = self._warp(self._pixels, matrix[:2], shape, flags=self._flags, borderMode=self._border)
        return pixels[:, :, None]


def make_contenders(bundle: Path, folder: Path, job: str) -> list[Contender]:
    common = (bundle, folder)
    contenders: list[Contender] = [] if job == "five" else [BareWarp("cv2.warpAffine", "raw", *common, job=job)]
    contenders += [
        NdframesAligned(f"ndframes {form}", form, *common, job=job, form=form)
        for form in ("npy", "none", "zstd", "auto")
    ]
    contenders.append(NdsamplerAligned("ndsampler npy", "raw", *common, job=job))
    contenders.append(KwcocoAligned("kwcoco imdelay", "raw", *common, job=job))
    return contenders


def read_turn(contender: Contender, crops: list[Crop]) -> tuple[Turn, list[np.ndarray]]:
    """The times, and the pixels of the first crops."""
    times_us, cpu_seconds = time_reads(crops, contender.read)
    return Turn(times_us, [], cpu_seconds), [np.asarray(contender.read(crop)) for crop in crops[:3]]


def open_contender(contender: Contender) -> None:
    contender.open()


def run_job(job: str, bundle: Path, folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    shape = (options.height, options.width)
    contenders = [item for item in make_contenders(bundle, folder, job) if is_chosen(item.name, options)]
    reference = Lane(KwcocoAligned("reference", "raw", bundle, folder, job=job, optimize=False))
    reference.call(open_contender)
    lanes, absent = [], {}
    for contender in contenders:
        if contender.missing:
            absent[contender.name] = f"not installed: {', '.join(contender.missing)}"
            continue
        contender.build()
        lanes.append(Lane(contender))
        lanes[-1].call(open_contender)
    rng = np.random.default_rng(options.seed)
    draw = draw_anywhere(shape, options.crop, options.crops)
    samples = {lane.name: Samples() for lane in lanes}
    worst = dict.fromkeys(samples, 0.0)
    try:
        for number in range(-options.warmup, options.rounds):
            crops = [crop for crop in draw(rng) if is_inner(crop, shape, job)]
            wanted = [np.asarray(pixels, float) for pixels in reference.call(read_turn, crops[:3])[1]]
            for index in rng.permutation(len(lanes)).tolist():
                lane = lanes[index]
                turn, pixels = lane.call(read_turn, crops)
                for mine, right in zip(pixels, wanted, strict=True):
                    worst[lane.name] = max(worst[lane.name], float(np.abs(mine - right).max()))
                if number >= 0:
                    samples[lane.name].turns.append(turn)
    finally:
        for lane in [*lanes, reference]:
            lane.close()
    return list_results(job, contenders, samples, worst, absent)


def is_inner(crop: Crop, shape: tuple[int, int], job: str) -> bool:
    """Whether a crop lies so far inside of its files, each of which covers as much as the image, that no border shows."""
    corners = np.array([[x, y, 1] for x in (crop.left, crop.right) for y in (crop.top, crop.bottom)]).T
    maps = find_maps(shape)
    for code in _JOBS[job]:
        x, y, _ = np.linalg.inv(maps[code]) @ corners * _FACTORS.get(code, 1)
        if min(x.min(), y.min()) < _MARGIN_PX or x.max() > shape[1] - _MARGIN_PX or y.max() > shape[0] - _MARGIN_PX:
            return False
    return True


def list_results(
    job: str, contenders: list[Contender], samples: dict[str, Samples], worst: dict[str, float], absent: dict[str, str]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    own = samples.get("ndframes npy")
    for contender in contenders:
        row: dict[str, Any] = {
            "job": job,
            "contender": contender.name,
            "side": contender.side,
            "codec": contender.codec,
        }
        if contender.name in absent:
            rows.append({**row, "status": absent[contender.name]})
            continue
        mine = samples[contender.name]
        row |= {"status": "measured", "largest_difference": worst[contender.name], **mine.summarize()}
        row["ratio_to_ndframes"] = None if own is None else mine.ratio_to(own)
        rows.append(row)
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
    print_table(job, ("", "median us", "x ndframes npy", "largest difference"), cells)
    print_absent(rows)
    return rows


def main() -> None:
    parser = make_parser(__doc__, shape=(4096, 4096))
    parser.add_argument("--crop", type=int, default=128, help="edge of the crops in pixels")
    parser.add_argument("--crops", type=int, default=50, help="crops in a round")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--warmup", type=int, default=2, help="rounds before those that count")
    options = parser.parse_args()
    results = []
    with open_folder(options) as folder:
        bundle = ensure_bundle(folder, (options.height, options.width))
        try:
            for job in _JOBS:
                results += run_job(job, bundle, folder, options)
        except LaneError as error:
            raise SystemExit(str(error)) from error
        write_json(options, "aligned", folder, results)


if __name__ == "__main__":
    main()
