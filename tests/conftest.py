"""Fixtures for all tests."""

from __future__ import annotations

import gc
import os
import signal
import sys
import uuid

import hypothesis
import numpy as np
import pytest

import ndframes as nf

# Tests start hundreds of processes. With this setting, which some containers have, each would compile the whole package.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# The same examples in each run, so that no result depends on luck; --hypothesis-profile=random draws others. A busy machine may
# be as slow as it is.
hypothesis.settings.register_profile("suite", max_examples=50, deadline=None, derandomize=True)
hypothesis.settings.register_profile("random", max_examples=50, deadline=None)
hypothesis.settings.load_profile("suite")

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


@pytest.fixture(autouse=True, scope="module")
def only_new_objects_are_collected():
    """Leave what other modules imported out of garbage collections, which with torch take 0.1 s each, and there are many."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_is_enabled():
    """A shell makes background jobs, and the processes that they start, ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def scheduling_is_kept():
    """A real-time thread of an encoder would starve everything else on the machine."""
    yield
    assert os.sched_getscheduler(0) == os.SCHED_OTHER, "a library has made the main thread a real-time one"


@pytest.fixture(autouse=True, scope="session")
def temporary_workdir(tmp_path_factory):
    """Keep tests from writing to the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NDFRAMES_WORKDIR", str(tmp_path_factory.mktemp("workdir")))
        yield


@pytest.fixture
def write_npy(tmp_path):
    """Write an array as an ``.npy`` source; return its path."""

    def write(name: str, array: np.ndarray) -> str:
        path = tmp_path / f"{name}.npy"
        np.save(path, array)
        return str(path)

    return write


@pytest.fixture
def gradient():
    """A small image in which all values differ."""
    return np.arange(37 * 53 * 3, dtype=np.uint16).reshape(37, 53, 3)


@pytest.fixture
def frames_of(tmp_path, write_npy):
    """Frames over one array, with id ``"a"``."""

    def make(array: np.ndarray, **options) -> nf.SimpleFrames:
        return nf.SimpleFrames({"a": write_npy("a", array)}, workdir=tmp_path / "work", **options)

    return make


@pytest.fixture
def at_rest(monkeypatch):
    """Treat sources as settled at once, so that opened files stay open."""
    monkeypatch.setattr("ndframes.system.stamp._LONGEST_TICK_NS", 0)


@pytest.fixture(scope="module")
def module_at_rest():
    """:func:`at_rest` for a whole module, so that fixtures of the module can rely on it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ndframes.system.stamp._LONGEST_TICK_NS", 0)
        yield


@pytest.fixture(scope="session")
def object_server(tmp_path_factory):
    """An object store on loopback, started when a test of this process first needs it."""
    from kit.object_servers import start_seaweedfs

    with start_seaweedfs(tmp_path_factory.mktemp("objects")) as server:
        yield server


@pytest.fixture
def bucket(object_server, monkeypatch):
    """The URL of an empty place in a bucket; the environment has what a client needs to reach it."""
    object_server.use(monkeypatch)
    return f"s3://{object_server.buckets[-1]}/{uuid.uuid4().hex[:12]}"


def pytest_collection_modifyitems(config, items):
    """With ``NDFRAMES_TEST_STORE`` set, leave out the tests that are about a cache on a disk."""
    if os.environ.get("NDFRAMES_TEST_STORE"):
        from kit.remote_workdirs import ON_DISK

        left_out = [item for item in items if item.function.__name__ in ON_DISK]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True, scope="session")
def files_at_addresses():
    """With ``NDFRAMES_TEST_ADDRESSES`` set, the tests of TIFF files read them from a server."""
    if not os.environ.get("NDFRAMES_TEST_ADDRESSES"):
        yield
        return
    from kit.addressed import read_by_address, serve_everything

    with pytest.MonkeyPatch.context() as patch, serve_everything() as site:
        read_by_address(patch, site)
        yield
        assert site.requests, "no test read a file"


@pytest.fixture(autouse=True, scope="session")
def workdirs_in_a_store(request, tmp_path_factory):
    """With ``NDFRAMES_TEST_STORE`` set, all tests keep their entries in an object store."""
    kind = os.environ.get("NDFRAMES_TEST_STORE")
    if not kind:
        yield
        return
    from kit.remote_workdirs import place_workdirs

    server = request.getfixturevalue("object_server")
    with pytest.MonkeyPatch.context() as patch:
        server.use(patch)
        tier = tmp_path_factory.mktemp("tier") if kind == "tier" else None
        place_workdirs(patch, f"s3://{server.new_bucket()}", tier)
        yield
