"""Opening through the cache: reads are never stale, damaged entries are replaced, and retries end."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from kit.tilework import frames_over
from kit.waiting import wait_until
from kit.writers import replace_writers

import ndframes as nf
from ndframes.cache.keys import EntryKey

BACKENDS = ["cog", "npy"]


def picture(seed, shape=(60, 70, 3)):
    return np.random.default_rng(seed).integers(0, 255, shape, np.uint8)


@pytest.fixture
def conversions(monkeypatch):
    """The paths of the sources that are converted from now on."""
    paths = []

    def counted(write):
        def write_and_count(file, source, *rest, **options):
            paths.append(source.path)
            return write(file, source, *rest, **options)

        return write_and_count

    replace_writers(monkeypatch, counted)
    return paths


@pytest.fixture(params=BACKENDS)
def frames_of_one(request, tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, picture(0))
    return nf.SimpleFrames({"a": path}, workdir=tmp_path / "w", backend=request.param), path


def only_entry(frames):
    (entry,) = frames.cache.ls()
    return entry.path


def damage(path, position=-2000):
    path.chmod(0o644)
    with path.open("r+b", buffering=0) as file:
        file.seek(position, os.SEEK_END if position < 0 else os.SEEK_SET)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 0xFF]))


# -- sources that change ------------------------------------------------------------------------------------------


class Changes:
    """Replace the content of a file in several ways; each keeps the length of the file."""

    def new_time(self, path, array):
        np.save(path, array)

    def same_time_in_place(self, path, array):
        before = os.stat(path)
        with open(path, "r+b") as file:
            np.save(file, array)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def same_time_by_rename(self, path, array):
        np.save(f"{path}.new.npy", array)
        os.utime(f"{path}.new.npy", ns=(10**18, 10**18))
        os.replace(f"{path}.new.npy", path)

    def in_the_future(self, path, array):
        np.save(path, array)
        future = (time.time_ns() // 10**9 + 3600) * 10**9
        os.utime(path, ns=(future, future))

    def in_the_past(self, path, array):
        np.save(path, array)
        os.utime(path, ns=(10**18, 10**18))

    def new_target(self, path, array):
        """Both targets have the same length and time; only the link differs."""
        self.number = getattr(self, "number", 0) + 1
        target = f"{path}.target{self.number % 2}.npy"
        np.save(target, array)
        os.utime(target, ns=(10**18, 10**18))
        os.symlink(target, f"{path}.link")
        os.replace(f"{path}.link", path)


KINDS = [name for name in vars(Changes) if not name.startswith("_")]


@pytest.mark.parametrize("rounds", [12, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
@pytest.mark.parametrize(
    ("backend", "mode"), [(None, "PATH"), *((backend, mode) for backend in BACKENDS for mode in ("PATH", "PIXELS"))]
)
def test_no_change_is_served_stale(tmp_path, backend, mode, rounds):
    path = tmp_path / "a.npy"
    changes = Changes()
    options = {"workdir": tmp_path / "w", "backend": backend, "hashid_mode": mode}
    frames = nf.SimpleFrames({"a": path}, **options)
    stale = 0
    for number in range(rounds):
        array = picture(number)
        getattr(changes, KINDS[number % len(KINDS)])(path, array)
        opened = frames if number % 2 else nf.SimpleFrames({"a": path}, **options)
        stale += not np.array_equal(opened.load_region("a"), array)
        stale += not np.array_equal(frames.load_region("a"), array)
    print(f"{backend} {mode}: {rounds:,} rounds of {len(KINDS)} kinds of change, {stale} stale reads")
    assert stale == 0


@pytest.mark.parametrize("backend", [None, "npy", "cog"])
def test_a_source_is_trusted_for_recheck_seconds(tmp_path, at_rest, backend):
    frames = frames_over(tmp_path, {"a": picture(0)}, backend, recheck_seconds=3600)
    options = {"workdir": frames.cache.workdir, "backend": backend, "recheck_seconds": 0.2}
    brief = pickle.loads(pickle.dumps(nf.SimpleFrames({"a": tmp_path / "0.npy"}, **options)))
    path = tmp_path / "0.npy"
    for each in (frames, brief):
        for _ in range(2):  # the first read opens the source, the second one checks it
            np.testing.assert_array_equal(each.load_region("a"), picture(0))
    np.save(tmp_path / "new.npy", picture(1))
    os.replace(tmp_path / "new.npy", path)
    np.testing.assert_array_equal(frames.load_region("a"), picture(0))
    np.testing.assert_array_equal(frames.load_regions([("a", None)])[0], picture(0))
    wait_until(lambda: np.array_equal(brief.load_region("a"), picture(1)))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(frames)).load_region("a"), picture(1))
    np.testing.assert_array_equal(frames.load_region("a"), picture(0))


@pytest.mark.parametrize("seconds", [-1, float("nan"), "5", True])
def test_recheck_seconds_must_be_a_number_of_seconds(tmp_path, seconds):
    with pytest.raises(ValueError, match="recheck_seconds=.*give a number of seconds"):
        nf.SimpleFrames({}, workdir=tmp_path, recheck_seconds=seconds)


class Writer(threading.Thread):
    """Gives a file one content after another, a millisecond apart, until its context ends."""

    def __init__(self, change, arrays):
        super().__init__()
        self._change, self._arrays = change, arrays
        self._stop_now = threading.Event()

    def run(self):
        while not self._stop_now.is_set():
            for array in self._arrays:
                self._change(array)
                time.sleep(0.001)

    def __enter__(self):
        self.start()

    def __exit__(self, *_):
        self._stop_now.set()
        self.join()


@pytest.mark.parametrize("rounds", [6, pytest.param(350, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
@pytest.mark.parametrize("kind", ["same_time_by_rename", "new_target", "same_time_in_place"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_reads_of_a_source_that_is_rewritten_are_never_mixed_or_stale(tmp_path, backend, kind, rounds):
    """While a writer runs, a read returns one of its pictures or raises an error; afterwards, the last picture."""
    path = tmp_path / "a.npy"
    pictures = [picture(number, (200, 210, 3)) for number in range(3)]
    changes = Changes()

    def change(array):
        getattr(changes, kind)(path, array)

    changes.new_time(path, pictures[0])
    change(pictures[0])
    frames = nf.SimpleFrames({"a": path}, workdir=tmp_path / "w", backend=backend)
    mixed = stale = refused = 0
    for number in range(rounds):
        with Writer(change, pictures):
            for _ in range(3):
                try:
                    crop = frames.load_region("a")
                except nf.SourceError:
                    refused += 1
                else:
                    mixed += not any(np.array_equal(crop, array) for array in pictures)
        change(pictures[number % 3])
        stale += not np.array_equal(frames.load_region("a"), pictures[number % 3])
    print(f"{backend} {kind}: {rounds:,} rounds, {mixed} mixed, {stale} stale, {refused} refused")
    assert stale == 0
    # A file that is rewritten in place is itself mixed for a while.
    assert mixed == 0 or kind == "same_time_in_place"


def test_a_change_within_one_tick_of_the_clock_is_detected(tmp_path, monkeypatch):
    """As on file systems with times in whole seconds: size, mtime, ctime and inode stay the same."""
    import ndframes.system.stamp as stamp_module

    path = tmp_path / "a.npy"
    stamp_of = stamp_module.stamp_of

    def coarse(status):
        stamp = stamp_of(status)
        return stamp._replace(mtime_ns=stamp.mtime_ns // 10**9 * 10**9, ctime_ns=stamp.ctime_ns // 10**9 * 10**9)

    for name in ("system.stamp", "system.handles", "system.files"):
        monkeypatch.setattr(f"ndframes.{name}.stamp_of", coarse)
    for backend in (None, *BACKENDS):
        frames = nf.SimpleFrames({"a": path}, workdir=tmp_path / "w", backend=backend)
        for number in range(40):
            with open(path, "r+b" if path.exists() else "x+b") as file:
                np.save(file, picture(number))
            np.testing.assert_array_equal(frames.load_region("a"), picture(number))


def test_a_touched_or_copied_source_keeps_its_entry(frames_of_one, conversions):
    frames, path = frames_of_one
    frames.load_region("a")
    assert len(conversions) == 1
    path.chmod(0o600)
    shutil.copy2(path, f"{path}.copy")
    os.replace(f"{path}.copy", path)
    for opened in (frames, nf.SimpleFrames({"a": path}, workdir=frames.cache.workdir, backend=frames.backend)):
        np.testing.assert_array_equal(opened.load_region("a"), picture(0))
        assert opened.prepare().present == 1
    assert len(conversions) == 1


def test_a_settled_source_is_not_hashed(frames_of_one, monkeypatch):
    frames, path = frames_of_one
    monkeypatch.setattr("ndframes.system.stamp._LONGEST_TICK_NS", 0)
    frames.prepare()

    def refuse(*_):
        raise AssertionError("the source was hashed")

    monkeypatch.setattr("ndframes.system.objects.access.hash_file", refuse)
    again = nf.SimpleFrames({"a": path}, workdir=frames.cache.workdir, backend=frames.backend)
    np.testing.assert_array_equal(again.load_region("a"), picture(0))


# -- damaged entries --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [3000, 9000, -1, -30, -200, -2000], ids=lambda value: f"byte {value}")
def test_a_damaged_entry_is_quarantined_and_made_again(frames_of_one, conversions, caplog, position):
    frames, path = frames_of_one
    frames.prepare()
    damage(only_entry(frames), position)
    again = nf.SimpleFrames({"a": path}, workdir=frames.cache.workdir, backend=frames.backend)
    np.testing.assert_array_equal(again.load_region("a"), picture(0))
    assert len(conversions) == 2
    assert len(list((frames.cache.root / "quarantine").iterdir())) == 1
    assert only_entry(frames).name in caplog.text
    assert again.explain("a").files[0].is_cached
    np.testing.assert_array_equal(frames.load_region("a"), picture(0))


def test_damage_under_an_open_image_is_repaired(frames_of_one, conversions):
    frames, path = frames_of_one
    frames.load_region("a", np.s_[:1, :1])
    opened = frames.image("a").opened(0)
    damage(only_entry(frames), 3000)
    fresh = nf.SimpleFrames({"a": path}, workdir=frames.cache.workdir, backend=frames.backend, verify="always")
    np.testing.assert_array_equal(fresh.load_region("a"), picture(0))
    assert len(conversions) == 2
    assert opened.reader.path == str(only_entry(frames))


def test_prepare_quarantines_damaged_entries(frames_of_one):
    frames, _ = frames_of_one
    frames.prepare()
    damage(only_entry(frames), -10)
    report = frames.prepare()
    assert (report.prepared, report.present) == (1, 0)
    assert frames.prepare().present == 1


def test_an_entry_that_is_damaged_every_time_is_given_up(frames_of_one, conversions, caplog):
    directly, path = frames_of_one
    # Without memory for open images, each read opens the image again.
    frames = nf.SimpleFrames({"a": path}, workdir=directly.cache.workdir, backend=directly.backend, memory_bytes=0)
    publish = frames.cache.publish

    def publish_and_damage(key, write, *, estimated_bytes):
        final, is_new = publish(key, write, estimated_bytes=estimated_bytes)
        damage(final, 3000)
        return final, is_new

    frames.cache.publish = publish_and_damage
    for _ in range(5):
        np.testing.assert_array_equal(frames.load_region("a"), picture(0))
    assert len(conversions) == 2
    assert "the source is read directly" in caplog.text


def test_an_entry_of_another_format_version_is_kept(frames_of_one, conversions):
    import struct

    from ndframes.cache.trailer import TAIL_BYTES
    from ndframes.system.segments import checksum

    frames, _ = frames_of_one
    frames.prepare()
    entry = only_entry(frames)
    data = bytearray(entry.read_bytes())
    data[-TAIL_BYTES + 8 : -TAIL_BYTES + 12] = struct.pack("<I", 99)
    data[-4:] = struct.pack("<I", checksum(bytes(data[-TAIL_BYTES:-4])))
    entry.chmod(0o644)
    entry.write_bytes(data)
    np.testing.assert_array_equal(frames.load_region("a"), picture(0))
    assert entry.read_bytes() == data
    assert len(conversions) == 1


# -- a folder that cannot be written ------------------------------------------------------------------------------

READ_ONLY = """
import sys
import numpy as np, ndframes as nf
path, work, backend = sys.argv[1:]
seen = []
WRITING = {"os.mkdir", "os.rename", "os.remove", "os.link", "os.chmod", "os.utime", "os.truncate", "os.symlink", "os.rmdir"}

