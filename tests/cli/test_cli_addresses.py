"""Commands that read files at addresses."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from kit import source_files
from kit.static_files import StaticFiles

from ndframes.cli import main


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    names = ["placed.tif", "photo.png", "moving.gif", "h264.mp4"]
    every = source_files.TIFFS | source_files.IMAGES | source_files.VIDEOS
    source_files.write_files(folder, {name: every[name] for name in names})
    with StaticFiles(folder) as found:
        yield found


@pytest.fixture
def run(tmp_path):
    def call(*arguments, code=0):
        result = CliRunner().invoke(main, [*map(str, arguments), "--workdir", str(tmp_path / "work")])
        assert result.exit_code == code, result.output
        return result.output

    return call


@pytest.mark.parametrize(("name", "origin"), [("placed.tif", "from the source"), ("photo.png", "from the cache")])
def test_crop_reads_an_address(run, site, tmp_path, name, origin):
    output = tmp_path / "crop.npy"
    url = f"{site.url}/{name}"
    text = run("crop", url, "--sources", site.url, "--region", "10:60,-40:", "-o", output)
    assert text.startswith(str(output))
    np.testing.assert_array_equal(np.load(output), source_files.PHOTO[10:60, -40:])
    run("crop", url, "--sources", site.url, "--region", "10:60,-40:", "--backend", "npy", "-o", output)
    np.testing.assert_array_equal(np.load(output), source_files.PHOTO[10:60, -40:])


def test_crop_of_a_frame_of_a_video(run, site, tmp_path):
    output = tmp_path / "frame.npy"
    text = run("crop", f"{site.url}/h264.mp4", "--sources", site.url + "/", "--frame", "-1", "-o", output)
    assert "of frame 7 of 8" in text
    assert np.load(output).shape == (64, 96, 3)


@pytest.mark.parametrize(("name", "form"), [("placed.tif", "TIFF"), ("photo.png", "COG")])
def test_info_describes_an_address(run, site, name, form):
    facts = json.loads(run("info", f"{site.url}/{name}", "--sources", site.url, "--json"))
    assert facts["format"] == form
    assert facts["shape"] == [*source_files.PHOTO.shape]
    assert facts["file_bytes"] > 1000


def test_prepare_converts_addresses(run, site):
    urls = [f"{site.url}/{name}" for name in ("placed.tif", "photo.png", "moving.gif", "h264.mp4")]
    report = json.loads(run("prepare", *urls, "--sources", site.url, "--json"))
    assert (report["prepared"], report["present"], report["failed"], report["videos_left"]) == (4, 0, [], 0)
    report = json.loads(run("prepare", *urls, "--sources", site.url, "--json"))
    assert (report["prepared"], report["present"]) == (0, 4)
    estimate = json.loads(run("prepare", *urls, "--sources", site.url, "--backend", "npy", "--dry-run", "--json"))
    assert estimate["files"] == 4
    assert estimate["bytes_now"] > 10_000
    assert estimate["bytes_then"] > estimate["bytes_now"]


@pytest.mark.parametrize("command", ["crop", "info", "prepare"])
def test_an_address_must_be_allowed(run, site, tmp_path, command):
    more = ["-o", tmp_path / "a.npy"] if command == "crop" else []
    site.requests.clear()
    text = run(command, f"{site.url}/placed.tif", *more, code=1 if command == "prepare" else 2)
    assert "(--sources on the command line) if you trust it" in text
    text = run(command, f"{site.url}/placed.tif", *more, "--sources", "/data", code=2)
    assert "sources= holds '/data', which is no address" in text
    assert site.requests == []


def test_what_a_command_cannot_choose_from_is_told(run, site, tmp_path):
    options = ["--sources", site.url]
    assert "is an animation at an address" in run("info", f"{site.url}/moving.gif", *options, code=2)
    assert "is an animation at an address" in run(
        "crop", f"{site.url}/moving.gif", *options, "-o", tmp_path / "a.npy", code=2
    )
    assert "is a video at an address" in run("info", f"{site.url}/h264.mp4", *options, code=2)
