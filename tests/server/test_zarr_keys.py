"""Zarr: which keys there are, in which state of the files, and that no chunk of a grid is ever missing."""

from __future__ import annotations

import json
import os
import threading
import time

import numpy as np
import pytest
import zstandard
from kit.damage import damage
from kit.synthetic import picture
from kit.waiting import wait_until
from kit.zarr_copies import list_chunks

import ndframes as nf
from ndframes.server import ServiceLimits
from ndframes.system.stamp import stat_source

SHAPE = (75, 52, 3)
TILED = {"type": "cog", "config": {"blocksize": 32}}


@pytest.fixture
def frames(tmp_path, at_rest):
    (tmp_path / "walk").mkdir()
    for number in range(3):
        np.save(tmp_path / "walk" / f"{number}.npy", picture(SHAPE, seed=number))
    np.save(tmp_path / "a.npy", picture(SHAPE))
    sources = {"a": tmp_path / "a.npy", "walk": tmp_path / "walk"}
    return nf.SimpleFrames(sources, workdir=tmp_path / "work", backend=TILED, verify="first-touch")


def state_of(site, name="a"):
    reply = site.ask(f"/zarr/{name}/zarr.json")
    assert reply.status == 200, reply.text
    return reply.json["attributes"]["ndframes"]["state"]


def chunks_of(site, name="a", form="zarr"):
    """The paths of all chunks of all levels."""
    root = site.ask(f"/{form}/{name}/zarr.json").json
    for each in root["attributes"]["ome"]["multiscales"][0]["datasets"]:
        for key in list_chunks(root["consolidated_metadata"]["metadata"][each["path"]]):
            yield f"/{form}/{name}/{each['path']}/{key}"


def test_keys_that_do_not_exist(frames, serve_frames):
    site, _ = serve_frames(frames)
    state = state_of(site)
    assert site.ask(f"/zarr/a/{state}/0/c/0/2/1").status == 200
    for key in (
        "", "/", "/.zarray", "/.zattrs", "/.zgroup", "/.zmetadata", "/0/zarr.json", "/0/c/0/0/0", "/c/0/0/0", "/{}/.zarray",
        "/{}/0/.zarray", "/{}/0/0.0.0", "/{}/0/c", "/{}/0/c/0/0", "/{}/0/c/0/0/0/0", "/{}/0/c/0/0/00", "/{}/0/c/0/-1/0",
        "/{}/0/c/0/3/0", "/{}/0/c/0/0/2", "/{}/0/c/1/0/0", "/{}/0/c/0/0/99999999999", "/{}/0/c/0/0/9999999999999999999999",
        "/{}/9/zarr.json", "/{}/9/c/0/0/0", "/{}/00/zarr.json", "/{}/0", "/{}/0/zarr.json/", "/{}/../zarr.json", "/nothing",
        "/{}/0/c/0/0/0%00", "/../../../../etc/passwd",
    ):  # fmt: skip
        assert site.ask("/zarr/a" + key.replace("{}", state)).status == 404, key


def test_names_that_do_not_exist(frames, serve_frames):
    site, _ = serve_frames(frames)
    state = state_of(site)
    assert site.ask("/zarr/q/zarr.json").status == 404
    assert site.ask("/zarr/q/.zattrs").status == 404
    # Who has a state has seen the image: its chunks are gone, and not zeros.
    assert site.ask(f"/zarr/q/{state}/0/c/0/0/0").status == 410
    assert site.ask(f"/zarr/q/{state}/0/zarr.json").status == 410


@pytest.mark.parametrize("form", ["zarr", "zarr-planar"])
def test_every_chunk_of_every_grid_is_there(frames, serve_frames, form):
    site, _ = serve_frames(frames)
    for name in frames:
        paths = list(chunks_of(site, name, form))
        assert len(paths) >= 3
        assert {site.ask(path).status for path in paths} == {200}


def test_a_file_that_changes_has_another_state(frames, serve_frames, tmp_path):
    site, _ = serve_frames(frames)
    old = list(chunks_of(site))
    state = state_of(site)
    assert site.ask(old[0]).status == 200
    np.save(tmp_path / "a.npy", picture(SHAPE, seed=7))
    for path in (*old, f"/zarr/a/{state}/zarr.json", f"/zarr/a/{state}/0/zarr.json"):
        reply = site.ask(path)
        assert (reply.status, reply.json["error"]["type"]) == (410, "SourceChangedError")
    assert state_of(site) != state
    assert {site.ask(path).status for path in chunks_of(site)} == {200}


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((20, 20, 1), "uint8"),
        ((20, 20, 3), "uint8"),
        ((75, 52, 4), "uint8"),
        ((75, 52, 3), "complex64"),
        ((300, 300, 3), "uint8"),
    ],
)
def test_another_form_is_another_state(frames, serve_frames, tmp_path, shape, dtype):
    site, _ = serve_frames(frames)
    old = list(chunks_of(site))
    pixels = picture(shape, dtype)
    np.save(tmp_path / "a.npy", pixels)
    for path in old:
        reply = site.ask(path)
        assert (reply.status, reply.json["error"]["type"]) == (410, "SourceChangedError")
    assert {site.ask(path).status for path in chunks_of(site)} == {200}
    array = site.ask(f"/zarr/a/{state_of(site)}/0/zarr.json").json
    assert array["shape"] == [shape[2], *shape[:2]]
    assert array["data_type"] == dtype


