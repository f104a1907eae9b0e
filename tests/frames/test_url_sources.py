"""Sources at addresses: each equals the same file on disk, by any backend and in every way in."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import threading
import uuid
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import tifffile
from kit import source_files
from kit.static_files import StaticFiles

import ndframes as nf
from ndframes.entries.conversion import Conversion
from ndframes.errors import (
    BackendError,
    HashidError,
    SourceAccessError,
    SourceChangedError,
    SourceError,
    SourceMissingError,
    StoreUnavailableError,
    UnreadableImageError,
)
from ndframes.system.objects.connection import connect_store

_TIFFS, _IMAGES, _VIDEOS = source_files.TIFFS, source_files.IMAGES, source_files.VIDEOS
_OLD = 1_000_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A file of each kind, written long ago."""
    found = tmp_path_factory.mktemp("files")
    for name, write in (_TIFFS | _IMAGES | _VIDEOS).items():
        write(found / name)
        os.utime(found / name, (_OLD, _OLD))
    return found


@pytest.fixture(scope="module")
def site(folder):
    with StaticFiles(folder) as found:
        yield found


@pytest.fixture
def own_site(tmp_path):
    """A server of a new folder."""
    (tmp_path / "files").mkdir()
    with StaticFiles(tmp_path / "files") as found:
        found.folder = tmp_path / "files"
        yield found


def url_of(site, name):
    return f"{site.url}/{quote(name)}"


def write_old(path, write, age=1000.0):
    """Write a file whose time is some seconds ago, so that its stamp is settled."""
    write(path)
    now = os.stat(path).st_mtime
    os.utime(path, (now - age, now - age))


def leftovers(workdir):
    folder = Path(workdir) / "ndframes-cache" / "tmp"
    return sorted(item.name for item in folder.iterdir()) if folder.exists() else []


# -- parity -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backend", "name"),
    [
        *((None, name) for name in _TIFFS),
        *((backend, name) for backend in ("cog", "npy") for name in _TIFFS | _IMAGES | _VIDEOS),
        *(("auto", name) for name in _VIDEOS),
        *(("intra", name) for name in _VIDEOS),
    ],
)
def test_an_address_reads_like_the_file(folder, site, tmp_path, backend, name):
    """Pixels, crops in any way, channels, missing pixels, orientation, thumbnail, georeference."""
    options = {"backend": backend, "workdir": tmp_path / "cache"}
    files = nf.SimpleFrames({"x": folder / name}, **options)
    urls = nf.SimpleFrames({"x": url_of(site, name)}, sources=[site.url], **options)
    wanted, frame = files.load_frame("x"), urls.load_frame("x")
    assert (frame.shape, frame.dtype, frame.channels) == (wanted.shape, wanted.dtype, wanted.channels)
    np.testing.assert_array_equal(np.asarray(frame), np.asarray(wanted))
    times = (slice(None),) * (len(wanted.shape) - 3)
    crops = [(*times, *crop) for crop in (np.s_[30:94, -70:-6], np.s_[::3, ::-2], np.s_[5:6, 7:8])]
    for crop in crops:
        np.testing.assert_array_equal(urls.load_region("x", crop), files.load_region("x", crop))
    requests = [("x", crop) for crop in crops]
    for got, expected in zip(urls.load_regions(requests), files.load_regions(requests), strict=True):
        np.testing.assert_array_equal(got, expected)
    got, expected = (frames.load_region("x", scale=0.3, nodata="mask") for frames in (urls, files))
    np.testing.assert_array_equal(np.ma.getmaskarray(got), np.ma.getmaskarray(expected))
    np.testing.assert_array_equal(got.filled(0), expected.filled(0))
    np.testing.assert_array_equal(urls.image("x").load_thumbnail(), files.image("x").load_thumbnail())
    assert urls.summarize("x").shape == files.summarize("x").shape
    assert leftovers(tmp_path / "cache") == []


