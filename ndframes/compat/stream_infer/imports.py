"""Imports: what a configuration may import, which its caller decides."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import StreamError, shorten

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["Imports"]
#: Configurations for Stream Infer name its modules; ours stand for them.
_ORIGINAL = "stream_infer"
_OURS = __package__
#: What holds no code that a configuration could misuse.
_ALWAYS = f"{__package__}.dispatcher"


@dataclass(frozen=True, slots=True)
class Imports:
    """What a configuration may import.

    Attributes:
        allow: names of packages and modules, which stand for the modules in them, too; or paths of Python files and of folders
            with them. The module of our dispatchers is always allowed.

    Raises:
        StreamError: it is no list of names and paths.
    """

    allow: tuple[str, ...]

    def __post_init__(self) -> None:
        for each in self.allow:
            if not isinstance(each, str) or not each:
                raise StreamError(f"allow={shorten(self.allow)}; give names of packages, or paths of files or folders")

    def check(self, module: str) -> None:
        """Check that a module may be imported; it is not imported.

        Raises:
            StreamError: it may not.
        """
        name = _to_ours(module)
        if not (self._allows_path(module) if _is_path(module) else self._allows_name(name)):
            given = ", ".join(map(repr, self.allow)) or "nothing"
            raise StreamError(
                f"the module {module!r} may not be imported: the configuration names it, and the program allows {given}; give "
                f"DynamicApp(config, allow=[{module!r}]) if you trust it"
            )

    def load(self, module: str, name: str) -> Any:
        """An object of a module.

        Raises:
            StreamError: the module may not be imported, or has no such object, or the object is from another module that may not
                be imported.
        """
        self.check(module)
        loaded = _load_file(module) if _is_path(module) else _import(_to_ours(module))
        found = getattr(loaded, name, None)
        if not callable(found):
            raise StreamError(f"the module {module!r} has no class or function {name!r}")
        home = getattr(found, "__module__", None)
        # A module that is allowed may itself have imported what is not.
        if home != loaded.__name__ and not (isinstance(home, str) and self._allows_name(home)):
            raise StreamError(
                f"{name!r} of the module {module!r} is defined in {home!r}, which the program does not allow; add it to allow="
            )
        return found

    def _allows_name(self, name: str) -> bool:
        names = (_ALWAYS, *(each for each in self.allow if not _is_path(each)))
        return any(name == each or name.startswith(f"{each}.") for each in names)

    def _allows_path(self, path: str) -> bool:
        real = os.path.realpath(path)
        folders = [os.path.realpath(each) for each in self.allow if _is_path(each)]
        return any(real == each or real.startswith(each.rstrip(os.sep) + os.sep) for each in folders)


def _is_path(module: str) -> bool:
    return os.sep in module or "/" in module or module.endswith(".py")


def _to_ours(module: str) -> str:
    is_original = module == _ORIGINAL or module.startswith(f"{_ORIGINAL}.")
    return f"{_OURS}{module.removeprefix(_ORIGINAL)}" if is_original else module


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise StreamError(f"the module {name!r} cannot be imported: {error}") from error


def _load_file(path: str) -> ModuleType:
    """A Python file as a module, under a name that no other file has; its folder is not searched for modules."""
    real = os.path.realpath(path)
    if not os.path.isfile(real):
        raise StreamError(f"{path}: there is no such Python file")
    stem = os.path.basename(real).removesuffix(".py")
    name = f"{stem}_{hashlib.sha256(real.encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, real)
    if spec is None or spec.loader is None:
        raise StreamError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
