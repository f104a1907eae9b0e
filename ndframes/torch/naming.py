"""Notes that say on which items of a dataset an error was raised."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import shorten
from ..system.portable_error import add_note

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["note_item", "note_items"]


def note_item(error: Exception, action: str, epoch: int, item: int, what: object) -> None:
    """Add a note to an error: what was done with which item of a dataset, and in which process.

    Args:
        error: the error.
        action: such as "reading".
        epoch: the number of the epoch.
        item: the number of the item.
        what: the patch or clip that the item is.

    Example:
        >>> error = ValueError("odd")
        >>> note_item(error, "reading", 2, 17, ("walk", 5))
        >>> print(error.__notes__[0].partition(" in process")[0])
        while reading item 17 of epoch 2, ('walk', 5),
    """
    add_note(error, f"while {action} item {item} of epoch {epoch}, {shorten(what)}, in process {os.getpid()}")


def note_items(error: Exception, action: str, places: Sequence[tuple[int | None, int]]) -> None:
    """As :func:`note_item` for several items, all of which are listed.

    Args:
        error: the error.
        action: such as "reading".
        places: of each item the epoch, ``None`` if the dataset knows of none, and its number.

    Example:
        >>> error = ValueError("odd")
        >>> note_items(error, "collating", [(0, 4), (0, 2)])
        >>> print(error.__notes__[0].partition(" in process")[0])
        while collating the items 4, 2 of epoch 0
    """
    noun = "item" if len(places) == 1 else "the items"
    items = ", ".join(str(item) for _, item in places)
    epochs = ", ".join(str(epoch) for epoch in dict.fromkeys(epoch for epoch, _ in places) if epoch is not None)
    add_note(error, f"while {action} {noun} {items}{epochs and f' of epoch {epochs}'} in process {os.getpid()}")