def test_an_image_of_a_sequence_that_changes(frames, serve_frames, tmp_path):
    site, _ = serve_frames(frames)
    old = list(chunks_of(site, "walk"))
    for path in old:
        site.ask(path)
    np.save(tmp_path / "walk" / "1.npy", picture(SHAPE, seed=7))
    statuses = {path: site.ask(path).status for path in old}
    # A chunk of an image that did not change is right. Once the change is known, the whole state is gone.
    assert {status for path, status in statuses.items() if "/c/1/" in path} == {410}
    assert {*statuses.values()} <= {200, 410}
    assert state_of(site, "walk") not in old[0]
    assert {site.ask(path).status for path in old} == {410}
    assert {site.ask(path).status for path in chunks_of(site, "walk")} == {200}


def test_a_change_that_no_time_shows(tmp_path, serve_frames):
    # Not at rest: the second change may fall into the same step of the file system's clock.
    np.save(tmp_path / "a.npy", picture(SHAPE))
    frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path / "work", backend=None)
    site, _ = serve_frames(frames)
    (first, *_), state = list(chunks_of(site)), state_of(site)
    wanted = site.ask(first).body
    times = os.stat(tmp_path / "a.npy")
    assert state_of(site) == state
    # A file that settles keeps its state, also for a process that has not seen it before.
    wait_until(lambda: is_settled(tmp_path / "a.npy"))
    assert state_of(site) == state
    other, _ = serve_frames(nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path / "other", backend=None))
    assert state_of(other) == state
    assert site.ask(first).body == wanted
    pixels = np.load(tmp_path / "a.npy")
    with open(tmp_path / "a.npy", "r+b") as file:
        np.save(file, pixels[::-1])
    os.utime(tmp_path / "a.npy", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert site.ask(first).status == 410


@pytest.mark.parametrize("backend", [None, TILED], ids=["direct", "tiled"])
def test_a_file_that_keeps_changing(tmp_path, serve_frames, backend):
    pictures = [picture((40, 60, 1), seed=seed) for seed in range(20)]
    np.save(tmp_path / "a.npy", pictures[0])
    frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path / "work", backend=backend)
    site, _ = serve_frames(frames)

    def wait_for_more():
        wanted = len(seen) + 4
        wait_until(lambda: len(seen) >= wanted)

    def replace_file():
        for pixels in pictures[1:]:
            np.save(tmp_path / "new.npy", pixels)
            os.replace(tmp_path / "new.npy", tmp_path / "a.npy")
            wait_for_more()
        is_over.set()

    seen, is_over = [], threading.Event()
    writer = threading.Thread(target=replace_file)
    writer.start()
    while not is_over.is_set():
        root = site.ask("/zarr/a/zarr.json")
        if root.status == 503:
            seen.append((None, 503))
            continue
        metadata = root.json["consolidated_metadata"]["metadata"]
        path = root.json["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"]
        for key in list_chunks(metadata[path]):
            reply = site.ask(f"/zarr/a/{path}/{key}")
            assert reply.status in (200, 410, 503)
            steps = metadata[path]["chunk_grid"]["configuration"]["chunk_shape"]
            is_zstd = metadata[path]["codecs"][-1]["name"] == "zstd"
            if reply.status == 200:
                data = zstandard.decompress(reply.body) if is_zstd else reply.body
                seen.append((path, find_picture(pictures, np.frombuffer(data, np.uint8).reshape(steps[1:]), key)))
            else:
                seen.append((path, reply.status))
    writer.join()
    # Chunks of one state are of one picture, and those of several states were read.
    by_state = {
        path: {number for other, number in seen if other == path and number not in (410, 503)} for path, _ in seen
    }
    assert max(map(len, by_state.values())) == 1
    assert sum(map(len, by_state.values())) > 3


