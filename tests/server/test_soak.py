"""``dev/soak_server.py``: a short soak finds nothing, and a long one would find what is wrong."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import ndframes as nf

DEV = Path(__file__).parents[2] / "dev"
SCRIPT = DEV / "soak_server.py"


@pytest.fixture
def soak(monkeypatch):
    monkeypatch.syspath_prepend(str(DEV))
    import soak_server

    return soak_server


def run_soak(tmp_path, *arguments: str) -> dict:
    command = [sys.executable, SCRIPT, *arguments, "--json", tmp_path / "out.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((tmp_path / "out.json").read_text())


def test_a_short_soak(tmp_path):
    result = run_soak(tmp_path, "--requests", "4000", "--workers", "2")
    assert (result["requests"], result["counted_by_metrics"], result["wrong"]) == (4000, 4000, 0)
    kinds = {"random region", "region", "sequence", "batch", "tile", "iiif", "listing", "page", "head", "error"}
    assert result["asked"].keys() == kinds
    assert all(count > 20 for count in result["asked"].values())


@pytest.mark.slow
def test_a_longer_soak(tmp_path):
    assert run_soak(tmp_path, "--requests", "50000")["requests"] == 50_000


def test_a_wrong_byte_or_status_is_found(tmp_path, soak, serve_frames):
    pixels = soak.write_sources(tmp_path)
    sources = {name: tmp_path / f"{name}.npy" for name in ("photograph", "bands")}
    site, _ = serve_frames(nf.SimpleFrames(sources, workdir=tmp_path / "work"), token=soak._TOKEN)
    connection = soak.Connection(site.place)
    case = soak.draw_region(connection, soak.random.Random(0), pixels)
    status, _, body = connection.ask(case.request)
    assert (status, body) == (200, case.body)
    connection.close()
    flipped = bytearray(case.body)
    flipped[-1] ^= 1
    wrong = [replace(case, name="byte", body=bytes(flipped)), replace(case, name="status", status=201)]
    reports = queue.Queue()
    share = soak.Share(0, 40, 60.0, str(tmp_path), [case, *wrong])
    soak.run_client(site.place, share, done := [0], reports)
    report = reports.get_nowait()
    assert done == [40] == [report.asked.total()]
    assert report.wrong == {name: report.asked[name] for name in ("byte", "status")}
    assert report.wrong.total() > 5
    assert len(report.examples) == 5


def test_what_is_not_flat_is_not_fine(soak):
    flat = {"warm": 100.0, "end": 101.0, "most": 140.0}
    fine = {
        "wrong": 0, "requests": 9, "counted_by_metrics": 9, "resident_mb": flat, "descriptors": {"warm": 30, "end": 31, "most": 50},
        "exit_status": 0,
    }  # fmt: skip
    assert soak.is_fine(fine)
    grown = {"warm": 100.0, "end": 150.0, "most": 150.0}
    for name, value in (
        ("wrong", 1),
        ("counted_by_metrics", 8),
        ("resident_mb", grown),
        ("descriptors", grown),
        ("exit_status", 1),
    ):
        assert not soak.is_fine({**fine, name: value}), name
    samples = [soak.Sample(number, 100.0 + number, 7) for number in range(11)]
    assert soak.summarize(samples, "resident_mb") == {"warm": 102.0, "end": 109.0, "most": 110.0}