@pytest.mark.parametrize(
    ("backend", "name"), [(None, "turned.tif"), ("cog", "turned.tif"), ("npy", "exif.jpg"), ("cog", "exif.webp")]
)
def test_an_image_at_an_address_is_turned_upright(folder, site, tmp_path, backend, name):
    options = {"backend": backend, "workdir": tmp_path, "orientation": "upright"}
    wanted = nf.SimpleFrames({"x": folder / name}, **options).load_image("x")
    urls = nf.SimpleFrames({"x": url_of(site, name)}, sources=[site.url], **options)
    np.testing.assert_array_equal(urls.load_image("x"), wanted)
    np.testing.assert_array_equal(urls.load_region("x", np.s_[20:50, 3:40]), wanted[20:50, 3:40])


@pytest.mark.parametrize("backend", [None, "cog"])
@pytest.mark.parametrize("name", ["cog.tif", "placed.tif", "strips.tif"])
def test_an_image_at_an_address_has_its_place_on_earth(folder, site, tmp_path, backend, name):
    pytest.importorskip("xarray")
    options = {"backend": backend, "workdir": tmp_path}
    wanted = nf.SimpleFrames({"x": folder / name}, **options).load_frame("x").to_xarray()
    array = nf.SimpleFrames({"x": url_of(site, name)}, sources=[site.url], **options).load_frame("x").to_xarray()
    assert array.identical(wanted)
    assert ("spatial_ref" in array.coords) == (name != "strips.tif")


@pytest.mark.parametrize("backend", [None, "auto"])
def test_open_takes_an_address(folder, site, tmp_path, backend):
    opened = nf.open(url_of(site, "cog.tif"), sources=site.url, backend=backend, workdir=tmp_path)
    np.testing.assert_array_equal(opened[10:60, 20:70], nf.open(folder / "cog.tif")[10:60, 20:70])


def test_pages_series_and_frames_at_an_address(own_site, tmp_path):
    planes = np.arange(3 * 40 * 50, dtype=np.uint16).reshape(3, 40, 50)
    write_old(own_site.folder / "stack.tif", lambda path: tifffile.imwrite(path, planes, photometric="minisblack"))
    write_old(own_site.folder / "walk.mp4", _VIDEOS["h264.mp4"])
    url = url_of(own_site, "stack.tif")
    for backend in (None, "npy"):
        opened = nf.open(url, page=2, sources=[own_site.url], backend=backend, workdir=tmp_path / "cache")
        np.testing.assert_array_equal(opened[..., 0], planes[2])
        with pytest.raises(
            UnreadableImageError, match=r"stack\.tif is a stack .* choose a plane with page=0"
        ) as caught:
            np.asarray(nf.open(url, sources=[own_site.url], backend=backend, workdir=tmp_path / "cache"))
        assert "/tmp/" not in str(caught.value).replace(url, "")
    walk = nf.open(own_site.folder / "walk.mp4", workdir=tmp_path / "cache")
    url = url_of(own_site, "walk.mp4")
    opened = nf.open(url, page=5, sources=[own_site.url], backend="auto", workdir=tmp_path / "cache")
    np.testing.assert_array_equal(np.asarray(opened), walk[5])
    clip = nf.Clip(url, frame_range=(2, 6), pixel_format="gray")
    opened = nf.open(clip, sources=[own_site.url], backend="auto", workdir=tmp_path / "cache")
    local = nf.open(
        nf.Clip(own_site.folder / "walk.mp4", frame_range=(2, 6), pixel_format="gray"), workdir=tmp_path / "cache"
    )
    np.testing.assert_array_equal(np.asarray(opened), np.asarray(local))


def test_a_list_of_addresses_a_sequence_and_a_mix_with_files(folder, site, tmp_path):
    frames = nf.SimpleFrames(
        [url_of(site, "photo.png"), folder / "placed.tif"], sources=[site.url + "/"], workdir=tmp_path
    )
    assert list(frames.image_ids) == ["photo", "placed"]
    np.testing.assert_array_equal(frames.load_image("photo"), source_files.PHOTO)
    urls = [url_of(site, name) for name in ("photo.png", "placed.tif", "one strip.tif")]
    images = [nf.PathInfo(number, [nf.ChannelInfo(url)]) for number, url in enumerate(urls)]
    sequence = nf.SimpleFrames({"walk": nf.SequenceInfo.of("walk", images)}, sources=[site.url], workdir=tmp_path)
    assert sequence["walk"].shape == (3, *source_files.PHOTO.shape)
    np.testing.assert_array_equal(
        sequence.load_region("walk", np.s_[1:, 5:9]), source_files.PHOTO[None, 5:9].repeat(2, axis=0)
    )
    mixed = nf.PathInfo(
        "both", [nf.ChannelInfo(urls[0], channels="r|g|b"), nf.ChannelInfo(folder / "fortran.npy", channels="nir")]
    )
    frames = nf.SimpleFrames([mixed], sources=[site.url], workdir=tmp_path)
    wanted = np.dstack([source_files.GRAY, source_files.PHOTO[..., 0]])
    np.testing.assert_array_equal(frames.load_image("both", "nir|r"), wanted)


