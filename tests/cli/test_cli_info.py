"""``ndframes info``, ``doctor`` and ``cache ls``."""

from __future__ import annotations

import importlib
import json
import os
import sys

import numpy as np
import pytest
import tifffile

import ndframes as nf

doctor_module = importlib.import_module("ndframes.cli.doctor")


@pytest.fixture
def striped(tmp_path):
    """A striped TIFF of 1000 x 2000 x 3 uint16, 10 rows a strip."""
    pixels = np.arange(1000 * 2000 * 3, dtype=np.uint16).reshape(1000, 2000, 3)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", rowsperstrip=10, compression="zlib")
    return "a.tif"


def test_info_of_an_image(run, striped, tmp_path):
    facts = json.loads(run("info", striped, "--json").stdout)
    assert facts["shape"] == [1000, 2000, 3]
    assert facts["dtype"] == "uint16"
    assert facts["channels"] == ["r", "g", "b"]
    assert facts["tile_shape"] == [10, 2000]
    assert facts["overview_shapes"] == []
    assert facts["decoded_bytes"] == 1000 * 2000 * 3 * 2
    assert facts["file_bytes"] == os.path.getsize(striped)
    assert not (tmp_path / "work").exists()


def test_info_gives_the_cost_of_a_crop(run, striped):
    """Rows 372 to 628 touch strips 37 to 62, and 3 x 3 tiles of 128 pixels in the cache."""
    crop = json.loads(run("info", striped, "--json").stdout)["crop"]
    assert crop["region"] == [[372, 628], [872, 1128]]
    assert crop["result_bytes"] == 256 * 256 * 6
    assert crop["from_source"] == {"tile_shape": [10, 2000], "tiles": 26, "decoded_bytes": 26 * 10 * 2000 * 6}
    assert crop["from_cache"] == {"tile_shape": [128, 128], "tiles": 9, "decoded_bytes": 9 * 128 * 128 * 6}


@pytest.mark.parametrize("backend", ["auto", "npy"])
def test_the_expected_cost_of_an_entry_is_right(run, striped, backend):
    before = json.loads(run("info", striped, "--backend", backend, "--json").stdout)
    run("prepare", striped, "--backend", backend)
    after = json.loads(run("info", striped, "--backend", backend, "--json").stdout)
    assert (before["cache"]["is_cached"], after["cache"]["is_cached"]) == (False, True)
    assert before["cache"]["entry_path"] == after["cache"]["entry_path"]
    assert after["cache"]["entry_bytes"] == os.path.getsize(after["cache"]["entry_path"])
    assert before["crop"] == after["crop"]


def test_info_lists_overviews(run, striped):
    run("prepare", striped)
    entry = json.loads(run("info", striped, "--json").stdout)["cache"]["entry_path"]
    facts = json.loads(run("info", entry, "--backend", "none", "--json").stdout)
    assert facts["overview_shapes"] == [[500, 1000], [250, 500], [125, 250], [63, 125]]
    assert (facts["cache"], facts["crop"]["from_cache"]) == (None, None)


def test_info_as_a_table(run, striped):
    lines = run("info", striped).stdout.splitlines()
    assert "size         1,000 x 2,000 px (height x width), 12 MB decoded" in lines
    assert "tiling       strips of 10 x 2,000" in lines
    assert "             from the source: 26 strips of 10 x 2,000, 3.12 MB decoded" in lines
    assert "cache entry  does not exist yet" in lines
    assert "memory-mapped, nothing to decode" in run("info", striped, "--backend", "npy").stdout


def test_info_of_a_small_image(run, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 5), np.float32))
    crop = json.loads(run("info", "a.npy", "--json").stdout)["crop"]
    assert crop["region"] == [[0, 3], [0, 5]]
    assert crop["from_source"]["decoded_bytes"] == 0


@pytest.mark.parametrize("name", ["gone.tif", "."])
def test_info_of_a_missing_file(run, name):
    result = run("info", name)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"ndframes: error: {name} ")


def test_cache_ls_of_an_empty_cache(run, tmp_path):
    result = run("cache", "ls")
    assert result.stdout == f"0 entries, 0 B in {tmp_path / 'work' / 'ndframes-cache'}\n"
    assert not (tmp_path / "work").exists()


def test_cache_ls_lists_every_entry_newest_first(run, striped, tmp_path):
    run("prepare", striped)
    run("prepare", striped, "--backend", "npy", "--workdir", "work")
    entries = sorted(nf.Cache(tmp_path / "work").ls(), key=lambda entry: -entry.mtime)
    listed = json.loads(run("cache", "ls", "--json").stdout)
    assert [item["path"] for item in listed["entries"]] == [str(entry.path) for entry in entries]
    assert [item["size_bytes"] for item in listed["entries"]] == [entry.path.stat().st_size for entry in entries]
    assert listed["total_bytes"] == sum(entry.size_bytes for entry in entries)
    lines = run("cache", "ls").stdout.splitlines()
    assert [line.split("  ")[-2:] for line in lines[:-1]] == [
        [str(entry.path.relative_to(listed["root"])), f"from {os.path.realpath(striped)}"] for entry in entries
    ]
    assert lines[-1].startswith("2 entries, ")


