"""Training's view of it: crops a second out of a torch DataLoader, end to end.

Batches of 64 random crops of 256 pixels, two workers, which are forked or spawned and stay; files in memory. Each
contender's dataset reads a crop in ``__getitem__``, or all crops of a batch in ``__getitems__`` ("batched", by
``Frames.load_regions``); torch's own collation makes a batch of them. One epoch of each contender before the first round
starts the workers, and every batch of it is compared with the image. tensorstore is spawned only: its threads do not
survive a fork. The limit is a slice of a numpy memmap, copied.

torch is not in the extra, since most of its builds bring gigabytes for GPUs. It is installed by hand, from an index that
has a build without:

    pip install ".[bench]"
    pip install torch==2.13.0 --extra-index-url https://download.pytorch.org/whl/cpu
    python dev/bench/bench_loader.py --folder /var/tmp/bench --json dev/bench/results/loader.json
    python dev/bench/bench_loader.py --height 1024 --width 1536 --batches 4 --rounds 2     # a look
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
from bench_batch import NdframesBatch
from contenders import Contender, Entry, Memmap, Ndframes, Rasterio
from crops import Crop, digest, draw_anywhere
from lanes import build_apart
from mosaic import ensure_mosaic
from outcome import is_chosen, is_installed, make_parser, open_folder, print_absent, print_table, write_json
from references import References
from zarrs import Tensorstore, ZarrForm

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
    """The same, whole batches at once: torch asks for those by ``__getitems__`` where there is such a method."""

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
class Feeder:
    """A contender behind a DataLoader.

    Attributes:
        contender: who reads.
        start_method: how its workers come to be.
        is_batched: whether it is asked for whole batches.
    """

    contender: Contender
    start_method: str
    is_batched: bool = False

    @property
    def name(self) -> str:
        """As tables call it."""
        return f"{self.contender.name}{', batched' if self.is_batched else ''}, {self.start_method}"

    @property
    def missing(self) -> list[str]:
        """Modules that are not installed."""
        return self.contender.missing

    def start(self, crops: Sequence[Crop], options: argparse.Namespace) -> DataLoader[Any]:
        """Its DataLoader over ``crops``, of which an epoch is a part."""
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


def make_feeders(source: Path, folder: Path) -> list[Feeder]:
    entries = {form: Entry(source, folder / "ndframes", form) for form in (*_FORMS, "zstd")}
    feeders = []
    for method in _START_METHODS:
        feeders.append(Feeder(Memmap("memmap", "raw", source), method))
        for form in _FORMS:
            entry = entries[form]
            feeders.append(Feeder(Ndframes(f"ndframes {form}", entry.codec, entry), method))
            batched = NdframesBatch(f"ndframes {form}", entry.codec, entry, workers=1)
            feeders.append(Feeder(batched, method, is_batched=True))
        readers = [Rasterio(f"rasterio {form}", entries[form].codec, entries[form]) for form in ("none", "zstd")]
        feeders += [Feeder(reader, method) for reader in readers]
    for level in (None, _ZARR_LEVEL):
        form = ZarrForm(source, _CHUNK_PX, level)
        contender = Tensorstore(f"tensorstore {form.describe()}", form.codec, form)
        feeders += [Feeder(contender, "spawn"), Feeder(contender, "spawn", is_batched=True)]
    return feeders


def run_epoch(loader: DataLoader[Any], epoch: int) -> tuple[float, list[bytes]]:
    """The seconds of one epoch, and, of the first one, the digest of every crop."""
    loader.sampler.epoch = epoch
    digests: list[bytes] = []
    started = time.perf_counter()
    for batch in loader:
        if epoch == 0:
            digests += [digest(pixels) for pixels in batch.numpy()]
    return time.perf_counter() - started, digests


def run_rounds(feeders: Sequence[Feeder], source: Path, options: argparse.Namespace) -> dict[str, list[float]]:
    """Crops a second of each feeder in each round, the order another each time."""
    references = References(source)
    rng = np.random.default_rng(options.seed)
    count = options.batch * options.batches
    crops = draw_anywhere(references.shape, options.crop, count * (options.rounds + 1))(rng)
    loaders = {}
    for feeder in feeders:
        feeder.contender = build_apart(feeder.contender)
        loaders[feeder.name] = feeder.start(crops, options)
        _, digests = run_epoch(loaders[feeder.name], 0)
        references.match(feeder.contender, crops[:count], digests)
    speeds: dict[str, list[float]] = {feeder.name: [] for feeder in feeders}
    for number in range(options.rounds):
        for index in rng.permutation(len(feeders)).tolist():
            name = feeders[index].name
            seconds, _ = run_epoch(loaders[name], number + 1)
            speeds[name].append(count / seconds)
    return speeds


def list_result(feeder: Feeder, speeds: dict[str, list[float]], reason: str) -> dict[str, Any]:
    row = {
        "contender": feeder.name,
        "side": feeder.contender.side,
        "codec": feeder.contender.codec,
        "start_method": feeder.start_method,
        "is_batched": feeder.is_batched,
    }
    if feeder.name not in speeds:
        return {**row, "status": reason}
    mine, limit = speeds[feeder.name], speeds.get(f"memmap, {feeder.start_method}")
    first, median, third = np.percentile(mine, (25, 50, 75)).tolist()
    row |= {"status": "measured", "crops_per_second": median, "first_quartile": first, "third_quartile": third}
    row["round_speeds"] = mine
    if limit is not None:
        row["ratio_to_memmap"] = statistics.median(each / its for each, its in zip(mine, limit, strict=True))
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
    print_table("crops a second out of a DataLoader", ("", "median", "quartiles", "of memmap's"), cells)
    print_absent(rows)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--crop", type=int, default=256, help="edge of the crops in pixels")
    parser.add_argument("--batch", type=int, default=64, help="crops in a batch")
    parser.add_argument("--batches", type=int, default=32, help="batches in an epoch")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    has_torch = is_installed("torch")
    with open_folder(options) as folder:
        source = ensure_mosaic(folder, (options.height, options.width))
        feeders = [item for item in make_feeders(source, folder) if is_chosen(item.name, options)]
        present = [item for item in feeders if has_torch and not item.missing]
        speeds = run_rounds(present, source, options) if present else {}
        missing = [] if has_torch else ["torch"]
        rows = [list_result(item, speeds, f"not installed: {', '.join(missing + item.missing)}") for item in feeders]
        print_results(rows)
        write_json(options, "loader", folder, rows)


if __name__ == "__main__":
    main()
