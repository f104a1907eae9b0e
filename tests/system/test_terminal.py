"""The standard streams, of which a daemon has none."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from ndframes.system import workers
from ndframes.system.terminal import has_stderr, is_terminal


def test_what_is_no_terminal():
    closed = io.StringIO()
    closed.close()
    assert not any(map(is_terminal, (None, io.StringIO(), closed, object())))


def test_a_terminal():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert is_terminal(Terminal())


def test_a_worker_gets_the_null_device_for_a_stderr_that_is_missing(monkeypatch):
    """Its first action, a copy of stderr, would fail; and a file with that descriptor would get what libraries print."""
    started = []
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **options: started.append(options["stderr"]))
    assert has_stderr()
    workers._start(None)
    monkeypatch.setattr(sys, "__stderr__", None)
    assert not has_stderr()
    workers._start(None)
    assert started == [None, subprocess.DEVNULL]


def test_a_stderr_that_was_closed_later():
    def refuse(_):
        raise OSError(9, "Bad file descriptor")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fstat", refuse)
        found = has_stderr()
    assert not found