def test_info_shows_nodata(run, tmp_path):
    tags = [(42113, "s", 0, "-9999", True)]  # GDAL's tag
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((9, 7), np.int16), extratags=tags)
    assert json.loads(run("info", "a.tif", "--json").stdout)["nodata"] == -9999
    assert "nodata       -9999" in run("info", "a.tif").stdout.splitlines()


def test_info_of_a_file_without_nodata(run, striped):
    assert json.loads(run("info", striped, "--json").stdout)["nodata"] is None
    assert "nodata" not in run("info", striped).stdout


# -- datasets -----------------------------------------------------------------------------------------------------


def test_info_of_a_dataset(run, dataset, tmp_path):
    facts = json.loads(run("info", dataset, "--json").stdout)
    assert (facts["images"], facts["videos"], facts["annotations"], facts["annotated_images"]) == (2, 1, 3, 1)
    assert facts["categories"] == [["spoon", 2], ["cup", 1]]
    assert facts["sizes"] == [["400 x 600 px", 1], ["60 x 80 px", 1]]
    assert facts["channels"] == [["r|g|b|nir", 1], ["mask", 1]]
    assert facts["image_ids"] == [1, 2]
    assert not (tmp_path / "work").exists()


def test_info_of_a_dataset_as_a_table(run, dataset):
    lines = run("info", dataset).stdout.splitlines()
    assert "images       2 in 1 video" in lines
    assert "categories   spoon: 2 annotations" in lines
    assert "annotations  3, in 1 image" in lines
    assert "image ids    1, 2" in lines


def test_info_of_an_empty_dataset(run, tmp_path):
    (tmp_path / "a.json").write_text('{"images": []}')
    lines = run("info", "a.json").stdout.splitlines()
    assert lines[2:] == [
        "images       0",
        "sizes        none",
        "channels     none",
        "categories   none",
        "annotations  0, in 0 images",
    ]


def test_info_of_an_image_of_a_dataset(run, dataset, coffee):
    run("prepare", coffee[0])
    facts = json.loads(run("info", dataset, "--image-id", "1", "--json").stdout)
    assert (facts["shape"], facts["channels"]) == ([400, 600], ["r", "g", "b", "nir"])
    assert facts["default_channels"] == ["r", "g", "b"]
    assert (facts["video"], facts["name"]) == ("walk, frame 3", "cup")
    assert facts["categories"] == [["spoon", 2], ["cup", 1]]
    photo, near_infrared = facts["files"]
    assert (photo["path"], photo["shape"], photo["dtype"]) == (coffee[0], [400, 600, 3], "uint8")
    assert (near_infrared["shape"], near_infrared["dtype"]) == ([200, 300, 1], "uint16")
    assert (near_infrared["scale"], near_infrared["rotate_degrees"], near_infrared["offset"]) == ([2, 2], 0, [0, 0])
    assert near_infrared["img_from_src"] == [[2, 0, 0], [0, 2, 0], [0, 0, 1]]
    assert (photo["cache"]["is_cached"], near_infrared["cache"]["is_cached"]) == (True, False)
    assert photo["cache"]["entry_bytes"] == os.path.getsize(photo["cache"]["entry_path"])


def test_info_of_an_image_of_a_dataset_as_a_table(run, dataset, coffee):
    lines = run("info", dataset, "--image-id", "1").stdout.splitlines()
    assert lines[0].startswith("image        1, cup, of ")
    assert "size         400 x 600 px (height x width)" in lines
    assert "default      r|g|b" in lines
    assert "annotations  3: spoon 2, cup 1" in lines
    assert lines[-1].split() == ["nir", "200", "x", "300", "uint16", "times", "2", "not", "cached", "nir.tif"]
    assert lines[-2].split()[-1] == coffee[0]
    bare = run("info", dataset, "--image-id", "2", "--backend", "none").stdout.splitlines()
    assert " ".join(bare[-2].split()) == "files channels height x width dtype onto the image nodata file"
    assert bare[-1].split() == ["mask", "60", "x", "80", "uint8", "as", "it", "is", "0", "mask.tif"]


