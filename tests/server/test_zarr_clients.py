"""Zarr: other libraries read the pixels of ``load_region`` over HTTP on loopback, and raise errors where there are none."""

from __future__ import annotations

import numpy as np
import pytest
from kit.synthetic import picture
from kit.zarr_copies import channels_last, is_equal

import ndframes as nf
from ndframes.server import serve

zarr = pytest.importorskip("zarr")
pytest.importorskip("aiohttp")
FORMS = ("zarr", "zarr-planar")
DTYPES = {"rgb": "uint8", "deep": "uint16", "real": "float32", "mask": "bool", "wide": "complex128", "half": "float16"}


@pytest.fixture(scope="module")
def served(tmp_path_factory, module_at_rest):
    """Frames of all kinds, and where they are served with the token in the path."""
    folder = tmp_path_factory.mktemp("served")
    sources = {}
    for bands, (name, dtype) in zip((3, 1, 2, 3, 1, 4), DTYPES.items(), strict=True):
        np.save(folder / f"{name}.npy", picture((301, 277, bands), dtype))
        sources[name] = folder / f"{name}.npy"
    stack = np.stack([picture((101, 137, 3), seed=number) for number in range(10)])
    nf.write_video(folder / "clip.mkv", stack, fps=10, codec="ffv1")
    (folder / "walk").mkdir()
    for number in range(3):
        np.save(folder / "walk" / f"{number}.npy", stack[number])
    sources |= {"clip": folder / "clip.mkv", "walk": folder / "walk"}
    frames = nf.SimpleFrames(sources, workdir=folder / "work", backend="cog")
    with serve(frames) as service:
        address, _, token = service.address.partition("#token=")
        yield frames, f"{address}k/{token}"


def paths_of(address):
    return [each["path"] for each in zarr.open_group(address, mode="r").attrs["ome"]["multiscales"][0]["datasets"]]


def wanted(frames, name, level):
    return frames.load_region(name, **({"scale": 0.5**level} if level else {}))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [*DTYPES, "clip", "walk"])
def test_zarr_python(served, name, form):
    frames, base = served
    group = zarr.open_group(f"{base}/{form}/{name}", mode="r")
    # Nothing can be listed over HTTP, so the group says what is in it.
    (state,) = group.group_keys()
    assert list(group[state].array_keys()) == [
        path.removeprefix(f"{state}/") for path in paths_of(f"{base}/{form}/{name}")
    ]
    for level, path in enumerate(paths_of(f"{base}/{form}/{name}")):
        array = zarr.open_array(f"{base}/{form}/{name}/{path}", mode="r")
        assert is_equal(channels_last(array[:]), wanted(frames, name, level))
        part = channels_last(array[..., 3:40, 5:20])
        assert is_equal(part, wanted(frames, name, level)[..., 3:40, 5:20, :])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [*DTYPES, "clip", "walk"])
def test_tensorstore(served, name, form):
    tensorstore = pytest.importorskip("tensorstore")
    frames, base = served
    address = f"{base}/{form}/{name}"
    for level, path in enumerate(paths_of(address)):
        store = {"driver": "http", "base_url": f"{address}/{path}/"}
        array = tensorstore.open({"driver": "zarr3", "kvstore": store}, open=True).result()
        assert is_equal(channels_last(array.read().result()), wanted(frames, name, level))
        assert array.domain.labels[-2:] == ("y", "x")


def test_tensorstore_asks_again_for_what_it_has(served):
    tensorstore = pytest.importorskip("tensorstore")
    frames, base = served
    address = f"{base}/zarr/rgb"
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "http", "base_url": f"{address}/{paths_of(address)[0]}/"},
        "context": {"cache_pool": {"total_bytes_limit": 10_000_000}},
        "recheck_cached_data": True,
    }
    array = tensorstore.open(spec, open=True).result()
    for _ in range(2):  # with If-None-Match the second time
        assert is_equal(channels_last(array.read().result()), frames.load_region("rgb"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["rgb", "deep", "clip"])
def test_the_metadata_is_valid_ome_zarr(served, name, form):
    models = pytest.importorskip("ome_zarr_models")
    _, base = served
    state = zarr.open_group(f"{base}/{form}/{name}", mode="r").attrs["ndframes"]["state"]
    for address in (f"{base}/{form}/{name}", f"{base}/{form}/{name}/{state}"):
        image = models.open_ome_zarr(zarr.open_group(address, mode="r"))
        assert isinstance(image, models.v05.Image)


def test_a_state_that_is_gone_is_an_error(tmp_path, at_rest):
    tensorstore = pytest.importorskip("tensorstore")
    from aiohttp import ClientResponseError

    np.save(tmp_path / "a.npy", picture((70, 60, 1)))
    frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path / "work", backend=None)
    with serve(frames) as service:
        address, _, token = service.address.partition("#token=")
        base = f"{address}k/{token}/zarr/a"
        path = paths_of(base)[0]
        array = zarr.open_array(f"{base}/{path}", mode="r")
        store = {"driver": "http", "base_url": f"{base}/{path}/"}
        other = tensorstore.open({"driver": "zarr3", "kvstore": store}, open=True).result()
        np.save(tmp_path / "a.npy", picture((70, 60, 1), seed=1))
        with pytest.raises(ClientResponseError, match="410"):
            array[:]
        with pytest.raises(ValueError, match="Gone"):
            other.read().result()
        assert is_equal(
            channels_last(zarr.open_array(f"{base}/{paths_of(base)[0]}", mode="r")[:]), frames.load_image("a")
        )
