"""``ndframes stream``: real files, real processes, and a real Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import ndframes as nf
from tests.kit.http_requests import Site
from tests.kit.numbered import RATE, draw
from tests.kit.waiting import wait_until

COUNT = 40
ALGORITHMS = """
import time
from tests.kit.numbered import read_number

def see(frames):
    return [read_number(frame) for frame in frames]

def see_slowly(frames, seconds=0.05):
    time.sleep(seconds)
    return see(frames)

def hang(frames):
    time.sleep(3600)

def fail_at_seven(frames):
    if read_number(frames[-1]) == 7:
        raise ValueError("seven")
    return 1
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a clip and the package ``mypkg``."""
    nf.write_video(tmp_path / "clip.mp4", (draw(number) for number in range(COUNT)), RATE, preset="ultrafast")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "mypkg.py").write_text(ALGORITHMS)
    yield tmp_path
    sys.modules.pop("mypkg", None)
    while str(tmp_path / "lib") in sys.path:
        sys.path.remove(str(tmp_path / "lib"))


@pytest.fixture
def configure(folder):
    """A function that writes the configuration of some algorithms; returns its path."""

    def write(algorithms: str, *, sources: str = "{name: cam, uri: clip.mp4}", more: str = "") -> str:
        text = f"sources: {sources}\nalgorithms:\n{textwrap.indent(textwrap.dedent(algorithms), '  ')}\n{more}\n"
        (folder / "cams.yaml").write_text(text)
        return "cams.yaml"

    return write


LIVE = "{name: cam, uri: 'lavfi:testsrc2=size=160x120:rate=25,realtime'}"
SEE = "- {name: number, import: 'mypkg:see', window: {every: 10}}"


def test_a_run_prints_and_writes_what_it_did(run, folder, configure):
    configure(SEE, more="results: {path: results.jsonl}\nrecord: {path: again.mkv}")
    result = run("stream", "run", "cams.yaml", "--allow", "mypkg", "--path", "lib", "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0][:3] == ["pipeline", "stopped", "after"]
    assert lines[2][:2] == ["cam", "40"]
    assert lines[2][-1] == "ended"
    assert lines[4][:6] == ["number", "4", "4", "0", "0", "0"]
    assert all(float(each.replace(",", "")) > 0 for each in lines[4][6:])
    assert lines[5] == ["sinks", "results.jsonl:", "4", "written"]
    found = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert [each["value"] for each in found] == [[0], [10], [20], [30]]
    assert len(nf.open(folder / "again.mkv")) == COUNT


def test_options_replace_what_the_file_says(run, folder, configure):
    configure(SEE, more="mode: realtime\nresults: {path: not-this.jsonl}")
    (folder / "out").mkdir()
    result = run(
        "stream", "run", "cams.yaml", "--allow", "mypkg", "--path", "lib", "--mode", "offline",
        "--results", "out/r.jsonl", "--json",
    )  # fmt: skip
    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert (found["state"], found["error"], found["results"]) == ("stopped", None, str(folder / "out" / "r.jsonl"))
    assert found["sources"]["cam"]["captured"] == found["sources"]["cam"]["expected"] == COUNT
    assert found["algorithms"]["number"]["processed"] == 4
    assert found["sinks"] == {"r.jsonl": {"written": 4}}
    assert len((folder / "out" / "r.jsonl").read_text().splitlines()) == 4
    assert not (folder / "not-this.jsonl").exists()


def test_windows_that_fail(run, configure, folder):
    fail = "- {name: x, import: 'mypkg:fail_at_seven'}"
    configure(fail, more="errors: skip")
    arguments = ("stream", "run", "cams.yaml", "--allow", "mypkg", "--path", "lib", "--results", "r.jsonl")
    result = run(*arguments)
    assert (result.exit_code, result.stderr) == (
        1, "ndframes: 1 windows failed and were skipped; their results tell why\n",
    )  # fmt: skip
    assert len((folder / "r.jsonl").read_text().splitlines()) == COUNT
    configure(fail)
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("ndframes: error: algorithm x failed at frame 7 of cam: ValueError: seven")
    assert result.stdout.startswith("pipeline    failed after")
    assert [json.loads(line)["index"] for line in (folder / "r.jsonl").read_text().splitlines()] == list(range(8))
    result = run(*arguments, "--json")
    assert (result.exit_code, json.loads(result.stdout)["state"]) == (2, "failed")
    configure(fail, sources="{name: cam, uri: missing.mp4}")
    result = run(*arguments)
    assert result.exit_code == 2
    assert "missing.mp4 does not exist" in result.stderr


def test_a_duration(run, configure):
    configure(SEE, sources=LIVE, more="mode: realtime")
    result = run("stream", "run", "cams.yaml", "--allow", "mypkg", "--path", "lib", "--duration", "2", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert found["state"] == "stopped"
    assert found["seconds"] >= 2
    for seconds in ("0", "-1", "nan", "inf"):
        result = run("stream", "run", "cams.yaml", "--duration", seconds)
        assert result.exit_code == 2
        assert "write seconds above 0" in result.stderr


def test_problems_are_lines_on_stderr(run, configure, folder):
    configure("- {name: x, import: 'os:system'}\n- {name: y, import: 'mypkgs:see'}")
    for command in ("run", "check"):
        result = run("stream", command, "cams.yaml", "--allow", "mypkg", "--path", "lib")
        assert (result.exit_code, result.stdout) == (2, "")
        first, second = result.stderr.splitlines()
        assert first.startswith("ndframes: error: cams.yaml:3: algorithms[0].import: 'os:system' may not be imported")
        assert second.startswith("ndframes: error: cams.yaml:4: algorithms[1].import: ")
    result = run("stream", "check", "cams.yaml", "--allow", "mypkg", "--json")
    assert result.exit_code == 2
    found = json.loads(result.stdout)
    assert found["ok"] is False
    assert [(each["line"], each["key"]) for each in found["problems"]] == [
        (3, "algorithms[0].import"), (4, "algorithms[1].import"),
    ]  # fmt: skip
    # Without --allow nothing may run.
    configure(SEE)
    assert run("stream", "run", "cams.yaml", "--path", "lib").exit_code == 2
    for arguments in (["--allow", "*"], ["--allow", "mypkg", "--results", "r.txt"], ["--mode", "fast"]):
        assert run("stream", "run", "cams.yaml", "--path", "lib", *arguments).exit_code == 2
    assert "No such file" in run("stream", "check", "missing.yaml").stderr


def test_check_opens_and_imports_only_if_asked(run, configure, folder):
    touch = "import pathlib\npathlib.Path('touched').touch()\n"
    (folder / "lib" / "mypkg.py").write_text(touch + ALGORITHMS)
    sources = "[{name: cam, uri: clip.mp4}, {name: away, uri: 'rtsp://me:secret@127.0.0.1:9/x', open_timeout: 1}]"
    configure("- {name: number, import: 'mypkg:see', source: cam}", sources=sources, more="results: {path: r.jsonl}")
    result = run("stream", "check", "cams.yaml", "--path", "lib")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "cams.yaml: no problems" in result.stdout
    assert "rtsp://me:***@127.0.0.1:9/x" in result.stdout
    assert "give --allow" in result.stdout
    result = run("stream", "check", "cams.yaml", "--path", "lib", "--allow", "mypkg")
    assert "give --allow" not in result.stdout
    assert {path.name for path in folder.iterdir()} == {"clip.mp4", "lib", "cams.yaml"}
    assert run("stream", "check", "cams.yaml", "--path", "lib", "--allow", "mypkg", "--import").exit_code == 0
    assert (folder / "touched").exists()
    result = run("stream", "check", "cams.yaml", "--open", "--json")
    assert result.exit_code == 2
    assert "secret" not in result.stdout + result.stderr
    cam, away = json.loads(result.stdout)["sources"]
    assert (cam["shape"], cam["fps"], cam["frames"], cam["live"]) == ([120, 160, 3], RATE, COUNT, False)
    assert away["error"]
    configure(SEE, sources=LIVE)
    result = run("stream", "check", "cams.yaml", "--open")
    assert result.exit_code == 0
    assert "120 x 160 x 3 px, 25 frames a second" in result.stdout


def start(folder: Path, *arguments: str, stderr: int = subprocess.PIPE) -> subprocess.Popen:
    """A command in a group of processes of its own, which gets signals as from a terminal."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(nf.__file__).parents[1]),
        "NDFRAMES_WORKDIR": str(folder / "work"),
    }
    command = [sys.executable, "-m", "ndframes", "stream", "run", "cams.yaml", "--allow", "mypkg", "--path", "lib"]
    return subprocess.Popen(
        [*command, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
    )


def has_group(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("worker", ["inline", "thread", "process"])
@pytest.mark.parametrize("mode", ["offline", "realtime"])
def test_ctrl_c_stops_it_with_its_results(folder, configure, worker, mode):
    slow = f"- {{name: slow, import: 'mypkg:see_slowly', worker: {worker}}}"
    configure(slow, sources=LIVE, more=f"mode: {mode}\nresults: {{path: r.jsonl}}")
    process = start(folder)
    try:
        wait_until(lambda: (folder / "r.jsonl").exists() and (folder / "r.jsonl").read_bytes().count(b"\n") > 3)
        os.killpg(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        if has_group(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == 130
    # Also the processes behind it say nothing.
    assert stderr == "ndframes: interrupted; the results so far are kept\n"
    assert stdout.startswith("pipeline    stopped after")
    lines = (folder / "r.jsonl").read_text().splitlines()
    assert len(lines) > 3
    assert f"r.jsonl: {len(lines)} written" in stdout
    assert all(json.loads(line)["error"] is None for line in lines)


@pytest.mark.parametrize("worker", ["inline", "thread", "process"])
def test_ctrl_c_ends_an_algorithm_that_hangs(folder, configure, worker):
    algorithms = f"- {{name: number, import: 'mypkg:see'}}\n- {{name: hang, import: 'mypkg:hang', worker: {worker}}}"
    configure(algorithms, sources=LIVE, more="mode: realtime\nresults: {path: r.jsonl}")
    process = start(folder)
    try:
        wait_until(lambda: (folder / "r.jsonl").exists() and (folder / "r.jsonl").read_bytes().count(b"\n") > 3)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=90)
        wait_until(lambda: not has_group(process.pid))
    finally:
        if has_group(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert len((folder / "r.jsonl").read_text().splitlines()) > 3


def test_a_page_of_the_run_which_goes_on_until_ctrl_c(folder, configure):
    configure(SEE)
    process = start(folder, "--view", "--quiet")
    try:
        name, address = process.stderr.readline().split()
        assert name == "page"
        assert process.stderr.readline() == "the run has ended; Ctrl-C ends the page\n"
        site = Site(address)
        state = site.ask("/state").json
        assert (state["state"], state["sources"][0]["captured"]) == ("stopped", COUNT)
        assert site.ask("/state", has_token=False).status == 401
        os.killpg(process.pid, signal.SIGINT)
        stdout, _ = process.communicate(timeout=60)
    finally:
        if has_group(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == 0
    assert stdout.startswith("pipeline    stopped after")


def test_a_port_needs_a_page(run, folder, configure):
    configure(SEE)
    result = run("stream", "run", "cams.yaml", "--allow", "mypkg", "--path", "lib", "--port", "8000")
    assert result.exit_code == 2
    assert "--port is that of the page: give --view, too" in result.stderr


def test_a_terminal_shows_a_bar(folder, configure):
    configure("- {name: slow, import: 'mypkg:see_slowly'}")
    ours, theirs = pty.openpty()
    process = start(folder, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while data := _read(ours):
            shown += data
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()
        os.close(ours)
    lines = shown.decode().split("\r")
    bars = [line for line in lines if line.startswith("[")]
    assert bars
    assert "% " in bars[-1]
    assert " frames, " in bars[-1]
    assert bars[-1].rstrip().endswith("0 dropped, 0 reconnects")
    # At the end the line is taken away.
    assert not lines[-1].strip()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # nobody writes to the terminal any more
        return b""


def test_progress_of_a_log_file(monkeypatch, capsys):
    from ndframes.cli import stream_report

    monkeypatch.setattr(stream_report, "_LINE_SECONDS", 0.0)
    progress = stream_report.Progress(None, is_quiet=False)
    counts = {"captured": 50, "decoded": 60, "reconnects": 2, "expected": None}
    stats = {
        "sources": {"cam": counts},
        "algorithms": {"x": {"processed": 1000, "dropped": {"busy": 3, "late": 4, "error": 0}}},
    }
    progress.show(stats, "reconnecting")
    line = capsys.readouterr().err
    assert line.startswith("50 frames, ")
    assert line.endswith(" fps, 1,000 windows, 7 dropped, 2 reconnects; reconnecting\n")
    stats["sources"]["cam"] = {**counts, "expected": 120}
    progress.show(stats, "running")
    assert capsys.readouterr().err.startswith("[##########----------]  50% 50 frames")
    stream_report.Progress(None, is_quiet=True).show(stats, "running")
    progress.end()
    assert capsys.readouterr().err == ""


def test_arrays_of_nothing_have_a_table():
    from ndframes.cli.stream_report import describe_run

    nothing = {f"p{percent}": np.nan for percent in (50, 95, 99)} | {"max": np.nan}
    counts = {
        "scheduled": 0, "processed": 0, "dropped": {"busy": 0, "late": 0, "error": 0}, "pending": 0, "latency_ms": nothing,
    }  # fmt: skip
    rows = describe_run({"sources": {}, "algorithms": {"x": counts}, "sinks": {}}, 0.0)
    assert rows["algorithms"].splitlines()[1].split() == ["x", "0", "0", "0", "0", "0", "-", "-", "-", "-"]
