"""ResultsByPosition: the results of one algorithm by their time."""

from __future__ import annotations

from typing import Any

__all__ = ["PositionKey", "ResultsByPosition"]


class PositionKey(str):
    """A time in seconds as text. ``int()`` of it is the whole second, as programs for Stream Infer expect.

    Example:
        >>> key = PositionKey(12.96)
        >>> key, int(key), float(key)
        ('12.96', 12, 12.96)
    """

    __slots__ = ()

    def __int__(self) -> int:
        return int(float(self))


class ResultsByPosition(dict[str, Any]):
    """The results of one algorithm by their time in seconds, as text, in the order in which they came.

    A whole second that is not itself the time of a result stands for the newest result of this second, the one that Stream
    Infer keeps.

    Example:
        >>> results = ResultsByPosition()
        >>> results.put(12.04, "early")
        >>> results.put(12.96, "late")
        >>> dict(results), results["12"], results.last()
        ({'12.04': 'early', '12.96': 'late'}, 'late', (12.96, 'late'))
    """

    def put(self, position: float, result: Any) -> None:
        """Keep a result."""
        self[PositionKey(position)] = result

    def last(self) -> tuple[float, Any]:
        """The result with the latest time, after that time; ``(-1, None)`` if there is none."""
        if not self:
            return -1, None
        newest = max(self, key=float)
        return float(newest), self[newest]

    def copy(self) -> ResultsByPosition:
        """The same results in another object."""
        return ResultsByPosition(self)

    def __missing__(self, key: Any) -> Any:
        if isinstance(key, str) and key.isdecimal():
            of_second = [each for each in self if int(each) == int(key)]
            if of_second:
                return self[max(of_second, key=float)]
        raise KeyError(key)
