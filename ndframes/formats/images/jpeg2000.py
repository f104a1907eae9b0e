"""What the header of a JPEG 2000 says of its samples: the kinds that GDAL misreads."""

from __future__ import annotations

import re

__all__ = ["is_signed_byte", "is_ycbcr"]
_CODESTREAM = b"\xff\x4f\xff\x51"
# The first component's byte in the codestream: the sign, and the bits less one.
_DEPTH_AT = 42
# The box of the colours, by number: 18 is sYCC.
_YCBCR = re.compile(rb"colr\x01..\0\0\0\x12", re.DOTALL)


def is_signed_byte(head: bytes | bytearray) -> bool:
    """Whether samples are signed, of 8 bits or fewer, which GDAL reads as unsigned."""
    depth = _find_depth(head)
    return depth >= 0x80 and depth & 0x7F < 8


def is_ycbcr(head: bytes | bytearray, *, bits: int | None = None) -> bool:
    """Whether samples are YCbCr, which GDAL reads as RGB; with ``bits``, whether they are also unsigned of so many bits.

    GDAL converts YCbCr whose colours are coarser than its brightness, so that is not meant.
    """
    if bits is not None and _find_depth(head) != bits - 1:
        return False
    at = head.find(_CODESTREAM)
    # Of each component: the depth, and the pixels from one sample to the next in x and y.
    steps = [head[at + _DEPTH_AT + 3 * band + 1 : at + _DEPTH_AT + 3 * band + 3] for band in range(3)]
    return at >= 0 and _YCBCR.search(head, 0, at) is not None and all(step == b"\1\1" for step in steps)


def _find_depth(head: bytes | bytearray) -> int:
    """The first component's byte; 0 if the header does not hold it."""
    at = head.find(_CODESTREAM)
    return head[at + _DEPTH_AT] if 0 <= at < len(head) - _DEPTH_AT else 0
