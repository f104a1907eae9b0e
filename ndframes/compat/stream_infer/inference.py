"""Inference: runs algorithms on the frames of a player."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...errors import AlgorithmError, StreamError, shorten
from ...stream.results import Results
from ...stream.values import Result
from .algo import BaseAlgo
from .log import logger, set_log_level
from .model import Mode
from .recorder import Recorder, find_recording_path, to_rate
from .request import StartRequest
from .schedule import LoadedAlgo, Timer

if TYPE_CHECKING:
    from ..._typing import Array
    from ...stream.pipeline import Pipeline
    from ...stream.values import Frame
    from .dispatcher import Dispatcher
    from .player import Player

__all__ = ["Inference"]
_POLL_SECONDS = 0.05
_LOOP_SECONDS = 0.002
#: The keywords that a function of :meth:`Inference.process` may have.
_PROCESS_KEYWORDS = ("frame", "current_algo_names", "last_algo_name")


class Inference:
    """Runs algorithms on the frames of a player, and passes results to a dispatcher.

    Args:
        dispatcher: gets frames and results.
        player: plays the source; :meth:`start` may get another one.

    Example:
        >>> import numpy as np
        >>> from ndframes.compat.stream_infer import BaseAlgo, DevelopDispatcher, Inference, OpenCVProducer, Player
        >>> class Brightness(BaseAlgo):
        ...     def init(self):
        ...         pass
        ...
        ...     def run(self, frames):
        ...         return float(frames[0].mean())
        >>> video = np.arange(25, dtype=np.uint8).reshape(25, 1, 1, 1).repeat(8, 1).repeat(8, 2).repeat(3, 3)
        >>> dispatcher = DevelopDispatcher.create(mode="offline", buffer=1)
        >>> inference = Inference(dispatcher)
        >>> inference.load_algo(Brightness(), frame_count=1, frame_step=0, interval=0.4)
        >>> inference.start(Player(dispatcher, OpenCVProducer(), video, show_progress=False), fps=25)
        >>> dispatcher.get_result("Brightness")
        {'0.36': 9.0, '0.76': 19.0}
    """

    def __init__(self, dispatcher: Dispatcher, player: Player | None = None) -> None:
        self.dispatcher = dispatcher
        self.player = player
        self._loaded: dict[str, LoadedAlgo] = {}
        self._timers: dict[str, Timer] = {}
        self._process: tuple[Callable[..., Any], tuple[str, ...]] | None = None
        self._results = Results()
        self._pipeline: Pipeline | None = None
        self._collecting = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    # -- algorithms ---------------------------------------------------------------------------------------------------

    def load_algo(
        self, algo_instance: BaseAlgo, frame_count: int, frame_step: int, interval: float, **options: Any
    ) -> None:
        """Load an algorithm: its ``init`` is called once, now.

        Args:
            algo_instance: the algorithm.
            frame_count: the number of frames that ``run`` gets.
            frame_step: their distance. It runs when ``frame_count * frame_step`` frames are there; the dispatcher keeps as
                many. 0: consecutive frames, and fewer of them at the begin.
            interval: seconds from a run to the next. At less than the distance of two frames it runs at each.
            options: keywords of ``init``.

        Raises:
            StreamError: it is not a :class:`BaseAlgo`, a value is not allowed, or the name is taken.
            AlgorithmError: its ``init`` failed.
        """
        if not isinstance(algo_instance, BaseAlgo):
            raise StreamError(
                f"{shorten(algo_instance)} is not a BaseAlgo; give an object of a class that inherits from it"
            )
        loaded = LoadedAlgo(algo_instance, frame_count, frame_step, interval)
        if loaded.name in self._loaded:
            raise StreamError(
                f"two algorithms have the name {loaded.name!r}; give one another: {type(algo_instance).__name__}(name)"
            )
        try:
            algo_instance.init(**options)
        except Exception as error:
            raise AlgorithmError(
                f"algorithm {loaded.name} cannot be loaded: {type(error).__name__}: {error}"
            ) from error
        self.dispatcher.reserve(loaded.reach)
        self._loaded[loaded.name] = loaded
        self._timers[loaded.name] = Timer(interval)
        self._results = Results(self._loaded)

    def list_algos(self) -> list[str]:
        """The names of the algorithms."""
        return list(self._loaded)

    def process(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Call a function for each frame; it can be used as a decorator.

        It is called with this object, and by keyword, as far as it has them: ``frame``, a copy to draw into;
        ``current_algo_names``, the algorithms that have run at this frame, ``None`` in realtime; ``last_algo_name``. What it
        returns, or otherwise the frame, is recorded. In realtime a thread of the pipeline calls it.
        """
        parameters = inspect.signature(func).parameters.values()
        takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters)
        names = {each.name for each in parameters}
        self._process = (func, tuple(name for name in _PROCESS_KEYWORDS if takes_all or name in names))
        return func

    # The names of early versions.
    set_custom_process = process
    set_custom_progress = process

    # -- runs ---------------------------------------------------------------------------------------------------------

    def start(self, *arguments: Any, **named: Any) -> None:
        """Run until the source ends, or :meth:`stop` is called. Results stay.

        Args:
            arguments: ``(player, fps, position, mode, recording_path)``, or ``(fps, position, recording_path)`` with the player
                of this object.
            named: the same. ``fps``: frames per second, 30 unless given, and at most those of the source. ``position``: where
                a file begins, in seconds. ``mode``: ``"offline"`` or ``"realtime"``; or ``offline``, ``True`` or ``False``;
                otherwise that of the dispatcher, and offline if it has none. ``recording_path``: the video that is recorded.
                ``logging_level``.

        Raises:
            StreamError: there is no player, a value is not allowed, or the source, or its reader, failed.
            AlgorithmError: an algorithm failed; the message names it and its frames.
        """
        request = StartRequest.read(arguments, named)
        self.player = player = request.player or self.player
        if player is None:
            raise StreamError("there is no player; give it to start() or Inference(dispatcher, player)")
        if request.logging_level is not None:
            set_log_level(request.logging_level)
        self._stopping.clear()
        self.dispatcher.clear()
        self._results, self._pipeline = Results(self._loaded), None
        mode = request.mode or self.dispatcher.get_mode() or Mode.OFFLINE
        if mode is Mode.OFFLINE:
            self._start_offline(player, request)
        else:
            self._start_realtime(player, request)

    def stop(self) -> None:
        """End :meth:`start` after the present frame, and the thread of :meth:`run_async`.

        Raises:
            AlgorithmError: an algorithm failed in the thread of :meth:`run_async`.
        """
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    @property
    def results(self) -> Results:
        """All results since the last start, with the indices and the exact times of their frames."""
        return self._results if self._pipeline is None else self._pipeline.results

    @property
    def stats(self) -> dict[str, Any]:
        """The counts of the last start in realtime; see :attr:`ndframes.stream.Pipeline.stats`."""
        return {"sources": {}, "algorithms": {}} if self._pipeline is None else self._pipeline.stats

    def _start_offline(self, player: Player, request: StartRequest) -> None:
        recorder = None if request.recording_path is None else Recorder(player, request.recording_path)
        try:
            for frame, index in player.play(request.fps, request.position):
                names = self.auto_run_specific(player.play_fps, index)
                shown = self._show(frame, names)
                if recorder is not None:
                    recorder.add_frame(shown)
                if self._stopping.is_set():
                    break
        finally:
            if recorder is not None:
                recorder.close()

    def _start_realtime(self, player: Player, request: StartRequest) -> None:
        self._pipeline = pipeline = player.make_pipeline(request.fps, request.position)
        for loaded in self._loaded.values():
            pipeline.add(loaded.name, _Call(loaded, player), loaded.window, worker="thread", with_info=True)
        pipeline.on_result(self._collect_result)

        @pipeline.on_frame
        def take_in(frame: Frame) -> Array:
            image = player.take_in(frame)
            # Drawing must not change what the dispatcher keeps.
            return self._show(image.copy(), None)

        if request.recording_path is not None:
            pipeline.record(find_recording_path(request.recording_path), fps=float(to_rate(player.play_fps)))
        player.attach(pipeline)
        pipeline.start()
        try:
            while not pipeline.wait(_POLL_SECONDS) and not self._stopping.is_set():
                pass
        finally:
            pipeline.stop()
        pipeline.wait(0)
        self._warn_of_drops(pipeline)

    def _show(self, frame: Array, names: list[str] | None) -> Array:
        """The frame as the function of the user leaves it."""
        if self._process is None:
            return frame
        function, keywords = self._process
        offered = {
            "frame": frame,
            "current_algo_names": names,
            "last_algo_name": self.dispatcher.get_last_algo_name(),
        }
        drawn = function(self, **{name: offered[name] for name in keywords})
        return frame if drawn is None else drawn

    def _collect_result(self, result: Result) -> None:
        # Algorithms run in several threads.
        with self._collecting:
            self.dispatcher.set_last_algo_name(result.name)
            self.dispatcher.collect(result.time, result.name, result.value)

    def _warn_of_drops(self, pipeline: Pipeline) -> None:
        for name, counts in pipeline.stats["algorithms"].items():
            missed = counts["dropped"]["busy"] + counts["dropped"]["late"]
            if missed:
                logger.warning(
                    "algorithm %s missed %d of %d windows: it takes %.3f s (p95); give a longer interval",
                    name, missed, counts["scheduled"], counts["latency_ms"]["p95"] / 1000,
                )  # fmt: skip

    # -- by hand ------------------------------------------------------------------------------------------------------

    def auto_run_specific(self, fps: float, current_frame_index: int) -> list[str]:
        """Run the algorithms that are due at a frame: every ``int(interval * fps)``-th one.

        Args:
            fps: frames per second of the play.
            current_frame_index: the number of the frame, counted from 1.

        Returns:
            The names of the algorithms that have run. One that still lacks frames has not.
        """
        due = [name for name, loaded in self._loaded.items() if loaded.is_due(current_frame_index, fps)]
        return [name for name in due if self.run_specific(name)]

    def run_specific(self, algo_name: str) -> bool:
        """Run an algorithm on the newest frames of the dispatcher; returns whether there were enough.

        Raises:
            StreamError: there is no such algorithm.
            AlgorithmError: it failed.
        """
        loaded = self._loaded.get(algo_name)
        if loaded is None:
            raise StreamError(f"there is no algorithm {algo_name!r}; there is {', '.join(self._loaded) or 'none'}")
        frames = self.dispatcher.get_frames(loaded.frame_count, loaded.frame_step)
        if not frames:
            return False
        index, seconds = self.dispatcher.get_current_frame_index() - 1, self.dispatcher.get_current_position()
        indices = loaded.indices(index, len(frames))
        source = "the dispatcher" if self.player is None else self.player.name
        begin = time.monotonic()
        try:
            value = loaded.algo.run(frames)
        except Exception as error:
            numbers = ", ".join(map(str, indices))
            raise AlgorithmError(
                f"algorithm {algo_name} failed at frame {numbers} of {source}: {type(error).__name__}: {error}"
            ) from error
        result = Result(algo_name, source, index, seconds, 0, indices, value, latency=time.monotonic() - begin)
        self._results.add(result)
        self._collect_result(result)
        return True

    def run(self) -> None:
        """Run the algorithms whose interval has passed, by the wall clock, on the newest frames of the dispatcher."""
        for name, timer in self._timers.items():
            # Without a frame its time has not begun.
            if self.dispatcher.get_size() and timer.is_time():
                self.run_specific(name)

    def run_loop(self) -> None:
        """Call :meth:`run` until :meth:`stop` is called."""
        while not self._stopping.wait(_LOOP_SECONDS):
            self.run()

    def run_async(self) -> threading.Thread:
        """Call :meth:`run_loop` in a thread; an error in it is raised by :meth:`stop`.

        Raises:
            StreamError: it runs already.
        """
        if self._thread is not None:
            raise StreamError("the algorithms run in a thread already; call stop() first")
        self._stopping.clear()
        self._thread = threading.Thread(target=self._work, name="ndframes-inference", daemon=True)
        self._thread.start()
        return self._thread

    def _work(self) -> None:
        try:
            self.run_loop()
        except BaseException as error:  # noqa: BLE001 - raised again by stop()
            self._error = error


class _Call:
    """An algorithm as a pipeline calls it."""

    def __init__(self, loaded: LoadedAlgo, player: Player) -> None:
        self._algo = loaded.algo
        self._convert = player.producer.convert

    def __call__(self, frames: list[Frame]) -> Any:
        return self._algo.run([self._convert(frame).image for frame in frames])
