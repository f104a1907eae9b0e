"""python -m ndframes.testing.verify_filesystem: output, exit status, and cleaning up."""

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
from ndframes.testing.experiments.harness import TrialCounts
from ndframes.testing.experiments.probes import PROBES, probe_locks, run_probe
from ndframes.testing.experiments.results import ExperimentResult

FEW = TrialCounts(kills=2, stride=1000, sizes=2, race_images=3, eviction_crops=50)


def start(*arguments: str, **options):
    environment = {**os.environ, "PYTHONPATH": str(Path(ndframes.__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-m", "ndframes.testing.verify_filesystem", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options,
    )  # fmt: skip


def test_all_checks_run_and_nothing_is_left(tmp_path):
    log = []
    results = list(verify_filesystem.verify(str(tmp_path), FEW, log=log.append))
    assert [result.name for result in results] == [
        *PROBES, "locks", "kills", "errors", "full disk, file length", "race, locks exclusive", "suspended writer",
        "eviction",
    ]  # fmt: skip
    assert all(result.ok for result in results), "\n".join(map(str, results))
    assert [line for line in log if line in PROBES] == list(PROBES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", PROBES)
def test_probes_pass_here(fork_server, tmp_path, name):
    result = run_probe(name, fork_server, str(tmp_path))
    assert result.ok, str(result)
    assert sum(result.counts.values()) > 0
    assert list(tmp_path.iterdir()) == []


class BadFileSystem(FileSystem):
    """Replaces on link, and cannot sync folders or report its free space."""

    def link_or_replace(self, temporary, final):
        if os.path.exists(final):
            os.unlink(final)
        os.link(temporary, final)
        return True

    def sync_folder(self, path):
        raise OSError(22, "cannot be synced")

    def free_bytes(self, path):
        return 0


@pytest.mark.parametrize("name", ["link does not replace", "sync", "free space"])
def test_probes_fail_on_a_bad_file_system(fork_server, tmp_path, monkeypatch, name):
    monkeypatch.setattr(probes, "FileSystem", BadFileSystem)
    assert run_probe(name, fork_server, str(tmp_path)).violations == {"failures": 1}


def test_working_locks_are_recognized(fork_server, tmp_path):
    result, is_exclusive = probe_locks(fork_server, str(tmp_path))
    assert (result.ok, is_exclusive, result.notes) == (True, True, ())


class LockingFileSystem(FileSystem):
    """Grants its locks to everybody, or to nobody."""

    is_granted = True

    def try_lock(self, file, *, is_shared=False):
        return self.is_granted


@pytest.mark.parametrize(
    ("is_granted", "problem"),
    [(True, "a lock that another process holds was granted"), (False, "an unheld lock was not granted")],
)
def test_broken_locks_are_a_note(fork_server, tmp_path, monkeypatch, is_granted, problem):
    # Not in the fork server, whose modules are not patched.
    monkeypatch.setattr(LockingFileSystem, "is_granted", is_granted)
    monkeypatch.setattr(probes, "FileSystem", LockingFileSystem)
    path = str(tmp_path / "locked")
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as holder:
        Path(path).write_bytes(b"%d\n" % (holder.pid if is_granted else 0))
        assert probes._try_lock(path) == problem
        holder.stdin.close()
    assert holder.returncode == (-signal.SIGKILL if is_granted else 0)


@pytest.fixture
def run_with(monkeypatch, capsys):
    """Run the command with given results instead of experiments."""

    def run(*results, arguments=()):
        monkeypatch.setattr(verify_filesystem, "verify", lambda *_, **__: iter(results))
        status = verify_filesystem.main(["/tmp", *arguments])
        return status, capsys.readouterr()

    return run


GOOD = ExperimentResult("kills", {"kills": 40}, {"wrong crops": 0}, seconds=2.0)
BAD = ExperimentResult("sync", {"syncs": 2}, {"failures": 1}, notes=("failures: trace\nlast line",))
NOTED = ExperimentResult("locks", {"locks tried": 2}, notes=("conversions may be repeated",))


def test_a_violation_fails_and_a_note_does_not(run_with):
    assert run_with(GOOD, NOTED)[0] == 0
    status, printed = run_with(GOOD, BAD)
    assert status == 1
    assert "NOT OK" in printed.out
    assert "last line" in printed.out
    assert "a check failed" in printed.out
    assert "NOT OK" in printed.err


def test_json_is_one_document(run_with):
    status, printed = run_with(GOOD, BAD, arguments=["--json"])
    data = json.loads(printed.out)
    assert (status, data["ok"], [item["ok"] for item in data["findings"]]) == (1, False, [True, False])
    assert data["findings"][0]["done"] == {"kills": 40}


def test_a_missing_folder_is_an_error(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "nowhere", tmp_path / "file"):
        assert verify_filesystem.main([str(path)]) == 2
        assert str(path) in capsys.readouterr().err


def test_ctrl_c_leaves_nothing(tmp_path):
    with start(str(tmp_path), start_new_session=True) as process:
        for line in process.stderr:
            if "killed" in line:
                break
        while not any(tmp_path.glob("ndframes-verify-*/work-*")):  # the first trial runs
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err.splitlines()[-1]) == (130, "interrupted; nothing is left behind")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_command_with_its_default_counts(tmp_path):
    with start(str(tmp_path), "--json") as process:
        out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    assert json.loads(out)["ok"]
    assert list(tmp_path.iterdir()) == []
