"""``ndframes prepare``: search, conversion, failures and interruption."""

from __future__ import annotations

import json
import os
import shutil
import signal

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from kit.held import hold_sources
from kit.waiting import wait_until
from PIL import Image

import ndframes as nf
from ndframes.cli import main


@pytest.fixture
def scans(tmp_path):
    """A folder with three photographs, one of them in a subfolder, and other files."""
    folder = tmp_path / "scans"
    (folder / "deep" / "er").mkdir(parents=True)
    paths = nf.demo_paths()
    shutil.copy(paths["coffee"], folder / "coffee.png")
    shutil.copy(paths["moon"], folder / "MOON.PNG")
    shutil.copy(paths["rocket"], folder / "deep" / "er" / "rocket.jpg")
    (folder / "notes.txt").write_text("no image")
    (folder / "deep" / "catalogue.json").write_text("{}")
    return folder


def assert_prepared(path, workdir, backend="auto"):
    """Assert that the entry exists and equals the source."""
    frames = nf.SimpleFrames({"a": path}, workdir=workdir, backend=backend)
    assert frames.explain("a").files[0].is_cached
    np.testing.assert_array_equal(frames.load_image("a"), nf.open(path)[...], strict=True)


def test_folders_are_searched_recursively(run, scans, tmp_path):
    result = run("prepare", "scans")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("3 prepared (")
    assert "2 files skipped: no image or video extension" in result.stdout
    for name in ("coffee.png", "MOON.PNG", "deep/er/rocket.jpg"):
        assert_prepared(f"scans/{name}", tmp_path / "work")


def test_a_second_run_finds_everything(run, scans):
    run("prepare", "scans")
    assert run("prepare", "scans").stdout.startswith("0 prepared (0 B), 3 already there, 0 failed")


def test_the_cache_itself_is_not_searched(run, scans):
    for present in (0, 3, 3):
        report = json.loads(run("prepare", "scans", "--workdir", "scans", "--json").stdout)
        assert (report["prepared"], report["present"], report["skipped"]) == (3 - present, present, 2)


def test_files_patterns_and_folders_together_count_once(run, scans):
    report = json.loads(run("prepare", "scans/coffee.png", "scans/**/*.jpg", "scans/c*.png", "--json").stdout)
    assert (report["prepared"], report["present"], report["skipped"]) == (2, 0, 0)


def test_a_file_name_may_look_like_a_pattern(run, scans, tmp_path):
    os.rename(scans / "coffee.png", scans / "[a]*.png")
    assert run("prepare", "scans/[a]*.png").exit_code == 0
    assert_prepared("scans/[a]*.png", tmp_path / "work")


def test_a_named_file_needs_no_extension(run, scans, tmp_path):
    os.rename(scans / "coffee.png", scans / "coffee.dat")
    assert run("prepare", "scans/coffee.dat").exit_code == 0
    assert_prepared("scans/coffee.dat", tmp_path / "work")


@pytest.mark.parametrize("workers", [0, 2])
def test_failures_are_listed_and_do_not_stop_others(run, scans, tmp_path, workers):
    (scans / "empty.tif").touch()
    (scans / "half.png").write_bytes((scans / "coffee.png").read_bytes()[:30_000])
    result = run("prepare", "scans", "gone.png", "no*.png", "--workers", workers)
    assert result.exit_code == 1
    assert "3 prepared" in result.stdout
    assert "4 failed" in result.stdout
    failed = sorted(line.split()[1] for line in result.stderr.splitlines() if line.startswith("failed: "))
    assert failed == ["gone.png", "no*.png", "scans/empty.tif", "scans/half.png"]
    assert_prepared("scans/coffee.png", tmp_path / "work")


