"""The commands with a workdir in an object store."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest
from kit.commands import run

import ndframes as nf
from ndframes.system.objects.connection import connect_store


@pytest.fixture
def image(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 255, (90, 80, 3), np.uint8))
    return str(tmp_path / "a.npy")


def test_the_commands_of_a_cache(bucket, image):
    run("prepare", "--workdir", bucket, image)
    listed = json.loads(run("cache", "ls", "--workdir", bucket, "--json"))
    assert [entry["source"] for entry in listed["entries"]] == [image]
    assert (listed["workdir"], listed["root"]) == (bucket, f"{bucket}/ndframes-cache")
    (entry,) = listed["entries"]
    assert entry["path"].startswith(f"{bucket}/ndframes-cache/v1/")
    assert ".tif" in run("cache", "ls", "--workdir", bucket)
    assert json.loads(run("cache", "stat", "--workdir", bucket, "--json"))["entries"] == 1
    assert "an object store" in run("cache", "stat", "--workdir", bucket)
    assert "1 checked" in run("cache", "verify", "--workdir", bucket, "--read-data")
    assert "0 entries and 0 leftovers removed" in run("cache", "gc", "--workdir", bucket, "--older-than", 0)
    assert "1 entry" in run("cache", "clear", "--workdir", bucket, "--dry-run")
    assert "1 entry" in run("cache", "clear", "--workdir", bucket, "--source", image)
    assert json.loads(run("cache", "stat", "--workdir", bucket, "--json"))["entries"] == 0


def test_a_crop(bucket, image, tmp_path):
    run("crop", "--workdir", bucket, image, "-o", tmp_path / "out.npy", "--region", "10:20,5:50")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), np.load(image)[10:20, 5:50])


def test_the_doctor_looks_at_a_store(bucket, image, monkeypatch):
    assert json.loads(run("doctor", "--workdir", bucket, "--json"))["workdir"]["exists"] is False
    run("prepare", "--workdir", bucket, image)
    facts = json.loads(run("doctor", "--workdir", bucket, "--json"))
    assert facts["workdir"] == {
        "path": bucket, "exists": True, "is_writable": True, "free_bytes": None, "total_bytes": None, "file_system": "an object store",
    }  # fmt: skip
    assert "not limited" in run("doctor", "--workdir", bucket)


def test_an_age_is_for_an_object_store(tmp_path):
    with pytest.raises(SystemExit):
        run("cache", "gc", "--workdir", tmp_path, "--older-than", 0)


def test_facts_of_an_image_with_an_entry(bucket, image):
    """The entry is no file of this machine, and info tells its length all the same."""
    run("prepare", "--workdir", bucket, image)
    facts = json.loads(run("info", "--workdir", bucket, image, "--json"))["cache"]
    assert facts["is_cached"]
    assert facts["entry_path"].startswith(bucket)
    (entry,) = nf.Cache(bucket).ls()
    assert facts["entry_bytes"] == entry.size_bytes
    assert "exists" in run("info", "--workdir", bucket, image)


def test_facts_of_a_dataset_with_entries(bucket, image, tmp_path):
    item = {"id": 7, "file_name": image, "width": 80, "height": 90}
    (tmp_path / "set.json").write_text(json.dumps({"images": [item], "annotations": []}))
    arguments = ("--workdir", bucket, tmp_path / "set.json")
    run("prepare", *arguments)
    (file,) = json.loads(run("info", *arguments, "--image-id", 7, "--json"))["files"]
    (entry,) = nf.Cache(bucket).ls()
    assert file["cache"] == {"entry_path": str(entry.path), "is_cached": True, "entry_bytes": entry.size_bytes}


def test_the_demonstration(bucket, tmp_path):
    assert "300 of 300 crops equal" in run("demo", "--workdir", bucket, "--size", 512, "--out", tmp_path / "demo")


def test_a_service_with_a_tier_and_a_source_at_an_address(bucket, image, tmp_path, spawn):
    store = connect_store(f"{bucket}/imagery")
    store.upload("b.npy", image)
    options = ("--workdir", bucket, "--local-tier", tmp_path / "tier", "--tier-bytes", "1GB")
    process = spawn("serve", image, f"{bucket}/imagery/b.npy", "--sources", f"{bucket}/imagery/", *options)
    remote = nf.connect(process.stdout.readline().strip())
    for image_id in remote.image_ids:
        np.testing.assert_array_equal(remote.load_region(image_id, np.s_[10:20, 5:50]), np.load(image)[10:20, 5:50])
    assert len(remote.image_ids) == len(list(nf.Cache(bucket).ls())) == 2
    assert nf.Cache(bucket, local_tier=tmp_path / "tier").stat().tier_bytes > 0
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0


def test_a_service_begins_with_addresses_that_are_there_and_allowed(bucket, image, spawn):
    for options, message in (([], "--sources"), (["--sources", bucket], "does not exist")):
        process = spawn("serve", image, f"{bucket}/b.npy", *options)
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, output) == (2, "")
        assert f"ndframes: error: {bucket}/b.npy" in errors
        assert message in errors
