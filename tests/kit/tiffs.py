"""A writer of TIFF files to the letter, right or wrong: written from the TIFF 6.0 specification."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import ndframes as nf

_LETTERS = {
    1: "B",
    2: "s",
    3: "H",
    4: "I",
    5: "II",
    6: "b",
    7: "B",
    8: "h",
    9: "i",
    10: "ii",
    11: "f",
    12: "d",
    16: "Q",
}
_ALL_WAYS = 4
_STRIPS, _TILES, _CHILDREN = (273, 279), (324, 325), 330
Tags = dict[int, tuple[int, Any]]


@dataclass(frozen=True)
class Page:
    """A directory and its blocks.

    Attributes:
        tags: type and values by the number of the tag.
        blocks: the bytes of each strip or tile; ``None``: it is not written, position and length are 0.
        is_tiled: whether the blocks are tiles.
        tables: replaces the tables of positions or lengths, by tag: a function of the right table.
        children: the pages of the tag SubIFDs.
    """

    tags: Tags
    blocks: Sequence[bytes | None]
    is_tiled: bool = False
    tables: dict[int, Callable[[list[int]], list[int]]] = field(default_factory=dict)
    children: Sequence[Page] = ()

    def lie(self, *, offsets: Any = None, counts: Any = None) -> Page:
        """A copy whose tables are those that the functions return."""
        numbers = _TILES if self.is_tiled else _STRIPS
        return replace(self, tables={n: f for n, f in zip(numbers, (offsets, counts), strict=True) if f is not None})


def write_pages(path: Path, pages: Sequence[Page], *, order: str = "<") -> Path:
    """Write a classic TIFF; ``order``: ``"<"`` or ``">"``."""
    data = bytearray((b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 0))
    _append_chain(data, pages, order, link=4)
    path.write_bytes(data)
    return path


def _append_chain(data: bytearray, pages: Sequence[Page], order: str, *, link: int) -> int:
    """Append directories that follow each other; write the first one's position to ``link`` and return it."""
    starts = []
    for page in pages:
        offsets = []
        for block in page.blocks:
            offsets.append(len(data) if block is not None else 0)
            data += block or b""
        tables = dict(
            zip(_TILES if page.is_tiled else _STRIPS, (offsets, [len(b or b"") for b in page.blocks]), strict=True)
        )
        tags = {**{number: (4, table) for number, table in tables.items()}, **page.tags}
        tags.update({number: (4, lie(tables[number])) for number, lie in page.tables.items()})
        if page.children:
            tags[_CHILDREN] = (4, [_append_chain(data, [child], order, link=0) for child in page.children])
        starts.append(_append_directory(data, tags, order))
        if link:
            struct.pack_into(f"{order}I", data, link, starts[-1])
        link = len(data) - 4
    return starts[0]


def _append_directory(data: bytearray, tags: Tags, order: str) -> int:
    entries = b""
    for number, (kind, values) in sorted(tags.items()):
        if isinstance(values, str):
            raw = values.encode() + b"\0"
            count = len(raw)
        else:
            flat = (
                [values] if isinstance(values, (int, float)) else [part for value in values for part in _parts(value)]
            )
            count = len(flat) // len(_LETTERS[kind])
            raw = struct.pack(f"{order}{len(flat)}{_LETTERS[kind][0]}", *flat)
        if len(raw) > 4:
            data += bytes(len(data) % 2)
            position = len(data)
            data += raw
            raw = struct.pack(f"{order}I", position)
        entries += struct.pack(f"{order}HHI", number, kind, count) + raw.ljust(4, b"\0")
    data += bytes(len(data) % 2)
    start = len(data)
    data += struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    return start