def test_stdout_is_one_json_document(run, scans):
    (scans / "empty.tif").touch()
    result = run("prepare", "scans", "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (report["prepared"], report["present"], report["skipped"]) == (3, 0, 2)
    assert [(item["path"], item["kind"]) for item in report["failed"]] == [
        (str(scans.absolute() / "empty.tif"), "UnreadableImageError")
    ]
    assert report["bytes_written"] == sum(entry.size_bytes for entry in nf.Cache(report["workdir"]).ls())


def test_options_of_the_entries_are_passed_on(run, scans, tmp_path):
    assert run("prepare", "scans/coffee.png", "--compress", "deflate", "--blocksize", 64).exit_code == 0
    form = {"type": "cog", "config": {"compress": "DEFLATE", "blocksize": 64}}
    assert_prepared("scans/coffee.png", tmp_path / "work", form)
    assert nf.open("scans/coffee.png", workdir=tmp_path / "work", backend=form).chunks == (64, 64, 3)


def test_a_lossy_codec_is_used_when_it_is_named(run, scans, tmp_path):
    assert run("prepare", "scans/coffee.png", "--compress", "JPEG", "--quality", 60).exit_code == 0
    form = {"type": "cog", "config": {"compress": "JPEG", "quality": 60}}
    frames = nf.SimpleFrames({"a": "scans/coffee.png"}, workdir=tmp_path / "work", backend=form)
    assert frames.explain("a").files[0].is_cached
    difference = frames.load_image("a").astype(int) - nf.open("scans/coffee.png")[...]
    assert 0 < np.abs(difference).mean() < 10


def test_npy(run, scans, tmp_path):
    assert run("prepare", "scans/coffee.png", "--backend", "npy").exit_code == 0
    assert_prepared("scans/coffee.png", tmp_path / "work", "npy")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--quality", "200", "--compress", "JPEG"), "quality"),
        (("--blocksize", "100"), "multiples of 16"),
        (("--backend", "npy", "--compress", "ZSTD"), "'npy' has no option compress"),
        (("--backend", "zip"), "'zip' is not one of"),
        (("--workers", "-1"), "-1"),
    ],
)
def test_a_bad_option_is_refused_before_anything_is_done(run, scans, tmp_path, options, message):
    result = run("prepare", "scans", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "work").exists()


def test_a_folder_without_images_is_an_error(run, scans):
    result = run("prepare", "scans/deep", "--workers", "0") and run("prepare", "scans/nothing", "scans/deep/er")
    assert result.exit_code == 1
    os.remove(scans / "deep" / "er" / "rocket.jpg")
    result = run("prepare", "scans/deep")
    assert result.exit_code == 2
    assert result.stderr.startswith("ndframes: error: scans/deep contains no image or video (1 other files)")


@pytest.mark.parametrize("workers", [0, 1])
def test_ctrl_c_leaves_complete_entries_and_a_hint(spawn, tmp_path, monkeypatch, workers):
    for name in ("a", "b", "held"):
        np.save(tmp_path / f"{name}.npy", np.zeros((500, 500, 3), np.uint16))
    hold_sources(tmp_path, monkeypatch)
    process = spawn("prepare", "a.npy", "b.npy", "held.npy", "--workers", workers)
    cache = nf.Cache(tmp_path / "work")
    wait_until(lambda: list(cache.ls()), 120)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    # CPython ends by the signal itself if it comes during an import; shells report 130 for both.
    assert process.returncode in (130, -signal.SIGINT), stderr
    assert stderr.strip().splitlines()[-1] == (
        "ndframes: interrupted; finished entries are kept, run the same command again to continue"
    )
    assert "Traceback" not in stderr
    finished = len(list(cache.ls()))
    assert 1 <= finished <= 2
    assert os.listdir(cache.root / "tmp") == []
    stdout, _ = spawn("prepare", "a.npy", "b.npy").communicate(timeout=120)
    assert stdout.startswith(f"{2 - finished} prepared")
    assert f" {finished} already there, 0 failed" in stdout


# -- datasets ---------------------------------------------------------------------------------------------------------


