"""Short reads run in the event loop, and nothing that may take long does."""

from __future__ import annotations

import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import imagecodecs
import numpy as np
import pytest
from kit.synthetic import picture
from kit.waiting import wait_until

import ndframes as nf
from ndframes.entries.conversion import Conversion
from ndframes.items.image import AlignableImageData
from ndframes.server import ServiceLimits, reads
from ndframes.system.waiting import WouldOpenError, opening_nothing

SHAPE = (900, 700, 3)
HERE, THREAD = "ndframes-server", "ndframes-read"


@pytest.fixture
def frames(tmp_path, at_rest):
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", picture(SHAPE, "uint8", seed=ord(name)))
    np.save(tmp_path / "deep.npy", picture(SHAPE, "uint16"))
    sources = {name: tmp_path / f"{name}.npy" for name in ("a", "b", "deep")}
    frames = nf.SimpleFrames(sources, workdir=tmp_path / "work")
    frames.prepare()
    return frames


@pytest.fixture
def where(monkeypatch):
    """The names of the threads that read pixels and convert files, in order."""
    seen = {"read": [], "convert": []}

    def watch(kind, function):
        def watched(*arguments, **options):
            seen[kind].append(threading.current_thread().name)
            return function(*arguments, **options)

        return watched

    monkeypatch.setattr(AlignableImageData, "load_region", watch("read", AlignableImageData.load_region))
    monkeypatch.setattr(Conversion, "run", watch("convert", Conversion.run))
    # However slow the machine is.
    monkeypatch.setattr(reads, "_LONG_SECONDS", 60.0)
    return seen


def load(site, path):
    reply = site.ask(path)
    assert reply.status == 200, reply.text
    return np.load(io.BytesIO(reply.body))


def is_here(site, where, path) -> bool:
    where["read"].clear()
    assert site.ask(path).status == 200
    names = {name.rpartition("-")[0] if name[-1].isdigit() else name for name in where["read"]}
    assert len(names) == 1
    assert names <= {HERE, THREAD}
    return names == {HERE}


def test_which_reads_are_short(frames, serve_frames, where):
    site, _ = serve_frames(frames)
    tile = "/frames/a/region?y=0:256&x=128:384"
    assert not is_here(site, where, tile)  # it is opened now
    assert is_here(site, where, tile)
    assert is_here(site, where, "/iiif/a/0,0,256,256/256,256/0/default.jpg")
    assert is_here(site, where, "/iiif/a/0,0,256,256/128,128/90/gray.jpg")
    for path in (
        "/frames/a/region?y=0:512&x=0:512",
        "/frames/a/region?y=::64&x=::64",
        "/frames/a/region?y=0:64&x=0:64&scale=0.5",
        "/frames/a/region?y=0:64&x=0:64&format=png",
        "/iiif/a/0,0,512,512/512,512/0/default.jpg",
        "/iiif/a/0,0,64,64/64,64/0/default.png",
    ):
        assert not is_here(site, where, path), path
    # Of 16 bits: the limits of the picture may have to be found.
    for _ in range(2):
        assert not is_here(site, where, "/iiif/deep/0,0,64,64/64,64/0/default.jpg")


@pytest.mark.parametrize(
    "backend",
    [None, "npy", {"type": "cog", "config": {"overviews": False}}, {"type": "cog", "config": {"blocksize": 512}}],
)
def test_images_that_may_take_long_are_read_in_threads(frames, serve_frames, where, backend):
    """Sources, chunks without tiles, overviews that must be computed, and large tiles."""
    frames.backend = backend
    site, _ = serve_frames(frames)
    for _ in range(2):
        assert not is_here(site, where, "/iiif/a/full/70,90/0/default.jpg")


def test_files_that_are_placed_are_read_in_threads(frames, serve_frames, where):
    """A pixel of the image is 100 x 100 of the file."""
    source = frames.pathinfo("a").channels[0].path
    info = nf.PathInfo("a", [nf.ChannelInfo(source, img_from_src=[[0.01, 0, 0], [0, 0.01, 0], [0, 0, 1]])])
    placed = nf.SimpleFrames({"a": info}, workdir=frames.cache.workdir)
    site, _ = serve_frames(placed)
    for _ in range(2):
        assert not is_here(site, where, "/frames/a/region?y=0:8&x=0:7")


