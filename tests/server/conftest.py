"""Fixtures for the tests of services: real servers on loopback."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest
import tifffile
from kit.damage import damage
from kit.http_requests import Site
from kit.waiting import wait_until

import ndframes as nf
from ndframes.server import serve


@pytest.fixture
def serve_frames():
    """Serve frames; returns the site, and the same images through it. No thread is left."""
    before = set(threading.enumerate())
    with ExitStack() as stack:

        def start(frames, **options):
            service = stack.enter_context(serve(frames, **options))
            return Site(service.address), nf.connect(service.address)

        yield start
    wait_until(lambda: set(threading.enumerate()) <= before)


@pytest.fixture
def damage_tile():
    """Change a byte of a stored tile of an entry in place."""

    def damage_one(path, number):
        with tifffile.TiffFile(path) as tiff:
            place = tiff.pages[0].dataoffsets[number] + tiff.pages[0].databytecounts[number] // 2
        damage(path, place)

    return damage_one