def test_info_shows_quantization(run, dataset):
    content = json.loads(dataset.read_text())
    content["images"][1]["quantization"] = {"orig_min": -1, "orig_max": 1, "quant_max": 200, "nodata": 255}
    dataset.write_text(json.dumps(content))
    table = run("info", dataset, "--image-id", "2").stdout
    assert "0..200 -> -1..1, 255 -> no data" in table
    facts = json.loads(run("info", dataset, "--image-id", "2", "--json").stdout)
    assert facts["files"][0]["quantization"]["quant_max"] == 200


def test_info_of_an_unknown_image(run, dataset, coffee):
    result = run("info", dataset, "--image-id", "9")
    assert (result.exit_code, result.stderr.endswith("has no image '9'; it has 2: 1, 2\n")) == (2, True)
    result = run("info", coffee[0], "--image-id", "9")
    assert (result.exit_code, "--image-id is only for COCO datasets" in result.stderr) == (2, True)


def test_doctor_reports_this_installation(run, tmp_path):
    result = run("doctor", "--json")
    facts = json.loads(result.stdout)
    assert (result.exit_code, facts["problems"]) == (0, [])
    versions = {part["name"].split()[0]: part["version"] for part in facts["parts"]}
    assert versions["numpy"] == np.__version__
    assert versions["tifffile"] == tifffile.__version__
    assert facts["python"] == ".".join(map(str, sys.version_info[:3]))
    assert facts["gdal"].count(".") == 2
    assert facts["workdir"]["path"] == str(tmp_path / "work")
    assert (facts["workdir"]["exists"], facts["workdir"]["is_writable"]) == (False, True)
    assert not (tmp_path / "work").exists()


def test_doctor_as_a_table(run):
    result = run("doctor")
    assert result.stdout.endswith("no problems found\n")
    assert f"ndframes                      {nf.__version__}\n" in result.stdout


def test_doctor_reports_missing_libraries_and_fixes(run, monkeypatch):
    libraries = (("no_such_part", "no-such-part", None), ("no_such_extra", "no-such-extra", "dask"))
    monkeypatch.setattr(doctor_module, "_LIBRARIES", libraries)
    result = run("doctor")
    assert result.exit_code == 1
    text = " ".join(result.stdout.split())
    assert "no_such_part (no-such-part): not installed; fix: pip install no-such-part" in text
    assert 'optional, not installed; pip install "ndframes[dask]"' in result.stdout


def test_doctor_reports_a_library_that_cannot_be_imported(run, monkeypatch, tmp_path):
    (tmp_path / "brokenpart.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(doctor_module, "_LIBRARIES", (("brokenpart", "brokenpart", None),))
    result = run("doctor", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["problems"] == [
        "brokenpart: cannot be imported: ImportError: libGL.so.1: cannot open shared object file; "
        "fix: pip install brokenpart"
    ]


def test_doctor_reports_an_unusable_workdir(run, tmp_path):
    (tmp_path / "file").touch()
    result = run("doctor", "--workdir", "file/below", "--json")
    assert result.exit_code == 1
    assert "is not writable" in json.loads(result.stdout)["problems"][0]


def test_doctor_gives_advice():
    facts = {
        "workdir": {"free_bytes": 5, "file_system": "nfs4"},
        "machine": {"cores": 8, "open_files_soft": 256, "shared_memory_bytes": 64 << 20},
        "processes": {"start_method": "fork", "environment": {"OMP_NUM_THREADS": None}},
    }
    advice = " ".join(doctor_module._find_advice(facts))
    for word in ("only 5 B free", "nfs4", "open files is 256", "/dev/shm has only 67.1 MB", "fork", "OMP_NUM_THREADS"):
        assert word in advice
    facts = {
        "workdir": {"free_bytes": 10**12, "file_system": "ext4"},
        "machine": {"cores": 8, "open_files_soft": 4096, "shared_memory_bytes": 8 << 30},
        "processes": {"start_method": "spawn", "environment": {"OMP_NUM_THREADS": "1"}},
    }
    assert doctor_module._find_advice(facts) == []


def test_json_has_no_bare_nan(run, tmp_path):
    """NaN is no value of JSON, and strict parsers refuse it."""
    pixels = np.full((4, 5), np.nan, np.float32)
    tifffile.imwrite(tmp_path / "nan.tif", pixels, extratags=[(42113, "s", 0, "nan", True)])
    facts = json.loads(run("info", "nan.tif", "--json").stdout, parse_constant=pytest.fail)
    assert facts["nodata"] == "NaN"
    content = {"images": [{"id": 1, "file_name": "nan.tif", "nodata": float("-inf")}]}
    (tmp_path / "data.json").write_text(json.dumps(content))
    text = run("info", "data.json", "--image-id", 1, "--json").stdout
    assert json.loads(text, parse_constant=pytest.fail)["files"][0]["nodata"] == "-Infinity"
