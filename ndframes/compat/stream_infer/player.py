"""Player: plays a source into a dispatcher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import StreamError, UnsupportedError
from ...movie.progress import ProgressBar
from ...stream.opening import name_sources
from ...stream.pipeline import Pipeline
from ...stream.source import Source
from .producer import Producer, thin_out
from .util import position2time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..._typing import Array
    from ...stream.values import Frame
    from .dispatcher import Dispatcher

__all__ = ["Player"]


class Player:
    """Plays a source into a dispatcher.

    Args:
        dispatcher: gets the frames.
        producer: an :class:`OpenCVProducer` or :class:`PyAVProducer`; :meth:`play` takes any object with their methods ``read``
            and ``get_info``.
        source: a path, a URL, the number of a camera, or anything else that :class:`~ndframes.stream.Source` takes.
        show_progress: whether the number of frames is shown, if stderr is a terminal.
        path: the name of ``source`` in early versions.

    Attributes:
        info: what the producer's ``get_info`` returns.
        fps: frames per second of the source; 0 if it does not tell them.
        play_fps: frames per second of the play.

    Raises:
        StreamError: the source cannot be opened, or none is given.

    Example:
        >>> import numpy as np
        >>> from ndframes.compat.stream_infer import Dispatcher, OpenCVProducer
        >>> dispatcher = Dispatcher()
        >>> player = Player(dispatcher, OpenCVProducer(), np.zeros((50, 8, 8, 3), np.uint8), show_progress=False)
        >>> for frame, index in player.play(fps=10, position=1.5):
        ...     print(index, dispatcher.get_current_position())
        16 1.52
        17 1.6
        18 1.72
        19 1.8
        20 1.92
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        producer: Any,
        source: Any = None,
        show_progress: bool = True,
        *,
        path: Any = None,
    ) -> None:
        self.source = path if source is None else source
        if self.source is None:
            raise StreamError("Player(source=None); give a path, a URL or the number of a camera")
        self.dispatcher = dispatcher
        self.producer = producer
        self.show_progress = show_progress
        self.info: dict[str, Any] = producer.get_info(self.source)
        self.fps = float(self.info["fps"])
        self.play_fps = self.fps
        self.frame_count = int(self.info["frame_count"])
        self._pipeline: Pipeline | None = None

    @property
    def path(self) -> Any:
        """The source, in the spelling of early versions."""
        return self.source

    @property
    def name(self) -> str:
        """The name of the source in results and errors."""
        return str(name_sources([Source(self.source)])[0].name)

    # -- offline ------------------------------------------------------------------------------------------------------

    def play(self, fps: float | None = None, position: float = 0) -> Iterator[tuple[Array, int]]:
        """Read frames one after the other, as fast as the caller takes them.

        Args:
            fps: frames per second; ``None``, or more than the source has: all.
            position: where it begins, in seconds.

        Yields:
            A copy of the frame, which may be drawn into, and its number, counted from 1 at the begin of the source.

        Raises:
            StreamError: the source cannot be read.
        """
        thinned = self._set_rate(fps)
        if position > 0:
            self.dispatcher.set_current_position(position)
            self.dispatcher.set_current_frame_index(int(self.play_fps * position))
        total = int(self.frame_count * self.play_fps / self.fps) if self.frame_count > 0 and self.fps else None
        with ProgressBar(None if self.show_progress else False, total, "play, frames") as progress:
            for image, seconds in self._read(thinned, position):
                self._take_in(image, seconds)
                progress.step()
                yield image.copy(), self.dispatcher.get_current_frame_index()

    def _read(self, fps: float | None, position: float) -> Iterator[tuple[Array, float]]:
        """Frames and their times."""
        producer = self.producer
        # A producer of the user, or one whose read() is the user's, has no times: frames are taken as evenly spaced.
        if isinstance(producer, Producer) and type(producer).read is Producer.read:
            for frame in producer.frames(self.source, fps, position):
                yield frame.image, frame.time
            return
        for number, image in enumerate(producer.read(self.source, self.play_fps, position)):
            yield image, position + number / (self.play_fps or 1)

    # -- realtime -----------------------------------------------------------------------------------------------------

    def play_async(self, fps: float | None = None) -> Pipeline:
        """Play in the background: a file at its own speed, a live source as its frames come.

        Frames are read in a process of their own. Where they come faster than the dispatcher takes them, some are left out.

        Args:
            fps: as for :meth:`play`.

        Returns:
            The pipeline that plays.
        """
        pipeline = self.make_pipeline(fps)
        pipeline.on_frame(self.take_in)
        self.attach(pipeline.start())
        return pipeline

    def make_pipeline(self, fps: float | None = None, position: float = 0) -> Pipeline:
        """A pipeline that plays, without algorithms, not started.

        Args:
            fps: as for :meth:`play`.
            position: where a file begins, in seconds.

        Raises:
            UnsupportedError: the producer is not one of ours: it cannot be passed to the process that reads.
        """
        if not isinstance(self.producer, Producer):
            raise UnsupportedError(
                f"{type(self.producer).__name__} cannot play in realtime, which reads in another process; give an OpenCVProducer "
                "or a PyAVProducer"
            )
        source = self.producer.describe(self.source, self._set_rate(fps), position, is_live=True)
        return Pipeline(source, mode="realtime")

    def attach(self, pipeline: Pipeline) -> None:
        """Make :meth:`is_active` and :meth:`stop` speak of a pipeline."""
        self._pipeline = pipeline

    def take_in(self, frame: Frame) -> Array:
        """Pass a frame of a pipeline to the dispatcher; returns its image."""
        image: Array = self.producer.convert(frame).image
        self._take_in(image, frame.time)
        return image

    def is_active(self) -> bool:
        """Whether it plays in the background.

        Raises:
            StreamError: the source, or its reader, has failed.
        """
        return self._pipeline is not None and not self._pipeline.wait(0)

    def stop(self) -> None:
        """End what plays in the background."""
        if self._pipeline is not None:
            self._pipeline.stop()

    # -- both ---------------------------------------------------------------------------------------------------------

    def get_play_time(self) -> str:
        """The time of the newest frame, in hours, minutes and seconds."""
        return position2time(self.dispatcher.get_current_position())

    def _set_rate(self, fps: float | None) -> float | None:
        """Set the rate of the play; returns the one to which the source is thinned out, ``None`` if it is read whole."""
        thinned = None if fps is None else thin_out(self.fps, fps)
        self.play_fps = self.fps if thinned is None else thinned
        self.dispatcher.set_fps(self.play_fps)
        return thinned

    def _take_in(self, image: Array, seconds: float) -> None:
        self.dispatcher.add_frame(image)
        self.dispatcher.set_current_position(seconds)
