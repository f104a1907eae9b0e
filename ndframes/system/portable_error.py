"""PortableError: an exception on its way from a worker to its consumer."""

from __future__ import annotations

import pickle
import traceback
from typing import Any

from ..errors import NdframesError

__all__ = ["PortableError", "WorkerTraceback", "add_note"]


class WorkerTraceback(Exception):  # noqa: N818 - the cause of an error, not an error of its own
    """The traceback of an exception in a worker process, as text: the ``__cause__`` of the exception that was passed on."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class PortableError:
    """An exception that is pickled as far as it can be.

    Its copy in another process has the same type, arguments, attributes and notes if they pickle, whatever arguments its
    constructor takes. Otherwise it is an :class:`~ndframes.NdframesError` with the name of the type and the message. Its
    ``__cause__`` holds the traceback as text.

    Attributes:
        error: the exception.

    Example:
        >>> class Odd(Exception):
        ...     def __init__(self, left, right):
        ...         super().__init__(f"{left} and {right}")
        >>> print(pickle.loads(pickle.dumps(PortableError(Odd(1, lambda: 2)))).error)
        ndframes.system.portable_error.Odd: 1 and ...
        >>> pickle.loads(pickle.dumps(PortableError(KeyError("a")))).error
        KeyError('a')
    """

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        error = self.error
        name = f"{type(error).__module__}.{type(error).__qualname__}"
        # Locals of functions and of the main module are not worth their prefix.
        name = name.rpartition("<locals>.")[2].removeprefix("builtins.").removeprefix("__main__.")
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        return _load_error, (_dump_error(error), name, _describe(error), trace, list(getattr(error, "__notes__", ())))


def add_note(error: BaseException, note: str) -> None:
    """Add a line that is shown below the message; Python 3.10 keeps it, and shows nothing."""
    try:
        error.__notes__ = [*getattr(error, "__notes__", ()), note]  # type: ignore[attr-defined]
    except (AttributeError, TypeError):  # an exception may forbid new attributes
        pass


def _dump_error(error: Exception) -> bytes | None:
    """The pickle of an exception, or of what it is rebuilt from; ``None`` if neither loads again."""
    # Python calls the constructor with the arguments of the base class. If it takes others, that fails or changes the message.
    for dump in (pickle.dumps, _dump_parts):
        try:
            data = dump(error)
            copy = pickle.loads(data)  # noqa: S301 - made in the line above
        except Exception:  # noqa: BLE001, S112 - whatever the reason, only its text can be sent
            continue
        if type(copy) is type(error) and _describe(copy) == _describe(error):
            return data
    return None


def _dump_parts(error: Exception) -> bytes:
    """The class, arguments and attributes of an exception, to be put together without its constructor."""
    reduced: Any = _builtin_base(type(error)).__reduce__(error)
    return pickle.dumps(_Parts(type(error), *reduced[1:]))


class _Parts:
    """Pickles as the exception that it describes."""

    def __init__(self, kind: type[Exception], args: tuple[Any, ...], state: dict[str, Any] | None = None) -> None:
        self._content = kind, args, state

    def __reduce__(self) -> tuple[Any, ...]:
        return _build_error, self._content


def _build_error(kind: type[Exception], args: tuple[Any, ...], state: dict[str, Any] | None) -> Exception:
    error = kind.__new__(kind, *args)
    # What the constructors of the user's classes pass on to that of Python's, which sets more than args in some classes.
    _builtin_base(kind).__init__(error, *args)
    if state:
        error.__setstate__(state)
    return error


def _builtin_base(kind: type[Exception]) -> type[BaseException]:
    return next(base for base in kind.__mro__ if base.__module__ == "builtins" and issubclass(base, BaseException))


def _describe(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the user's own class
        return "its message cannot be shown"


def _load_error(data: bytes | None, name: str, message: str, trace: str, notes: list[str]) -> PortableError:
    error: Exception | None = None
    if data is not None:
        try:
            error = pickle.loads(data)  # noqa: S301 - from our own worker
        except Exception:  # noqa: BLE001 - its class may exist in the worker only
            error = None
    if error is None:
        error = NdframesError(f"{name}: {message}")
    missing = [note for note in notes if note not in getattr(error, "__notes__", ())]
    for note in missing:
        add_note(error, note)
    error.__cause__ = WorkerTraceback(trace)
    return PortableError(error)
