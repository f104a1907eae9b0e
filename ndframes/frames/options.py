"""The keyword arguments of ``Frames`` as a type, for functions that pass them on."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from ..cache.keys import HashidMode
    from ..entries.bytes import VerifyMode
    from ..entries.opener import WhenSourceMissing
    from ..items.parts import OverviewMode
    from ..spec.backends import BackendPicker, BackendSpec
    from ..spec.pathinfo import Orientation
    from ..system.workers import Limits

__all__ = ["FramesOptions"]


class FramesOptions(TypedDict, total=False):
    """The keywords of :class:`Frames`; it documents them."""

    workdir: str | os.PathLike[str] | None
    local_tier: str | os.PathLike[str] | None
    tier_bytes: int | str | None
    backend: BackendSpec | BackendPicker
    hashid_mode: HashidMode
    isolate: bool | Limits
    max_bytes: int | None
    min_free_bytes: int | None
    memory_bytes: int
    tile_bytes: int | None
    threads: int | None
    max_region_bytes: int | None
    verify: VerifyMode
    when_source_missing: WhenSourceMissing
    recheck_seconds: float | None
    overviews: OverviewMode
    orientation: Orientation
    sources: str | Iterable[str] | None
