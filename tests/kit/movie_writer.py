"""A process that writes a movie until it is killed."""

from __future__ import annotations

import time

import numpy as np

import ndframes as nf

SHAPE = (40, 56)
DTYPE_OF = {16: "f8", "exact": "f4"}


def field_of(number: int, bits: int | str) -> np.ndarray:
    """The field of a number, which every process computes alike."""
    return np.random.default_rng(number).random(SHAPE).astype(DTYPE_OF[bits])


def write_for_ever(path: str, mode: str, durable: str, bits: int | str, pipe) -> None:
    """Append fields; after each one send its number and the time."""
    movie = nf.MovieStorage(path, mode=mode, durable=durable, bits=bits)
    for number in range(len(movie), 10**9):
        movie.append(field_of(number, bits), number / 3)
        pipe.send((number, time.monotonic()))
