"""One file, one set of pixels: every way of opening a file is compared with every other, for each kind of file.

Small files are written in all formats, codecs, dtypes and layouts that tifffile, GDAL, Pillow, imagecodecs and numpy can write here
(dev/parity_files.py). Each is read by default and by page= and series=, through the backends None, npy and cog, before and after
prepare, as one region, a batch and an image, by nf.open, SimpleFrames and datasets, scaled to 1/2 and 1/4, and as a thumbnail. All
must be equal to the bit, and equal to the array that was written, or for lossy codecs to what Pillow or the writing library reads.
Where ndframes refuses a file with an error of its own, every way must. The status is 1 if anything differs.

    python dev/parity.py
    python dev/parity.py --only "TIFF, GDAL: LERC" --json parity.json
    python dev/parity.py --quick
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from parity_files import Case, list_cases

import ndframes as nf
from ndframes.errors import NdframesError

_BACKENDS = (None, "npy", "cog")
_QUICK_FILES = 3
_COLUMNS = ("files", "not writable", "refused", "ways", "equal", "DIFFERENT")
_SHOWN = 3
Answer = list[np.ndarray] | NdframesError


class Way(NamedTuple):
    """One way to read a file.

    Attributes:
        name: of the way.
        kind: what is read; all ways of a kind must give equal pixels.
        read: reads it: an array, or a list of arrays.
    """

    name: str
    kind: str
    read: Callable[[], Any]


@dataclass
class Result:
    """The outcome of one file.

    Attributes:
        case: the file.
        outcome: "read", "refused" or "not writable".
        reason: the error where it was not read.
        ways: the number of ways that were compared.
        differences: those that differed, each with what was found.
    """

    case: Case
    outcome: str = "read"
    reason: str = ""
    ways: int = 0
    differences: list[str] = field(default_factory=list)


def check(case: Case, folder: Path) -> Result:
    """Write a file and read it in all ways."""
    path = str(folder / f"file.{case.suffix}")
    try:
        written = case.write(path)
    except Exception as error:  # noqa: BLE001 - each writer refuses in its own way
        return Result(case, "not writable", f"{type(error).__name__}: {error}")
    result = Result(case)
    expected: dict[str, Answer] = {}
    if case.referee is not None:
        try:
            _expect_whole(expected, case.referee(path, written))
        except Exception as error:  # noqa: BLE001 - a library may write what it does not read
            result.reason = f"no reference: {type(error).__name__}: {error}"
    first = _answer(lambda: _direct(path, case.info).load_image("i"))
    if isinstance(first, NdframesError):
        result.outcome, result.reason = "refused", f"{type(first).__name__}: {first}"
        expected = {}
    for way in _list_ways(case, path, folder, first):
        _compare(way, expected, result)
    return result


def _list_ways(case: Case, path: str, folder: Path, first: Answer) -> Iterator[Way]:
    refused = isinstance(first, NdframesError)
    shape = (45, 67, 1) if isinstance(first, NdframesError) else first[0].shape
    for number, options in enumerate((case.info, *case.same)):
        label = ", ".join(f"{key}={value}" for key, value in options.items()) or "default"
        info = nf.ChannelInfo(path, **options)
        # All reads of the default through each backend; of another way to name the image, all directly and one from a cache.
        backends = _BACKENDS if number == 0 else (None, _BACKENDS[1 + number % 2])
        # The other backends would have to decode what cannot be opened.
        for backend in backends[:1] if refused else backends:
            frames = nf.SimpleFrames({"i": info}, backend=backend, workdir=folder / "work")
            # One backend is filled by the first read, and the other one by prepare.
            if backend == "cog":
                frames.prepare(errors="collect", progress=False)
            reads = _list_reads(f"{label}, backend {backend}", frames, "i", shape)
            yield from islice(reads, 2) if number and backend else reads
        yield Way(f"nf.open, {label}", "image", lambda info=info: nf.open(info)[...])
    if not case.info:
        yield Way("nf.open of a path", "image", lambda: nf.open(path)[...])
        listed = nf.SimpleFrames([path], backend=None)
        yield Way("SimpleFrames of a list", "image", lambda: listed.load_image("file"))
        dataset = {"images": [{"id": 1, "file_name": path, "height": shape[-3], "width": shape[-2]}], "videos": []}
        for backend in (None, "npy"):
            coco = nf.CocoFrames(dataset, backend=backend, workdir=folder / "work")
            yield from _list_reads(f"dataset, backend {backend}", coco, 1, shape)
    elif "page" in case.info:
        yield Way("nf.open(page=)", "image", lambda: nf.open(path, **case.info)[...])


def _list_reads(name: str, frames: nf.Frames, image_id: Any, shape: tuple[int, ...]) -> Iterator[Way]:
    crops = [(..., *crop) for crop in _crops(shape)]
    regions = [(*(slice(None) for _ in shape[:-3]), *crop) for _, *crop in crops]
    yield Way(f"load_image, {name}", "image", lambda: frames.load_image(image_id))
    yield Way(
        f"load_regions, {name}", "crops", lambda: list(frames.load_regions([(image_id, each) for each in regions]))
    )
    yield Way(f"load_region, {name}", "crops", lambda: [frames.load_region(image_id, each) for each in regions])
    for scale in (1 / 2, 1 / 4):
        yield Way(
            f"scale {scale}, {name}",
            f"scaled by {scale}",
            lambda scale=scale: frames.load_region(image_id, scale=scale),
        )
    yield Way(f"scaled crop, {name}", "scaled crop", lambda: frames.load_region(image_id, regions[0], scale=1 / 2))
    yield Way(f"thumbnail, {name}", "thumbnail", lambda: frames.image(image_id).load_thumbnail(16))


def _crops(shape: tuple[int, ...]) -> list[tuple[slice, slice, slice]]:
    height, width = shape[-3:-1]
    every = slice(None)
    return [
        (slice(height // 4, height // 4 * 3), slice(width // 3, None), every),
        (slice(0, 1), every, slice(0, 1)),
        (slice(-7, None), slice(1, None, 3), every),
    ]


def _expect_whole(expected: dict[str, Answer], reference: np.ndarray) -> None:
    whole = np.asarray(reference)
    whole = whole[:, :, None] if whole.ndim == 2 else whole
    expected["image"] = [whole]
    expected["crops"] = [whole[(..., *crop)] for crop in _crops(whole.shape)]


def _compare(way: Way, expected: dict[str, Answer], result: Result) -> None:
    """Compare what a way gives with what is expected; the first answer is the rule where there is no reference."""
    answer = _answer(way.read)
    rule = expected.setdefault(way.kind, answer)
    if way.kind == "image" and "crops" not in expected and not isinstance(rule, NdframesError):
        _expect_whole(expected, rule[0])
    result.ways += 1
    difference = _describe_difference(answer, rule)
    if difference:
        result.differences.append(f"{way.name}: {difference}")


def _answer(read: Callable[[], Any]) -> Answer:
    """Arrays, or the error of ndframes. Any other error is a fault, which becomes one of no kind of ndframes."""
    try:
        pixels = read()
    except NdframesError as error:
        return error
    return pixels if isinstance(pixels, list) else [pixels]


def _describe_difference(answer: Answer, rule: Answer) -> str:
    """How an answer differs from what is right; nothing if it is equal."""
    if isinstance(answer, NdframesError):
        return "" if isinstance(rule, NdframesError) else f"{type(answer).__name__}: {answer}"
    if isinstance(rule, NdframesError):
        return f"is read, where another way raises {type(rule).__name__}: {rule}"
    for got, want in zip(answer, rule, strict=True):
        if (got.dtype, got.shape) != (want.dtype, want.shape):
            return f"{got.dtype} {got.shape} for {want.dtype} {want.shape}"
        unequal = ~((got == want) | ((got != got) & (want != want)))
        if unequal.any():
            place = tuple(int(axis[0]) for axis in np.nonzero(unequal))
            return f"{int(unequal.sum())} of {got.size} values, such as {got[place]} for {want[place]} at {place}"
    return ""


def _direct(path: str, info: dict[str, Any]) -> nf.Frames:
    return nf.SimpleFrames({"i": nf.ChannelInfo(path, **info)}, backend=None)


def check_all(cases: list[Case], *, most: int | None = None) -> Iterator[Result]:
    """Check each file in a folder of its own; of each format until ``most`` were written."""
    written: Counter[str] = Counter()
    for case in cases:
        if written[case.form] == most:
            continue
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                result = check(case, Path(folder))
            except Exception as error:  # noqa: BLE001 - an error that is not of ndframes is what this looks for
                result = Result(case, differences=[f"not a typed error: {type(error).__name__}: {error}"], ways=1)
        written[case.form] += result.outcome != "not writable"
        yield result


def choose(cases: list[Case], only: str, *, quick: bool) -> list[Case]:
    """The cases whose form and name contain a text, mixed if ``quick``."""
    chosen = [case for case in cases if only.lower() in f"{case.form}: {case.name}".lower()]
    if quick:
        random.Random(0).shuffle(chosen)
        chosen.sort(key=lambda case: case.form)
    return chosen


def count(results: list[Result]) -> dict[str, Counter[str]]:
    """The numbers of each row and column of the table."""
    rows: dict[str, Counter[str]] = {}
    for result in results:
        row = rows.setdefault(result.case.form, Counter())
        wrote = result.outcome != "not writable"
        row.update({"files": int(wrote), "not writable": int(not wrote), "refused": int(result.outcome == "refused")})
        different = len(result.differences)
        row.update({"ways": result.ways, "equal": result.ways - different, "DIFFERENT": different})
    rows["all"] = sum(rows.values(), Counter())
    return rows


def print_table(rows: dict[str, Counter[str]]) -> None:
    """Print the counts; ``ways`` are comparisons, the other columns but the last two are files."""
    width = max(map(len, rows))
    print(f"{'format, written by':{width}}" + "".join(f"{name:>14}" for name in _COLUMNS))
    for form, row in rows.items():
        print(f"{form:{width}}" + "".join(f"{row[name]:14,}" for name in _COLUMNS))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="only files whose format and parameters contain this"
    )
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK_FILES} files of each format")
    parser.add_argument("--json", metavar="PATH", help="write the outcome of each file here")
    options = parser.parse_args(arguments)
    logging.getLogger("ndframes").setLevel(logging.ERROR)
    logging.getLogger("rasterio").setLevel(logging.CRITICAL)
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    results = []
    cases = choose(list_cases(), options.only, quick=options.quick)
    for result in check_all(cases, most=_QUICK_FILES if options.quick else None):
        results.append(result)
        for difference in result.differences[:_SHOWN]:
            print(f"DIFFERENT {result.case.form}: {result.case.name}: {difference}", flush=True)
    rows = count(results)
    print_table(rows)
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"rows": rows, "files": [_to_record(result) for result in results]}, file, indent=1)
    return int(rows["all"]["DIFFERENT"] > 0)


def _to_record(result: Result) -> dict[str, Any]:
    return {
        "format": result.case.form,
        "name": result.case.name,
        "outcome": result.outcome,
        "reason": result.reason,
        "ways": result.ways,
        "differences": result.differences,
    }


if __name__ == "__main__":
    os.environ.setdefault("GDAL_PAM_ENABLED", "NO")
    sys.exit(main())
