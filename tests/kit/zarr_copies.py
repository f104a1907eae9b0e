"""Copies of hierarchies of Zarr: every key that the metadata promises, written to a folder that zarr-python reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .http_requests import Site


def ask_site(site: Site, path: str) -> Callable[[str], bytes]:
    """A function that asks a server for a key; every answer must be a success."""

    def ask(key: str) -> bytes:
        reply = site.ask(f"{path}/{key}")
        assert reply.status == 200, (key, reply.status, reply.text)
        return reply.body

    return ask


def list_chunks(array: dict[str, Any]) -> Iterator[str]:
    """The keys of all chunks of an array, from its metadata."""
    steps = array["chunk_grid"]["configuration"]["chunk_shape"]
    counts = [-(-extent // step) for extent, step in zip(array["shape"], steps, strict=True)]
    for place in product(*map(range, counts)):
        yield "/".join(["c", *map(str, place)])


def copy_hierarchy(ask: Callable[[str], bytes], folder: Path) -> list[str]:
    """Copy all metadata and all chunks; return the paths of the arrays, by resolution."""
    root = json.loads(ask("zarr.json"))
    paths = [each["path"] for each in root["attributes"]["ome"]["multiscales"][0]["datasets"]]
    for path in paths:
        array = json.loads(ask(f"{path}/zarr.json"))
        # What the root says at once is what each array says.
        assert root["consolidated_metadata"]["metadata"][path] == array
        for key in ("zarr.json", *list_chunks(array)):
            target = folder / path / key
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(ask(f"{path}/{key}"))
    return paths


def read_levels(ask: Callable[[str], bytes], folder: Path) -> list[np.ndarray]:
    """All resolutions as zarr-python reads them from a copy, with the channels last."""
    import zarr

    return [
        channels_last(zarr.open_array(folder / path, mode="r", zarr_format=3)[:])
        for path in copy_hierarchy(ask, folder)
    ]


def channels_last(pixels: np.ndarray) -> np.ndarray:
    """``(c, y, x)`` or ``(t, c, y, x)`` with the channels last."""
    return np.moveaxis(pixels, -3, -1)


def is_equal(got: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether arrays are equal in dtype, shape and all values; nan equals nan."""
    same = got.dtype == wanted.dtype and got.shape == wanted.shape
    return bool(same and np.array_equal(got, wanted, equal_nan=got.dtype.kind in "fc"))
