"""The benchmarks' command lines, and that ``docs/performance/`` shows the committed results."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "dev" / "bench"
RESULTS = BENCH / "results"
PAGES = ROOT / "docs" / "performance"
SCRIPTS = sorted(BENCH.glob("bench_*.py"))

ALL_HELP = """
import runpy, sys
for script in sys.argv[1:]:
    sys.path[0] = script.rpartition("/")[0]
    sys.argv = [script, "--help"]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as ended:
        assert ended.code == 0, script
"""


def run_python(*arguments: object) -> str:
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def find_differences(results: Path, pages: Path, scratch: Path) -> set[str]:
    """Names of the files in ``pages`` that are not what ``results`` give."""
    run_python(BENCH / "pages", "--results", results, "--out", scratch)
    made, kept = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in (scratch, pages))
    return {name for name in made.keys() | kept.keys() if made.get(name) != kept.get(name)}


def test_the_pages_show_the_committed_results(tmp_path):
    """``python dev/bench/pages`` renders them again."""
    assert find_differences(RESULTS, PAGES, tmp_path) == set()


def test_an_edited_number_is_found(tmp_path):
    results, pages = tmp_path / "results", tmp_path / "pages"
    shutil.copytree(RESULTS, results)
    shutil.copytree(PAGES, pages)
    outcome = json.loads((results / "loader.json").read_text())
    outcome["results"][0]["samples_per_second"] *= 1.05
    (results / "loader.json").write_text(json.dumps(outcome))
    page = pages / "cold.rst"
    page.write_text(re.sub(r"\d+\.\d\d", "9.87", page.read_text(), count=1))
    figure = pages / "video-1.svg"
    figure.write_text(figure.read_text().replace("translate(", "translate(1", 1))
    wrong = {"loader.rst", "loader-1.svg", "cold.rst", "video-1.svg"}
    assert find_differences(results, pages, tmp_path / "made") == wrong


def test_every_benchmark_has_help():
    text = run_python("-c", ALL_HELP, *SCRIPTS)
    assert text.count("--quick") >= text.count("usage: bench_") == len(SCRIPTS) >= 9


def test_the_commands_of_the_page_exist():
    """Relative to the root or to ``dev/bench``."""
    commands = re.findall(r"python ([\w/.]+)", (ROOT / "docs" / "performance.rst").read_text())
    assert len(commands) >= len(SCRIPTS) - 1
    assert all((ROOT / command).exists() or (BENCH / command).exists() for command in commands)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_benchmark_runs_and_can_be_shown(script, tmp_path):
    """Contenders that are not installed are named and left out."""
    results = tmp_path / "results"
    run_python(script, "--quick", "--folder", tmp_path, "--json", results / "quick.json")
    rows = json.loads((results / "quick.json").read_text())["results"]
    assert {row["role"] for row in rows} >= {"ndframes"}
    assert all(
        row["status"] == "measured" or row["status"].startswith("not installed")
        for row in rows
        if row["role"] != "peer"
    )
    if any(row["status"] == "measured" for row in rows):
        run_python(BENCH / "pages", "--results", results, "--out", tmp_path / "pages")
        assert (tmp_path / "pages" / "quick.rst").is_file()