def test_short_reads_have_the_same_pixels_and_checks(frames, serve_frames, where):
    limits = ServiceLimits(max_pixels=100 * 100, max_total_bytes=2**20)
    site, _ = serve_frames(frames, limits=limits)
    for _ in range(2):
        region = np.s_[100:164, 300:396]
        assert np.array_equal(load(site, "/frames/a/region?y=100:164&x=300:396"), frames.load_region("a", region))
        assert site.ask("/frames/a/region?y=0:101&x=0:100").status == 413
        assert site.ask("/frames/a/region?y=0:10&x=0:10&c=9").status == 400
        assert site.ask("/iiif/a/0,0,10,10/9999,/0/default.jpg").status == 400
    wait_until(lambda: site.ask("/stats").json["bytes_in_use"] == 0)


def test_short_reads_wait_for_no_thread(frames, serve_frames, monkeypatch):
    """While all threads convert another image."""
    site, _ = serve_frames(frames, limits=ServiceLimits(threads=1))
    monkeypatch.setattr(reads, "_LONG_SECONDS", 60.0)
    wanted = frames.load_region("a", np.s_[:128, :128])
    assert np.array_equal(load(site, "/frames/a/region?y=0:128&x=0:128"), wanted)
    gate, begun = threading.Event(), threading.Event()
    run = Conversion.run

    def wait(self, **options):
        begun.set()
        assert gate.wait(60)
        return run(self, **options)

    monkeypatch.setattr(Conversion, "run", wait)
    entry = frames.image("b").opened(0).entry_path
    frames.cache.discard(entry)
    frames.refresh()
    frames.image("a").opened(0)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(site.ask, "/frames/b/region?y=0:128&x=0:128")
        assert begun.wait(60)
        assert np.array_equal(load(site, "/frames/a/region?y=0:128&x=0:128"), wanted)
        picture_of_it = imagecodecs.jpeg8_decode(site.ask("/iiif/a/0,0,128,128/128,128/0/default.jpg").body)
        assert picture_of_it.shape == wanted.shape
        gate.set()
        assert slow.result().status == 200


def test_nothing_is_converted_in_the_event_loop(frames, serve_frames, where, tmp_path, damage_tile):
    """Whatever becomes of the entry and the source while the image is open."""
    site, _ = serve_frames(frames)
    path = "/frames/a/region?y=0:128&x=0:128"
    first = load(site, path)
    (file,) = site.ask("/frames/a/tiles").json["files"]
    stored = f"/frames/a/{file['state']}/tiles/0?rows=0&cols=0"
    assert site.ask(stored).body == first.tobytes()
    damage_tile(frames.image("a").opened(0).entry_path, 0)
    assert site.ask(stored).body == first.tobytes()
    frames.cache.clear()
    frames.refresh()
    assert np.array_equal(load(site, path), first)
    np.save(tmp_path / "a.npy", picture(SHAPE, "uint8", seed=1))
    second = load(site, path)
    assert np.array_equal(second, picture(SHAPE, "uint8", seed=1)[:128, :128])
    assert site.ask("/iiif/a/0,0,128,128/128,128/0/default.jpg").status == 200
    assert site.ask(stored).status == 410
    assert len(where["convert"]) >= 3
    assert all(name.startswith(THREAD) for name in where["convert"])


def test_reads_go_to_threads_for_a_while_after_one_that_waited(frames, serve_frames, where, monkeypatch):
    """As for a slow disk; one that was slow for lack of the processor does not count."""
    site, _ = serve_frames(frames)
    path = "/frames/a/region?y=0:64&x=0:64"
    assert not is_here(site, where, path)
    monkeypatch.setattr(reads, "_LONG_SECONDS", 0.0005)
    monkeypatch.setattr(reads, "_PAUSE_FACTOR", 1e6)
    slow: list[float] = []
    load_region = AlignableImageData.load_region

    def wait(self, *arguments, **options):
        if slow:
            time.sleep(slow.pop())
        return load_region(self, *arguments, **options)

    monkeypatch.setattr(AlignableImageData, "load_region", wait)
    slow.append(0.01)
    assert is_here(site, where, path)
    assert not is_here(site, where, path)
    assert not is_here(site, where, "/iiif/a/0,0,64,64/64,64/0/default.jpg")


def test_opening_nothing(frames):
    region = np.s_[:64, :64]
    with opening_nothing(), pytest.raises(WouldOpenError):
        frames.load_region("a", region)
    wanted = frames.load_region("a", region)
    with opening_nothing():
        assert np.array_equal(frames.load_region("a", region), wanted)
        # Of this thread alone.
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(frames.load_region, "b", region).result().shape == (64, 64, 3)
    frames.refresh()
    assert np.array_equal(frames.load_region("a", region), wanted)
