"""Imports that may fail half way, where a process has no file descriptor left, and must succeed later."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from typing import Any

__all__ = ["import_package"]


def import_package(name: str) -> Any:
    """Import a top-level package, also after an earlier import of it failed half way.

    Python removes a package whose import failed from ``sys.modules``, but keeps the submodules that were loaded. It binds
    a submodule to its package only when it loads it, so a second import makes a package without these attributes. This
    function binds the submodules first. Removing them instead would load some extension modules twice, and their types
    would no longer match.

    Example:
        >>> import_package("json") is import_module("json")
        True
    """
    # A complete package needs nothing, and one without leftovers a plain import.
    spec = None if name in sys.modules else find_spec(name)
    # Deeper submodules are still bound to their parents, which stayed in sys.modules.
    leftovers = [other for other in sys.modules if other.startswith(f"{name}.") and other.count(".") == 1]
    if spec is None or spec.loader is None or not leftovers:
        return import_module(name)
    package = module_from_spec(spec)
    for leftover in leftovers:
        setattr(package, leftover.partition(".")[2], sys.modules[leftover])
    sys.modules[name] = package
    try:
        spec.loader.exec_module(package)
    except BaseException:
        del sys.modules[name]
        raise
    # A package may replace itself in sys.modules while it runs.
    return sys.modules[name]
