"""The local tier: what it keeps, what it reads, and that its pixels are right whatever happens to its files."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import threading
import uuid

import numpy as np
import pytest
from kit.damage import damage
from kit.tiers import commit_files, data_files, is_whole, photograph, tier_frames, wait_whole
from kit.waiting import wait_until

import ndframes as nf
from ndframes.cache.remote.tier import Tier

SHAPE = (700, 900)
RAW = {"type": "cog", "config": {"compress": "NONE", "blocksize": 64}}
FORMS = {"zstd": "cog", "raw": RAW, "npy": "npy"}
CROP = np.s_[100:300, 210:400]


@pytest.fixture(scope="module")
def array():
    return photograph(*SHAPE)


@pytest.fixture(scope="module")
def image(tmp_path_factory, array):
    path = tmp_path_factory.mktemp("source") / "a.npy"
    np.save(path, array)
    return path


@pytest.fixture
def workdir(image):
    """A store in memory with the entry of the image in each form."""
    url = f"memory://{uuid.uuid4().hex}"
    for form in FORMS.values():
        nf.SimpleFrames({"a": image}, workdir=url, backend=form).prepare()
    return url


@pytest.fixture
def tier(tmp_path):
    return tmp_path / "tier"


@pytest.fixture
def make(image, workdir, tier, at_rest):
    """Frames with a new view of the tier, as another process has, and their requests."""
    return lambda **options: tier_frames({"a": image}, workdir, tier, **options)


def read_all(frames):
    """Every tile of every level."""
    frames.load_image("a")
    for scale in (0.5, 0.25, 0.125):
        frames.load_region("a", np.s_[:], scale=scale)


# -- reading ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verify", ["open", "first-touch", "always"])
@pytest.mark.parametrize("form", FORMS)
def test_tiles_that_were_read_are_not_fetched_again(make, array, form, verify):
    options = {"backend": FORMS[form], "verify": verify}
    first, requests = make(**options)
    np.testing.assert_array_equal(first.load_region("a", CROP), array[CROP])
    fetched = requests.fetches[:]
    assert fetched
    assert len(fetched) == len(set(fetched))
    for _ in range(2):
        np.testing.assert_array_equal(first.load_region("a", CROP), array[CROP])
    assert requests.fetches == fetched
    second, requests = make(**options)
    for region in (CROP, np.s_[110:290:2, 399:250:-1]):
        np.testing.assert_array_equal(second.load_region("a", region), array[region])
    np.testing.assert_array_equal(second.load_regions([("a", CROP)])[0], array[CROP])
    assert requests.count == 0
    np.testing.assert_array_equal(second.load_image("a"), array)
    assert not {place for _, place in requests.fetches} & {place for _, place in fetched}


def test_nothing_is_written_before_a_tile_is_read(make, tier):
    frames, requests = make()
    assert frames.load_region("a", np.s_[:0]).size == 0
    assert requests.fetches == []
    assert data_files(tier) == []


def test_a_batch_fetches_what_the_tier_lacks(make, array):
    frames, requests = make(backend=RAW)
    frames.load_region("a", np.s_[64:128, 64:128])
    before = {place for _, place in requests.fetches}
    fresh, requests = make(backend=RAW)
    crops = [("a", np.s_[64:128, 64:128]), ("a", np.s_[0:256, 0:128]), ("a", np.s_[64:192, 64:192])]
    for got, (_, region) in zip(fresh.load_regions(crops), crops, strict=True):
        np.testing.assert_array_equal(got, array[region])
    fetched = [place for _, place in requests.fetches]
    assert len(fetched) == len(set(fetched)) == 9
    assert not before & set(fetched)


def test_threads_share_a_copy(make, array):
    frames, requests = make(backend=RAW)
    failures = []

    def work(seed):
        for top, left in np.random.default_rng(seed).integers(0, 600, (25, 2)):
            if not (
                frames.load_region("a", np.s_[top : top + 90, left : left + 90])
                == array[top : top + 90, left : left + 90]
            ).all():
                failures.append((top, left))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert requests.fetches
    fresh, requests = make(backend=RAW)
    np.testing.assert_array_equal(fresh.load_image("a"), array)
    assert not is_complete(requests, SHAPE)


def is_complete(requests, shape):
    """Whether every tile of the image was fetched."""
    return len(requests.fetches) >= -(-shape[0] // 64) * -(-shape[1] // 64)


# -- whole entries ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_whole_entry_is_a_local_file(make, tier, array, form):
    frames, _ = make(backend=FORMS[form])
    read_all(frames)
    wait_whole(tier)
    (path,) = data_files(tier)
    # It is the entry's file, byte by byte.
    (data,) = [item for item in frames.cache.store.scan("data") if path.name.split(".")[1] in item.key]
    assert path.read_bytes() == frames.cache.store.load(data.key).data
    fresh, requests = make(backend=FORMS[form])
    regions = (CROP, np.s_[::-3, 5::7, [2, 0][0]], np.s_[:])
    for region in regions:
        np.testing.assert_array_equal(fresh.load_region("a", region), array[region])
    assert requests.count == 0
    # What had it open over the network goes on.
    np.testing.assert_array_equal(frames.load_region("a", CROP), array[CROP])


def test_an_entry_that_lacks_much_is_not_completed(make, tier):
    frames, requests = make(backend=RAW)
    frames.load_region("a", np.s_[:300])
    count = requests.count
    assert not is_whole(data_files(tier)[0])
    fresh, requests = make(backend=RAW)
    fresh.load_region("a", np.s_[:300])
    assert requests.count == 0
    assert count


def test_a_file_that_seemed_to_lack_little_is_completed_when_it_does(image, workdir, tier, array):
    """Every second tile is smaller than a block of the disk: the file takes all of its blocks when it has half of its bytes."""
    small = {"type": "cog", "config": {"compress": "NONE", "blocksize": 32}}
    nf.SimpleFrames({"a": image}, workdir=workdir, backend=small).prepare()
    frames, _ = tier_frames({"a": image}, workdir, tier, backend=small)
    for scale in (0.5, 0.25, 0.125):
        frames.load_region("a", scale=scale)
    tiles = [(y, x) for y in range(0, SHAPE[0], 32) for x in range(0, SHAPE[1], 32)]
    for parity in (0, 1):
        for y, x in tiles:
            if (y + x) // 32 % 2 == parity:
                crop = np.s_[y : y + 32, x : x + 32]
                np.testing.assert_array_equal(frames.load_region("a", crop), array[crop])
        if not parity:
            wait_until(lambda: not any(thread.name == "ndframes-tier" for thread in threading.enumerate()))
            (path,) = data_files(tier)
            assert path.stat().st_blocks * 512 > 0.95 * path.stat().st_size
            assert not is_whole(path)
    wait_whole(tier)


@pytest.mark.parametrize("form", FORMS)
def test_a_flipped_bit_in_a_whole_file(make, tier, array, form, caplog):
    frames, _ = make(backend=FORMS[form])
    read_all(frames)
    wait_whole(tier)
    (path,) = data_files(tier)
    size = path.stat().st_size
    for place in (size // 5, size // 2, size - 100):  # in an overview, in the pixels, and in the description
        damage(path, place)
        path.chmod(0o444)
    fresh, _ = make(backend=FORMS[form])
    for _ in range(2):  # what was read before the damage was found is fetched in the second round
        np.testing.assert_array_equal(fresh.load_image("a"), array)
        read_all(fresh)
    wait_whole(tier)
    np.testing.assert_array_equal(make(backend=FORMS[form])[0].load_image("a"), array)
    assert f"{path} is damaged and is removed" in caplog.text
    # The entry in the store is not blamed.
    assert frames.cache.stat().quarantined == 0
    assert "read directly" not in caplog.text


def test_a_whole_file_that_was_removed_or_cut(make, tier, array):
    for spoil in (
        lambda path: path.unlink(),
        lambda path: (path.chmod(0o644), os.truncate(path, 5000), path.chmod(0o444)),
    ):
        frames, _ = make()
        read_all(frames)
        wait_whole(tier)
        reader, _ = make()
        np.testing.assert_array_equal(reader.load_region("a", CROP), array[CROP])
        spoil(data_files(tier)[0])
        np.testing.assert_array_equal(reader.load_region("a", np.s_[300:500]), array[300:500])
        fresh, _ = make()
        np.testing.assert_array_equal(fresh.load_image("a"), array)


def close_files(frames):
    """As when other files are opened: those that nobody reads are closed, and opened again when they are read."""
    frames._opener.pool.close()


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_is_opened_again_at_another_place(make, tier, array, form):
    """An entry that was read over the network is whole when it is opened again, and the other way round."""
    frames, requests = make(backend=FORMS[form])
    read_all(frames)
    wait_whole(tier)
    close_files(frames)
    count = requests.count
    np.testing.assert_array_equal(frames.load_region("a", CROP), array[CROP])
    assert requests.count == count
    np.testing.assert_array_equal(frames.load_regions([("a", CROP)])[0], array[CROP])
    data_files(tier)[0].unlink()
    close_files(frames)
    np.testing.assert_array_equal(frames.load_regions([("a", CROP)])[0], array[CROP])
    np.testing.assert_array_equal(frames.load_region("a", CROP), array[CROP])
    assert requests.count > count


@pytest.mark.parametrize("verify", ["open", "first-touch"])
def test_a_file_with_holes_that_was_made_anew(make, tier, array, verify):
    """What this process has checked was in the former file."""
    frames, _ = make(verify=verify)
    frames.load_region("a", CROP)
    data_files(tier)[0].unlink()
    make()[0].load_region("a", np.s_[600:, 800:])
    for _ in range(2):
        np.testing.assert_array_equal(frames.load_region("a", CROP), array[CROP])
        close_files(frames)


# -- damage -------------------------------------------------------------------------------------------------------------


def test_a_flipped_bit_is_fetched_again(make, tier, array):
    frames, requests = make()
    frames.load_region("a", CROP)
    damage(data_files(tier)[0], requests.fetches[-1][1].offset + 10)
    fresh, requests = make()
    np.testing.assert_array_equal(fresh.load_region("a", CROP), array[CROP])
    assert len(requests.fetches) == 1
    again, requests = make()
    np.testing.assert_array_equal(again.load_region("a", CROP), array[CROP])
    assert requests.count == 0


def cut(path):
    os.truncate(path, 1000)


def cut_and_extend(path):
    size = path.stat().st_size
    path.rename(path.with_suffix(".moved"))
    os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), size)


def replace_by_noise(path):
    path.with_suffix(".noise").write_bytes(np.random.default_rng(1).bytes(path.stat().st_size))
    path.with_suffix(".noise").rename(path)


def replace_by_a_folder(path):
    path.unlink()
    path.mkdir()


def replace_by_a_link(path):
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


def remove_the_tier(path):
    shutil.rmtree(path.parents[3])


SPOILERS = [os.unlink, cut, cut_and_extend, replace_by_noise, replace_by_a_folder, replace_by_a_link, remove_the_tier]


@pytest.mark.parametrize("verify", ["open", "first-touch"])
@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda spoil: spoil.__name__)
def test_what_happens_to_the_file_under_a_reader(make, tier, array, spoil, verify):
    frames, _ = make(verify=verify)
    for region in (CROP, np.s_[:130, 600:]):
        np.testing.assert_array_equal(frames.load_region("a", region), array[region])
    spoil(data_files(tier)[0])
    for region in (CROP, np.s_[500:700, 200:], np.s_[:]):
        np.testing.assert_array_equal(frames.load_region("a", region), array[region])
    fresh, _ = make(verify=verify)
    np.testing.assert_array_equal(fresh.load_image("a"), array)
    if tier.exists() and spoil is not replace_by_a_link:
        assert all(path.is_file() or spoil is replace_by_a_folder for path in data_files(tier))


def test_a_file_that_was_cut_and_written_by_another_process(make, tier, array):
    """The other process must not extend it: this one would take the hole for a tile that it knows."""
    frames, _ = make()
    frames.load_region("a", CROP)
    other, _ = make()
    other.load_region("a", np.s_[:10, :10])
    cut(data_files(tier)[0])
    other.load_region("a", np.s_[600:, 800:])
    np.testing.assert_array_equal(frames.load_region("a", CROP), array[CROP])


def test_what_the_network_damages_is_not_kept(make, array):
    frames, requests = make()
    damaged = []

    def begin_fetch(key, places, *, etag=None):
        fetches = type(requests).begin_fetch(requests, key, places, etag=etag)
        return [
            lambda fetch=fetch, place=place: flip_once(bytes(fetch()), place)
            for fetch, place in zip(fetches, places, strict=True)
        ]

    def flip_once(data, place):
        if place in damaged:
            return data
        damaged.append(place)
        return bytes([data[0] ^ 1]) + data[1:]

    requests.begin_fetch = begin_fetch
    np.testing.assert_array_equal(frames.load_region("a", CROP), array[CROP])
    assert len(requests.fetches) == 2 * len(damaged) > 0
    fresh, requests = make()
    np.testing.assert_array_equal(fresh.load_region("a", CROP), array[CROP])
    assert requests.count == 0


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 100])
def test_a_damaged_commit_is_loaded_again(make, tier, array, content):
    frames, _ = make()
    frames.load_region("a", CROP)
    (path,) = commit_files(tier)
    intact = path.read_bytes()
    path.write_bytes(content)
    fresh, requests = make()
    np.testing.assert_array_equal(fresh.load_region("a", CROP), array[CROP])
    assert (len(requests.loads), requests.fetches) == (1, [])
    assert path.read_bytes() == intact
    assert make()[0].load_region("a", CROP).any()


# -- entries that change ------------------------------------------------------------------------------------------------


def set_age(path, seconds):
    times = path.stat()
    os.utime(path, (times.st_atime - seconds, times.st_mtime - seconds))


def test_a_commit_is_confirmed_once_an_hour(make, tier, array):
    frames, _ = make()
    frames.load_region("a", CROP)
    set_age(commit_files(tier)[0], 3601)
    for count in (1, 0):
        fresh, requests = make()
        np.testing.assert_array_equal(fresh.load_region("a", CROP), array[CROP])
        assert (len(requests.loads), requests.fetches) == (count, [])


def test_an_entry_that_was_removed_from_the_store(make, tier, array, workdir):
    frames, _ = make()
    frames.load_region("a", CROP)
    (old,) = data_files(tier)
    nf.Cache(workdir).clear()
    # Its pixels are right, and are served for an hour.
    np.testing.assert_array_equal(make()[0].load_region("a", CROP), array[CROP])
    assert list(nf.Cache(workdir).ls()) == []
    # A tile that is not there shows that the entry is gone; it is made again.
    np.testing.assert_array_equal(make()[0].load_image("a"), array)
    (entry,) = nf.Cache(workdir).ls()
    assert entry.key.suffix == ".tif"
    (new,) = data_files(tier)
    assert new != old


def test_an_entry_that_was_removed_is_forgotten_after_an_hour(make, tier, array, workdir):
    frames, _ = make()
    frames.load_region("a", CROP)
    (old,) = data_files(tier)
    nf.Cache(workdir).clear()
    set_age(commit_files(tier)[0], 3601)
    np.testing.assert_array_equal(make()[0].load_region("a", CROP), array[CROP])
    assert len(list(nf.Cache(workdir).ls())) == 1
    assert old not in data_files(tier)


def test_an_entry_that_was_made_again_has_another_file(make, tier, array, workdir, image):
    frames, _ = make()
    frames.load_region("a", CROP)
    (old,) = data_files(tier)
    nf.Cache(workdir).clear()
    nf.SimpleFrames({"a": image}, workdir=workdir).prepare()
    set_age(commit_files(tier)[0], 3601)
    fresh, requests = make()
    np.testing.assert_array_equal(fresh.load_region("a", CROP), array[CROP])
    assert requests.fetches
    (new,) = data_files(tier)
    assert new != old


def test_a_discarded_entry_is_not_served(make, tier, workdir):
    frames, _ = make()
    frames.load_region("a", CROP)
    for entry in list(frames.cache.ls()):
        assert frames.cache.discard(entry.path)
    assert data_files(tier) == commit_files(tier) == []


def test_the_store_is_verified_and_not_the_tier(make, tier, workdir):
    frames, _ = make()
    read_all(frames)
    store = frames.cache.store
    for item in list(store.scan("data")):
        content = bytearray(store.load(item.key).data)
        content[len(content) // 3] ^= 1
        store.replace(item.key, bytes(content), item.etag)
    assert len(frames.cache.verify(read_data=True).bad) == len(FORMS)


def test_a_store_that_is_down(make, tier, array, monkeypatch):
    frames, _ = make()
    frames.load_region("a", CROP)
    set_age(commit_files(tier)[0], 3601)
    fresh, requests = make()

    def fail(*args, **options):
        raise nf.StoreUnavailableError("it is down")

    monkeypatch.setattr(requests, "load", fail, raising=False)
    monkeypatch.setattr(requests, "begin_fetch", fail, raising=False)
    np.testing.assert_array_equal(fresh.load_region("a", CROP), array[CROP])
    with pytest.raises(nf.StoreUnavailableError):
        fresh.load_image("a")


# -- its folder ---------------------------------------------------------------------------------------------------------


def test_the_size_is_told_and_it_can_be_cleared(make, tier, array):
    frames, _ = make()
    assert frames.cache.stat().tier_bytes == 0
    frames.load_region("a", CROP)
    size = sum(path.stat().st_blocks * 512 for path in [*data_files(tier), *commit_files(tier)])
    assert frames.cache.stat().tier_bytes == size > CROP[0].stop * 3
    assert "in the local tier" in str(frames.cache.stat())
    stranger = tier / "ndframes-tier" / "v1" / "notes.txt"
    stranger.write_text("mine")
    mark = tier / "ndframes-tier" / "ndframes-tier.json"
    text = mark.read_text()
    for other in ("", '{"layout": 2}'):
        mark.write_text(other)
        assert frames.cache.clear_tier() == 0
    mark.write_text(text)
    assert frames.cache.clear_tier() == size
    assert (data_files(tier), commit_files(tier), stranger.read_text()) == ([], [], "mine")
    np.testing.assert_array_equal(frames.load_region("a", CROP), array[CROP])
    assert (
        (tier / "ndframes-tier" / "CACHEDIR.TAG")
        .read_text()
        .startswith("Signature: 8a477f597d28d172789f06886806bc55\n")
    )


def test_a_cache_without_a_tier(workdir):
    cache = nf.Cache(workdir)
    assert (cache.stat().tier_bytes, cache.clear_tier()) == (None, 0)
    with pytest.raises(nf.CacheError, match="give local_tier= its folder"):
        nf.Cache(workdir, tier_bytes="1GB")


@pytest.mark.parametrize("limit", ["", "many", "1 XB", -1, True, 1.5])
def test_a_limit_that_is_none(workdir, tmp_path, limit):
    with pytest.raises(nf.CacheError, match="tier_bytes="):
        nf.Cache(workdir, local_tier=tmp_path, tier_bytes=limit)


def test_a_limit_is_a_number_or_a_text(workdir, tmp_path):
    limits = [nf.Cache(workdir, local_tier=tmp_path, tier_bytes=value).tier_bytes for value in ("2.5TiB", 7, None)]
    assert limits == [2_748_779_069_440, 7, None]


def test_a_folder_that_cannot_be_made(image, workdir, tmp_path, array, caplog, at_rest):
    (tmp_path / "file").write_text("")
    frames, requests = tier_frames({"a": image}, workdir, tmp_path / "file")
    with caplog.at_level(logging.WARNING):
        for region in (CROP, np.s_[:]):
            np.testing.assert_array_equal(frames.load_region("a", region), array[region])
    assert [record.message.split(":")[0] for record in caplog.records] == [
        f"the local tier {tmp_path / 'file' / 'ndframes-tier'} is not written for a while, so crops come over the network"
    ]
    assert requests.fetches


def test_a_defect_disk(make, tier, array, monkeypatch):
    frames, _ = make()
    frames.load_region("a", CROP)

    def fail(*args):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("ndframes.cache.remote.tier_copy.os.pread", fail)
        patch.setattr("ndframes.cache.remote.tier_copy.SparseFile.write_at", fail)
        np.testing.assert_array_equal(frames.load_image("a"), array)


def test_a_tier_is_pickled_with_the_cache(make, tier, array):
    frames, _ = make()
    frames.load_region("a", CROP)
    twin = pickle.loads(pickle.dumps(frames))
    np.testing.assert_array_equal(twin.load_region("a", CROP), array[CROP])
    assert isinstance(twin.cache._tier, Tier)
    assert twin.cache.stat().tier_bytes > 0
