"""Plans: the bands of files that a read of some channels needs."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import ChannelError, shorten
from ..formats.reader import Crop
from ..spec.channels import find_codes, parse_codes
from .parts import Pick, as_range, find_target, put_bands, shape_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .._typing import Array
    from ..formats.reader import Reader
    from ..geometry.regions import Selection
    from .parts import Parts

__all__ = ["FileRead", "Plan", "PlannedCrop", "Planner"]
_MOST_PLANS = 64


class Plan(NamedTuple):
    """What a read of some channels needs. Made once for each set of channels, because every crop uses it.

    Attributes:
        codes: the channels' codes.
        shape: ``(height, width, channels)`` of the whole image in these channels.
        dtype: the result's dtype.
        picks: the bands of each file.
        is_plain: whether every file's pixels are the image's pixels as they are stored.
    """

    codes: tuple[str, ...]
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    picks: tuple[Pick, ...]
    is_plain: bool


class FileRead(NamedTuple):
    """What one file contributes to a crop.

    Attributes:
        part: the number of the file.
        reader: its reader.
        crop: what to read from it.
        finish: copies the pixels to their place; ``None`` if they are read directly into it.
    """

    part: int
    reader: Reader
    crop: Crop
    finish: Callable[[], None] | None


class PlannedCrop(NamedTuple):
    """A region of one image, resolved but not read.

    Attributes:
        parts: the image's files.
        plan: the plan of its channels.
        selection: its pixels.
    """

    parts: Parts
    plan: Plan
    selection: Selection

    @property
    def shape(self) -> tuple[int, ...]:
        """The result's shape."""
        return self.selection.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The result's dtype."""
        return self.plan.dtype

    @property
    def nbytes(self) -> int:
        """The result's bytes."""
        return math.prod(self.shape, start=self.dtype.itemsize)

    @property
    def is_plain(self) -> bool:
        """Whether the result holds the files' pixels as they are stored, so that :meth:`file_reads` can fill it."""
        return self.plan.is_plain

    def file_reads(self, out: Array) -> Iterator[FileRead]:
        """The reads that fill ``out``, which has this crop's shape and dtype; one for each file."""
        rows, cols, _ = self.selection.ranges
        # A view with all axes, because readers do not know of axes that the result drops.
        full = out[tuple(np.newaxis if is_dropped else slice(None) for is_dropped in self.selection.dropped)]
        for pick in self.plan.picks:
            reader = self.parts.reader(pick.part)
            target = find_target(reader, pick, full)
            finish = None
            if target is None:
                target = np.empty((len(rows), len(cols), len(pick.positions)), reader.dtype)
                finish = partial(put_bands, target, pick, full)
            yield FileRead(pick.part, reader, Crop(rows, cols, pick.bands, target), finish)


