"""BaseAlgo: the base class of algorithms."""

from __future__ import annotations

from typing import Any

__all__ = ["BaseAlgo"]


class BaseAlgo:
    """An algorithm; a subclass defines :meth:`init` and :meth:`run`.

    Args:
        name: its name in the results; ``None``: the name of its class.

    Example:
        >>> class Mean(BaseAlgo):
        ...     def init(self):
        ...         self.scale = 1 / 255
        ...
        ...     def run(self, frames):
        ...         return float(frames[-1].mean()) * self.scale
        >>> Mean().name, Mean("brightness").name
        ('Mean', 'brightness')
    """

    def __init__(self, name: str | None = None) -> None:
        self.name = name or type(self).__name__

    def init(self, **options: Any) -> None:
        """Load a model; called once, by :meth:`Inference.load_algo`, with the keywords that it does not know.

        Raises:
            NotImplementedError: the subclass does not define it.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define init(self); it loads the model")

    def run(self, frames: list[Any]) -> Any:
        """What the algorithm finds in a window.

        Args:
            frames: arrays ``(height, width, channels)``, oldest first.

        Raises:
            NotImplementedError: the subclass does not define it.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define run(self, frames); it returns a result")
