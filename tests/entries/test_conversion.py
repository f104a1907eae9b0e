"""Conversion: it publishes an entry that equals the source, or nothing."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from kit.writers import replace_writers

import ndframes as nf
from ndframes.formats.reader import Reader


@pytest.fixture
def conversion_of(tmp_path):
    def make(array, backend="cog"):
        np.save(tmp_path / "a.npy", array)
        frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path / "w", backend=backend)
        return frames.plan_channel("a", frames.pathinfo("a").channels[0])

    return make


def replace_source(path, array):
    """Rename a new file over a source."""
    np.save(path.with_name("new.npy"), array)
    path.with_name("new.npy").replace(path)


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 255, (300, 1500, 3), np.uint8)


def test_a_conversion_reports_its_result(conversion_of, noise):
    conversion = conversion_of(noise)
    first, second = conversion.run(), conversion.run()
    assert first.is_new
    assert first.bytes_written == first.path.stat().st_size > noise.nbytes / 2
    assert (second.path, second.is_new, second.bytes_written) == (first.path, False, 0)


@pytest.mark.parametrize("backend", ["cog", "npy"])
@pytest.mark.parametrize("threads", [1, 3])
def test_progress_rises_to_one(conversion_of, noise, backend, threads):
    fractions = []
    conversion_of(noise, backend).run(threads=threads, progress=fractions.append)
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


@pytest.mark.parametrize("backend", ["cog", "npy"])
def test_a_wrong_file_is_not_published(conversion_of, noise, backend, monkeypatch):
    """The writer drops one bit of each pixel: the comparison with the sampled rows must notice it."""
    conversion = conversion_of(noise, backend)

    class Wrong(Reader):
        def __init__(self, source):
            self.source = source
            super().__init__(source.path, replace(source.facts, tile_shape=(64, 64)))

        def read_window(self, rows, cols, bands, out, level):
            self.source.read(rows, cols, bands, out)
            out &= 0xFE

    def wrong(write):
        return lambda file, source, *rest, **options: write(file, Wrong(source), *rest, **options)

    replace_writers(monkeypatch, wrong)
    with pytest.raises(nf.CacheEntryError, match="differs from it in row"):
        conversion.run()
    assert list(conversion.cache.ls()) == []


def test_ctrl_c_while_the_digest_thread_starts(conversion_of, noise, monkeypatch):
    """The thread must end: otherwise it would wait for work for ever, and the process for it."""

    class Interrupted(ThreadPoolExecutor):
        def submit(self, *arguments):
            super().submit(*arguments)
            raise KeyboardInterrupt

    conversion = conversion_of(noise)
    before = threading.active_count()
    monkeypatch.setattr("ndframes.entries.checks.ThreadPoolExecutor", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        conversion.run()
    assert threading.active_count() == before


def test_a_source_that_changes_during_its_conversion_is_not_published(conversion_of, noise, tmp_path, monkeypatch):
    conversion = conversion_of(noise)

    def edit_after(write):
        def write_and_edit(*arguments, **options):
            payload = write(*arguments, **options)
            replace_source(tmp_path / "a.npy", noise // 2)
            return payload

        return write_and_edit

    replace_writers(monkeypatch, edit_after)
    with pytest.raises(nf.SourceChangedError, match="changed while"):
        conversion.run()
    assert list(conversion.cache.ls()) == []


def test_a_read_converts_again_if_the_source_changed_during_the_conversion(noise, tmp_path, monkeypatch):
    path = tmp_path / "a.npy"
    np.save(path, noise)
    frames = nf.SimpleFrames({"a": path}, workdir=tmp_path / "w")
    edits = []

    def edit_once_after(write):
        def write_and_edit(*arguments, **options):
            payload = write(*arguments, **options)
            if not edits:
                edits.append(1)
                replace_source(path, noise // 2)
            return payload

        return write_and_edit

    replace_writers(monkeypatch, edit_once_after)
    np.testing.assert_array_equal(frames.load_region("a"), noise // 2)
    assert len(list(frames.cache.ls())) == 1


def test_a_codec_that_cannot_hold_the_pixels_is_replaced(tmp_path, caplog):
    array = np.random.default_rng(0).integers(0, 60000, (100, 100, 3)).astype(np.uint16)
    np.save(tmp_path / "a.npy", array)
    backend = {"type": "cog", "config": {"compress": "JPEG"}}
    frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path, backend=backend)
    np.testing.assert_array_equal(frames.load_region("a"), array)
    assert "JPEG holds no 3 bands of uint16" in caplog.text


def test_a_lossy_codec_is_only_used_when_it_is_named(tmp_path):
    whole = nf.SimpleFrames.demo(backend=None).load_image("coffee").astype(int)
    errors = {}
    for name in ("JPEG", "WEBP", "ZSTD"):
        frames = nf.SimpleFrames.demo(workdir=tmp_path / name, backend={"type": "cog", "config": {"compress": name}})
        errors[name] = np.abs(frames.load_image("coffee") - whole).mean()
        assert frames.prepare(["coffee"]).present == 1
    assert errors["ZSTD"] == 0
    assert 0 < errors["JPEG"] < 4
    assert 0 < errors["WEBP"] < 4
