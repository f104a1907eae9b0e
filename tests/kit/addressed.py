"""Tests of files, run on the same files at addresses: a server of this machine's files stands in for their paths."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import ndframes as nf

from . import tiffs
from .static_files import StaticFiles

if TYPE_CHECKING:
    import pytest


def read_by_address(patch: pytest.MonkeyPatch, site: StaticFiles) -> None:
    """Have :func:`kit.tiffs.check_every_way_in` read each file from a server.

    Args:
        patch: undoes it.
        site: a server of all files, from the root on.
    """

    def address_of(path: Any) -> str:
        return site.url + quote(str(path))

    stand_in = SimpleNamespace(
        ChannelInfo=lambda path, **options: nf.ChannelInfo(address_of(path), **options),
        SimpleFrames=lambda *files, **options: nf.SimpleFrames(*files, sources=[site.url], **options),
        open=lambda path, **options: nf.open(address_of(path), sources=[site.url], **options),
        errors=nf.errors,
    )
    patch.setattr(tiffs, "nf", stand_in)


def serve_everything() -> StaticFiles:
    """A server of all files of this machine, on loopback."""
    return StaticFiles(Path("/"))
