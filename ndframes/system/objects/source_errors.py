"""Errors of object stores as those of sources, which name the address."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...errors import (
    ObjectGoneError,
    SourceAccessError,
    SourceError,
    StoreAccessError,
    StoreError,
    StoreUnavailableError,
)
from ..stamp import changed_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["as_source_errors"]


@contextmanager
def as_source_errors(url: str, on_change: Callable[[], object] | None = None) -> Iterator[None]:
    """Raise the errors of a store as those of a source. That of a store which does not answer stays.

    Args:
        url: the address of the source.
        on_change: called if the source is found in another state.

    Raises:
        SourceChangedError: the object does not exist any more, or is in another state.
        SourceAccessError: the store refuses the credentials, or has no such bucket.
        SourceError: the store answers what it must not.

    Example:
        >>> with as_source_errors("s3://imagery/a.tif"):
        ...     raise StoreAccessError("403 Forbidden")
        Traceback (most recent call last):
        ndframes.errors.SourceAccessError: s3://imagery/a.tif cannot be read: 403 Forbidden
    """
    try:
        yield
    except StoreUnavailableError:
        raise
    except ObjectGoneError as error:
        if on_change is not None:
            on_change()
        raise changed_error(url) from error
    except StoreError as error:
        found = SourceAccessError if isinstance(error, StoreAccessError) else SourceError
        raise found(f"{url} cannot be read: {error.args[0]}") from error
