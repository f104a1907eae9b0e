"""Packets that show nothing: other frames refer to the ones in them, or a file was cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["HIDDEN"]
# Units of AV1 that begin with a frame's header, and the one that describes the stream.
_AV1_FRAMES = frozenset([3, 6])
_AV1_SEQUENCE = 1
_AV1_ZERO_BITS = 0x81


def _is_vp8_hidden(data: memoryview) -> bool:
    return not data[0] >> 4 & 1


def _is_vp9_hidden(data: memoryview) -> bool:
    """Whether a packet is a single frame that is not shown; several frames in one packet end with one that is."""
    bits = f"{int.from_bytes(data[:2], 'big'):016b}"
    is_superframe = data[-1] >> 5 == 6
    # Marker, two bits of the profile, a reserved bit of profile 3; then: repeats a frame, is no key frame, is shown.
    at = 5 if bits[2:4] == "11" else 4
    return not is_superframe and bits[:2] == "10" and bits[at] == "0" and bits[at + 2] == "0"


def _is_av1_hidden(data: memoryview) -> bool:
    """Whether no frame in a packet is shown, or there is none. A damaged packet counts as shown."""
    units = _list_av1_units(data)
    if units is None:
        return False
    for kind, unit in units:
        # Three bits of the profile; a still picture; whether headers of frames are reduced, as those of some still pictures.
        if kind == _AV1_SEQUENCE and unit[0] >> 3 & 1:
            return False
        # Shows a frame that was decoded before; the type in two bits; is shown.
        if kind in _AV1_FRAMES and (unit[0] >> 7 or unit[0] >> 4 & 1):
            return False
    return True


def _list_av1_units(data: memoryview) -> list[tuple[int, memoryview]] | None:
    """The units of a packet of AV1 that have content: their types, and what follows their headers.

    ``None`` if a unit is damaged: a bit that is always 0 is set, or it is larger than the rest of the packet.
    """
    units = []
    at = 0
    while at < len(data):
        head = data[at]
        if head & _AV1_ZERO_BITS:
            return None
        at += 2 if head & 4 else 1
        size, shift = 0, 0
        if head & 2:
            # The size has 7 bits in a byte, the lowest ones first, and the last byte has no high bit.
            while at < len(data):
                size |= (data[at] & 127) << shift
                shift, at = shift + 7, at + 1
                if data[at - 1] < 128:
                    break
        else:
            size = len(data) - at
        if at + size > len(data):
            return None
        if size:
            units.append((head >> 3 & 15, data[at : at + size]))
        at += size
    return units


#: By codec: whether a packet holds no frame that is shown.
HIDDEN: dict[str, Callable[[memoryview], bool]] = {
    "vp8": _is_vp8_hidden,
    "libvpx": _is_vp8_hidden,
    "vp9": _is_vp9_hidden,
    "libvpx-vp9": _is_vp9_hidden,
    "av1": _is_av1_hidden,
    "libdav1d": _is_av1_hidden,
    "libaom-av1": _is_av1_hidden,
}
