"""The program as a whole: help, one-line errors, exit statuses, and light imports."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys

import click
import pytest

import ndframes
from ndframes.cli import main
from ndframes.cli.common import describe_error
from ndframes.errors import RegionError, SourceMissingError

COMMANDS = (
    "demo",
    "prepare",
    "crop",
    "show",
    "info",
    "patches",
    "video",
    "movie",
    "stream",
    "serve",
    "cache",
    "doctor",
)


def test_help_lists_the_commands_and_examples(run):
    result = run("--help")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.split("Commands:\n")[1].splitlines()] == list(COMMANDS)
    assert "  ndframes demo    " in result.stdout


def all_commands(command=main, path=()):
    """The names of all commands, groups and subcommands."""
    if path:
        yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from all_commands(command.get_command(context, name), (*path, name))


@pytest.mark.parametrize("path", list(all_commands()), ids=" ".join)
def test_help_of_a_command_has_examples(run, path):
    result = run(*path, "--help")
    assert result.exit_code == 0
    examples = result.stdout.split("  For example:\n")[1].split("\n\n")[0].splitlines()
    assert len(examples) >= 2
    assert all(line.startswith(f"    ndframes {' '.join(path)}") for line in examples)


def test_version(run):
    assert run("--version").stdout == f"ndframes {ndframes.__version__}\n"


def test_an_unknown_command_is_an_error(run):
    result = run("frobnicate")
    assert result.exit_code == 2
    assert "frobnicate" in result.stderr


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from ndframes.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print('MODULES', *sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    names = loaded.rpartition("MODULES ")[2].split()
    assert "click" in names
    heavy = {"numpy", "rasterio", "cv2", "kwimage", "kwcoco", "torch", "av", "tifffile", "imagecodecs", "ubelt", "PIL"}
    assert heavy.isdisjoint(names)


def test_an_error_is_one_line_on_stderr_and_status_2(spawn):
    process = spawn("info", "nothing.tif")
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (2, "")
    assert stderr.startswith("ndframes: error: nothing.tif does not exist")
    assert stderr.count("\n") == 1


def test_the_module_runs_as_the_program(spawn):
    process = spawn("--version")
    assert process.communicate(timeout=60) == (f"ndframes {ndframes.__version__}\n", "")


def test_a_closed_pipe_gives_no_traceback(spawn):
    process = spawn("cache", "ls", "--help")
    process.stdout.close()
    stderr = process.stderr.read()
    assert (process.wait(60), stderr) == (1, "")


def test_ctrl_c_exits_with_130(run, monkeypatch, coffee):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("ndframes.frames.simple.SimpleFrames.explain", interrupt)
    result = run("info", coffee[0])
    assert result.exit_code == 128 + signal.SIGINT
    assert result.stderr == "\nndframes: interrupted\n"


def test_an_error_names_its_image_once():
    error = SourceMissingError("a.tif does not exist")
    error.image_id = "a.tif"
    assert describe_error(error) == "a.tif does not exist"
    error = RegionError("stops before it starts\n  somehow")
    error.image_id = "a.tif"
    assert describe_error(error) == "a.tif: stops before it starts somehow"


def test_a_tilde_in_quotes_is_the_home_folder(run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "scans").mkdir()
    shutil.copy(ndframes.demo_paths()["moon"], tmp_path / "scans" / "moon.png")
    for arguments in (
        ["info", "~/scans/moon.png"],
        ["info", "~/scans"],
        ["prepare", "~/scans"],
        ["prepare", "~/scans/*.png"],
        ["crop", "~/scans/moon.png", "-o", "~/crop.png", "--region", "0:9,0:9"],
        ["show", "~/scans/moon.png", "-o", "~/show.png"],
        ["video", "encode", "~/scans", "-o", "~/moon.mp4", "--fps", "5"],
        ["video", "info", "~/moon.mp4"],
        ["video", "extract", "~/moon.mp4", "-o", "~/stills"],
    ):
        result = run(*arguments)
        assert (result.exit_code, result.stderr) == (0, ""), arguments
    assert {path.name for path in tmp_path.iterdir()} >= {"crop.png", "show.png", "moon.mp4", "stills"}
    assert not (tmp_path / "~").exists()
