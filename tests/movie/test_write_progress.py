"""``write_video`` in a process without standard streams."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import ndframes as nf


@pytest.mark.parametrize("progress", [None, True])
def test_a_video_is_written_without_a_stderr(tmp_path, monkeypatch, progress):
    frames = np.arange(3 * 16 * 16, dtype=np.uint16).reshape(3, 16, 16)
    monkeypatch.setattr(sys, "stderr", None)
    nf.write_video(tmp_path / "a.mkv", frames, fps=5, progress=progress)
    np.testing.assert_array_equal(nf.read_video(tmp_path / "a.mkv", workdir=tmp_path)[..., 0], frames)
