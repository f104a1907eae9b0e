"""Ctrl-C that arrives where Python cannot raise it: each command ends with exit status 130 all the same."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import ndframes as nf

PROGRAM = """
import gc, os, signal, sys, threading, time, weakref

from ndframes.cli import main
from ndframes.cli.info import info

signal.signal(signal.SIGINT, signal.default_int_handler)


class Finalized:
    def __init__(self, is_cycle=False):
        self.itself = self if is_cycle else None

    def __del__(self):
        signal.raise_signal(signal.SIGINT)


class Referenced:
    pass


def drop_finalized():
    Finalized()


def drop_referenced():
    target = Referenced()
    reference = weakref.ref(target, lambda _: signal.raise_signal(signal.SIGINT))
    del target


def collect_garbage():
    Finalized(is_cycle=True)
    gc.collect()


def wait_in_python():
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        pass


def wait_in_a_lock():
    threading.Event().wait(100)


def wait_in_the_system():
    os.read(os.pipe()[0], 1)


def return_at_once():
    pass


def run(**options):
    {lose}()
    {wait}()
    print("went on")


info.callback = run
main(["info", "x.npy"])
"""


@pytest.mark.parametrize(
    ("lose", "wait"),
    [
        ("drop_finalized", "wait_in_python"),
        ("drop_referenced", "wait_in_a_lock"),
        ("collect_garbage", "wait_in_the_system"),
        ("drop_finalized", "return_at_once"),
    ],
)
def test_an_interrupt_in_a_finalizer_ends_the_command(tmp_path, monkeypatch, lose, wait):
    monkeypatch.setenv("PYTHONPATH", str(Path(nf.__file__).parents[1]))
    program = textwrap.dedent(PROGRAM).replace("{lose}", lose).replace("{wait}", wait)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stderr.split()) == (130, ["ndframes:", "interrupted"])
    assert done.stdout == ("went on\n" if wait == "return_at_once" else "")


def test_a_command_in_this_process_restores_the_hook(run, coffee):
    before = sys.unraisablehook
    assert run("info", coffee[0]).exit_code == 0
    assert run("info", "no-such-file.tif").exit_code == 2
    assert sys.unraisablehook is before