def test_a_dataset_names_addresses(folder, site, tmp_path):
    files = [
        {"file_name": url_of(site, "photo.png"), "channels": "r|g|b"},
        {"file_name": "fortran.npy", "channels": "nir"},
    ]
    height, width = source_files.GRAY.shape
    images = [
        {"id": 1, "file_name": url_of(site, "placed.tif"), "height": height, "width": width},
        {
            "id": 2,
            "file_name": None,
            "height": height,
            "width": width,
            "auxiliary": [{**item, "warp_aux_to_img": None} for item in files],
        },
    ]
    dataset = {"images": images, "bundle_dpath": str(folder)}
    frames = nf.CocoFrames(dataset, sources=[site.url], workdir=tmp_path)
    np.testing.assert_array_equal(frames.load_image(1), source_files.PHOTO)
    np.testing.assert_array_equal(frames.load_image(2, "nir")[..., 0], source_files.GRAY)
    with pytest.raises(SourceAccessError, match=r"image 1: .*pass sources=\['http://127"):
        nf.CocoFrames(dataset, workdir=tmp_path).load_image(1)


# -- errors -----------------------------------------------------------------------------------------------------------


def test_what_cannot_be_read_by_ranges_asks_for_a_backend(site, tmp_path):
    names = ["photo.png", "photo.jpg", "array.npy", "moving.gif", "h264.mp4", "ffv1.mkv"]
    frames = nf.SimpleFrames({n: url_of(site, n) for n in names}, sources=[site.url], workdir=tmp_path, backend=None)
    for name in names:
        with pytest.raises(BackendError, match=f"{name}.* at its address.*use backend=") as caught:
            frames.load_image(name)
        assert caught.value.image_id == name


def test_errors_name_the_address_and_not_the_copy(own_site, tmp_path):
    (own_site.folder / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing more")
    (own_site.folder / "empty.tif").write_bytes(b"")
    (own_site.folder / "cut.mp4").write_bytes(b"no video")
    (own_site.folder / "cut.tif").write_bytes(b"II*\0\x08\0\0\0\x40\0")
    for name in ("cut.png", "empty.tif", "cut.mp4", "cut.tif"):
        url = url_of(own_site, name)
        for backend in ("auto", "npy", None):
            frames = nf.SimpleFrames({"x": url}, sources=[own_site.url], workdir=tmp_path / "work", backend=backend)
            with pytest.raises((SourceError, BackendError)) as caught:
                frames.load_image("x")
            text = str(caught.value)
            assert text.startswith("image 'x': ")
            assert url in text
            assert "ndframes-cache" not in text
    assert leftovers(tmp_path / "work") == []


def test_a_source_that_is_missing_or_refused(own_site, tmp_path):
    url = url_of(own_site, "gone.png")
    frames = nf.SimpleFrames({"x": url}, sources=[own_site.url], workdir=tmp_path / "work")
    with pytest.raises(SourceMissingError, match=r"image 'x': http://.*/gone\.png does not exist"):
        frames.load_image("x")
    own_site.needed_header = ("Authorization", "Basic abc")
    with pytest.raises(SourceAccessError, match=r"image 'x': http://.*/gone\.png cannot be read: .*401"):
        frames.load_image("x")


def test_a_server_that_is_down_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "ndframes.system.objects.retries.Limits.__new__.__defaults__", (5.0, 10.0, 40.0, 1, 60.0, 0.01, 0.01, 5.0)
    )
    with StaticFiles(tmp_path) as site:
        url = url_of(site, "a.png")
    with pytest.raises(StoreUnavailableError, match="image 'x': .*refuses the connection"):
        nf.SimpleFrames({"x": url}, sources=[site.url], workdir=tmp_path / "work").load_image("x")


