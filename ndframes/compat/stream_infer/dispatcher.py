"""Dispatcher: the newest frames of a video, and what happens to results."""

from __future__ import annotations

import inspect
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import StreamError, shorten
from .log import logger, set_log_level
from .model import Mode, to_mode
from .positions import ResultsByPosition
from .util import position2time

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DevelopDispatcher", "Dispatcher", "DispatcherManager"]
# What the versions of Stream Infer use where none is given.
_DEFAULT_BUFFER = 120
_CREATE_BUFFER = 30


@dataclass(frozen=True, slots=True)
class _Settings:
    """What a dispatcher is made with.

    Attributes:
        mode: ``None`` if none is given.
        buffer: the number of frames that it keeps.
        logging_level: of the logger.
        others: for a subclass.
    """

    mode: Mode | None
    buffer: int
    logging_level: str
    others: Mapping[str, Any]

    def __post_init__(self) -> None:
        if isinstance(self.buffer, bool) or not isinstance(self.buffer, int) or self.buffer < 1:
            raise StreamError(f"buffer={shorten(self.buffer)}; give a whole number of frames of at least 1")

    @classmethod
    def read(cls, arguments: tuple[Any, ...], named: Mapping[str, Any], buffer: int) -> _Settings:
        """Settings in the spelling of any version: ``(max_size)``, ``(offline, max_size)`` or ``(mode, buffer, logging_level)``."""
        others, places = dict(named), list(arguments)
        mode, offline = others.pop("mode", None), others.pop("offline", None)
        if places and isinstance(places[0], (Mode, str)):
            mode = places.pop(0)
        elif places and isinstance(places[0], bool):
            offline = places.pop(0)
        if mode is None and offline is not None:
            mode = Mode.OFFLINE if offline else Mode.REALTIME
        size = others.pop("buffer", others.pop("max_size", buffer))
        size = places.pop(0) if places else size
        level = places.pop(0) if places else others.pop("logging_level", None)
        if places:
            raise StreamError(f"too many arguments: {shorten(arguments)}; give mode, buffer and logging_level")
        return cls(None if mode is None else to_mode(mode), size, level or "INFO", others)

    def make(self, kind: Any) -> Any:
        """An object of a class, which gets those of the settings that its constructor has a name for."""
        parameters = inspect.signature(kind).parameters
        given = {"mode": self.mode, "buffer": self.buffer, "max_size": self.buffer, "logging_level": self.logging_level}
        named = {name: value for name, value in given.items() if name in parameters}
        kinds = {each.kind for each in parameters.values()}
        places = []
        if inspect.Parameter.VAR_KEYWORD in kinds:
            given.pop("max_size" if "max_size" not in parameters else "buffer")
            named = given
        elif not {"buffer", "max_size"} & set(named) and _lacks_argument(parameters, self.others, named):
            # Under a name of its own.
            places = [self.buffer]
        made = kind(*places, **named, **self.others)
        made.set_mode(self.mode)
        return made


def _lacks_argument(parameters: Mapping[str, inspect.Parameter], *given: Mapping[str, Any]) -> bool:
    """Whether a parameter has no value yet, and takes one by its place."""
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return any(
        each.kind is each.VAR_POSITIONAL
        or (each.kind in by_place and each.default is each.empty and not any(name in group for group in given))
        for name, each in parameters.items()
    )


