"""Static files: read once, and served by name from memory, so that no path of a request reaches the file system."""

from __future__ import annotations

import importlib.resources
import os

from .answers import Answer

__all__ = ["read_files"]
#: Not from the mimetypes of the system, which on some machines call JavaScript plain text, and browsers then refuse it.
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}


def read_files(package: str, folder: str = "static") -> dict[str, Answer]:
    """The files in a folder of a package, by name.

    Raises:
        ValueError: the type of a file is not known.

    Example:
        >>> sorted(read_files("ndframes.stream"))[0], read_files("ndframes.stream")["page.css"].media_type
        ('algorithms.js', 'text/css; charset=utf-8')
    """
    found = {}
    for file in importlib.resources.files(package).joinpath(folder).iterdir():
        extension = os.path.splitext(file.name)[1]
        if extension not in _MEDIA_TYPES:
            raise ValueError(f"{file.name}: files of this type are not served; add it to {__name__}")
        found[file.name] = Answer(file.read_bytes(), _MEDIA_TYPES[extension])
    return found
