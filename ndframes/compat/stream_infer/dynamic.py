"""DynamicApp: a run from plain data, such as the body of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import StreamError
from .algo import BaseAlgo
from .dispatcher import Dispatcher
from .dynamic_config import read_config
from .imports import Imports
from .inference import Inference
from .player import Player
from .producer import OpenCVProducer, PyAVProducer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .dynamic_config import ObjectConfig

__all__ = ["DynamicApp"]
_PRODUCERS = {"opencv": OpenCVProducer, "pyav": PyAVProducer}


class DynamicApp:
    """A run from plain data, such as the body of a request.

    The data names modules, and to import a module is to run its code. So only those that the caller allows are imported, and
    ``stream_infer.dispatcher``, which stands for ours. The data also names the source that is opened and the video that is
    written; if it comes from strangers, check both.

    Args:
        config: a dict, JSON text, or the path of a JSON file, with ``mode``, ``source``, ``fps``, ``dispatcher`` (``module``,
            ``name``, ``args``, ``kwargs``), ``algos`` (a list of the same, where ``kwargs`` are those of
            :meth:`Inference.load_algo`), ``producer`` (``type``: ``"opencv"`` or ``"pyav"``, ``width``, ``height``), and where
            needed ``process`` (``module``, ``name``), ``recording_path`` and ``logging_level``.
        allow: names of packages and modules, and paths of Python files and of folders with them.

    Attributes:
        config: the checked configuration.
        dispatcher: the dispatcher.
        inference: holds the results after :meth:`start`.

    Raises:
        StreamError: the configuration is wrong, the message lists all that is; it names a module that is not allowed; or the
            source cannot be opened.
    """

    def __init__(self, config: Any, *, allow: Iterable[str] = ()) -> None:
        self._imports = Imports((allow,) if isinstance(allow, str) else tuple(allow))
        self.config = read_config(config)
        self._check_imports()
        made = self.config.dispatcher
        kind = self._load(made, Dispatcher)
        level = {} if self.config.logging_level is None else {"logging_level": self.config.logging_level}
        self.dispatcher = kind.create(self.config.mode, *made.args, **{**level, **made.kwargs})
        shape = self.config.producer
        producer = _PRODUCERS[shape.type](shape.width, shape.height)
        self.player = Player(self.dispatcher, producer, self.config.source, show_progress=False)
        self.inference = Inference(self.dispatcher, self.player)
        if self.config.process is not None:
            self.inference.process(self._imports.load(self.config.process.module, self.config.process.name))
        self._is_loaded = False

    def start(self) -> None:
        """Load the algorithms, and run until the source ends; see :meth:`Inference.start`.

        Raises:
            StreamError: as :meth:`Inference.start`.
        """
        if not self._is_loaded:
            for each in self.config.algos:
                algo: Any = self._load(each.algo, BaseAlgo)
                self.inference.load_algo(algo(*each.algo.args), **each.load)
            self._is_loaded = True
        self.inference.start(fps=self.config.fps, recording_path=self.config.recording_path)

    def _load(self, described: ObjectConfig, base: type) -> Any:
        """A class that inherits from another one; nothing else is called."""
        found = self._imports.load(described.module, described.name)
        if not (isinstance(found, type) and issubclass(found, base)):
            raise StreamError(
                f"{described.name!r} of the module {described.module!r} is no class that inherits from {base.__name__}"
            )
        return found

    def _check_imports(self) -> None:
        """Check all modules before the first one is imported."""
        errors = []
        for path, each in self.config.objects:
            try:
                self._imports.check(each.module)
            except StreamError as error:
                errors.append(f"- {path}: {error}")
        if errors:
            raise StreamError("the configuration names modules that are not allowed:\n" + "\n".join(errors))
