"""A torch DataLoader: crops per second, end to end.

Batches of 64 random crops of 256 pixels, two persistent workers that are forked or spawned, files in the page cache. Each
contender's dataset reads one crop in ``__getitem__``, or all crops of a batch in ``__getitems__`` ("batched", by
``Frames.load_regions``); torch's default collation joins them. Before the first round one epoch of each contender starts
the workers, and every batch of it is compared with the image. tensorstore is spawned only, since its threads do not
survive a fork. The baseline is a copied slice of a numpy memmap.

torch is not in the extra ``bench``, since most of its builds include gigabytes for GPUs. Install a build without them by
hand:

    pip install ".[bench]"
    pip install torch==2.13.0 --extra-index-url https://download.pytorch.org/whl/cpu
    python dev/bench/bench_loader.py --folder /var/tmp/bench --json dev/bench/results/loader.json
    python dev/bench/bench_loader.py --quick
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data.mosaic import ensure_mosaic
from kit.crops import Crop, digest, draw_anywhere
from kit.options import is_chosen, is_installed, make_parser, open_folder, parse_options
from kit.output import print_absent, print_table, write_json
from kit.processes import build_in_process
from kit.references import References
from pages.figures import Dots
from pages.page import Page, Row, Table, number, times
from peers.base import Contender, Memmap
from peers.entries import Entry, Ndframes, NdframesBatch
from peers.tiff_readers import Rasterio
from peers.zarr_readers import Tensorstore, ZarrForm

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

_FORMS = ("npy", "none", "auto")
_START_METHODS = ("fork", "spawn")
_CHUNK_PX = 256
_ZARR_LEVEL = 3


class CropDataset:
    """A list of crops, read by a contender that each worker opens for itself."""

    def __init__(self, contender: Contender, crops: Sequence[Crop]) -> None:
        self.contender = contender
        self._crops = crops
        self._opened_by: int | None = None

    def __len__(self) -> int:
        return len(self._crops)

    def __getitem__(self, index: int) -> np.ndarray:
        self._open()
        return self.contender.read(self._crops[index])

    def _open(self) -> None:
        if self._opened_by != os.getpid():
            self.contender.open()
            self._opened_by = os.getpid()


class BatchedCropDataset(CropDataset):
    """A dataset that reads whole batches: torch calls ``__getitems__`` if a dataset has it."""

    def __getitems__(self, indices: Sequence[int]) -> Sequence[np.ndarray]:
        self._open()
        return self.contender.read_batch([self._crops[index] for index in indices])


class EpochSampler:
    """The indices of one epoch, in order; each epoch has crops of its own."""

    def __init__(self, length: int) -> None:
        self.epoch = 0
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.epoch * self._length, (self.epoch + 1) * self._length))


@dataclass
class LoaderContender:
    """A contender behind a DataLoader.

    Attributes:
        contender: reads the crops.
        start_method: of the workers.
        is_batched: whether it reads whole batches.
    """

    contender: Contender
    start_method: str
    is_batched: bool = False

    @property
    def name(self) -> str:
        """In tables."""
        return f"{self.contender.name}{', batched' if self.is_batched else ''}, {self.start_method}"

    @property
    def missing(self) -> list[str]:
        """Modules that are not installed."""
        return [*([] if is_installed("torch") else ["torch"]), *self.contender.missing]

    def start(self, crops: Sequence[Crop], options: argparse.Namespace) -> DataLoader[Any]:
        """Return its DataLoader over the crops of all epochs."""
        from torch.utils.data import DataLoader

        kind = BatchedCropDataset if self.is_batched else CropDataset
        return DataLoader(
            kind(self.contender, crops),
            batch_size=options.batch,
            sampler=EpochSampler(options.batch * options.batches),
            num_workers=options.workers,
            multiprocessing_context=self.start_method,
            persistent_workers=True,
        )


def make_contenders(source: Path, folder: Path) -> list[LoaderContender]:
    entries = {form: Entry(source, folder / "ndframes", form) for form in (*_FORMS, "zstd")}
    contenders = []
    for method in _START_METHODS:
        contenders.append(LoaderContender(Memmap("memmap", "raw", source), method))
        for form in _FORMS:
            entry = entries[form]
            contenders.append(LoaderContender(Ndframes(f"ndframes {form}", entry.codec, entry), method))
            batched = NdframesBatch(f"ndframes {form}", entry.codec, entry, workers=1)
            contenders.append(LoaderContender(batched, method, is_batched=True))
        readers = [Rasterio(f"rasterio {form}", entries[form].codec, entries[form]) for form in ("none", "zstd")]
        contenders += [LoaderContender(reader, method) for reader in readers]
    for level in (None, _ZARR_LEVEL):
        form = ZarrForm(source, _CHUNK_PX, level)
        reader = Tensorstore(f"tensorstore {form.describe()}", form.codec, form)
        contenders += [LoaderContender(reader, "spawn"), LoaderContender(reader, "spawn", is_batched=True)]
    return contenders


def run_epoch(loader: DataLoader[Any], epoch: int) -> tuple[float, list[bytes]]:
    """Return the seconds of one epoch and, for epoch 0, the digest of every crop."""
    loader.sampler.epoch = epoch
    digests: list[bytes] = []
    started = time.perf_counter()
    for batch in loader:
        if epoch == 0:
            digests += [digest(pixels) for pixels in batch.numpy()]
    return time.perf_counter() - started, digests


def run_rounds(
    contenders: Sequence[LoaderContender], source: Path, options: argparse.Namespace
) -> dict[str, list[float]]:
    """Return the crops per second of each contender in each round, in another order each round."""
    references = References(source)
    rng = np.random.default_rng(options.seed)
    count = options.batch * options.batches
    crops = draw_anywhere(references.shape, options.crop, count * (options.rounds + 1))(rng)
    loaders = {}
    for item in contenders:
        item.contender = build_in_process(item.contender)
        loaders[item.name] = item.start(crops, options)
        _, digests = run_epoch(loaders[item.name], 0)
        references.match(item.contender, crops[:count], digests)
    speeds: dict[str, list[float]] = {item.name: [] for item in contenders}
    for round_number in range(options.rounds):
        for index in rng.permutation(len(contenders)).tolist():
            name = contenders[index].name
            seconds, _ = run_epoch(loaders[name], round_number + 1)
            speeds[name].append(count / seconds)
    return speeds


def list_result(item: LoaderContender, speeds: dict[str, list[float]]) -> dict[str, Any]:
    row = {
        "contender": item.name,
        "role": item.contender.role,
        "codec": item.contender.codec,
        "start_method": item.start_method,
        "is_batched": item.is_batched,
    }
    if item.missing:
        return {**row, "status": f"not installed: {', '.join(item.missing)}"}
    mine, baseline = speeds[item.name], speeds.get(f"memmap, {item.start_method}")
    first, median, third = np.percentile(mine, (25, 50, 75)).tolist()
    row |= {"status": "measured", "crops_per_second": median, "first_quartile": first, "third_quartile": third}
    row["round_speeds"] = mine
    if baseline is not None:
        row["ratio_to_memmap"] = statistics.median(each / its for each, its in zip(mine, baseline, strict=True))
    return row


def print_results(rows: Sequence[dict[str, Any]]) -> None:
    cells = [
        (
            row["contender"],
            f"{row['crops_per_second']:.0f}",
            f"{row['first_quartile']:.0f}-{row['third_quartile']:.0f}",
            f"{row['ratio_to_memmap']:.2f}" if "ratio_to_memmap" in row else "",
        )
        for row in sorted(rows, key=lambda row: -row.get("crops_per_second", 0))
        if row["status"] == "measured"
    ]
    print_table("crops per second of a DataLoader", ("", "median", "quartiles", "x memmap"), cells)
    print_absent(rows)


def render(rows: Sequence[Row]) -> Page:
    """Crops per second, the fastest first."""
    title = "Crops per second of a DataLoader"
    ordered = sorted(rows, key=lambda row: -row["crops_per_second"])
    cells = [[row["contender"], number(row["crops_per_second"]), times(row.get("ratio_to_memmap"))] for row in ordered]
    names, speeds = [row["contender"] for row in ordered], [row["crops_per_second"] for row in ordered]
    table = Table(title, ["", "crops / s", "ratio to memmap"], cells)
    return Page([table], [Dots(title, "crops / s", names, {"median": speeds})])


def main() -> None:
    quick = "--height 1024 --width 1536 --batches 2 --batch 16 --rounds 2"
    parser = make_parser(__doc__, quick=quick, rounds=7)
    parser.add_argument("--crop", type=int, default=256, help="edge of the crops in pixels")
    parser.add_argument("--batch", type=int, default=64, help="crops in a batch")
    parser.add_argument("--batches", type=int, default=32, help="batches in an epoch")
    parser.add_argument("--workers", type=int, default=2, help="of a DataLoader")
    options = parse_options(parser)
    with open_folder(options) as folder:
        source = ensure_mosaic(folder, (options.height, options.width))
        contenders = [item for item in make_contenders(source, folder) if is_chosen(item.name, options)]
        speeds = run_rounds([item for item in contenders if not item.missing], source, options)
        rows = [list_result(item, speeds) for item in contenders]
        print_results(rows)
        write_json(options, __file__, folder, rows)


if __name__ == "__main__":
    main()
