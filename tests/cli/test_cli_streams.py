"""Standard streams on a full disk, or closed: one line and the exit status, without a traceback."""

from __future__ import annotations

import errno
import io
import os
import sys

import pytest

from ndframes.cli import main
from ndframes.cli.streams import drop_unwritten_text, fill_standard_descriptors


class Full(io.StringIO):
    """A stream on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def exit_status(*arguments: str) -> object:
    with pytest.raises(SystemExit) as caught:
        main(arguments, prog_name="ndframes")
    return caught.value.code


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["info", "--help"], ["info", "a.png", "--json"]])
def test_stdout_on_a_full_disk(monkeypatch, capsys, arguments):
    monkeypatch.setattr("ndframes.cli.info._collect_facts", lambda *_: ({"format": "png"}, {}))
    monkeypatch.setattr(sys, "stdout", Full())
    assert exit_status(*arguments) == 2
    assert capsys.readouterr().err == "ndframes: error: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize("arguments", [["info", "nope.png"], ["info", "--bogus"], ["frobnicate"]])
def test_stderr_on_a_full_disk_keeps_the_exit_status(monkeypatch, arguments):
    monkeypatch.setattr(sys, "stderr", Full())
    assert exit_status(*arguments) == 2


def test_an_error_that_is_not_of_a_stream_is_not_hidden(monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("ndframes.cli.info._collect_facts", fail)
    with pytest.raises(OSError, match="Input/output error"):
        main(["info", "a.png"], prog_name="ndframes")


def test_text_that_cannot_be_written_is_dropped(tmp_path, monkeypatch):
    """Python flushes the streams at exit, and would fail once more."""
    file = (tmp_path / "out").open("w")
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, file.fileno())
    os.close(writer)
    file.write("text")
    monkeypatch.setattr(sys, "stdout", file)
    monkeypatch.setattr(sys, "stderr", None)
    drop_unwritten_text()
    file.close()


def test_closed_standard_descriptors_are_filled():
    opened = []

    def refuse(_):
        raise OSError(errno.EBADF, "Bad file descriptor")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fstat", refuse)
        patch.setattr("os.open", lambda *arguments: opened.append(arguments))
        fill_standard_descriptors()
    assert opened == [(os.devnull, os.O_RDWR)] * 3
