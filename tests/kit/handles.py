"""Handles for tests of the pool: they count their borrowers, and whether they were closed."""

from __future__ import annotations


class Handle:
    """A handle that counts its borrowers and the calls of ``close``."""

    def __init__(self, key: object = None) -> None:
        self.key = key
        self.borrowers = 0
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class HandleFactory:
    """Opens handles and remembers all of them."""

    def __init__(self) -> None:
        self.made: list[Handle] = []

    def opener(self, key: object):
        def open_handle() -> Handle:
            handle = Handle(key)
            self.made.append(handle)
            return handle

        return open_handle

    @property
    def open(self) -> list[Handle]:
        return [handle for handle in self.made if not handle.closed]
