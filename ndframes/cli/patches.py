"""``ndframes patches``."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from .common import (
    CommandError,
    UserPath,
    backend_option,
    echo_json,
    echo_table,
    json_option,
    show_path,
    workdir_option,
)
from .sources import orientation_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._typing import Array
    from ..feed.patch import Patch
    from ..feed.patches import Patches
    from ..feed.table import AnnotationTable
    from ..frames.coco import CocoFrames
    from ..spec.pathinfo import Orientation

__all__ = ["patches"]
_AROUND = ("boxes", "random", "grid")
_SHEET_PX = 192  # the longer side of a patch on the sheet
_GAP_PX = 8
_BACKGROUND = 24
_SAMPLE = 1000
_BATCH = 64
_READ_SECONDS = 1.0


def _parse_shape(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, int]:
    try:
        height, width = (int(part) for part in value.split(","))
    except ValueError:
        height = width = 0
    if min(height, width) < 1:
        raise click.BadParameter(f"{value!r}; write height,width in pixels, such as 256,256", ctx, param)
    return height, width


@click.command(short_help="Show what a sampler of patches gives, and how fast.")
@click.argument("path", type=UserPath())
@click.option(
    "--shape",
    callback=_parse_shape,
    default="256,256",
    show_default=True,
    metavar="HEIGHT,WIDTH",
    help="The shape of a patch in pixels.",
)
@click.option(
    "--around",
    type=click.Choice(_AROUND),
    default="boxes",
    show_default=True,
    help="Where patches lie: half of them around boxes and half away from boxes; anywhere; or in a grid.",
)
@click.option(
    "--balance",
    type=click.Choice(("none", "class", "repeat")),
    default="none",
    show_default=True,
    help="With --around boxes: all boxes alike, all classes alike, or rare classes more often (LVIS's repeat factor).",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The seed of the patches.")
@click.option("--count", type=click.IntRange(1, 400), default=24, show_default=True, help="The patches on the sheet.")
@click.option(
    "-o",
    "--output",
    type=UserPath(dir_okay=False),
    metavar="FILE.png",
    help="Save a contact sheet of patches with their boxes; an existing file is replaced.",
)
@workdir_option
@backend_option(
    ("auto", "cog", "npy", "none"), default="auto", text="The form of cache entries; 'none' reads the sources."
)
@orientation_option
@json_option
def patches(
    *,
    path: str,
    shape: tuple[int, int],
    around: str,
    balance: str,
    seed: int,
    count: int,
    output: str | None,
    workdir: str | None,
    backend: str,
    orientation: Orientation,
    as_json: bool,
) -> None:
    """Show what a sampler of patches gives for a dataset: a contact sheet, statistics, and patches a second.

    PATH is a COCO or kwcoco dataset, a .json or .zip file. The statistics are those of the first thousand patches. Images are
    converted into the cache, as training would do.

    \b
    For example:
      ndframes patches data.kwcoco.json --shape 256,256 --around boxes -o sheet.png
      ndframes patches data.kwcoco.json --around random --backend none
      ndframes patches data.kwcoco.json --balance class --json
    """  # noqa: D301 - a backspace keeps click from wrapping the examples
    from ..feed.table import table_of
    from ..formats.export import check_destination
    from ..frames.coco import CocoFrames
    from .common import backend_of
    from .sources import is_dataset

    if not is_dataset(path):
        raise CommandError(f"{show_path(path)}: not a dataset; give the .json or .zip file of a COCO or kwcoco dataset")
    if output is not None:
        if not output.lower().endswith(".png"):
            raise CommandError(f"{show_path(output)}: the sheet is a PNG file; the name must end in .png")
        check_destination(output)
    frames = CocoFrames(path, workdir=workdir, backend=backend_of(backend), orientation=orientation)
    table = table_of(frames)
    chosen = _make_patches(around, frames, table, shape, seed, balance)
    sample = chosen[: min(_SAMPLE, len(chosen))]
    report = _Report.of(frames, table, chosen, sample)
    if output is not None:
        report.sheet = _save_sheet(output, frames, table, sample[:count])
    if as_json:
        echo_json(report.to_dict())
    else:
        echo_table(report.to_rows())


def _make_patches(
    around: str, frames: CocoFrames, table: AnnotationTable, shape: tuple[int, int], seed: int, balance: str
) -> Patches:
    from ..feed.boxes import BoxPatches
    from ..feed.grid import GridPatches
    from ..feed.random import RandomPatches

    if around == "grid":
        return GridPatches(frames, shape)
    if around == "random":
        return RandomPatches(frames, shape, _SAMPLE, seed=seed)
    levels: Any = None if balance == "none" else balance
    return BoxPatches(table, shape, _SAMPLE, seed=seed, balance=levels)


@dataclass
class _Report:
    """What the command prints.

    Attributes:
        dataset: the numbers of images, boxes and classes.
        patches: what they are.
        kinds: how many of each kind the sample has.
        classes: for each class the number of its boxes in the dataset, and in the sample.
        empty: how many patches of the sample show no box.
        images: how many images the sample comes from.
        patches_per_second: how fast they are read on this machine.
        sheet: the contact sheet.
    """

    dataset: str
    patches: str
    sample: int
    kinds: dict[str, int]
    classes: dict[str, tuple[int, int]]
    empty: int
    images: int
    patches_per_second: float
    sheet: str | None = None

    @classmethod
    def of(cls, frames: CocoFrames, table: AnnotationTable, chosen: Patches, sample: Sequence[Patch]) -> _Report:
        import numpy as np

        from ..feed.targets import find_annotations

        in_dataset = np.bincount(table.columns.labels, minlength=len(table.names))
        in_sample = np.zeros(len(table.names), int)
        empty = 0
        for patch in sample:
            labels = find_annotations(table, patch)["labels"]
            in_sample += np.bincount(labels, minlength=len(table.names))
            empty += not len(labels)
        classes = {
            name: (int(in_dataset[label]), int(in_sample[label])) for label, name in enumerate(table.names) if label
        }
        return cls(
            dataset=repr(table),
            patches=repr(chosen),
            sample=len(sample),
            kinds=dict(Counter(patch.kind for patch in sample)),
            classes=classes,
            empty=empty,
            images=len({patch.image_id for patch in sample}),
            patches_per_second=_measure_speed(frames, sample),
        )

    def to_dict(self) -> dict[str, Any]:
        classes = {name: {"dataset": total, "sample": found} for name, (total, found) in self.classes.items()}
        return {**self.__dict__, "classes": classes}

    def to_rows(self) -> dict[str, object]:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.kinds.items()))
        total = sum(found for _, found in self.classes.values()) or 1
        classes = [
            f"{name}: {found:,} ({found / total:.0%}), {all_:,} in the dataset"
            for name, (all_, found) in self.classes.items()
        ]
        rows: dict[str, object] = {
            "dataset": self.dataset.strip("<>"),
            "patches": self.patches.strip("<>"),
            "sample": f"{self.sample:,}: {kinds}; from {self.images:,} images, {self.empty:,} without a box",
            "boxes": "\n".join(classes) or "none",
            "speed": f"{self.patches_per_second:,.0f} patches a second, in batches of {_BATCH}",
        }
        return rows if self.sheet is None else {**rows, "sheet": self.sheet}


def _measure_speed(frames: CocoFrames, sample: Sequence[Patch]) -> float:
    """Patches a second of batches read one after the other, after all images of the sample were converted."""
    from ..feed.reading import load_patches

    frames.prepare(sorted({patch.image_id for patch in sample}, key=str))
    batches = [sample[start : start + _BATCH] for start in range(0, len(sample), _BATCH)]
    load_patches(frames, batches[0])
    started, count = time.perf_counter(), 0
    for batch in batches:
        load_patches(frames, batch)
        count += len(batch)
        if time.perf_counter() - started > _READ_SECONDS:
            break
    return count / (time.perf_counter() - started)


def _save_sheet(target: str, frames: CocoFrames, table: AnnotationTable, sample: Sequence[Patch]) -> str:
    """Write the contact sheet; returns the line to print."""
    from ..formats.export import encode_png
    from ..system.output import write_atomically

    sheet = _draw_sheet([_draw_patch(frames, table, patch) for patch in sample])
    write_atomically(target, lambda file: file.write(encode_png(sheet)))
    return f"{show_path(target)}: {len(sample)} patches, {sheet.shape[0]:,} x {sheet.shape[1]:,} px"


def _draw_patch(frames: CocoFrames, table: AnnotationTable, patch: Patch) -> Array:
    """A patch as a picture of at most ``_SHEET_PX``, with its boxes."""
    import numpy as np

    from ..feed.reading import load_patches
    from ..feed.targets import find_annotations
    from ..pixels.drawing import Mark, draw_marks, palette_colour
    from ..pixels.pictures import to_picture

    factor = _SHEET_PX / max(patch.shape)
    pixels = np.asarray(load_patches(frames, [patch])[0])
    rows = (np.arange(max(1, round(patch.shape[0] * factor))) / factor).astype(int).clip(0, patch.shape[0] - 1)
    cols = (np.arange(max(1, round(patch.shape[1] * factor))) / factor).astype(int).clip(0, patch.shape[1] - 1)
    picture = to_picture(pixels[np.ix_(rows, cols)])
    found = find_annotations(table, patch)
    marks = [
        Mark(palette_colour(int(label) - 1), table.names[label], tuple(float(end) * factor for end in box))  # type: ignore[arg-type]
        for box, label in zip(found["boxes"], found["labels"], strict=True)
    ]
    return draw_marks(picture, marks)


def _draw_sheet(pictures: Sequence[Array]) -> Array:
    """Pictures in rows, about as wide as high."""
    import numpy as np

    height = max(picture.shape[0] for picture in pictures) + _GAP_PX
    width = max(picture.shape[1] for picture in pictures) + _GAP_PX
    across = max(1, round((len(pictures) * height / width * 1.5) ** 0.5))
    down = -(-len(pictures) // across)
    sheet = np.full((down * height + _GAP_PX, across * width + _GAP_PX, 3), _BACKGROUND, np.uint8)
    for number, picture in enumerate(pictures):
        top, left = _GAP_PX + number // across * height, _GAP_PX + number % across * width
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return sheet