def test_a_server_without_etag_and_time_is_refused(own_site, tmp_path):
    write_old(own_site.folder / "a.tif", _TIFFS["placed.tif"])
    own_site.has_etags = own_site.has_times = False
    with pytest.raises(SourceError, match="neither its ETag nor its time"):
        nf.open(url_of(own_site, "a.tif"), sources=[own_site.url])[:5]


@pytest.mark.parametrize("kind", ["weak", "by time"])
@pytest.mark.parametrize("backend", [None, "cog"])
def test_servers_that_tell_little_are_read(own_site, tmp_path, kind, backend):
    own_site.weak_etags, own_site.has_etags = kind == "weak", kind == "weak"
    write_old(own_site.folder / "a.tif", _TIFFS["planes.tif"])
    opened = nf.open(url_of(own_site, "a.tif"), sources=[own_site.url], backend=backend, workdir=tmp_path / "work")
    np.testing.assert_array_equal(np.asarray(opened), source_files.PHOTO)


def test_a_server_without_ranges_is_told(own_site, tmp_path):
    write_old(own_site.folder / "a.tif", lambda path: path.write_bytes(bytes(9_000_000)))
    own_site.has_ranges = False
    with pytest.raises(SourceError, match="does not support range requests"):
        nf.open(url_of(own_site, "a.tif"), sources=[own_site.url])[:5]


# -- changes ----------------------------------------------------------------------------------------------------------


def picture(number):
    return np.full((70, 90, 3), number, np.uint8)


def write_picture(path, number, age=1000.0):
    write_old(
        path, lambda target: tifffile.imwrite(target, picture(number), tile=(32, 32), compression="zlib"), age - number
    )


@pytest.mark.parametrize("backend", [None, "cog", "npy"])
@pytest.mark.parametrize("mode", ["PATH", "PIXELS"])
def test_a_change_is_seen_when_it_is_looked_for(own_site, tmp_path, backend, mode):
    path = own_site.folder / "a.tif"
    write_picture(path, 1)
    options = {"sources": [own_site.url], "workdir": tmp_path / "work", "backend": backend, "hashid_mode": mode}
    at_once, later = (
        nf.SimpleFrames({"x": url_of(own_site, "a.tif")}, recheck_seconds=seconds, **options) for seconds in (0, None)
    )
    np.testing.assert_array_equal(at_once.load_region("x", np.s_[:9]), picture(1)[:9])
    np.testing.assert_array_equal(later.load_region("x", np.s_[:9]), picture(1)[:9])
    write_picture(path, 2)
    np.testing.assert_array_equal(at_once.load_region("x", np.s_[:9]), picture(2)[:9])
    # The source itself is never read in two states; its entry is that of a minute ago at most.
    own_site.requests.clear()
    got = later.load_region("x", np.s_[40:])
    np.testing.assert_array_equal(got, picture(2 if backend is None else 1)[40:])
    assert backend is None or own_site.requests == []


def test_a_source_that_changes_while_it_is_converted_is_converted_again(own_site, tmp_path):
    path = own_site.folder / "a.tif"
    write_picture(path, 1)
    frames = nf.SimpleFrames(
        {"x": url_of(own_site, "a.tif")}, sources=[own_site.url], workdir=tmp_path / "work", backend="npy"
    )

    def change(_):
        if sum(method == "GET" for method, *_ in own_site.requests) == 1:
            own_site.hook = None
            write_picture(path, 2)

    own_site.hook = change
    np.testing.assert_array_equal(frames.load_image("x"), picture(2))
    counter = iter(range(3, 1000))
    own_site.hook = lambda _: write_picture(path, next(counter) % 256)
    frames = nf.SimpleFrames(
        {"y": url_of(own_site, "a.tif")}, sources=[own_site.url], workdir=tmp_path / "work", backend="cog"
    )
    with pytest.raises(SourceChangedError, match="image 'y'"):
        frames.load_image("y")
    own_site.hook = None
    assert leftovers(tmp_path / "work") == []


