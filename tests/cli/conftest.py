"""Fixtures of the command line: a runner, and a few images."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import ndframes as nf
from ndframes.cli import main


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run a command in this process, in a folder of its own, with its cache beside."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NDFRAMES_WORKDIR", str(tmp_path / "work"))

    def invoke(*arguments: object):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="ndframes")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def spawn(monkeypatch, tmp_path):
    """Start a command as a process of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NDFRAMES_WORKDIR", str(tmp_path / "work"))
    monkeypatch.setenv("PYTHONPATH", str(Path(nf.__file__).parents[1]))
    with ExitStack() as stack:

        def start(*arguments: object):
            command = [sys.executable, "-m", "ndframes", *map(str, arguments)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            return stack.enter_context(process)

        yield start


@pytest.fixture
def coffee():
    """The path and the pixels of a photograph."""
    path = str(nf.demo_paths()["coffee"])
    return path, np.asarray(nf.open(path))
