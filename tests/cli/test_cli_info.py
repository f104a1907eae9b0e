"""``ndframes info``, ``doctor`` and ``cache ls``: what they say is so."""

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


def test_info_tells_what_the_file_is(run, striped, tmp_path):
    facts = json.loads(run("info", striped, "--json").stdout)
    assert facts["shape"] == [1000, 2000, 3]
    assert facts["dtype"] == "uint16"
    assert facts["channels"] == ["r", "g", "b"]
    assert facts["tile_shape"] == [10, 2000]
    assert facts["overview_shapes"] == []
    assert facts["decoded_bytes"] == 1000 * 2000 * 3 * 2
    assert facts["file_bytes"] == os.path.getsize(striped)
    assert not (tmp_path / "work").exists()


def test_info_tells_what_a_crop_costs(run, striped):
    """Rows 372 to 628 touch strips 37 to 62, whole; of the cache's tiles of 128, 3 x 3 are touched."""
    crop = json.loads(run("info", striped, "--json").stdout)["crop"]
    assert crop["region"] == [[372, 628], [872, 1128]]
    assert crop["result_bytes"] == 256 * 256 * 6
    assert crop["from_source"] == {"tile_shape": [10, 2000], "tiles": 26, "decoded_bytes": 26 * 10 * 2000 * 6}
    assert crop["from_cache"] == {"tile_shape": [128, 128], "tiles": 9, "decoded_bytes": 9 * 128 * 128 * 6}


@pytest.mark.parametrize("backend", ["auto", "npy"])
def test_what_is_expected_of_an_entry_is_what_comes(run, striped, backend):
    before = json.loads(run("info", striped, "--backend", backend, "--json").stdout)
    run("prepare", striped, "--backend", backend)
    after = json.loads(run("info", striped, "--backend", backend, "--json").stdout)
    assert (before["cache"]["is_cached"], after["cache"]["is_cached"]) == (False, True)
    assert before["cache"]["entry_path"] == after["cache"]["entry_path"]
    assert after["cache"]["entry_bytes"] == os.path.getsize(after["cache"]["entry_path"])
    assert before["crop"] == after["crop"]


def test_info_names_the_overviews(run, striped):
    run("prepare", striped)
    entry = json.loads(run("info", striped, "--json").stdout)["cache"]["entry_path"]
    facts = json.loads(run("info", entry, "--backend", "none", "--json").stdout)
    assert facts["overview_shapes"] == [[500, 1000], [250, 500], [125, 250], [63, 125]]
    assert (facts["cache"], facts["crop"]["from_cache"]) == (None, None)


def test_info_reads_for_people(run, striped):
    lines = run("info", striped).stdout.splitlines()
    assert "size         1,000 x 2,000 px (height x width), 12 MB decoded" in lines
    assert "tiling       strips of 10 x 2,000" in lines
    assert "             from the source: 26 strips of 10 x 2,000, 3.12 MB decoded" in lines
    assert "cache entry  not there yet" in lines
    assert "mapped, nothing is decoded" in run("info", striped, "--backend", "npy").stdout


def test_info_of_a_small_image(run, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 5), np.float32))
    crop = json.loads(run("info", "a.npy", "--json").stdout)["crop"]
    assert crop["region"] == [[0, 3], [0, 5]]
    assert crop["from_source"]["decoded_bytes"] == 0


@pytest.mark.parametrize("name", ["gone.tif", "."])
def test_info_of_no_file(run, name):
    result = run("info", name)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"ndframes: error: {name} ")


def test_cache_ls_of_nothing(run, tmp_path):
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
    assert [line.split()[-1] for line in lines[:-1]] == [
        str(entry.path.relative_to(listed["root"])) for entry in entries
    ]
    assert lines[-1].startswith("2 entries, ")


def test_doctor_knows_this_installation(run, tmp_path):
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


def test_doctor_reads_for_people(run):
    result = run("doctor")
    assert result.stdout.endswith("all that is needed is there\n")
    assert f"ndframes                      {nf.__version__}\n" in result.stdout


def test_doctor_names_what_is_missing_and_what_mends_it(run, monkeypatch):
    parts = (("no_such_part", "no-such-part", None), ("no_such_extra", "no-such-extra", "dask"))
    monkeypatch.setattr(doctor_module, "_PARTS", parts)
    result = run("doctor")
    assert result.exit_code == 1
    text = " ".join(result.stdout.split())
    assert "no_such_part (no-such-part): not installed; mend it with: pip install no-such-part" in text
    assert 'optional, not installed; pip install "ndframes[dask]"' in result.stdout


def test_doctor_notices_a_library_that_does_not_load(run, monkeypatch, tmp_path):
    (tmp_path / "brokenpart.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(doctor_module, "_PARTS", (("brokenpart", "brokenpart", None),))
    result = run("doctor", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["problems"] == [
        "brokenpart: does not import: ImportError: libGL.so.1: cannot open shared object file; "
        "mend it with: pip install brokenpart"
    ]


def test_doctor_notices_a_workdir_that_cannot_be(run, tmp_path):
    (tmp_path / "file").touch()
    result = run("doctor", "--workdir", "file/below", "--json")
    assert result.exit_code == 1
    assert "cannot be written" in json.loads(result.stdout)["problems"][0]


def test_doctor_advises_on_what_bites():
    facts = {
        "workdir": {"free_bytes": 5, "file_system": "nfs4"},
        "machine": {"cores": 8, "open_files_soft": 256, "shared_memory_bytes": 64 << 20},
        "processes": {"start_method": "fork", "environment": {"OMP_NUM_THREADS": None}},
    }
    advice = " ".join(doctor_module._advise(facts))
    for word in ("5 B left", "nfs4", "256 files", "/dev/shm has 67.1 MB", "fork", "OMP_NUM_THREADS"):
        assert word in advice
    facts = {
        "workdir": {"free_bytes": 10**12, "file_system": "ext4"},
        "machine": {"cores": 8, "open_files_soft": 4096, "shared_memory_bytes": 8 << 30},
        "processes": {"start_method": "spawn", "environment": {"OMP_NUM_THREADS": "1"}},
    }
    assert doctor_module._advise(facts) == []
