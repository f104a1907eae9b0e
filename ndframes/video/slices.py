"""Check the checksums of FFV1's slices. FFmpeg's decoder reads them, but ignores a mismatch."""

from __future__ import annotations

import zlib

__all__ = ["are_slices_damaged"]
# A slice ends with its size in 3 bytes; in streams with checksums, an error status in 1 byte and a checksum in 4 follow.
_FOOTER_BYTES = 8
_SHORT_FOOTER_BYTES = 3
# FFV1's CRC-32 takes the high bits first, zlib's the low bits, so the bits of each byte are reversed. A CRC over a slice and
# its checksum ends with the value that it started with: the first one in most streams, the second one in version 4.
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_STARTS = (0xFFFFFFFF, 0xFFFFFFFF ^ int(f"{0x79408C7A:032b}"[::-1], 2))


def are_slices_damaged(packet: bytes) -> bool:
    """Whether a packet of FFV1, version 3 or 4, is damaged: its slices do not fill it, or a checksum does not match.

    Slices without checksums are not judged.

    Args:
        packet: one frame, as it is stored.
    """
    # If the sizes add up with short footers, the stream has no checksums.
    if _find_slices(packet, _SHORT_FOOTER_BYTES) is not None:
        return False
    slices = _find_slices(packet, _FOOTER_BYTES)
    if slices is None:
        return True
    reversed_packet = packet.translate(_REVERSED)
    # A packet does not name its version, so both values are tried.
    return all(any(zlib.crc32(reversed_packet[place], start) != start for place in slices) for start in _STARTS)


def _find_slices(packet: bytes, footer_bytes: int) -> list[slice] | None:
    """The places of the slices, footers included; ``None`` if their sizes do not add up to the packet."""
    slices = []
    stop = len(packet)
    while stop > 0:
        footer = stop - footer_bytes
        start = footer - int.from_bytes(packet[max(footer, 0) : max(footer, 0) + 3], "big")
        if not 0 <= start < footer:
            return None
        slices.append(slice(start, stop))
        stop = start
    return slices