def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and work in arguments[0]:
        if arguments[2] & 3 or (isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")):
            seen.append((event, arguments))
    if event in WRITING and any(isinstance(item, str) and work in item for item in arguments):
        seen.append((event, arguments))

sys.addaudithook(hook)
frames = nf.SimpleFrames({"a": path}, workdir=work, backend=backend)
whole = np.load(path)
for top in range(0, 50, 7):
    assert np.array_equal(frames.load_region("a", np.s_[top:top + 9, 3:60]), whole[top:top + 9, 3:60])
assert frames.explain("a").files[0].is_cached
print(len(list(frames.cache.ls())), len(frames.cache.verify(read_data=True).bad))
print(seen)
"""


def run(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_reading_writes_nothing(frames_of_one):
    frames, path = frames_of_one
    frames.prepare()
    before = {item: item.lstat().st_mtime_ns for item in frames.cache.root.rglob("*")}
    assert run(READ_ONLY, path, frames.cache.workdir, frames.backend) == "1 0\n[]"
    assert {item: item.lstat().st_mtime_ns for item in frames.cache.root.rglob("*")} == before


@pytest.fixture
def read_only_mount(tmp_path):
    """Mount folders read-only: permissions alone do not stop root."""
    mounted = []

    def mount(folder):
        for arguments in (["--bind"], ["-o", "remount,ro,bind"]):
            command = ["mount", *arguments, str(folder), str(folder)]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"this user may not mount: {done.stderr.strip()}")
            mounted.append(folder)

    yield mount
    for folder in set(mounted):
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_read_only_cache_serves_its_entries(frames_of_one, read_only_mount, caplog):
    frames, path = frames_of_one
    other = path.with_name("b.npy")
    np.save(other, picture(1))
    frames.prepare()
    damaged = nf.SimpleFrames({"b": other}, workdir=frames.cache.workdir, backend=frames.backend)
    damaged.prepare()
    (bad,) = (entry.path for entry in frames.cache.ls() if entry.path != entry_path_of(frames, "a"))
    damage(bad, 3000)
    read_only_mount(frames.cache.workdir)
    assert run(READ_ONLY, path, frames.cache.workdir, frames.backend) == "2 1\n[]"
    np.testing.assert_array_equal(damaged.load_region("b"), picture(1))
    assert "the source is read directly" in caplog.text
    new = path.with_name("c.npy")
    np.save(new, picture(2))
    with pytest.raises(nf.CacheError, match="cannot be written.*backend=None"):
        nf.SimpleFrames({"c": new}, workdir=frames.cache.workdir, backend=frames.backend).load_region("c")
    key = EntryKey(bad.parent.parent.name, bad.parent.name + "5" * 30, "7" * 32, ".tif")
    with pytest.raises(nf.CacheError, match="cannot be written.*backend=None"):  # even if its folder exists
        frames.cache.publish(key, lambda file: None, estimated_bytes=1)


def entry_path_of(frames, image_id):
    return frames.cache.path(frames.plan_channel(image_id, frames.pathinfo(image_id).channels[0]).key)


# -- missing sources ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["PATH", "GIVEN"])
def test_a_missing_source_raises_or_is_replaced_by_its_newest_entry(tmp_path, caplog, mode):
    class Given(nf.Frames):
        image_ids = ("a",)

        def build_pathinfo(self, image_id):
            return nf.PathInfo(image_id, (nf.ChannelInfo(tmp_path / "a.npy", hashid="h"),))

    options = {"workdir": tmp_path / "w", "backend": "npy", "hashid_mode": mode}
    frames = Given(**options)
    for number in range(2):
        np.save(tmp_path / "a.npy", picture(number if mode == "PATH" else 1))
        frames.prepare()
        for entry in frames.cache.ls():  # so that it is older than the entry of the next round
            os.utime(entry.path, (entry.mtime - 10, entry.mtime - 10))
    use = Given(**options, when_source_missing="use")
    use.load_region("a")
    (tmp_path / "a.npy").rename(tmp_path / "kept.npy")
    for lost in (frames, Given(**options, when_source_missing="raise")):
        with pytest.raises(nf.SourceMissingError, match="does not exist"):
            lost.load_region("a")
    for found in (use, Given(**options, when_source_missing="use")):
        for _ in range(2):
            np.testing.assert_array_equal(found.load_region("a"), picture(1))
        assert found.prepare().present == 1
    assert "its cache entry is read in its place" in caplog.text
    np.save(tmp_path / "a.npy", picture(1))
    np.testing.assert_array_equal(use.load_region("a"), picture(1))


def test_a_missing_source_without_an_entry_raises(tmp_path):
    frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path, when_source_missing="use")
    with pytest.raises(nf.SourceMissingError):
        frames.load_region("a")
    assert len(frames.prepare(errors="collect").failed) == 1


def test_a_damaged_entry_does_not_replace_a_missing_source(tmp_path):
    np.save(tmp_path / "a.npy", picture(0))
    frames = nf.SimpleFrames(
        {"a": tmp_path / "a.npy"}, workdir=tmp_path / "w", backend="npy", when_source_missing="use"
    )
    frames.prepare()
    (tmp_path / "a.npy").unlink()
    damage(only_entry(frames), 3000)
    with pytest.raises((nf.SourceMissingError, nf.CacheEntryDamagedError)):
        frames.load_region("a")
    damage(only_entry(frames), -1) if list(frames.cache.ls()) else None
    with pytest.raises((nf.SourceMissingError, nf.CacheEntryDamagedError)):
        frames.load_region("a")


# -- keywords -----------------------------------------------------------------------------------------------------


def test_invalid_options_are_refused():
    with pytest.raises(ValueError, match="verify='sometimes'; allowed: 'open', 'first-touch', 'always'"):
        nf.SimpleFrames({}, verify="sometimes")
    with pytest.raises(ValueError, match="when_source_missing=None; allowed: 'raise', 'use'"):
        nf.SimpleFrames({}, when_source_missing=None)
    for value in (-1, 1.5, "1GB", True):
        with pytest.raises(nf.CacheError, match="max_bytes="):
            nf.SimpleFrames({}, max_bytes=value)


@pytest.mark.parametrize("verify", ["open", "first-touch", "always"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_verify_mode_reads_the_same_pixels(tmp_path, verify, backend):
    frames = nf.SimpleFrames.demo(workdir=tmp_path, backend=backend, verify=verify)
    direct = nf.SimpleFrames.demo(backend=None)
    for image_id in ("coffee", "moon"):
        for region in (None, np.s_[3:200:3, ::-2], np.s_[-1, -1], np.s_[5:5]):
            np.testing.assert_array_equal(frames.load_region(image_id, region), direct.load_region(image_id, region))