class Planner:
    """Makes the plans of one image, and keeps them.

    Args:
        parts: the image's files.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._plans: dict[str | tuple[str, ...] | None, Plan] = {}

    @property
    def channels(self) -> tuple[str, ...]:
        """The codes of all channels, file after file."""
        return tuple(code for part in range(len(self._parts)) for code in self._parts.codes(part))

    @property
    def default_channels(self) -> tuple[str, ...]:
        """The codes that are read by default."""
        info = self._parts.pathinfo
        part = info.default_file
        return info.default or (self.channels if part is None else self._parts.codes(part))

    def plan(self, channels: str | Sequence[str] | None) -> Plan:
        """The plan of a read of ``channels``.

        Raises:
            ChannelError: the image has no such channel.
        """
        spec = channels
        if channels is not None and not isinstance(channels, str):
            spec = tuple(channels) if isinstance(channels, (list, tuple)) else self.parse(channels)
        try:
            known = self._plans.get(spec)  # type: ignore[arg-type]
        except TypeError:  # an invalid spec may not be hashable; parse raises the error that explains it
            known = None
        return known or self._remember(spec, self.plan_codes(self.parse(channels)))

    def parse(self, channels: str | Sequence[str] | None) -> tuple[str, ...]:
        """The codes that ``channels`` stands for; the image may lack some of them."""
        if channels is None:
            return self.default_channels
        # An object of kwcoco does not compare with a text.
        return self.channels if isinstance(channels, str) and channels == "<all>" else parse_codes(channels)

    def narrow(self, plan: Plan, bands: Sequence[int]) -> Plan:
        """The plan of some of the channels of ``plan``, by their numbers."""
        if len(bands) == len(plan.codes) and (not isinstance(bands, range) or bands.step == 1):
            return plan
        codes = tuple(plan.codes[band] for band in bands)
        key = ("", *codes)  # no code is empty, so this is never the spec of another plan
        return self._plans.get(key) or self._remember(key, self.plan_codes(codes))

    def plan_codes(self, codes: tuple[str, ...]) -> Plan:
        """The plan of these codes; ``()`` reads nothing, in the default channels' dtype.

        Raises:
            ChannelError: the image has no such channel, or several of the same name.
        """
        parts = self._parts
        codes_of = [parts.codes(part) for part in range(len(parts))]
        known = [code for some in codes_of for code in some]
        places = [(part, band) for part, some in enumerate(codes_of) for band in range(len(some))]
        found: dict[int, tuple[list[int], list[int]]] = {}
        if len(set(known)) < len(known):
            self._check_unambiguous(known, codes)
        for position, index in enumerate(find_codes(known, codes)):
            part, band = places[index]
            bands, positions = found.setdefault(part, ([], []))
            bands.append(band)
            positions.append(position)
        picks = tuple(self._pick(part, *pair, len(codes)) for part, pair in found.items())
        dtypes = [parts.values(pick.part).dtype for pick in picks]
        dtype = np.result_type(*dtypes) if len(set(dtypes)) > 1 else dtypes[0] if dtypes else self.plan(None).dtype
        is_plain = all(pick.is_plain for pick in picks)
        shape = self._native_shape(picks) if parts.pathinfo.is_native and picks else parts.image_shape
        return Plan(codes, (*shape, len(codes)), dtype, picks, is_plain)

    def is_plain(self, part: int) -> bool:
        """Whether a file's pixels are the image's pixels as they are stored."""
        return self.plan_codes(self._parts.codes(part)).is_plain

    def _pick(self, part: int, bands: list[int], positions: list[int], channel_count: int) -> Pick:
        parts = self._parts
        src_from_img = parts.src_from_img[part]
        shape = parts.reader(part).shape[:2]
        # A file without a matrix may be smaller than the image, and then covers only its upper left part.
        is_on_grid = src_from_img is None and (parts.pathinfo.is_native or shape == parts.image_shape)
        is_plain = is_on_grid and parts.values(part).is_plain
        is_all = positions == [*range(channel_count)]
        interpolation = parts.interpolation(part)
        read = as_range(bands)
        # Made here and not by each warped crop.
        alone = Pick(part, read, range(len(bands)), True, is_plain, src_from_img, interpolation)
        return Pick(part, read, as_range(positions), is_all, is_plain, src_from_img, interpolation, alone)

    def _check_unambiguous(self, known: Sequence[str], codes: Sequence[str]) -> None:
        """Check that only one file has each code: bands without names get default codes, which may collide."""
        counts = Counter(known)
        twice = [code for code in dict.fromkeys(codes) if counts[code] > 1]
        if twice:
            several = ", ".join(
                f"{info.path} ({_join(self._parts.codes(part))})"
                for part, info in enumerate(self._parts.pathinfo.channels)
                if not {*twice}.isdisjoint(self._parts.codes(part))
            )
            raise ChannelError(f"several files hold {shorten('|'.join(twice))}: {several}; name the channels of each")

    def _native_shape(self, picks: Sequence[Pick]) -> tuple[int, int]:
        """The common ``(height, width)`` of files that keep their own grids.

        Raises:
            ChannelError: they differ.
        """
        parts = self._parts
        sizes = {parts.reader(pick.part).shape[:2]: parts.codes(pick.part) for pick in picks}
        if len(sizes) > 1:
            several = ", ".join(f"{_join(codes)} ({shape_text(shape)})" for shape, codes in sizes.items())
            raise ChannelError(
                f"channels on grids of their own do not go into one array: {several}; ask for one of them"
            )
        return next(iter(sizes))

    def _remember(self, spec: Any, plan: Plan) -> Plan:
        # No eviction: programs use few sets of channels. Beyond the limit, a plan is made anew each time.
        if len(self._plans) < _MOST_PLANS:
            self._plans[spec] = plan
        return plan


def _join(codes: Sequence[str]) -> str:
    """The codes as a spec, shortened for a message."""
    return shorten("|".join(codes)).strip("'")
