"""The checksums that FFV1 keeps of its slices, which FFmpeg's decoder reads and makes nothing of."""

from __future__ import annotations

import zlib

__all__ = ["are_slices_damaged"]
# Behind each slice: its size in 3 bytes; in streams with checksums an error status in one byte and a checksum in 4, too.
_FOOTER_BYTES = 8
_SHORT_FOOTER_BYTES = 3
# FFV1's CRC-32 takes the high bits first, and zlib's the low ones; turned bytes make them one. It begins, and with its
# checksum behind a slice ends, with this value: the first one in most streams, the second in version 4.
_TURNED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_STARTS = (0xFFFFFFFF, 0xFFFFFFFF ^ int(f"{0x79408C7A:032b}"[::-1], 2))


def are_slices_damaged(packet: bytes) -> bool:
    """Whether a packet of FFV1, version 3 or 4, is not what was written: it is no row of slices, or a checksum does not agree.

    Slices without checksums are left to the decoder.

    Args:
        packet: one frame, as the file has it.
    """
    if _cut(packet, _SHORT_FOOTER_BYTES) is not None:
        return False
    slices = _cut(packet, _FOOTER_BYTES)
    if slices is None:
        return True
    turned = packet.translate(_TURNED)
    return all(any(zlib.crc32(turned[place], start) != start for place in slices) for start in _STARTS)


def _cut(packet: bytes, footer_bytes: int) -> list[slice] | None:
    """Where the slices lie, each with its footer; ``None`` where their sizes do not fill the packet exactly."""
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