def test_parts_of_two_states_are_never_mixed(own_site, tmp_path):
    path = own_site.folder / "a.tif"
    write_picture(path, 1)
    frames = nf.SimpleFrames(
        {"x": url_of(own_site, "a.tif")}, sources=[own_site.url], workdir=tmp_path / "work", backend=None, tile_bytes=0
    )
    frames.load_region("x", np.s_[:1, :1])
    turn = [1]

    def change(_):
        if len(own_site.requests) % 7 == 3:
            turn[0] = turn[0] % 200 + 1
            write_picture(path, turn[0])

    own_site.hook = change
    seen = set()
    for _ in range(30):
        try:
            got = frames.load_image("x")
        except SourceChangedError:
            continue
        assert got.min() == got.max()
        seen.add(int(got[0, 0, 0]))
    own_site.hook = None
    np.testing.assert_array_equal(frames.load_image("x"), picture(turn[0]))


def test_a_source_of_the_last_two_seconds_is_converted_for_each_content(own_site, tmp_path):
    """Its server has ETags, but another one may make them of seconds and length: the two-second rule holds."""
    path = own_site.folder / "a.tif"
    write_picture(path, 7, age=7.0)
    frames = nf.SimpleFrames(
        {"x": url_of(own_site, "a.tif")}, sources=[own_site.url], workdir=tmp_path / "work", recheck_seconds=0
    )
    for number in (8, 9):
        write_picture(path, number, age=number)
        np.testing.assert_array_equal(frames.load_image("x"), picture(number))


# -- keys and modes ---------------------------------------------------------------------------------------------------


def test_copies_share_an_entry_by_pixels_and_given_ids_decide_alone(own_site, tmp_path):
    for name in ("a.tif", "b.tif"):
        write_picture(own_site.folder / name, 5)
    urls = {name: url_of(own_site, name) for name in ("a.tif", "b.tif")}
    options = {"sources": [own_site.url], "workdir": tmp_path / "work"}
    frames = nf.SimpleFrames(urls, hashid_mode="PIXELS", **options)
    report = frames.prepare(progress=False)
    assert (report.prepared, report.present) == (1, 1)
    frames = nf.SimpleFrames({"x": nf.ChannelInfo(urls["a.tif"], hashid="five")}, hashid_mode="GIVEN", **options)
    np.testing.assert_array_equal(frames.load_image("x"), picture(5))
    write_picture(own_site.folder / "a.tif", 6)
    again = nf.SimpleFrames({"x": nf.ChannelInfo(urls["a.tif"], hashid="five")}, hashid_mode="GIVEN", **options)
    np.testing.assert_array_equal(again.load_image("x"), picture(5))
    with pytest.raises(HashidError, match="image 'a.tif': .* is an address, and DVC keeps files"):
        nf.SimpleFrames(urls, hashid_mode="DVC", **options).load_image("a.tif")


def test_an_entry_replaces_a_source_that_is_gone(own_site, tmp_path):
    write_picture(own_site.folder / "a.tif", 5)
    options = {"sources": [own_site.url], "workdir": tmp_path / "work", "recheck_seconds": 0}
    frames = nf.SimpleFrames({"x": url_of(own_site, "a.tif")}, **options)
    frames.prepare(progress=False)
    (own_site.folder / "a.tif").unlink()
    with pytest.raises(SourceMissingError, match="when_source_missing='use' reads the copy in the cache"):
        frames.load_image("x")
    kept = nf.SimpleFrames({"x": url_of(own_site, "a.tif")}, when_source_missing="use", **options)
    np.testing.assert_array_equal(kept.load_image("x"), picture(5))


def test_the_cache_knows_the_address_of_an_entry(own_site, tmp_path):
    write_picture(own_site.folder / "a.tif", 5)
    frames = nf.SimpleFrames({"x": url_of(own_site, "a.tif")}, sources=[own_site.url], workdir=tmp_path / "work")
    frames.prepare(progress=False)
    [entry] = frames.cache.ls()
    assert frames.cache.source_of(entry) == url_of(own_site, "a.tif")
    assert frames.cache.clear(source=own_site.url + "/b", dry_run=True).removed == 0
    assert frames.cache.clear(source=own_site.url + "/").removed == 1


# -- requests ---------------------------------------------------------------------------------------------------------


