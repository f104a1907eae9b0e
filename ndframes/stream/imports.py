"""Objects of Python modules by their paths, imported only below packages that the caller allows."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..errors import StreamError, describe_error, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Allowed", "ImportPath"]
_PART = r"[A-Za-z_][A-Za-z0-9_]*"
_MODULE = re.compile(rf"{_PART}(?:\.{_PART})*")
_PATH = re.compile(rf"(?P<module>{_PART}(?:\.{_PART})*):(?P<name>{_PART})")
_MOST_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class ImportPath:
    """A name of a module: ``package.module:name``.

    Attributes:
        module: the dotted name of the module.
        name: of the class, function or object in it: one name, without a dot.
    """

    module: str
    name: str

    @classmethod
    def parse(cls, text: str) -> ImportPath:
        """A path from its text.

        Raises:
            StreamError: it is not one.

        Example:
            >>> ImportPath.parse("mypackage.detect:Detector")
            ImportPath(module='mypackage.detect', name='Detector')
        """
        found = _PATH.fullmatch(text) if len(text) <= _MOST_CHARACTERS else None
        if found is None:
            raise StreamError(f"{shorten(text)} is not an import path; give one such as 'mypackage.module:Class'")
        parts = [*found["module"].split("."), found["name"]]
        # __main__ would run a program, and __loader__ and others are not the module's own.
        if any(part.startswith("__") for part in parts):
            raise StreamError(f"{shorten(text)} has a name that begins with '__'; such names are not allowed")
        return cls(found["module"], found["name"])

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"


@dataclass(frozen=True, slots=True)
class Allowed:
    """The packages and modules below which objects may be imported.

    Args:
        prefixes: dotted names: ``"mypackage"`` allows ``mypackage`` and ``mypackage.detect``, but not ``mypackage2``. Importing a
            module runs its code, so each module below a prefix may be run.

    Raises:
        StreamError: one of them is not a dotted name.
    """

    prefixes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for prefix in self.prefixes:
            if not isinstance(prefix, str) or not _MODULE.fullmatch(prefix):
                raise StreamError(
                    f"allow={shorten(prefix)}; give the name of a package or module, such as 'mypackage.algorithms'"
                )

    @classmethod
    def of(cls, allow: str | Iterable[str]) -> Allowed:
        """From one or several names."""
        return cls((allow,) if isinstance(allow, str) else tuple(allow))

    def __contains__(self, module: str) -> bool:
        return any(f"{module}.".startswith(f"{prefix}.") for prefix in self.prefixes)

    def check(self, path: ImportPath) -> None:
        """Check a path without importing it.

        Raises:
            StreamError: it is not allowed.
        """
        if path.module not in self:
            listed = ", ".join(self.prefixes) or "nothing"
            raise StreamError(
                f"'{path}' may not be imported; allowed: {listed}. The caller allows a package by allow=(...) or --allow"
            )

    def load(self, path: ImportPath) -> Any:
        """Import the object of a path.

        Returns:
            A callable that was defined in a module that is allowed.

        Raises:
            StreamError: it is not allowed, cannot be imported, was defined in another module, or is not callable.
        """
        self.check(path)
        module = _import(path)
        # A module may have put another one under its own name into sys.modules, as os does with os.path.
        if module.__name__ != path.module:
            raise StreamError(
                f"'{path}': the module is {module.__name__} under another name; such names are not allowed"
            )
        try:
            found = getattr(module, path.name)
        except AttributeError as error:
            raise StreamError(f"'{path}': module {path.module} has no {path.name!r}") from error
        if isinstance(found, ModuleType) or not callable(found):
            raise StreamError(f"'{path}' is a {type(found).__name__}; give a class, a function or another callable")
        self._check_home(path, found)
        return found

    def _check_home(self, path: ImportPath, found: Any) -> None:
        """Check that an object is not one that an allowed module has imported itself, such as ``os.system``."""
        home = getattr(found, "__module__", None)
        # A partial, or a method of an object, calls a function that has a home of its own.
        inner = getattr(found, "__func__", None) or getattr(found, "func", None)
        homes = [home] if inner is None else [home, getattr(inner, "__module__", None)]
        for each in homes:
            if not isinstance(each, str) or each not in self:
                raise StreamError(
                    f"'{path}' is defined in {shorten(each)}, which is not allowed; allowed: {', '.join(self.prefixes)}. "
                    "Define a function or class of your own that calls it"
                )


def _import(path: ImportPath) -> ModuleType:
    try:
        import_module(path.module)
        return sys.modules[path.module]
    except ModuleNotFoundError as error:
        if error.name is not None and f"{path.module}.".startswith(f"{error.name}."):
            raise StreamError(
                f"'{path}': there is no module {error.name}; is it installed, or on PYTHONPATH?"
            ) from error
        raise StreamError(f"'{path}' cannot be imported: {describe_error(error)}") from error
    # Whatever the module does while it is imported; also sys.exit().
    except (Exception, SystemExit) as error:
        raise StreamError(f"'{path}' cannot be imported: {describe_error(error)}") from error
