"""Libraries that run algorithms over the frames of a video: two algorithms over a file, and a slow one over a live stream.

``edges`` takes each frame, ``motion`` two frames five apart; both use OpenCV with one thread. The slow one stands for a model on
another device: it waits. All of them note the number that their newest frame shows.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.numbered import FPS, read_number
from kit.options import is_installed

if TYPE_CHECKING:
    import numpy as np

STEP = 5


def edges(frames: list[np.ndarray]) -> tuple[int, int]:
    """The number of a frame, and how many of its pixels are edges."""
    import cv2

    cv2.setNumThreads(1)
    gray = cv2.cvtColor(frames[-1], cv2.COLOR_BGR2GRAY)
    return read_number(frames[-1]), int(cv2.countNonZero(cv2.Canny(gray, 50, 150)))


def motion(frames: list[np.ndarray]) -> tuple[int, int]:
    """The number of the newest frame, and how many pixels differ from those of the oldest one."""
    import cv2

    cv2.setNumThreads(1)
    first, last = (
        cv2.GaussianBlur(cv2.cvtColor(each, cv2.COLOR_BGR2GRAY), (9, 9), 0) for each in (frames[0], frames[-1])
    )
    return read_number(frames[-1]), int(cv2.countNonZero(cv2.threshold(cv2.absdiff(first, last), 20, 255, 0)[1]))


@dataclass
class Waiting:
    """Waits, as for a model on another device, and notes which frame it has processed, and when."""

    seconds: float
    seen: list[tuple[int, float]] = field(default_factory=list)

    def __call__(self, frames: list[np.ndarray]) -> int:
        number = read_number(frames[-1])
        time.sleep(self.seconds)
        self.seen.append((number, time.monotonic()))
        return number


@dataclass
class Live:
    """What became of a live stream.

    Attributes:
        seen: the numbers of the frames that were processed, and when, by the monotonic clock.
        dropped: how many the library says that it has dropped; ``None`` if it does not count them.
    """

    seen: list[tuple[int, float]]
    dropped: int | None


@dataclass
class StreamRunner(ABC):
    """A way to run algorithms over frames.

    Attributes:
        name: in tables.
        environment: variables of its process.
    """

    name: str
    environment: dict[str, str] = field(default_factory=dict)
    requires = ()
    role = "peer"

    @property
    def missing(self) -> list[str]:
        """Modules that are not installed."""
        return [name for name in self.requires if not is_installed(name)]

    def build(self) -> None:  # noqa: B027 - nothing is made for it
        """Make the files that it reads."""

    @abstractmethod
    def run_file(self, path: Path) -> dict[str, list[tuple[int, int]]]:
        """What both algorithms return for their windows of a file, in order."""

    def run_live(self, url: str, algorithm: Waiting, seconds: float) -> Live:
        """Run an algorithm over a live stream for so long."""
        raise NotImplementedError


@dataclass
class NdframesRunner(StreamRunner):
    """ndframes.stream.Pipeline."""

    worker: str = "thread"
    role = "ndframes"

    def run_file(self, path: Path) -> dict[str, list[tuple[int, int]]]:
        from ndframes.stream import Pipeline, Source, Window

        pipeline = Pipeline(Source(path, pixel_format="bgr24"))
        pipeline.add("edges", edges, worker=self.worker)  # type: ignore[arg-type]
        pipeline.add("motion", motion, Window(count=2, step=STEP), worker=self.worker)  # type: ignore[arg-type]
        return {name: [each.value for each in found] for name, found in pipeline.run().items()}

    def run_live(self, url: str, algorithm: Waiting, seconds: float) -> Live:
        from ndframes.stream import Pipeline, Source

        pipeline = Pipeline(Source(url, name="live", pixel_format="bgr24"), mode="realtime")
        pipeline.add("slow", algorithm, worker="thread")
        pipeline.run(duration=seconds)
        dropped = pipeline.stats["algorithms"]["slow"]["dropped"]
        return Live(algorithm.seen, sum(dropped.values()))


@dataclass
class SupervisionRunner(StreamRunner):
    """The loop that supervision's users write over its generator of frames."""

    requires = ("supervision",)

    def run_file(self, path: Path) -> dict[str, list[tuple[int, int]]]:
        import supervision

        found: dict[str, list[tuple[int, int]]] = {"edges": [], "motion": []}
        kept: deque[np.ndarray] = deque(maxlen=STEP + 1)
        for frame in supervision.get_video_frames_generator(str(path)):
            kept.append(frame)
            found["edges"].append(edges([frame]))
            if len(kept) == STEP + 1:
                found["motion"].append(motion([kept[0], frame]))
        return found

    def run_live(self, url: str, algorithm: Waiting, seconds: float) -> Live:
        import supervision

        deadline = time.monotonic() + seconds
        for frame in supervision.get_video_frames_generator(url):
            algorithm([frame])
            if time.monotonic() > deadline:
                break
        return Live(algorithm.seen, None)