def _parts(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def pack(samples: np.ndarray, bits: int, order: str) -> bytes:
    """Rows of samples ``(h, n)`` in any number of bits; each row begins with a byte."""
    if samples.dtype.kind in "fc":
        return samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    values = samples.astype(np.int64 if samples.dtype.kind == "i" else np.uint64).view(np.uint64)
    places = np.arange(bits - 1, -1, -1, dtype=np.uint64)
    rows = np.packbits((values[..., None] >> places & np.uint64(1)).astype(np.uint8).reshape(len(values), -1), axis=1)
    if bits % 8 == 0 and order == "<":
        rows = rows.reshape(len(rows), -1, bits // 8)[..., ::-1]
    return rows.tobytes()


def page_of(
    pixels: np.ndarray,
    bits: int,
    *,
    order: str = "<",
    photometric: int = 1,
    rows: int = 0,
    tile: tuple[int, int] | None = None,
    planar: bool = False,
    code: tuple[int, Callable[[bytes], bytes]] = (1, bytes),
    packer: Callable[[np.ndarray, int, str], bytes] = pack,
    **tags: tuple[int, Any],
) -> Page:
    """A page of pixels ``(h, w)`` or ``(h, w, bands)``; further tags as ``x339=(3, 2)``."""
    pixels = pixels if pixels.ndim == 3 else pixels[:, :, None]
    height, width, bands = pixels.shape
    shape = tile or (rows or height, width)
    blocks = []
    for plane in [pixels[..., band : band + 1] for band in range(bands)] if planar else [pixels]:
        for top in range(0, height, shape[0]):
            for left in range(0, width, shape[1]):
                part = plane[top : top + shape[0], left : left + shape[1]]
                if tile:
                    part = np.pad(
                        part, ((0, tile[0] - part.shape[0]), (0, tile[1] - part.shape[1]), (0, 0)), mode="edge"
                    )
                blocks.append(code[1](packer(part.reshape(len(part), -1), bits, order)))
    kind = {"b": 1, "u": 1, "i": 2, "f": 3, "c": 6}[pixels.dtype.kind]
    numbers: Tags = {
        256: (4, width), 257: (4, height), 258: (3, [bits] * bands), 259: (3, code[0]), 262: (3, photometric),
        277: (3, bands), 284: (3, 2 if planar else 1), 339: (3, [kind] * bands),
    }  # fmt: skip
    numbers |= {322: (4, tile[1]), 323: (4, tile[0])} if tile else {278: (4, shape[0])}
    numbers |= {int(name[1:]): value for name, value in tags.items()}
    return Page({number: value for number, value in numbers.items() if value is not None}, blocks, bool(tile))


@dataclass(frozen=True)
class Expected:
    """A file and what reading it gives: pixels, names of channels, pixels masked in every channel; or a part of an error."""

    path: Path
    pixels: Any = None
    channels: str | None = None
    missing: Any = None
    error: str = ""
    tolerance: float = 0


def check_every_way_in(files: dict[str, Expected], workdir: Path) -> None:
    """Read files by default and as page 0, single and in batches, as frames and opened, directly and through entries."""
    infos = {
        (name, page): nf.ChannelInfo(str(file.path), page=page) for name, file in files.items() for page in (None, 0)
    }
    names = [*files]
    for backend in (None, "npy", "cog"):
        frames = nf.SimpleFrames(infos, workdir=workdir / "cache", backend=backend)
        for name, page in infos:
            # Small tables take all ways in; of a large one, each file takes the first way and one of the others.
            way = (backend, page)
            others = [(None, 0), ("npy", 0), ("cog", None)]
            if way not in others and way != (None, None):
                continue
            if len(files) > _ALL_WAYS and way in others and names.index(name) % 3 != others.index(way):
                continue
            file, place = files[name], f"{name}, page {page}, backend {backend}"
            if file.error:
                _check_error(file, lambda key=(name, page), frames=frames: frames.load_image(key), place)
                continue
            wanted = np.asarray(file.pixels)
            wanted = wanted if wanted.ndim == 3 else wanted[:, :, None]
            frame = frames.load_frame((name, page))
            assert file.channels is None or "|".join(frame.channels) == file.channels, place
            _check_pixels(frames.load_image((name, page)), wanted, file.tolerance, place)
            crop = np.s_[wanted.shape[0] // 3 :, -2:0:-1]
            _check_pixels(frames.load_regions([((name, page), crop)])[0], wanted[crop], file.tolerance, place)
            if file.missing is not None:
                masks = np.ma.getmaskarray(frames.load_region((name, page), nodata="mask"))
                np.testing.assert_array_equal(masks, np.broadcast_to(file.missing, masks.shape), err_msg=place)
            if page is None and (backend or len(files) <= _ALL_WAYS):
                opened = nf.open(file.path, workdir=workdir / "cache", backend=backend)
                _check_pixels(np.asarray(opened), wanted, file.tolerance, place)


def _check_pixels(got: Any, wanted: Any, tolerance: float, place: str) -> None:
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype), place
    if tolerance:
        np.testing.assert_allclose(got.astype(float), wanted.astype(float), atol=tolerance, err_msg=place)
    else:
        np.testing.assert_array_equal(got, wanted, err_msg=place)


def _check_error(file: Expected, read: Callable[[], Any], place: str) -> None:
    try:
        got = read()
    except nf.errors.NdframesError as error:
        got = str(error)
    assert isinstance(got, str), f"{place}: no error, but {got.shape} {got.dtype} {got.reshape(-1)[:8]}"
    assert file.error in got, f"{place}: {got}"
    assert str(file.path) in got, f"{place}: {got}"
