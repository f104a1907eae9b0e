"""Channel codes: parse, name and find them.

A code names one band of one file: ``"r"``, ``"nir"``, ``"hidden.3"``. A spec joins codes with ``|`` in the order of the
result: ``"r|g|b"``. It may use the short forms of kwcoco: ``"rgb"``, ``"bgr"`` and ``"rgba"`` stand for their letters, and
``"hidden.0:3"``, ``"hidden:0:3"`` and ``"hidden:3"`` for ``"hidden.0|hidden.1|hidden.2"``; a third number is the step. A comma,
with which kwcoco separates groups of bands, joins codes too; and so do kwcoco's channel objects.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..errors import ChannelError, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["default_codes", "find_codes", "parse_codes"]
_SHORT_FORMS = {"rgb": ("r", "g", "b"), "rgba": ("r", "g", "b", "a"), "bgr": ("b", "g", "r")}
_RANGE = re.compile(
    r"(?:(?P<stem>[^:]*?)[.:](?P<start>[0-9]+)|(?P<whole>[^:.]*)):(?P<stop>[0-9]+)(?::(?P<step>[0-9]+))?"
)
_SEPARATOR = re.compile(r"[|,]")
_MAX_CODES = 65535  # the most bands of a TIFF; protects against a slip such as "a.0:999999999999"
_CODES_BY_BAND_COUNT = {1: ("gray",), 2: ("gray", "a"), 3: ("r", "g", "b"), 4: ("r", "g", "b", "a")}


def parse_codes(spec: str | Sequence[str]) -> tuple[str, ...]:
    """The codes that ``spec`` names, in order.

    Args:
        spec: codes joined by ``|`` or commas, a list of such texts, or a channel object of kwcoco.

    Raises:
        ChannelError: the spec is not a string or a list of strings, is empty, or holds an empty code.

    Example:
        >>> parse_codes("nir|rgb|hidden.0:2")
        ('nir', 'r', 'g', 'b', 'hidden.0', 'hidden.1')
        >>> parse_codes(["b", "g"]), parse_codes("B1,B8")
        (('b', 'g'), ('B1', 'B8'))
    """
    text = _text_of(spec)
    parts = [text] if isinstance(text, str) else [*map(_text_of, text)] if isinstance(text, (list, tuple)) else None
    if parts is None or not all(isinstance(part, str) for part in parts):
        raise ChannelError(f"channels must be a string like 'r|g|b' or a list of codes, got {shorten(spec)}")
    codes = tuple(code for part in parts for piece in _SEPARATOR.split(part) for code in _expand(piece.strip()))
    if not codes or not all(codes):
        raise ChannelError(f"channels {shorten(spec)} hold an empty code; write them like 'r|g|b'")
    return codes


def default_codes(band_count: int) -> tuple[str, ...]:
    """The codes of a file without named channels, by its number of bands.

    Example:
        >>> default_codes(1), default_codes(3), default_codes(5)[-1]
        (('gray',), ('r', 'g', 'b'), 'band.4')
    """
    return _CODES_BY_BAND_COUNT.get(band_count) or tuple(f"band.{index}" for index in range(band_count))


def find_codes(available: Sequence[str], codes: Sequence[str]) -> tuple[int, ...]:
    """The positions of codes among the available ones.

    Raises:
        ChannelError: a code is not available.

    Example:
        >>> find_codes(("r", "g", "b", "nir"), ("nir", "r"))
        (3, 0)
    """
    # Reversed, so that the first of several equal codes wins.
    positions = {code: index for index, code in reversed(list(enumerate(available)))}
    missing = [code for code in codes if code not in positions]
    if missing:
        # As in the sensor specs of kwcoco, "S2:r|g".
        hint = "; leave out the sensor before the colon" if any(":" in code for code in missing) else ""
        raise ChannelError(f"no channel {shorten('|'.join(missing))}; there are {shorten('|'.join(available))}{hint}")
    return tuple(positions[code] for code in codes)


def _text_of(spec: Any) -> Any:
    """The text of a channel object of kwcoco; other values are returned as they are."""
    return getattr(spec, "spec", spec)


def _expand(code: str) -> tuple[str, ...]:
    if code in _SHORT_FORMS:
        return _SHORT_FORMS[code]
    if match := _RANGE.fullmatch(code):
        texts = match["start"] or "0", match["stop"], match["step"] or "1"
        # int() is slow for very long numbers, and refuses them from 4,300 digits on.
        start, stop, step = (int(number) if len(number) < 10 else -1 for number in texts)
        if not 0 <= start < stop <= start + _MAX_CODES or step < 1:
            raise ChannelError(
                f"channel range {shorten(code)} must hold 1 to {_MAX_CODES:,} codes; the stop is exclusive, as in a slice"
            )
        stem = match["stem"] if match["whole"] is None else match["whole"]
        return tuple(f"{stem}.{index}" for index in range(start, stop, step))
    return (code,)