def test_a_crop_of_an_open_tiff_is_one_round_trip_and_a_batch_too(own_site, tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (1024, 1024, 3), np.uint8)
    for name, planar in (("mixed.tif", {}), ("apart.tif", {"planarconfig": "separate"})):
        data = pixels.transpose(2, 0, 1) if planar else pixels
        write_old(
            own_site.folder / name,
            lambda path, data=data, planar=planar: tifffile.imwrite(
                path, data, tile=(128, 128), photometric="rgb", compression="zlib", **planar
            ),
        )
        frames = nf.SimpleFrames(
            {"x": url_of(own_site, name)}, sources=[own_site.url], workdir=tmp_path / "w", backend=None
        )
        frames.load_region("x", np.s_[:1, :1])
        waves = []
        own_site.hook = lambda _, waves=waves: waves.append(len(own_site.requests))
        own_site.requests.clear()
        crops = [np.s_[y : y + 256, x : x + 256] for y, x in ((300, 300), (0, 700), (700, 10))]
        np.testing.assert_array_equal(frames.load_region("x", crops[0]), pixels[crops[0]])
        planes = 3 if planar else 1
        # Tiles that touch in the file come by one request; all of them are announced before any is waited for.
        assert {method for method, *_ in own_site.requests} == {"GET"}, own_site.requests
        assert len(own_site.requests) <= 3 * planes, own_site.requests
        own_site.requests.clear()
        batch = frames.load_regions([("x", crop) for crop in crops])
        np.testing.assert_array_equal(batch, np.stack([pixels[crop] for crop in crops]))
        assert len(own_site.requests) <= 9 * planes, own_site.requests
        own_site.hook = None


@pytest.mark.parametrize("backend", [None, "cog"])
def test_nothing_that_was_fetched_ahead_stays_in_memory(own_site, tmp_path, backend):
    pixels = np.random.default_rng(0).integers(0, 255, (1024, 1024, 3), np.uint8)
    write_old(own_site.folder / "a.tif", lambda path: tifffile.imwrite(path, pixels, tile=(64, 64), compression="zlib"))
    workdir = f"memory://{uuid.uuid4().hex}"
    for options in ({"tile_bytes": 0}, {"threads": 4}, {}):
        url = url_of(own_site, "a.tif")
        frames = nf.SimpleFrames({"x": url}, sources=[own_site.url], workdir=workdir, backend=backend, **options)
        for region in (np.s_[100:600, 100:600], np.s_[100:600, 100:600], np.s_[:900:7, :900:5], np.s_[3:4, 5:6]):
            np.testing.assert_array_equal(frames.load_region("x", region), pixels[region])
        crops = [np.s_[y : y + 256, y : y + 256] for y in (0, 100, 700, 710)]
        np.testing.assert_array_equal(
            frames.load_regions([("x", crop) for crop in crops]), np.stack([pixels[crop] for crop in crops])
        )
        frames.load_region("x", scale=0.25)
        opened = frames.image("x").opened(0)
        kept = opened.object if backend is None else opened.entry._bytes._open().opened
        assert kept._reads._fetches == {}


def test_an_image_in_one_strip_is_fetched_in_pieces(own_site, tmp_path):
    pixels = np.arange(2000 * 1000, dtype=np.uint16).reshape(2000, 1000)
    write_old(
        own_site.folder / "flat.tif", lambda path: tifffile.imwrite(path, pixels, rowsperstrip=2000, byteorder=">")
    )
    fetched = []
    frames = nf.SimpleFrames(
        {"x": url_of(own_site, "flat.tif")}, sources=[own_site.url], workdir=tmp_path, backend=None
    )
    frames.load_region("x", np.s_[:1, :1])
    own_site.requests.clear()
    np.testing.assert_array_equal(frames.load_region("x", np.s_[990:1000, 5:60])[..., 0], pixels[990:1000, 5:60])
    for *_, headers in own_site.requests:
        first, last = headers["range"].removeprefix("bytes=").split("-")
        fetched.append(int(last) - int(first) + 1)
    assert sum(fetched) < 300_000


def test_prepare_asks_for_the_state_of_all_sources_at_the_same_time(own_site, tmp_path):
    for number in range(20):
        write_picture(own_site.folder / f"{number}.tif", number)
    urls = {number: url_of(own_site, f"{number}.tif") for number in range(20)}
    frames = nf.SimpleFrames(urls, sources=[own_site.url], workdir=tmp_path / "work")
    assert frames.prepare(progress=False).prepared == 20
    own_site.requests.clear()
    again = nf.SimpleFrames(urls, sources=[own_site.url], workdir=tmp_path / "work")
    assert again.prepare(progress=False).present == 20
    assert [method for method, *_ in own_site.requests] == ["HEAD"] * 20
    # What was seen is trusted for the reads that follow.
    for number in range(20):
        assert again.load_region(number, np.s_[:1, :1])[0, 0, 0] == number
    assert len(own_site.requests) == 20


