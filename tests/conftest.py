"""Fixtures shared by the tests."""

from __future__ import annotations

import signal

import numpy as np
import pytest

import ndframes as nf

BACKENDS = {
    "direct": None,
    "npy": "npy",
    "cog": "cog",
    "raw": {"type": "cog", "config": {"compress": "NONE", "blocksize": 64}},
    "deflate": {"type": "cog", "config": {"compress": "DEFLATE", "predictor": "YES", "blocksize": 128}},
}


@pytest.fixture(params=BACKENDS, scope="session")
def backend(request):
    return BACKENDS[request.param]


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_is_heard():
    """A shell that starts the tests in the background makes them, and all that they start, deaf to it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def workdir_of_its_own(tmp_path_factory):
    """No test writes to the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NDFRAMES_WORKDIR", str(tmp_path_factory.mktemp("workdir")))
        yield


@pytest.fixture
def write_npy(tmp_path):
    """Write arrays as ``.npy`` sources; returns their paths."""

    def write(name: str, array: np.ndarray) -> str:
        path = tmp_path / f"{name}.npy"
        np.save(path, array)
        return str(path)

    return write


@pytest.fixture
def gradient():
    """A small image in which every pixel of every band is another value."""
    return np.arange(37 * 53 * 3, dtype=np.uint16).reshape(37, 53, 3)


@pytest.fixture
def frames_of(tmp_path, write_npy):
    """Frames over one array, with id ``"a"``."""

    def make(array: np.ndarray, **options) -> nf.SimpleFrames:
        return nf.SimpleFrames({"a": write_npy("a", array)}, workdir=tmp_path / "work", **options)

    return make


@pytest.fixture
def at_rest(monkeypatch):
    """Sources count as settled at once, so that what was opened stays open."""
    monkeypatch.setattr("ndframes.system.stamp._LONGEST_TICK_NS", 0)


@pytest.fixture(scope="module")
def module_at_rest():
    """:func:`at_rest` for a whole module, so that fixtures of the module can rely on it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ndframes.system.stamp._LONGEST_TICK_NS", 0)
        yield
