"""Public names of a package that are loaded when they are first used."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["load_lazily", "load_name"]


def load_name(module: str, name: str) -> Any:
    """A name of a module that is imported now.

    Example:
        >>> load_name("ndframes.text", "count_noun")(2, "file")
        '2 files'
    """
    return getattr(import_module(module), name)


def load_lazily(
    package: str, names: Sequence[str], homes: Mapping[str, str], *, extra: str | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The functions ``__getattr__`` and ``__dir__`` of a package.

    Type checkers do not see names through them; the package imports the same names ``if TYPE_CHECKING``.

    Args:
        package: its ``__name__``.
        names: that ``dir()`` lists.
        homes: for each name, and for others that have a home, the module in the package, or ``"module:name"`` where the name
            differs there.
        extra: a package that the modules need, and the extra that installs it.

    Example:
        >>> getattribute, _ = load_lazily("ndframes.feed", ["Patch"], {"Patch": "patch"})
        >>> getattribute("Patch")
        <class 'ndframes.feed.patch.Patch'>
    """

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, attribute = homes[name].partition(":")
        try:
            value = getattr(import_module(f".{module}", package), attribute or name)
        except ModuleNotFoundError as error:
            if extra is None or error.name != extra:
                raise
            raise MissingExtraError(
                f'{package}.{name} needs {extra}: pip install "ndframes[{extra}]"', name=extra
            ) from error
        # Not asked for again.
        setattr(sys.modules[package], name, value)
        return value

    return load, lambda: list(names)
