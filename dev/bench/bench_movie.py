"""Numeric fields stored one by one: ndframes' MovieStorage, Zarr with Blosc, HDF5 and py-pde's MovieStorage.

The fields are float32 of two simulations on a square of 256 x 256, computed with a fixed seed: Gray-Scott ``u`` and ``v``, and
Kuramoto-Sivashinsky. Each contender runs in a process of its own. In each round it stores all fields, so that each one survives
the end of the process, and reads fields anywhere; the rounds of the contenders are interleaved. Tasks, in milliseconds:

- *append*: store one field; *frame*: read one field anywhere in the movie; and the size of the file, for all fields.
- *long*: read a field anywhere, and each of the last ten (py-pde: the last one), in movies of 100 to 10,000 fields of 64 x 64.

What is read is compared with what was stored: "exact" contenders return the same bits. The error of the others is in levels.
py-pde needs the ffmpeg program, and passes it the fields: its append returns before they are encoded.

    pip install ".[bench]"
    python dev/bench/bench_movie.py --folder /var/tmp/bench --json dev/bench/results/movie.json
    python dev/bench/bench_movie.py --quick
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.simulations import ensure_fields
from kit.measurements import Measurements, Round, time_reads
from kit.options import is_chosen, make_parser, open_folder, parse_options
from kit.output import print_absent, print_table, write_json
from kit.processes import ContenderError, ContenderProcess, Field, running
from pages.figures import Dots, Lines
from pages.page import Page, Row, Table, number, times, unique
from peers.field_stores import FieldStore, make_stores

_SLOW_READS = 4  # of py-pde, which starts a program for each
_CHECKED = 8
_BASE, _ZARR, _PDE = "ndframes exact, mkv", "zarr, blosc zstd", "py-pde 16 bits"


# -- in the contender's process ----------------------------------------------------------------------------------------


def store_round(store: FieldStore, path: Path, fields: np.ndarray, count: int, limits: tuple[float, float]) -> Round:
    """Store ``count`` fields, the given ones again and again."""
    remove(path)
    store.create(path, (count, *fields.shape[1:]), limits)
    found = time_reads(range(count), lambda number: store.append(number, fields[number % len(fields)]))
    store.finish()
    return Round(*found)


def read_round(store: FieldStore, path: Path, numbers: Sequence[int]) -> Round:
    """Read fields of a file that has been opened, one by one."""
    store.open(path)
    store.read(numbers[0])  # opens what is opened lazily
    found = time_reads(numbers, store.read)
    return Round(*found)


def largest_error(store: FieldStore, path: Path, fields: np.ndarray, numbers: Sequence[int], level: float) -> float:
    """The largest error of some fields: in levels, or 0 if the bits are equal."""
    store.open(path)
    found = [(store.read(index), fields[index % len(fields)]) for index in numbers]
    if store.bits is None:
        if any(mine.tobytes() != its.tobytes() for mine, its in found):
            raise ContenderError("a field that is read differs from the one that was stored")
        return 0.0
    return max(float(abs(mine.astype(np.float64) - its).max()) for mine, its in found) / level


# -- rounds ------------------------------------------------------------------------------------------------------------


def remove(path: Path) -> None:
    """Remove a file or a folder, if there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def measure_bytes(path: Path) -> int:
    """The bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [item for item in path.rglob("*") if item.is_file()]
    return sum(item.stat().st_size for item in files)


def find_limits(fields: np.ndarray) -> tuple[float, float]:
    return float(fields.min()), float(fields.max())


def draw_numbers(store: FieldStore, count: int, reads: int, rng: np.random.Generator) -> list[int]:
    drawn: list[int] = rng.integers(0, count, reads).tolist()
    return drawn[:_SLOW_READS] if store.name == _PDE else drawn


def run_field(
    name: str, fields: np.ndarray, folder: Path, stores: Sequence[FieldStore], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Return a row for each contender: append, read and size of one field."""
    limits, count = find_limits(fields), len(fields)
    checked = np.linspace(0, count - 1, min(count, _CHECKED)).astype(int).tolist()
    errors: dict[str, float] = {}

    def check(process: ContenderProcess) -> None:
        path, store = folder / process.contender.file_name, process.contender
        process.call(store_round, path, fields, count, limits)
        level = (limits[1] - limits[0]) / (2 ** (store.bits or 16) - 1)
        errors[process.name] = process.call(largest_error, path, fields, checked, level)

    found: dict[str, tuple[Measurements, Measurements]] = {}
    with running(stores, check) as field:
        rng = np.random.default_rng(options.seed)
        found = {process.name: (Measurements(), Measurements()) for process in field.processes}
        for _ in range(options.rounds):
            for process in field.shuffled(rng):
                path = folder / process.contender.file_name
                appended, read = found[process.name]
                appended.rounds.append(process.call(store_round, path, fields, count, limits))
                numbers = draw_numbers(process.contender, count, options.reads, rng)
                read.rounds.append(process.call(read_round, path, numbers))
        sizes = {process.name: measure_bytes(folder / process.contender.file_name) for process in field.processes}
        rows = [list_result(name, store, field, found, sizes, errors, fields.nbytes) for store in stores]
    print_results(name, rows)
    return rows


