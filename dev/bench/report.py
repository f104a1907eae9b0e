"""The benchmarks' JSON as pages: tables and figures, which ``docs/performance.rst`` includes.

Reads the files that are named, or all of ``dev/bench/results/``; ``NAME.json`` becomes ``docs/performance/NAME.rst`` and
``NAME-1.svg``, ``NAME-2.svg`` and so on. The same JSON gives the same bytes. The pages are no documents of their own:
Sphinx is told so by ``"performance/*.rst"`` in ``exclude_patterns``.

    pip install ".[bench]"
    python dev/bench/report.py
    python dev/bench/report.py crops.json cold.json --out docs/performance
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import Bars, Dots, Lines, Panel, write_figure

_HERE = Path(__file__).resolve().parent
_DOCS = _HERE.parents[1] / "docs"
#: The forms that others' times are held against in figures, by codec.
_OWN_FORMS = {"raw": "ndframes none", "zstd": "ndframes zstd", "jpeg": "ndframes jpeg"}
_MIDDLE_PX = 256

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """Cells of text under a title."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Page:
    """What is told of one benchmark."""

    tables: Sequence[Table]
    panels: Sequence[Panel]


# -- one function a benchmark -------------------------------------------------------------------------------------


def render_crops(rows: Sequence[Row]) -> Page:
    """Microseconds by contender and size, and how many times as long each peer takes; figures of the default tiles."""
    tables: list[Table] = []
    panels: list[Panel] = []
    for blocksize in unique(row["blocksize"] for row in rows):
        mine = [row for row in rows if row["blocksize"] == blocksize]
        where = "" if blocksize is None else f", tiles of {blocksize}"
        sizes = unique(row["crop_px"] for row in mine)
        middle = _MIDDLE_PX if _MIDDLE_PX in sizes else sizes[len(sizes) // 2]
        of_middle = [row for row in mine if row["crop_px"] == middle]
        tables += [_crop_table(mine, sizes, where), _ratio_table(of_middle, f"{middle} px{where}")]
        if not panels:
            panels += [_crop_dots(mine, sizes, where), *_ratio_bars(of_middle, f"{middle} px{where}")]
    return Page(tables, panels + _tile_lines(rows))


def render_batch(rows: Sequence[Row]) -> Page:
    tables, panels = [], []
    units = {"batch": "microseconds a batch", "sweep": "microseconds a crop", "apart": "microseconds a crop"}
    for job in unique(row["job"] for row in rows):
        mine = [row for row in rows if row["job"] == job]
        cells = [
            [
                row["contender"],
                number(row["median_us"]),
                _times(row["ratio_to_memmap"]),
                f"{_times(row['ratio'])} of {row['compared_with']}" if "ratio" in row else "",
            ]
            for row in mine
        ]
        tables.append(Table(f"{job.capitalize()}: {units[job]}", ["", "median", "of memmap's", "takes"], cells))
        names = [row["contender"] for row in mine]
        panels.append(Dots(job.capitalize(), units[job], names, {"median": [row["median_us"] for row in mine]}))
    return Page(tables, panels)


def render_cold(rows: Sequence[Row]) -> Page:
    tables, panels = [], []
    header = ["", "µs", "KiB read", "KiB touched", "read / touched", "in whole pages", "first crop µs", "open KiB"]
    for size in unique(row["crop_px"] for row in rows):
        mine = [row for row in rows if row["crop_px"] == size]
        cells = [
            [
                row["contender"],
                number(row["median_us"]),
                number(row["mean_read_bytes"] / 1024),
                number(row["mean_touched_bytes"] / 1024),
                f"{row['read_to_touched']:.2f}",
                f"{row['read_to_touched_pages']:.2f}",
                number(row["first_crop_us"]),
                number(row["open_bytes"] / 1024),
            ]
            for row in mine
        ]
        tables.append(Table(f"Crops of {size} px from a cold disk", header, cells))
        series = {
            "read": [row["mean_read_bytes"] / 1024 for row in mine],
            "touched": [row["mean_touched_bytes"] / 1024 for row in mine],
        }
        panels.append(Dots(f"Crops of {size} px", "KiB a crop", [row["contender"] for row in mine], series))
    return Page(tables, panels)


def render_prepare(rows: Sequence[Row]) -> Page:
    prepared = [row for row in rows if row["job"] == "prepare"]
    cells = [
        [
            row["contender"],
            f"{row['wall_seconds']:.2f}",
            f"{row['cpu_seconds']:.2f}",
            number(row["peak_bytes"] / 1e6),
            number(row["output_bytes"] / 1e6),
            _times(row.get("ratio_to_ndframes")),
        ]
        for row in prepared
    ]
    header = ["", "wall s", "cpu s", "peak MB", "output MB", "of ndframes' time"]
    names, seconds = [row["contender"] for row in prepared], [row["wall_seconds"] for row in prepared]
    panels: list[Panel] = [Dots("Filling the cache", "seconds", names, {"wall": seconds})]
    tables = [Table("Filling the cache", header, cells)]
    growth = [row for row in rows if row["job"] == "growth"]
    if growth:
        series = {
            name: [(row["extent_px"], row["peak_bytes"] / 1e6) for row in growth if row["contender"] == name]
            for name in unique(row["contender"] for row in growth)
        }
        tables.append(_growth_table("Peak memory, MB, by the edge of a square image", series))
        panels.append(Lines("Peak memory", "edge of the image in pixels", "MB", series))
    return Page(tables, panels)


def render_loader(rows: Sequence[Row]) -> Page:
    ordered = sorted(rows, key=lambda row: -row["crops_per_second"])
    cells = [[row["contender"], number(row["crops_per_second"]), _times(row.get("ratio_to_memmap"))] for row in ordered]
    names, speeds = [row["contender"] for row in ordered], [row["crops_per_second"] for row in ordered]
    return Page(
        [Table("Crops a second out of a DataLoader", ["", "crops / s", "of memmap's"], cells)],
        [Dots("Crops a second out of a DataLoader", "crops / s", names, {"median": speeds})],
    )


def render_thumbnail(rows: Sequence[Row]) -> Page:
    cells = [
        [
            row["contender"],
            f"{row['extent_px']:,} px, {row['bands']} bands",
            number(row["cold_us"]),
            number(row["warm_us"]),
            f"{row['mean_difference']:.2f}",
        ]
        for row in rows
    ]
    header = ["", "image", "cold µs", "warm µs", "difference"]
    series = {
        name: [(row["extent_px"], row["cold_us"] / 1000) for row in rows if row["contender"] == name]
        for name in unique(row["contender"] for row in rows)
    }
    return Page(
        [Table("The whole image at 1/64", header, cells)],
        [Lines("The whole image at 1/64, newly opened", "edge of the image in pixels", "ms", series)],
    )


def render_aligned(rows: Sequence[Row]) -> Page:
    tables, panels = [], []
    titles = {
        "five": "128 px of five channels of different scales",
        "coarse": "128 px of one channel, four times as coarse",
        "turned": "128 px of one channel, turned by 30 degrees",
    }
    for job in unique(row["job"] for row in rows):
        mine = [row for row in rows if row["job"] == job]
        cells = [
            [
                row["contender"],
                number(row["median_us"]),
                _times(row["ratio_to_ndframes"]),
                number(row["largest_difference"]),
            ]
            for row in mine
        ]
        header = ["", "µs a crop", "of ndframes npy's", "largest difference"]
        tables.append(Table(titles[job], header, cells))
        names = [row["contender"] for row in mine]
        panels.append(Dots(titles[job], "µs", names, {"median": [row["median_us"] for row in mine]}))
    return Page(tables, panels)


def render_video(rows: Sequence[Row]) -> Page:
    """A table and a panel for each job, the clips side by side."""
    tables, panels = [], []
    titles = {
        "open": "Opening a video",
        "frame": "A frame anywhere",
        "window": "16 neighbours",
        "batch": "32 frames anywhere, in order",
        "sequence": "100 frames one after the other",
        "crop": "128 x 128 pixels of 16 frames",
    }
    for job in unique(row["job"] for row in rows):
        mine = [row for row in rows if row["job"] == job]
        clips, names = unique(row["clip"] for row in mine), unique(row["contender"] for row in mine)
        by_place = {(row["contender"], row["clip"]): row for row in mine}
        cells = [[name, *(_video_cell(by_place.get((name, clip))) for clip in clips)] for name in names]
        tables.append(Table(f"{titles[job]}: milliseconds (times ndframes'); of computing", ["", *clips], cells))
        series = {
            clip: [by_place[name, clip]["median_us"] / 1000 if (name, clip) in by_place else None for name in names]
            for clip in clips
        }
        panels.append(Dots(titles[job], "ms", names, series))
    return Page(tables, panels)


RENDERERS: dict[str, Callable[[Sequence[Row]], Page]] = {
    "crops": render_crops,
    "batch": render_batch,
    "cold": render_cold,
    "prepare": render_prepare,
    "loader": render_loader,
    "thumbnail": render_thumbnail,
    "aligned": render_aligned,
    "video": render_video,
}


# -- what they share ----------------------------------------------------------------------------------------------


def number(value: float) -> str:
    """Three digits that mean something, or all before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def unique(values: Iterable[Any]) -> list[Any]:
    """Each once, in the order in which they come."""
    return list(dict.fromkeys(values))


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"×{ratio:.2f}"


def _crop_table(rows: Sequence[Row], sizes: Sequence[int], where: str) -> Table:
    by_place = {(row["contender"], row["crop_px"]): row for row in rows}
    names = unique(row["contender"] for row in rows)
    cells = [[name, *(_crop_cell(by_place[name, size]) for size in sizes)] for name in names]
    return Table(f"Microseconds a crop (times a memmap's){where}", ["", *(f"{size} px" for size in sizes)], cells)


def _video_cell(row: Row | None) -> str:
    """The median, how many times ndframes' that is, and what the processor had to do, which other work hardly changes."""
    if row is None:
        return ""
    ratio = _times(row["ratio_to_ndframes"])
    return f"{number(row['median_us'] / 1000)} ({ratio}); {number(row['cpu_us'] / 1000)}"


def _crop_dots(rows: Sequence[Row], sizes: Sequence[int], where: str) -> Dots:
    names = unique(row["contender"] for row in rows)
    series = {f"{size} px": [row["median_us"] for row in rows if row["crop_px"] == size] for size in sizes}
    return Dots(f"Microseconds a crop{where}", "µs", names, series)


def _tile_lines(rows: Sequence[Row]) -> list[Lines]:
    """How the size of tiles matters to ndframes and to GDAL, where several were tried."""
    if len(unique(row["tile_px"] for row in rows)) < 2:
        return []
    shown = [row for row in rows if row["side"] == "ndframes" or row["contender"].endswith("cache 16 MB")]
    series = {
        f"{name}, {size} px": sorted(
            {
                row["tile_px"]: row["median_us"] for row in shown if (row["contender"], row["crop_px"]) == (name, size)
            }.items()
        )
        for size in unique(row["crop_px"] for row in shown)
        if size == _MIDDLE_PX
        for name in unique(row["contender"] for row in shown)
    }
    return [Lines("By the edge of a tile", "edge of a tile in pixels", "µs", series)] if series else []


def _crop_cell(row: Row) -> str:
    ratio = _times(row["ratio_to_memmap"])
    return f"{number(row['median_us'])} ({ratio})" if ratio else number(row["median_us"])


def _ratio_table(rows: Sequence[Row], where: str) -> Table:
    forms = [row for row in rows if row.get("peers_in_ratio")]
    peers = unique(peer for row in rows for peer in row.get("peers_in_ratio", ()))
    cells = [[peer, *(_times(form["peers_in_ratio"].get(peer)) for form in forms)] for peer in peers]
    return Table(f"How many times as long a peer takes, {where}", ["", *(row["contender"] for row in forms)], cells)


def _ratio_bars(rows: Sequence[Row], where: str) -> list[Bars]:
    by_name = {row["contender"]: row for row in rows}
    pairs = [
        (f"{peer} / {form}", ratio)
        for form in _OWN_FORMS.values()
        for peer, ratio in by_name.get(form, {}).get("peers_in_ratio", {}).items()
    ]
    title, axis = f"How many times as long a peer takes, {where}", "times ndframes' time"
    return [Bars(title, axis, [name for name, _ in pairs], [ratio for _, ratio in pairs])] if pairs else []


def _growth_table(title: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> Table:
    extents = unique(extent for points in series.values() for extent, _ in points)
    cells = [
        [name, *(number(dict(points)[extent]) if extent in dict(points) else "" for extent in extents)]
        for name, points in series.items()
    ]
    return Table(title, ["", *(f"{extent:,} px" for extent in extents)], cells)


def format_table(table: Table) -> list[str]:
    """A list-table: its cells may be of any length."""
    lines = [f".. list-table:: {table.title}", "   :header-rows: 1", ""]
    for row in (table.header, *table.rows):
        lines += [f"   {'* -' if not column else '  -'} {cell}".rstrip() for column, cell in enumerate(row)]
    return [*lines, ""]


def format_environment(outcome: Mapping[str, Any]) -> list[str]:
    """Where and with what it was measured, in a paragraph."""
    where = outcome["environment"]
    libraries = ", ".join(f"{name} {version}" for name, version in where["libraries"].items() if version)
    parameters = ", ".join(
        f"{name} {_flat(value)}" for name, value in outcome["parameters"].items() if value not in (None, [], False)
    )
    return [
        f"Measured on {where['date']} at commit {where['commit']} by ``dev/bench/bench_{outcome['benchmark']}.py`` "
        f"({parameters}): {where['cpu']}, {where['cores']} cores, {where['memory_bytes'] / 2**30:.0f} GiB, "
        f"{where['file_system']}; Python {where['python']}, GDAL {where['gdal']}, {libraries}.",
        "",
    ]


def format_absent(rows: Sequence[Row]) -> list[str]:
    """Who did not take part, and why."""
    absent = unique((row["contender"], row["status"]) for row in rows if row["status"] != "measured")
    return [f"Not measured: {'; '.join(f'{name} ({reason})' for name, reason in absent)}.", ""] if absent else []


def render(path: Path, out: Path) -> None:
    """Write the page and the figures of one outcome."""
    outcome = json.loads(path.read_text(encoding="utf-8"))
    if outcome.get("benchmark") not in RENDERERS:
        print(f"{path}: no page for it")
        return
    rows = outcome["results"]
    page = RENDERERS[outcome["benchmark"]]([row for row in rows if row["status"] == "measured"])
    lines: list[str] = []
    for number, panel in enumerate(page.panels, start=1):
        figure = out / f"{path.stem}-{number}.svg"
        write_figure(figure, panel)
        lines += [f".. image:: performance/{figure.name}", f"   :alt: {panel.title}", ""]
        print(f"{figure}, {figure.stat().st_size / 1000:.0f} kB")
    for table in page.tables:
        lines += format_table(table)
    lines += [*format_absent(rows), *format_environment(outcome)]
    (out / f"{path.stem}.rst").write_text("\n".join(lines), encoding="utf-8")
    print(out / f"{path.stem}.rst")


def _flat(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="*", help="JSON files; else all of dev/bench/results/")
    parser.add_argument("--out", type=Path, default=_DOCS / "performance", help="the folder of the pages")
    options = parser.parse_args()
    files = options.files or sorted((_HERE / "results").glob("*.json"))
    options.out.mkdir(parents=True, exist_ok=True)
    for path in files:
        render(path, options.out)


if __name__ == "__main__":
    main()
