"""Work: a read that is planned, and the content that it makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from .limits import Cost

__all__ = ["JOINED", "MOST_SHORT_BYTES", "Body", "Work"]
#: The most bytes of pixels that are decoded or encoded in the event loop: those of 256 x 256 pixels of four bytes.
MOST_SHORT_BYTES = 2**18
#: Sending stored tiles as they are takes about an eighth of the time of decoding their pixels.
JOINED = 8


class Body(NamedTuple):
    """The content of an answer with pixels.

    Attributes:
        content: its bytes.
        media_type: their type.
        coding: of the content, such as ``"zstd"``.
        taken_bytes: what it counts for among the bytes in use, until it has been sent.
        tag: names the content, for the ``ETag``; ``None``: nothing does.
        is_known: whether the client has the content, so that there is none here.
    """

    content: bytes
    media_type: str
    coding: str | None = None
    taken_bytes: int = 0
    tag: str | None = None
    is_known: bool = False


class Work(NamedTuple):
    """A read that is planned: no pixel is read yet.

    Attributes:
        cost: of the answer.
        make: makes its content.
        decoded_bytes: about how many bytes of pixels are decoded, or encoded; ``None``: not known.
    """

    cost: Cost
    make: Callable[[], Body]
    decoded_bytes: int | None = None

    @property
    def is_short(self) -> bool:
        """Whether it takes less than about a millisecond, if the image is open and its tiles are small."""
        return self.decoded_bytes is not None and self.decoded_bytes <= MOST_SHORT_BYTES