def test_a_batch_of_new_images_converts_a_few_at_a_time(own_site, tmp_path, monkeypatch):
    for number in range(24):
        write_picture(own_site.folder / f"{number}.tif", number)
    urls = {number: url_of(own_site, f"{number}.tif") for number in range(24)}
    running, most, lock = [0], [0], threading.Lock()
    run = Conversion.run

    def count(self, **options):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        try:
            return run(self, **options)
        finally:
            with lock:
                running[0] -= 1

    monkeypatch.setattr(Conversion, "run", count)
    frames = nf.SimpleFrames(urls, sources=[own_site.url], workdir=tmp_path / "work")
    batch = frames.load_regions([(number, np.s_[:8, :8]) for number in range(24)])
    assert [int(item.max()) for item in batch] == [*range(24)]
    assert most[0] <= 4
    assert leftovers(tmp_path / "work") == []


# -- processes --------------------------------------------------------------------------------------------------------


def _read_here(frames, queue):
    queue.put(frames.load_region("x", np.s_[5:40, 3:50]))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("backend", [None, "cog"])
def test_other_processes_read_addresses(site, tmp_path, method, backend):
    frames = nf.SimpleFrames({"x": url_of(site, "planes.tif")}, sources=[site.url], workdir=tmp_path, backend=backend)
    wanted = frames.load_region("x", np.s_[5:40, 3:50])
    assert len(pickle.dumps(frames)) < 3000
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    processes = [context.Process(target=_read_here, args=(frames, queue)) for _ in range(2)]
    for process in processes:
        process.start()
    for _ in processes:
        np.testing.assert_array_equal(queue.get(timeout=120), wanted)
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    np.testing.assert_array_equal(frames.load_region("x", np.s_[5:40, 3:50]), wanted)


def test_conversions_in_workers_and_children_with_limits(site, tmp_path):
    names = ["photo.png", "placed.tif", "h264.mp4"]
    urls = {name: url_of(site, name) for name in names}
    frames = nf.SimpleFrames(urls, sources=[site.url], workdir=tmp_path / "a")
    assert frames.prepare(workers=2, progress=False).prepared == 3
    frames = nf.SimpleFrames(urls, sources=[site.url], workdir=tmp_path / "b", isolate=True)
    np.testing.assert_array_equal(frames.load_image("photo.png"), source_files.PHOTO)
    assert leftovers(tmp_path / "a") == leftovers(tmp_path / "b") == []


def test_the_log_names_the_address(site, tmp_path, caplog):
    frames = nf.SimpleFrames({"x": url_of(site, "exif.jpg")}, sources=[site.url], workdir=tmp_path)
    with caplog.at_level(logging.WARNING, "ndframes"):
        frames.load_image("x")
    assert url_of(site, "exif.jpg") in caplog.text
    assert "ndframes-cache" not in caplog.text


# -- buckets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [None, "cog"])
def test_a_bucket_is_read_and_keeps_the_entries_as_well(folder, bucket, backend):
    store = connect_store(bucket)
    names = ["cog.tif", "placed.tif", *(["photo.png", "h264.mp4"] if backend else [])]
    for name in names:
        store.upload(f"imagery/{name}", str(folder / name))
    urls = {name: f"{bucket}/imagery/{name}" for name in names}
    frames = nf.SimpleFrames(urls, sources=[f"{bucket}/imagery"], workdir=f"{bucket}/cache", backend=backend)
    for name in names:
        np.testing.assert_array_equal(frames.load_image(name), np.asarray(nf.open(folder / name)))
    with pytest.raises(SourceMissingError, match="does not exist"):
        nf.open(f"{bucket}/imagery/other.tif", sources=[bucket])[:3]
    with pytest.raises(SourceAccessError, match="there is no bucket"):
        nf.open("s3://no-such-bucket-here/a.tif", sources=["s3://no-such-bucket-here"])[:3]
