"""Every workdir of a test run in an object store: the tests of images, channels and videos then run over a remote cache.

``NDFRAMES_TEST_STORE=1 bash dev/test.sh tests/frames`` does it. Tests that look at the files of a cache on the disk fail then.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

import ndframes as nf
from ndframes.cache.remote.cache import RemoteCache
from ndframes.system.objects.addresses import is_url

if TYPE_CHECKING:
    import pytest

__all__ = ["place_workdirs"]


def place_workdirs(patch: pytest.MonkeyPatch, bucket: str) -> None:
    """Make each cache whose workdir is a folder one in the bucket, at a place that only this folder has."""

    def make(cls: type[nf.Cache], workdir: Any, **options: Any) -> nf.Cache:
        return object.__new__(RemoteCache if cls is nf.Cache else cls)

    def begin(self: RemoteCache, workdir: Any, **options: Any) -> None:
        init(self, workdir if is_url(workdir) else f"{bucket}/{_name_of(workdir)}", **options)

    init = RemoteCache.__init__
    patch.setattr(nf.Cache, "__new__", make)
    patch.setattr(RemoteCache, "__init__", begin)


def _name_of(folder: Any) -> str:
    return hashlib.blake2b(os.path.abspath(os.fsdecode(folder)).encode(), digest_size=12).hexdigest()