def find_picture(pictures, chunk, key):
    """The number of the only picture that has a chunk, where it is inside of it."""
    row, col = map(int, key.split("/")[2:])
    height, width = chunk.shape
    found = []
    for number, pixels in enumerate(pictures):
        part = pixels[row * height : (row + 1) * height, col * width : (col + 1) * width, 0]
        if np.array_equal(part, chunk[: part.shape[0], : part.shape[1]]):
            found.append(number)
    (only,) = found
    return only


def is_settled(path):
    return stat_source(str(path)).is_settled(time.time_ns())


def test_files_that_are_trusted_for_a_while(frames, serve_frames, tmp_path):
    frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path / "work", backend=TILED, recheck_seconds=3600)
    site, _ = serve_frames(frames)
    paths = list(chunks_of(site))
    wanted = [site.ask(path).body for path in paths]
    np.save(tmp_path / "a.npy", picture(SHAPE, seed=7))
    # As reads of regions, which do not look at the file either.
    assert np.array_equal(frames.load_image("a"), picture(SHAPE))
    assert [site.ask(path).body for path in paths] == wanted
    assert list(chunks_of(site)) == paths
    frames.refresh()
    assert {site.ask(path).status for path in paths} == {410}
    assert {site.ask(path).status for path in chunks_of(site)} == {200}


def test_a_sequence_that_grows(frames, serve_frames, tmp_path):
    site, _ = serve_frames(frames)
    paths = list(chunks_of(site, "walk"))
    np.save(tmp_path / "walk" / "0a.npy", picture(SHAPE, seed=9))
    frames.refresh()
    assert {site.ask(path).status for path in paths} == {410}
    assert len(list(chunks_of(site, "walk"))) == len(paths) / 3 * 4


def test_an_entry_that_is_evicted_is_made_again(frames, serve_frames):
    site, _ = serve_frames(frames)
    paths = [*chunks_of(site), *chunks_of(site, "walk")]
    wanted = [site.ask(path).body for path in paths]
    frames.cache.clear()
    frames.refresh()
    assert [site.ask(path).body for path in paths] == wanted


def test_damaged_tiles_never_leave(frames, serve_frames):
    site, _ = serve_frames(frames)
    paths = list(chunks_of(site))
    wanted = [site.ask(path).body for path in paths]
    entry = frames.image("a").opened(0).entry
    damage(entry.path, entry.trailer.payload_bytes - 100)
    got = [site.ask(path) for path in paths]
    # Read as pixels, which has made the entry again, and packed: other bytes for the same pixels.
    assert {reply.status for reply in got} == {200}
    assert sum(reply.body != bytes_ for reply, bytes_ in zip(got, wanted, strict=True)) <= 1
    assert [site.ask(path).body for path in paths] == wanted
    assert frames.cache.stat().quarantined == 1


def test_an_entry_that_another_program_wrote_to(frames, serve_frames):
    site, _ = serve_frames(frames)
    paths = list(chunks_of(site))
    wanted = [site.ask(path).body for path in paths]
    entry = frames.image("a").opened(0).entry
    damage(entry.path, entry.trailer.payload_bytes - 100)
    os.utime(entry.path, (1, 1))  # it is no longer the file that was opened
    got = [site.ask(path) for path in paths]
    assert {reply.status for reply in got} <= {200, 410}
    for path, reply, body in zip(paths, got, wanted, strict=True):
        assert reply.status == 410 or np.array_equal(pixels_of(reply.body, path), pixels_of(body, path))
    assert {site.ask(path).status for path in chunks_of(site)} == {200}


def pixels_of(body, path):
    """The pixels of a chunk that are in the image: what is beyond it may differ."""
    *_, level, _, _, row, col = path.split("/")
    chunk = np.frombuffer(zstandard.decompress(body), np.uint8).reshape(32, 32, 3)
    height, width = (
        int(extent) / 2 ** int(level) - 32 * int(at) for extent, at in zip(SHAPE[:2], (row, col), strict=True)
    )
    return chunk[: int(height), : int(width)]


def test_an_image_that_cannot_be_read_any_more(frames, serve_frames, tmp_path):
    site, _ = serve_frames(frames)
    paths = list(chunks_of(site))
    frames.cache.clear()
    frames.refresh()
    os.remove(tmp_path / "a.npy")
    assert {site.ask(path).status for path in paths} == {410}
    (tmp_path / "a.npy").write_bytes(b"no picture")
    assert {site.ask(path).status for path in paths} == {500}


def test_limits(frames, serve_frames):
    site, _ = serve_frames(frames, limits=ServiceLimits(max_pixels=1000))
    # Metadata costs nothing; a chunk that the server would never send is an error, and not missing.
    assert {site.ask(path).status for path in chunks_of(site)} == {413}


