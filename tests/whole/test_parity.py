"""``dev/parity.py``: it runs, and it finds differences."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

DEV = Path(__file__).parents[2] / "dev"


@pytest.fixture
def parity(monkeypatch):
    monkeypatch.syspath_prepend(str(DEV))
    import parity

    return parity


def test_a_few_files_of_each_kind_of_tiff(tmp_path):
    command = [sys.executable, DEV / "parity.py", "--quick", "--only", "TIFF, ", "--json", tmp_path / "out.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads((tmp_path / "out.json").read_text())["rows"]["all"]
    assert counts["files"] == 9
    assert counts["ways"] == counts["equal"] > 400
    assert done.stdout.splitlines()[-1].split()[0] == "all"


def test_it_finds_a_wrong_pixel_and_a_refusal(parity):
    cases = parity.list_cases()
    right = next(case for case in cases if case.form == "npy, numpy")
    wrong = dataclasses.replace(right, referee=lambda _, written: written[::-1])
    refused = next(case for case in cases if case.form == "XBM, Pillow" and case.name == "1")
    unwritable = next(case for case in cases if case.form == "XBM, Pillow" and case.name == "RGB")
    results = list(parity.check_all([right, wrong, refused, unwritable]))
    assert [result.outcome for result in results] == ["read", "read", "refused", "not writable"]
    assert [bool(result.differences) for result in results] == [False, True, False, False]
    assert parity.count(results)["all"]["DIFFERENT"] == len(results[1].differences) > 10


def test_files_that_are_read_in_one_way_only_differ(parity, monkeypatch):
    case = next(case for case in parity.list_cases() if case.form == "npy, numpy" and "uint8" in case.name)
    monkeypatch.setattr(parity.nf, "open", lambda *_, **__: np.zeros((1, 1, 1)))
    (result,) = parity.check_all([case])
    assert result.differences
    assert all(text.startswith("nf.open") for text in result.differences)
