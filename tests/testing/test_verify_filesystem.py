"""python -m ndframes.testing.verify_filesystem: what it prints, how it ends, what it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import ndframes
from ndframes.system.files import FileSystem
from ndframes.testing import verify_filesystem
from ndframes.testing.experiments import probes
from ndframes.testing.experiments.harness import Counts
from ndframes.testing.experiments.probes import PROBES, probe_locks, run_probe
from ndframes.testing.experiments.scene import Findings

FEW = Counts(kills=2, stride=40, sizes=2, race_images=3, eviction_crops=50, stopped_patience_seconds=3.0)


def start(*arguments: str, **options):
    environment = {**os.environ, "PYTHONPATH": str(Path(ndframes.__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-m", "ndframes.testing.verify_filesystem", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options,
    )  # fmt: skip


def test_every_check_is_made_and_nothing_is_left(tmp_path):
    said = []
    findings = list(verify_filesystem.verify(str(tmp_path), FEW, say=said.append))
    names = [found.name for found in findings]
    assert names == [
        *PROBES, "locks", "kills", "errors", "full disk, file length", "race, locks work", "stopped writer", "eviction",
    ]  # fmt: skip
    assert all(found.ok for found in findings), "\n".join(map(str, findings))
    assert [line for line in said if line in PROBES] == list(PROBES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", PROBES)
def test_each_probe_holds_here(fork_server, tmp_path, name):
    found = run_probe(name, fork_server, str(tmp_path))
    assert found.ok, str(found)
    assert sum(found.done.values()) > 0
    assert list(tmp_path.iterdir()) == []


class BadFileSystem(FileSystem):
    """Does everything in the way that a cache must not rely on."""

    def link_or_replace(self, temporary, final):
        if os.path.exists(final):
            os.unlink(final)
        os.link(temporary, final)
        return True

    def sync_folder(self, path):
        raise OSError(22, "cannot be synced")

    def free_bytes(self, path):
        return 0


@pytest.mark.parametrize("name", ["link does not clobber", "sync", "free space"])
def test_a_probe_finds_a_bad_file_system(fork_server, tmp_path, monkeypatch, name):
    monkeypatch.setattr(probes, "FileSystem", BadFileSystem)
    assert run_probe(name, fork_server, str(tmp_path)).broken == {"failures": 1}


def test_working_locks_are_told(fork_server, tmp_path):
    found, excludes = probe_locks(fork_server, str(tmp_path))
    assert (found.ok, excludes, found.notes) == (True, True, ())


@pytest.fixture
def fixed(monkeypatch):
    """The command with findings made up: what it says of them."""

    def run(capsys, *findings, arguments=()):
        monkeypatch.setattr(verify_filesystem, "verify", lambda *_, **__: iter(findings))
        status = verify_filesystem.main(["/tmp", *arguments])
        return status, capsys.readouterr()

    return run


GOOD = Findings("kills", {"kills": 40}, {"wrong crops": 0}, seconds=2.0)
BAD = Findings("sync", {"syncs": 2}, {"failures": 1}, notes=("failures: trace\nlast line",))
NOTED = Findings("locks", {"locks tried": 2}, notes=("work may be done twice",))


def test_a_broken_promise_fails_and_a_note_does_not(fixed, capsys):
    assert fixed(capsys, GOOD, NOTED)[0] == 0
    status, printed = fixed(capsys, GOOD, BAD)
    assert status == 1
    assert "NOT OK" in printed.out
    assert "last line" in printed.out
    assert "a promise does not hold" in printed.out
    assert "NOT OK" in printed.err


def test_json_is_one_document(fixed, capsys):
    status, printed = fixed(capsys, GOOD, BAD, arguments=["--json"])
    data = json.loads(printed.out)
    assert (status, data["ok"], [item["ok"] for item in data["findings"]]) == (1, False, [True, False])
    assert data["findings"][0]["done"] == {"kills": 40}


def test_a_folder_that_is_none_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "nowhere", tmp_path / "file"):
        assert verify_filesystem.main([str(path)]) == 2
        assert str(path) in capsys.readouterr().err


def test_ctrl_c_leaves_nothing(tmp_path):
    with start(str(tmp_path), start_new_session=True) as process:
        for line in process.stderr:
            if "killed" in line:
                break
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err.splitlines()[-1]) == (130, "interrupted; nothing is left behind")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_command_at_its_usual_counts(tmp_path):
    with start(str(tmp_path), "--json") as process:
        out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    assert json.loads(out)["ok"]
    assert list(tmp_path.iterdir()) == []
