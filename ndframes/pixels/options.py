"""ReadOptions: how a read pads, fills, resamples and treats nodata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple, TypedDict

import numpy as np

from ..errors import RegionError, shorten
from ..geometry.kernels import INTERPOLATIONS
from ..geometry.padding import check_pad
from .values import NODATA_MODES

if TYPE_CHECKING:
    from ..geometry.kernels import Interpolation
    from ..geometry.regions import PadMode
    from .values import NodataMode

__all__ = ["DEFAULT_OPTIONS", "ReadKeywords", "ReadOptions", "ScaleKeywords", "WarpKeywords"]
# By identity, since -0.0 equals 0.
_NO_FILL = 0


class WarpKeywords(TypedDict, total=False):
    """The keywords of :meth:`ndframes.Frames.load_warped`; it documents them."""

    fill: complex
    interpolation: Interpolation | Mapping[str, Interpolation] | None
    antialias: bool
    nodata: NodataMode


class ScaleKeywords(TypedDict, total=False):
    """The keywords that set the extent of a result; :meth:`ndframes.Frames.load_region` documents them."""

    pad: PadMode | None
    scale: float | tuple[float, float] | None
    shape: tuple[int, int] | None


class ReadKeywords(WarpKeywords, ScaleKeywords, total=False):
    """The keywords of :meth:`ndframes.Frames.load_region`; it documents them."""

    outside: Literal["raise"] | None


class ReadOptions(NamedTuple):
    """The options of one read; :meth:`ndframes.Frames.load_region` documents them.

    ``ReadOptions()`` reads pixels as they are stored. Use :meth:`of` for values that come from a user.
    """

    fill: complex = 0
    interpolation: Interpolation | Mapping[str, Interpolation] | None = None
    antialias: bool = True
    nodata: NodataMode = "keep"
    pad: PadMode | None = None
    scale: float | tuple[float, float] | None = None
    shape: tuple[int, int] | None = None
    outside: Literal["raise"] | None = None

    @classmethod
    def of(
        cls,
        fill: complex = 0,
        interpolation: Interpolation | Mapping[str, Interpolation] | None = None,
        antialias: object = True,
        nodata: NodataMode = "keep",
        pad: PadMode | None = None,
        scale: float | tuple[float, float] | None = None,
        shape: tuple[int, int] | None = None,
        outside: Literal["raise"] | None = None,
    ) -> ReadOptions:
        """The options, checked.

        Raises:
            RegionError: the interpolation, the nodata mode or the pad mode does not exist, or ``antialias`` is no bool.
        """
        is_stored = interpolation is None and nodata == "keep" and antialias is True and fill is _NO_FILL
        if is_stored and pad is None and scale is None and shape is None and outside is None:
            return DEFAULT_OPTIONS  # most crops end here, and a new tuple would take three times as long
        if interpolation is not None:
            for name in interpolation.values() if isinstance(interpolation, Mapping) else (interpolation,):
                if name not in INTERPOLATIONS:
                    raise RegionError(f"interpolation={shorten(name)}; allowed: {', '.join(map(repr, INTERPOLATIONS))}")
        if not isinstance(antialias, (bool, np.bool_)):
            raise RegionError(f"antialias={shorten(antialias)}; allowed: True, False")
        if nodata not in NODATA_MODES:
            raise RegionError(f"nodata={shorten(nodata)}; allowed: {', '.join(map(repr, NODATA_MODES))}")
        if pad is not None:
            check_pad(pad)
        if outside not in (None, "raise"):
            raise RegionError(f"outside={shorten(outside)}; allowed: None, 'raise'")
        if outside is not None and pad is not None:
            raise RegionError(f"outside={outside!r} refuses what pad={pad!r} fills; give one of them")
        return cls(fill, interpolation, bool(antialias), nodata, pad, scale, shape, outside)

    @property
    def is_resampled(self) -> bool:
        """Whether the result has another resolution than the region."""
        return self.scale is not None or self.shape is not None

    @property
    def is_default(self) -> bool:
        """Whether every option has its default value."""
        is_stored = self.interpolation is None and self.antialias and self.nodata == "keep" and not self.fill
        return is_stored and self.pad is None and not self.is_resampled and self.outside is None


#: Pixels as they are stored, without padding.
DEFAULT_OPTIONS = ReadOptions()
