"""Fixtures of the command line: runners and images."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

import ndframes as nf
from ndframes.cli import main


@pytest.fixture
def run(monkeypatch, tmp_path):
    """A function that runs a command in this process, in a temporary folder."""
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
    """A function that starts a command as a process, in a temporary folder."""
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


@pytest.fixture
def dataset(tmp_path, coffee):
    """A COCO dataset: image 1 is a photograph and a near infrared band of half its size, image 2 is a mask."""
    near_infrared = np.arange(200 * 300, dtype=np.uint16).reshape(200, 300)
    tifffile.imwrite(tmp_path / "nir.tif", near_infrared)
    mask = np.zeros((60, 80), np.uint8)
    mask[10:20, 30:50] = 9
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    scale = {"type": "affine", "scale": 2.0}
    content = {
        "images": [
            {
                "id": 1, "name": "cup", "file_name": coffee[0], "channels": "r|g|b", "height": 400, "width": 600,
                "video_id": 5, "frame_index": 3, "warp_img_to_vid": {"type": "affine", "scale": 0.5},
                "auxiliary": [
                    {"file_name": "nir.tif", "channels": "nir", "height": 200, "width": 300, "warp_aux_to_img": scale}
                ],
            },
            {"id": 2, "file_name": "mask.tif", "channels": "mask", "height": 60, "width": 80, "nodata": 0},
        ],
        "videos": [{"id": 5, "name": "walk", "height": 200, "width": 300}],
        "categories": [{"id": 3, "name": "cup"}, {"id": 4, "name": "spoon"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "bbox": [100, 40, 200, 120]},
            {"id": 2, "image_id": 1, "category_id": 4, "segmentation": [[400, 100, 500, 100, 500, 200, 400, 200]]},
            {"id": 3, "image_id": 1, "category_id": 4, "keypoints": [550, 350, 2]},
        ],
    }  # fmt: skip
    (tmp_path / "data.kwcoco.json").write_text(json.dumps(content))
    return tmp_path / "data.kwcoco.json"