def test_what_may_be_kept(frames, serve_frames):
    site, _ = serve_frames(frames)
    state, chunk = state_of(site), next(chunks_of(site))
    for path in (chunk, f"/zarr/a/{state}/zarr.json", f"/zarr/a/{state}/0/zarr.json"):
        reply = site.ask(path)
        assert reply.headers["cache-control"] == "private, max-age=31536000, immutable"
        again = site.ask(path, **{"If-None-Match": reply.headers["etag"]})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", reply.headers["etag"])
    root = site.ask("/zarr/a/zarr.json")
    assert root.headers["cache-control"] == "private, no-cache"
    assert site.ask("/zarr/a/zarr.json", **{"If-None-Match": root.headers["etag"]}).status == 304


def test_parts_of_a_chunk(frames, serve_frames):
    site, _ = serve_frames(frames)
    path = next(chunks_of(site))
    whole = site.ask(path)
    count = len(whole.body)
    assert whole.headers["accept-ranges"] == "bytes"
    for wanted, status, first, stop in (
        ("bytes=0-9", 206, 0, 10), ("bytes=10-", 206, 10, count), ("bytes=-7", 206, count - 7, count),
        ("bytes=5-99999999", 206, 5, count), ("bytes=-99999999", 206, 0, count), ("bytes=99999999-", 416, 0, 0),
        ("bytes=-0", 416, 0, 0), ("bytes=9-5", 200, 0, count), ("bytes=-", 200, 0, count), ("bytes=0-1,4-5", 200, 0, count),
        ("lines=1-2", 200, 0, count),
    ):  # fmt: skip
        reply = site.ask(path, Range=wanted)
        assert (reply.status, reply.body) == (status, whole.body[first:stop]), wanted
        place = {206: f"bytes {first}-{stop - 1}/{count}", 416: f"bytes */{count}"}.get(status)
        assert reply.headers.get("content-range") == place
        # Another content than that of the first part is sent as a whole; HEAD knows no parts.
        assert site.ask(path, Range=wanted, **{"If-Range": '"other"'}).body == whole.body
        head = site.ask(path, "HEAD", Range=wanted)
        assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(count))


def test_the_token_in_the_path(frames, serve_frames):
    site, _ = serve_frames(frames)
    path = next(chunks_of(site))
    assert site.ask(path, has_token=False).status == 401
    reply = site.ask(f"/k/{site.token}{path}", has_token=False)
    assert reply.body == site.ask(path).body
    assert reply.headers["access-control-allow-origin"] == "*"


def test_parameters_are_refused(frames, serve_frames):
    site, _ = serve_frames(frames)
    assert site.ask("/zarr/a/zarr.json?channels=r").status == 400


def test_attributes_for_viewers(tmp_path, at_rest, serve_frames):
    np.save(tmp_path / "a.npy", picture((300, 260, 3), "uint16"))
    np.save(tmp_path / "f.npy", picture((30, 26, 2), "float32"))
    infos = {
        "a": nf.ChannelInfo(tmp_path / "a.npy", channels="r|g|b", nodata=7),
        "f": nf.ChannelInfo(tmp_path / "f.npy", channels="u|v", nodata=float("nan")),
    }
    site, _ = serve_frames(nf.SimpleFrames(infos, workdir=tmp_path / "work", backend=None))
    attributes = site.ask("/zarr/a/zarr.json").json["attributes"]
    assert attributes["ndframes"]["channels"] == ["r", "g", "b"]
    assert attributes["ndframes"]["nodata"] == [7, 7, 7]
    assert [channel["label"] for channel in attributes["ome"]["omero"]["channels"]] == ["r", "g", "b"]
    assert [channel["color"] for channel in attributes["ome"]["omero"]["channels"]] == ["FF0000", "00FF00", "0000FF"]
    (multiscale,) = attributes["ome"]["multiscales"]
    assert [axis["name"] for axis in multiscale["axes"]] == ["c", "y", "x"]
    # The first pixel of a level has its centre between those of the four that it is the mean of.
    assert [each["coordinateTransformations"] for each in multiscale["datasets"]] == [
        [{"type": "scale", "scale": [1, 1, 1]}],
        [{"type": "scale", "scale": [1, 2, 2]}, {"type": "translation", "translation": [0, 0.5, 0.5]}],
    ]
    state = attributes["ndframes"]["state"]
    array = site.ask(f"/zarr/a/{state}/1/zarr.json").json
    assert array["attributes"]["ndframes"] == attributes["ndframes"]
    assert (array["fill_value"], array["dimension_names"]) == (0, ["c", "y", "x"])
    assert json.loads(site.ask("/zarr/f/zarr.json").text)["attributes"]["ndframes"]["nodata"] == ["NaN", "NaN"]