class Dispatcher:
    """Keeps the newest frames of a video, and takes the results of algorithms; a subclass sends them elsewhere.

    It belongs to the program's own process in realtime, too, so it may hold connections and other objects that do not pickle.
    :meth:`collect` is called by one thread at a time.

    Args:
        arguments: ``(buffer)``, ``(mode, buffer)`` or ``(mode, buffer, logging_level)``.
        named: ``buffer`` or ``max_size``: the most frames that are kept, more if an algorithm needs more; ``mode``:
            ``"offline"`` or ``"realtime"``; ``logging_level``; others are ignored: they are for a subclass.

    Raises:
        StreamError: a value is not allowed.

    Example:
        >>> dispatcher = Dispatcher.create(mode="offline", buffer=30)
        >>> for number in range(7):
        ...     dispatcher.add_frame(number)
        >>> dispatcher.get_frames(2, 3), dispatcher.get_frames(3, 3), dispatcher.get_frames(2, 0)
        ([3, 6], [], [5, 6])
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        settings = _Settings.read(arguments, named, _DEFAULT_BUFFER)
        set_log_level(settings.logging_level)
        self.queue: deque[Any] = deque(maxlen=settings.buffer)
        self.collect_results: dict[str, ResultsByPosition] = {}
        self.current_position: float = 0
        self.current_frame_index = 0
        self.last_algo_name: str | None = None
        self.fps: float = 0
        self._mode = settings.mode
        self._logging_level = settings.logging_level
        self._lock = threading.Lock()

    @classmethod
    def create(cls, *arguments: Any, **named: Any) -> Any:
        """Make a dispatcher, by the names that the class's own constructor has for its arguments.

        Args:
            arguments: ``(mode, buffer, logging_level)``; the mode is ``"realtime"`` unless another one is given.
            named: the same, or ``max_size`` and ``offline``; others are passed on to the class.

        Raises:
            StreamError: a value is not allowed.
        """
        return _create(cls, arguments, named, _CREATE_BUFFER)

    # -- frames -------------------------------------------------------------------------------------------------------

    def add_frame(self, frame: Any) -> None:
        """Keep one more frame, and count it."""
        with self._lock:
            self.queue.append(frame)
            self.current_frame_index += 1

    def get_frames(self, count: int, step: int) -> list[Any]:
        """The newest frame and every ``step``-th one before it, ``count`` in all, oldest first.

        Args:
            count: the number of frames.
            step: their distance. The list is empty unless ``count * step`` frames are there. 0: the last ``count`` frames, or
                as many as there are.

        Raises:
            StreamError: a value is not allowed.
        """
        if count < 1 or step < 0:
            raise StreamError(f"get_frames(count={count}, step={step}); give a count from 1 and a step from 0")
        with self._lock:
            frames = list(self.queue)
        if step == 0:
            return frames[-count:]
        return frames[-1 - (count - 1) * step :: step] if len(frames) >= count * step else []

    def reserve(self, count: int) -> None:
        """Keep at least so many frames."""
        with self._lock:
            if count > (self.queue.maxlen or 0):
                self.queue = deque(self.queue, maxlen=count)

    def get_size(self) -> int:
        """The number of frames that are there."""
        return len(self.queue)

    def get_buffer_size(self) -> int:
        """The most frames that are kept."""
        return self.queue.maxlen or 0

    def clear(self) -> None:
        """Forget all frames and results."""
        with self._lock:
            self.queue.clear()
            self.current_position = self.current_frame_index = 0
        self.clear_collect_results()

    # -- results ------------------------------------------------------------------------------------------------------

    def collect(self, position: float, algo_name: str, result: Any) -> None:
        """Take a result; a subclass may do something else with it.

        Args:
            position: the time of the newest frame of its window, in seconds, exactly.
            algo_name: the algorithm.
            result: what it returned.
        """
        logger.debug("[%s] collect %s result: %s", position2time(position), algo_name, result)
        self.collect_result((position, algo_name, result))

    def collect_result(self, inference_result: tuple[float, str, Any] | None) -> None:
        """The same in the spelling of early versions: a tuple ``(position, algo_name, result)``. It keeps the result."""
        if inference_result is None:
            return
        position, name, result = inference_result
        with self._lock:
            self.collect_results.setdefault(name, ResultsByPosition()).put(position, result)

    def clear_collect_results(self) -> None:
        """Forget all results."""
        with self._lock:
            self.collect_results.clear()

    # -- where the video is -------------------------------------------------------------------------------------------

    def get_mode(self) -> Mode | None:
        """The mode; ``None`` if it was made without one."""
        return self._mode

    def set_mode(self, mode: Mode | None) -> None:
        """Set the mode."""
        self._mode = mode

    def get_log_level(self) -> str:
        """The level of the logger."""
        return self._logging_level

    def get_fps(self) -> float:
        """Frames a second of the play."""
        return self.fps

    def set_fps(self, fps: float) -> None:
        """Set the frames a second of the play."""
        self.fps = fps

    def get_last_algo_name(self) -> str | None:
        """The algorithm that has returned last."""
        return self.last_algo_name

    def set_last_algo_name(self, algo_name: str | None) -> None:
        """Set the algorithm that has returned last."""
        self.last_algo_name = algo_name

    def get_current_position(self) -> float:
        """The time of the newest frame, in seconds."""
        return self.current_position

    def set_current_position(self, position: float) -> None:
        """Set the time of the newest frame."""
        self.current_position = position

    def increase_current_position(self) -> None:
        """Add a second to the time of the newest frame."""
        self.current_position += 1

    def get_current_frame_index(self) -> int:
        """The number of the newest frame, counted from 1."""
        return self.current_frame_index

    def set_current_frame_index(self, index: int) -> None:
        """Set the number of the newest frame."""
        self.current_frame_index = index

    # The names of early versions.
    get_current_time = get_current_position
    set_current_time = set_current_position
    increase_current_time = increase_current_position
    get_current_frame = get_current_frame_index
    set_current_frame = set_current_frame_index


class DevelopDispatcher(Dispatcher):
    """A dispatcher whose results can be asked for by the name of the algorithm.

    Example:
        >>> dispatcher = DevelopDispatcher()
        >>> dispatcher.collect(0.96, "head", "a")
        >>> dispatcher.collect(1.0, "head", "b")
        >>> dispatcher.get_result("head"), dispatcher.get_last_result("head")
        ({'0.96': 'a', '1.0': 'b'}, (1.0, 'b'))
    """

    def get_result(self, name: str, clear: bool = False) -> ResultsByPosition | None:
        """All results of an algorithm by their time; ``None`` if there is none.

        Args:
            name: the algorithm.
            clear: whether they are forgotten.
        """
        with self._lock:
            found = self.collect_results.get(name)
            if not found:
                return None
            if clear:
                del self.collect_results[name]
            return found.copy()

    def get_last_result(self, name: str, clear: bool = False) -> tuple[float, Any]:
        """The time of the newest result of an algorithm, and the result; ``(-1, None)`` if there is none.

        Args:
            name: the algorithm.
            clear: whether all its results are forgotten.
        """
        return (self.get_result(name, clear) or ResultsByPosition()).last()


class DispatcherManager:
    """Makes one dispatcher. It lives in this process: a pipeline reads frames in another one, and passes them by shared memory.

    Args:
        obj: the class of the dispatcher; ``None``: :class:`Dispatcher`.

    Example:
        >>> dispatcher = DispatcherManager(DevelopDispatcher).create(max_size=150)
        >>> dispatcher.get_buffer_size(), dispatcher.get_mode()
        (150, <Mode.REALTIME: 'realtime'>)
    """

    def __init__(self, obj: type[Dispatcher] | None = None) -> None:
        self._kind = Dispatcher if obj is None else obj
        self._made: Any = None

    def create(self, *arguments: Any, **named: Any) -> Any:
        """The dispatcher; the arguments are those of :meth:`Dispatcher.create`, and count for the first call."""
        if self._made is None:
            self._made = _create(self._kind, arguments, named, _DEFAULT_BUFFER)
        return self._made


def _create(kind: Any, arguments: tuple[Any, ...], named: Mapping[str, Any], buffer: int) -> Any:
    settings = _Settings.read(arguments, named, buffer)
    mode = settings.mode or Mode.REALTIME
    return _Settings(mode, settings.buffer, settings.logging_level, settings.others).make(kind)