def test_the_images_of_a_dataset(run, dataset, scans, tmp_path):
    report = json.loads(run("prepare", dataset, "scans/MOON.PNG", "--json").stdout)
    assert (report["prepared"], report["present"], report["failed"]) == (4, 0, [])
    frames = nf.CocoFrames(dataset, workdir=tmp_path / "work")
    assert all(file.is_cached for number in (1, 2) for file in frames.explain(number, None, "<all>").files)
    assert_prepared("scans/MOON.PNG", tmp_path / "work")
    assert run("prepare", dataset).stdout.startswith("0 prepared (0 B), 3 already there, 0 failed")


def test_the_video_files_of_a_dataset(run, tmp_path):
    nf.write_video(tmp_path / "a.mkv", np.zeros((3, 16, 16), np.uint16), fps=5)
    content = {"images": [], "videos": [{"id": 5, "file_name": "a.mkv"}, {"id": 6, "name": "without a file"}]}
    (tmp_path / "data.json").write_text(json.dumps(content))
    result = run("prepare", "data.json")
    assert (result.exit_code, "1 video indexed, not converted" in result.stdout) == (0, True)
    assert run("prepare", "data.json", "--backend", "npy").stdout.startswith("1 prepared")
    frames = nf.CocoFrames(content, bundle_dpath=tmp_path, workdir=tmp_path / "work", backend="npy")
    assert frames.explain(("video", 5)).files[0].is_cached


def test_failures_of_a_dataset_name_the_image(run, tmp_path):
    content = {"images": [{"id": 7, "file_name": "gone.png"}, {"id": 8, "auxiliary": 5}]}
    (tmp_path / "data.json").write_text(json.dumps(content))
    result = run("prepare", "data.json")
    assert (result.exit_code, "2 failed" in result.stdout) == (1, True)
    first, second = result.stderr.splitlines()
    assert "gone.png does not exist" in first
    assert second == "failed: 8: auxiliary must be a list of dictionaries, got 5"


@pytest.mark.parametrize("content", ["{", "[]", '{"images": 3}'])
def test_a_dataset_that_is_none(run, scans, tmp_path, content):
    (tmp_path / "data.json").write_text(content)
    result = run("prepare", "data.json", "scans")
    assert result.exit_code == 2
    assert result.stderr.startswith("ndframes: error: data.json")
    assert not (tmp_path / "work").exists()


def test_one_page_of_a_file(tmp_path):
    pages = np.random.default_rng(0).integers(0, 255, (3, 40, 50), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "p.tif", pages, photometric="minisblack", metadata=None)
    work = str(tmp_path / "work")
    arguments = ["prepare", str(tmp_path / "p.tif"), "--workdir", work]
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 1
    assert "holds 3 images" in refused.stderr
    result = CliRunner().invoke(main, [*arguments, "--page", "2"])
    assert (result.exit_code, result.stdout[:10]) == (0, "1 prepared")
    frames = nf.SimpleFrames({"a": nf.ChannelInfo(tmp_path / "p.tif", page=2)}, workdir=work)
    assert frames.prepare().present == 1
    np.testing.assert_array_equal(frames.load_image("a")[:, :, 0], pages[2])
    dataset = tmp_path / "d.json"
    dataset.write_text('{"images": [{"id": 1, "file_name": "p.tif"}]}')
    refused = CliRunner().invoke(main, ["prepare", str(dataset), "--page", "1", "--workdir", work])
    assert refused.exit_code == 2
    assert "--page is for files that hold several images" in refused.stderr


def test_upright_images_are_prepared_without_a_warning(tmp_path, caplog):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "o.jpg", exif=exif)
    (tmp_path / "d.json").write_text('{"images": [{"id": 1, "file_name": "o.jpg", "height": 60, "width": 40}]}')
    for name in ("o.jpg", "d.json"):
        work = str(tmp_path / f"work of {name}")
        arguments = ["prepare", str(tmp_path / name), "--orientation", "upright", "--workdir", work]
        result = CliRunner().invoke(main, arguments)
        assert (result.exit_code, result.stdout[:10]) == (0, "1 prepared")
        assert caplog.messages == []
