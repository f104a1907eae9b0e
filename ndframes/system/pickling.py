"""What another process needs in order to load an object."""

from __future__ import annotations

import io
import pickle
import types
from typing import Any

__all__ = ["loads_without_main"]


def loads_without_main(value: object) -> bool:
    """Whether an object pickles, and a process that does not have our main module can load it."""
    finder = _MainFinder(io.BytesIO(), protocol=5)
    try:
        finder.dump(value)
    except Exception:  # noqa: BLE001 - pickling runs the user's code
        return False
    return not finder.needs_main


class _MainFinder(pickle.Pickler):
    """Pickles, and notices classes and functions of the main module."""

    needs_main = False

    def reducer_override(self, value: Any) -> Any:
        """Called for every class and function."""
        if isinstance(value, (type, types.FunctionType)) and value.__module__ == "__main__":
            self.needs_main = True
        return NotImplemented
