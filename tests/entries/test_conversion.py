"""Conversion: what is published is what the source says, or nothing is."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import ndframes as nf
from ndframes.entries import conversion as conversion_module
from ndframes.formats.reader import Reader


@pytest.fixture
def conversion_of(tmp_path):
    def make(array, backend="cog"):
        np.save(tmp_path / "a.npy", array)
        frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path / "w", backend=backend)
        return frames.plan_channel("a", frames.pathinfo("a").channels[0])

    return make


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 255, (300, 1500, 3), np.uint8)


def test_a_conversion_says_what_it_did(conversion_of, noise):
    conversion = conversion_of(noise)
    first, second = conversion.run(), conversion.run()
    assert first.is_new
    assert first.bytes_written == first.path.stat().st_size > noise.nbytes / 2
    assert (second.path, second.is_new, second.bytes_written) == (first.path, False, 0)


@pytest.mark.parametrize("backend", ["cog", "npy"])
@pytest.mark.parametrize("threads", [1, 3])
def test_progress_reaches_the_end_in_order(conversion_of, noise, backend, threads):
    seen = []
    conversion_of(noise, backend).run(threads=threads, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


@pytest.mark.parametrize("backend", ["cog", "npy"])
def test_a_file_that_came_out_wrong_is_not_published(conversion_of, noise, backend, monkeypatch):
    """The writer is made to drop one bit of each pixel: the lines that were watched must give it away."""
    conversion = conversion_of(noise, backend)
    write = conversion_module._write

    class Wrong(Reader):
        def __init__(self, source):
            self.source = source
            super().__init__(source.path, replace(source.facts, tile_shape=(64, 64)))

        def read_window(self, rows, cols, bands, out, level):
            self.source.read(rows, cols, bands, out)
            out &= 0xFE

    def write_wrong(file, source, *rest):
        return write(file, Wrong(source), *rest)

    monkeypatch.setattr(conversion_module, "_write", write_wrong)
    with pytest.raises(nf.CacheEntryError, match="differs from it in row"):
        conversion.run()
    assert list(conversion.cache.ls()) == []


def test_ctrl_c_while_the_thread_starts_that_digests_the_source(conversion_of, noise, monkeypatch):
    """Else it would wait for work for ever, and the process for it."""

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


def test_a_source_that_changes_meanwhile_is_not_published(conversion_of, noise, tmp_path, monkeypatch):
    conversion = conversion_of(noise)
    write = conversion_module._write

    def write_and_edit(*arguments):
        payload = write(*arguments)
        np.save(tmp_path / "b.npy", noise // 2)
        (tmp_path / "b.npy").replace(tmp_path / "a.npy")
        return payload

    monkeypatch.setattr(conversion_module, "_write", write_and_edit)
    with pytest.raises(nf.SourceChangedError, match="changed while"):
        conversion.run()
    assert list(conversion.cache.ls()) == []


def test_reading_tries_again_when_the_source_changed_meanwhile(noise, tmp_path, monkeypatch):
    path = tmp_path / "a.npy"
    np.save(path, noise)
    frames = nf.SimpleFrames({"a": path}, workdir=tmp_path / "w")
    write = conversion_module._write
    edits = []

    def write_and_edit_once(*arguments):
        payload = write(*arguments)
        if not edits:
            edits.append(1)
            np.save(tmp_path / "b.npy", noise // 2)
            (tmp_path / "b.npy").replace(path)
        return payload

    monkeypatch.setattr(conversion_module, "_write", write_and_edit_once)
    np.testing.assert_array_equal(frames.load_region("a"), noise // 2)
    assert len(list(frames.cache.ls())) == 1


def test_a_codec_that_cannot_hold_the_pixels_gives_way_to_one_that_can(tmp_path, caplog):
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
