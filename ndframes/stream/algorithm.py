"""Algorithm: a callable of a user with its windows, and how it is called."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

from ..errors import StreamError, shorten
from .window import Window

if TYPE_CHECKING:
    from .values import Frame

__all__ = ["Algorithm", "Failure", "WorkerKind", "call", "set_up", "tear_down"]
#: Where an algorithm runs: in the thread of the pipeline, in a thread of its own, or in a process of its own.
WorkerKind = Literal["inline", "thread", "process"]
_KINDS = ("inline", "thread", "process")


@dataclass(frozen=True, slots=True)
class Algorithm:
    """An algorithm of a pipeline; see :meth:`ndframes.stream.Pipeline.add`."""

    name: str
    function: Any
    window: Window
    sources: tuple[str, ...] | None
    batch: int
    worker: WorkerKind
    with_info: bool
    timeout: float | None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise StreamError(f"name={shorten(self.name)}; give the algorithm a name")
        if not callable(self.function):
            raise StreamError(f"algorithm {self.name}: {shorten(self.function)} is not callable")
        if isinstance(self.batch, bool) or not isinstance(self.batch, int) or self.batch < 1:
            raise StreamError(f"algorithm {self.name}: batch={shorten(self.batch)}; give a whole number of at least 1")
        if self.worker not in _KINDS:
            raise StreamError(
                f"algorithm {self.name}: worker={shorten(self.worker)}; allowed: {', '.join(map(repr, _KINDS))}"
            )

        if not isinstance(self.window, Window):
            raise StreamError(
                f"algorithm {self.name}: window={shorten(self.window)}; give a Window, or None for each frame"
            )
        self._check_timeout()

    def _check_timeout(self) -> None:
        if self.timeout is not None and (
            isinstance(self.timeout, bool)
            or not isinstance(self.timeout, Real)
            or not 0 < self.timeout <= threading.TIMEOUT_MAX
        ):
            raise StreamError(f"algorithm {self.name}: timeout={shorten(self.timeout)}; give seconds above 0, or None")
        if self.timeout is not None and self.worker == "inline":
            raise StreamError(
                f"algorithm {self.name}: timeout={shorten(self.timeout)} needs worker='thread' or 'process'; one that runs "
                "inline cannot be left"
            )

    def takes(self, source: str) -> bool:
        """Whether it runs on a source."""
        return self.sources is None or source in self.sources


@dataclass(frozen=True, slots=True)
class Failure:
    """A window for which an algorithm has no value.

    Attributes:
        why: the error, for people.
        error: the error, if it is in this process.
    """

    why: str
    error: BaseException | None = None


def set_up(function: Any) -> Any:
    """Make an algorithm ready in its worker: a class is made an object, and ``setup`` is called, where there is one."""
    made: Any = function() if inspect.isclass(function) else function
    setup = getattr(made, "setup", None)
    if callable(setup):
        setup()
    return made


def tear_down(made: Any) -> None:
    """Call ``close`` of an algorithm, where there is one."""
    close = getattr(made, "close", None)
    if callable(close):
        close()


def call(made: Callable[..., Any], algorithm: Algorithm, windows: Sequence[Sequence[Frame]]) -> list[Any]:
    """The value of each window, or a :class:`Failure`. An error fails all windows of a batch."""
    given = [list(window) if algorithm.with_info else [frame.image for frame in window] for window in windows]
    try:
        if algorithm.batch == 1:
            return [made(given[0])]
        # One more at most: a generator may have no end.
        values = list(islice(made(given), len(windows) + 1))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever an algorithm raises is its result
        return [Failure(f"{type(error).__name__}: {error}", error)] * len(windows)
    if len(values) != len(windows):
        count = len(values) if len(values) < len(windows) else "more"
        why = f"it returned {count} values for a batch of {len(windows)} windows"
        return [Failure(why)] * len(windows)
    return values
