"""What prepare would do, what a budget evicts, which source an entry is of, and hints of the cache."""

from __future__ import annotations

import json
import logging
import os

import numpy as np
import pytest
from click.testing import CliRunner

import ndframes as nf
from ndframes.cli import main
from ndframes.entries import opener


def picture(seed, shape=(300, 400, 3)):
    """A smooth picture with some noise, which compresses to about a half."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    base = 100 + 60 * np.sin(x / 30) + 60 * np.cos(y / 40)
    return (base[..., None] + np.random.default_rng(seed).integers(0, 12, shape)).astype(np.uint8)


@pytest.fixture
def sources(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    for number in range(6):
        np.save(folder / f"s{number}.npy", picture(number))
    return folder


def run(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)], catch_exceptions=False)


@pytest.mark.parametrize("backend", ["auto", "npy", {"type": "cog", "config": {"compress": "JPEG"}}])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_estimate_is_close_to_what_prepare_does(sources, tmp_path, backend, workers):
    frames = nf.SimpleFrames(sources, workdir=tmp_path / "work", backend=backend)
    estimate = frames.estimate(workers=workers)
    assert list(frames.cache.ls()) == []
    assert (estimate.files, estimate.present, estimate.failed) == (6, 0, 0)
    assert estimate.bytes_now == sum(path.stat().st_size for path in sources.iterdir())
    assert estimate.seconds > 0
    report = frames.prepare()
    assert estimate.bytes_then == pytest.approx(report.bytes_written, rel=0.1)
    again = frames.estimate(["s1", "s2", "nobody"])
    assert (again.files, again.present, again.failed, again.bytes_now, again.bytes_then) == (0, 2, 1, 0, 0)
    assert again.to_dict()["seconds"] == 0.0


def test_a_large_image_is_estimated_from_a_part(tmp_path, monkeypatch):
    monkeypatch.setattr("ndframes.frames.estimate._SAMPLE_BYTES", 512 * 400 * 3)
    np.save(tmp_path / "tall.npy", picture(0, (4096, 400, 3)))
    frames = nf.SimpleFrames([tmp_path / "tall.npy"], workdir=tmp_path / "work")
    estimate = frames.estimate()
    assert estimate.bytes_then == pytest.approx(frames.prepare().bytes_written, rel=0.1)


def test_a_dry_run_on_the_command_line(sources, tmp_path):
    work = tmp_path / "work"
    result = run("prepare", sources, "--dry-run", "--workdir", work)
    assert result.exit_code == 0
    assert result.stdout.startswith("6 files to prepare: 2.16 MB now, about ")
    found = json.loads(run("prepare", sources, "--dry-run", "--workdir", work, "--json").stdout)
    assert (found["files"], found["present"], found["skipped"]) == (6, 0, 0)
    assert list(nf.Cache(work).ls()) == []


def test_a_dry_run_lists_what_cannot_be_converted(sources, tmp_path):
    work = tmp_path / "work"
    result = run("prepare", sources, tmp_path / "lost.tif", "--dry-run", "--workdir", work)
    assert result.exit_code == 1
    assert "6 files to prepare" in result.stdout
    assert "1 failed" in result.stdout
    assert "lost.tif does not exist" in result.stderr
    found = run("prepare", tmp_path / "lost.tif", "--dry-run", "--workdir", work, "--json")
    assert found.exit_code == 1
    (failure,) = json.loads(found.stdout)["failures"]
    assert (failure["path"], failure["kind"]) == (str(tmp_path / "lost.tif"), "SourceMissingError")
    estimate = nf.SimpleFrames({"a": tmp_path / "lost.tif"}, workdir=work).estimate()
    assert (estimate.failed, estimate.failures[0].image_id) == (1, "a")
    assert "lost.tif does not exist" in str(estimate)


def test_a_budget_that_cannot_hold_the_result(sources, tmp_path):
    frames = nf.SimpleFrames(sources, workdir=tmp_path / "work", backend="npy", max_bytes=1_000_000)
    report = frames.prepare()
    left = len(list(frames.cache.ls()))
    assert (report.prepared, report.evicted) == (6, 6 - left)
    assert 0 < left < 6
    assert f"{6 - left} entries evicted again: the cache's limits do not hold all of them" in str(report)
    assert report.to_dict()["evicted"] == report.evicted
    roomy = nf.SimpleFrames(sources, workdir=tmp_path / "roomy", backend="npy", max_bytes=10**9).prepare()
    assert roomy.evicted == 0
    assert "evicted" not in str(roomy)


@pytest.mark.parametrize("hashid_mode", ["PATH", "PIXELS"])
def test_the_sources_of_entries(sources, tmp_path, hashid_mode):
    work = tmp_path / "work"
    for backend in ("npy", "cog"):
        nf.SimpleFrames(sources, workdir=work, backend=backend, hashid_mode=hashid_mode).prepare()
    cache = nf.Cache(work)
    found = sorted(cache.source_of(entry) for entry in cache.ls())
    assert found == sorted(2 * [os.path.realpath(path) for path in sources.iterdir()])
    listed = json.loads(run("cache", "ls", "--workdir", work, "--json").stdout)["entries"]
    assert sorted(entry["source"] for entry in listed) == found
    lines = run("cache", "ls", "--workdir", work).stdout.splitlines()
    assert sorted(line.split("  from ")[1] for line in lines[:-1]) == found


def test_entries_of_one_source_are_cleared(sources, tmp_path, monkeypatch):
    work = tmp_path / "work"
    for backend in ("npy", "cog"):
        nf.SimpleFrames(sources, workdir=work, backend=backend).prepare()
    (tmp_path / "scans2").mkdir()
    np.save(tmp_path / "scans2" / "x.npy", picture(9))
    nf.SimpleFrames(tmp_path / "scans2", workdir=work).prepare()
    cache = nf.Cache(work)
    path = sources / "s1.npy"
    assert cache.clear(dry_run=True, source=path).removed == 2
    os.remove(path)  # the entries of a source that is gone can be named, too
    monkeypatch.chdir(sources)
    result = run("cache", "clear", "--source", "s1.npy", "--workdir", work)
    assert result.exit_code == 0
    left = [cache.source_of(entry) for entry in cache.ls()]
    assert len(left) == 11
    assert str(path) not in left
    assert cache.clear(source=tmp_path / "nowhere").removed == 0
    assert cache.clear(source=sources).removed == 10
    assert [cache.source_of(entry) for entry in cache.ls()] == [str(tmp_path / "scans2" / "x.npy")]


@pytest.mark.parametrize("backend", ["npy", "cog"])
def test_a_source_that_is_gone_has_a_copy(sources, tmp_path, backend, at_rest):
    options = {"workdir": tmp_path / "work", "backend": backend}
    frames, fresh = (nf.SimpleFrames(sources, **options) for _ in range(2))
    frames.load_region("s1")
    os.remove(sources / "s1.npy")
    os.remove(sources / "s2.npy")
    reads = {
        "open": lambda: frames.load_region("s1"),
        "fresh": lambda: fresh.load_region("s1"),
        "explain": lambda: fresh.explain("s1"),
        "extents": lambda: fresh.extents("s1"),
    }
    for name, read in reads.items():
        with pytest.raises(
            nf.SourceMissingError, match="when_source_missing='use' reads the copy in the cache"
        ) as caught:
            read()
        assert str(caught.value).count("when_source_missing") == 1, name
    np.testing.assert_array_equal(
        nf.SimpleFrames(frames._sources, when_source_missing="use", **options)["s1"], picture(1)
    )
    for missing in (fresh, nf.SimpleFrames(frames._sources, backend=None)):
        with pytest.raises(nf.SourceMissingError) as caught:
            missing.load_region("s2")
        assert "when_source_missing" not in str(caught.value)


def test_a_slow_first_read_says_so_once(sources, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(opener, "_SLOW_SECONDS", -1.0)
    frames = nf.SimpleFrames(sources, workdir=tmp_path / "work")
    with caplog.at_level(logging.INFO, "ndframes"):
        for image_id in frames:
            frames.load_region(image_id, np.s_[:8, :8])
    (record,) = [record for record in caplog.records if "waits while the file is converted" in record.message]
    assert "s0.npy: this read waits" in record.message
    monkeypatch.undo()
    with caplog.at_level(logging.INFO, "ndframes"):
        nf.SimpleFrames(sources, workdir=tmp_path / "other").load_region("s0")
    assert caplog.text.count("waits while") == 1