@dataclass
class StreamInferRunner(StreamRunner):
    """Stream Infer's Inference, with its OpenCV producer."""

    requires = ("stream_infer",)

    def run_file(self, path: Path) -> dict[str, list[tuple[int, int]]]:
        found: dict[str, list[tuple[int, int]]] = {"edges": [], "motion": []}
        inference, _ = _make_inference(str(path), "offline")
        for name, function, count, step in (("edges", edges, 1, 1), ("motion", motion, 2, STEP)):
            # It runs at each frame if the interval is just above that of frames; it rounds down.
            inference.load_algo(_make_algorithm(name, function, found[name]), count, step, 1.01 / FPS)
        inference.start(fps=FPS)
        return found

    def run_live(self, url: str, algorithm: Waiting, seconds: float) -> Live:
        inference, player = _make_inference(url, "realtime")
        inference.load_algo(_make_algorithm("slow", algorithm, []), 1, 1, 1.01 / FPS)

        def end() -> None:
            time.sleep(seconds)
            player.is_end.value = True

        threading.Thread(target=end, daemon=True).start()
        inference.start(fps=FPS)
        return Live(algorithm.seen, None)


def _make_inference(source: str, mode: str) -> tuple[Any, Any]:
    """Stream Infer's objects, as in its README; it logs warnings alone."""
    from stream_infer import Inference, Player
    from stream_infer.dispatcher import Dispatcher

    dispatcher = Dispatcher.create(mode=mode, buffer=30, logging_level="ERROR")
    player = Player(dispatcher, _make_producer(source), source=source, show_progress=False)
    return Inference(dispatcher, player), player


def _make_algorithm(name: str, function: Any, found: list[Any]) -> Any:
    from stream_infer.algo import BaseAlgo

    class Wrapped(BaseAlgo):  # type: ignore[misc]
        def init(self) -> None:
            """Nothing to load."""

        def run(self, frames: list[np.ndarray]) -> Any:
            value = function(frames)
            found.append(value)
            return value

    return Wrapped(name)


def _make_producer(source: str) -> Any:
    import cv2
    from stream_infer.producer import OpenCVProducer

    capture = cv2.VideoCapture(source)
    width, height = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    capture.release()
    return OpenCVProducer(width, height)


@dataclass
class DecodeRunner(StreamRunner):
    """Decoding alone: the limit of a run whose algorithms cost nothing."""

    role = "baseline"

    def run_file(self, path: Path) -> dict[str, list[tuple[int, int]]]:
        import av

        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                frame.to_ndarray(format="bgr24")
        return {}


def make_runners() -> list[StreamRunner]:
    """All of them."""
    return [
        NdframesRunner("ndframes, threads"),
        NdframesRunner("ndframes, inline", worker="inline"),
        NdframesRunner("ndframes, processes", worker="process"),
        SupervisionRunner("supervision, loop over its frames"),
        StreamInferRunner("Stream Infer"),
        DecodeRunner("decoding alone (PyAV)"),
    ]