def list_result(
    name: str,
    store: FieldStore,
    field: Field,
    found: dict[str, tuple[Measurements, Measurements]],
    sizes: dict[str, int],
    errors: dict[str, float],
    raw_bytes: int,
) -> dict[str, Any]:
    """Return one row; the ratios are to Zarr, in the same rounds."""
    row: dict[str, Any] = {
        "job": "store",
        "field": name,
        "contender": store.name,
        "role": store.role,
        "bits": store.bits,
    }
    if store.name in field.absent:
        return {**row, "status": field.absent[store.name]}
    row |= {"status": "measured", "file_bytes": sizes[store.name], "raw_bytes": raw_bytes}
    row["error_levels"] = errors[store.name]
    for index, task in enumerate(("append", "frame")):
        mine = found[store.name][index]
        row[f"{task}_us"] = mine.summarize()["median_us"]
        row[f"{task}_cpu_us"] = mine.cpu_us
        row[f"{task}_ratio_to_zarr"] = mine.ratio_to(found[_ZARR][index]) if _ZARR in found else None
    row["size_ratio_to_zarr"] = sizes[store.name] / sizes[_ZARR] if _ZARR in sizes else None
    return row


def run_length(
    count: int, fields: np.ndarray, folder: Path, stores: Sequence[FieldStore], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Return a row for each contender: a field anywhere and the last one in a movie of ``count`` fields."""
    limits = find_limits(fields)
    anywhere: dict[str, Measurements] = {}
    last: dict[str, Measurements] = {}

    def check(process: ContenderProcess) -> None:
        path, store = folder / process.contender.file_name, process.contender
        process.call(store_round, path, fields, count, limits)
        level = (limits[1] - limits[0]) / (2 ** (store.bits or 16) - 1)
        process.call(largest_error, path, fields, [0, count // 2, count - 1], level)

    with running(stores, check) as field:
        rng = np.random.default_rng(options.seed)
        for _ in range(options.rounds):
            for process in field.shuffled(rng):
                path, store = folder / process.contender.file_name, process.contender
                numbers = draw_numbers(store, count, options.reads, rng)
                anywhere.setdefault(store.name, Measurements()).rounds.append(process.call(read_round, path, numbers))
                # Others, since some contenders keep the chunk that they read last.
                final = list(range(count - (1 if store.name == _PDE else 10), count))
                last.setdefault(store.name, Measurements()).rounds.append(process.call(read_round, path, final))
        rows = []
        for store in stores:
            row: dict[str, Any] = {"job": "long", "fields": count, "contender": store.name, "role": store.role}
            if store.name in field.absent:
                rows.append({**row, "status": field.absent[store.name]})
                continue
            row |= {"status": "measured", "frame_us": anywhere[store.name].summarize()["median_us"]}
            row["last_us"] = last[store.name].summarize()["median_us"]
            row["last_ratio_to_ndframes"] = last[store.name].ratio_to(last[_BASE]) if _BASE in last else None
            rows.append(row)
    print_lengths(count, rows)
    return rows


def print_results(name: str, rows: Sequence[dict[str, Any]]) -> None:
    cells = [
        (
            row["contender"],
            f"{row['file_bytes'] / 1e6:.2f}",
            f"{row['raw_bytes'] / row['file_bytes']:.2f}",
            times(row["size_ratio_to_zarr"]),
            f"{row['append_us'] / 1000:.2f}",
            times(row["append_ratio_to_zarr"]),
            f"{row['frame_us'] / 1000:.2f}",
            times(row["frame_ratio_to_zarr"]),
            f"{row['error_levels']:.2f}",
        )
        for row in rows
        if row["status"] == "measured"
    ]
    print_table(
        name, ("", "MB", "raw / file", "x zarr", "append ms", "x zarr", "frame ms", "x zarr", "error, levels"), cells
    )
    print_absent(rows)


def print_lengths(count: int, rows: Sequence[dict[str, Any]]) -> None:
    cells = [
        (
            row["contender"],
            f"{row['frame_us'] / 1000:.3f}",
            f"{row['last_us'] / 1000:.3f}",
            times(row["last_ratio_to_ndframes"]),
        )
        for row in rows
        if row["status"] == "measured"
    ]
    print_table(f"{count:,} fields", ("", "anywhere ms", "the last one ms", "x ndframes exact"), cells)
    print_absent(rows)


# -- the page ----------------------------------------------------------------------------------------------------------


def render(rows: Sequence[Row]) -> Page:
    """A table and a figure for each field, and one of each for long movies."""
    tables, figures = [], []
    stored = [row for row in rows if row["job"] == "store"]
    header = ["", "raw / file", "append ms", "ratio to zarr", "a field anywhere ms", "ratio to zarr", "error, levels"]
    for name in unique(row["field"] for row in stored):
        mine = [row for row in stored if row["field"] == name]
        tables.append(Table(f"{name}: size, and milliseconds a field", header, [list_cells(row) for row in mine]))
        names = [row["contender"] for row in mine]
        series = {task: [row[f"{task}_us"] / 1000 for row in mine] for task in ("append", "frame")}
        figures.append(Dots(f"{name}: store one field, and read one anywhere", "ms", names, series))
    lengths = [row for row in rows if row["job"] == "long"]
    if lengths:
        counts, names = unique(row["fields"] for row in lengths), unique(row["contender"] for row in lengths)
        by_place = {(row["contender"], row["fields"]): row for row in lengths}
        cells = [[name, *(format_length(by_place.get((name, count))) for count in counts)] for name in names]
        title = (
            "A field anywhere in movies of several lengths; the last field (ratio to ndframes exact, mkv): milliseconds"
        )
        tables.append(Table(title, ["", *(f"{count:,} fields" for count in counts)], cells))
        lines = {
            name: [(count, by_place[name, count]["last_us"] / 1000) for count in counts if (name, count) in by_place]
            for name in names
        }
        figures.append(Lines("The last field of a movie", "fields in the movie", "ms", lines))
    return Page(tables, figures)


def list_cells(row: Row) -> list[str]:
    return [
        row["contender"],
        number(row["raw_bytes"] / row["file_bytes"]),
        number(row["append_us"] / 1000),
        times(row["append_ratio_to_zarr"]),
        number(row["frame_us"] / 1000),
        times(row["frame_ratio_to_zarr"]),
        number(row["error_levels"]) if row["bits"] else "exact",
    ]


def format_length(row: Row | None) -> str:
    if row is None:
        return ""
    return f"{number(row['frame_us'] / 1000)}; {number(row['last_us'] / 1000)} ({times(row['last_ratio_to_ndframes'])})"


def main() -> None:
    quick = "--extent 64 --frames 6 --rounds 2 --reads 6 --lengths 20 50"
    parser = make_parser(__doc__, quick=quick, shape=None, rounds=5)
    parser.add_argument("--extent", type=int, default=256, help="edge of the fields in pixels")
    parser.add_argument("--frames", type=int, default=100, help="fields in a movie")
    parser.add_argument("--reads", type=int, default=60, help="reads in a round")
    parser.add_argument("--lengths", type=int, nargs="*", default=[100, 1000, 10000], help="lengths of long movies")
    options = parse_options(parser)
    with open_folder(options) as folder:
        stores = [store for store in make_stores() if is_chosen(store.name, options)]
        paths = ensure_fields(folder, options.extent, options.frames)
        rows = [row for name, path in paths.items() for row in run_field(name, np.load(path), folder, stores, options)]
        small = np.ascontiguousarray(np.load(next(iter(paths.values())))[:, :64, :64])
        rows += [row for count in options.lengths for row in run_length(count, small, folder, stores, options)]
        write_json(options, __file__, folder, rows)


if __name__ == "__main__":
    main()
