"""Run the page movies.rst and keep the picture that it writes: ``python docs/movies/make.py``."""

from __future__ import annotations

import doctest
import os
import shutil
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
PAGE = FOLDER.with_suffix(".rst")


def main() -> int:
    """Run the page in a temporary folder and copy its picture; return the number of failed examples."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        failed, _ = doctest.testfile(str(PAGE), module_relative=False, optionflags=flags)
        os.chdir(FOLDER)
        shutil.copy(Path(folder, "movies", "spots.png"), FOLDER)
    return failed


if __name__ == "__main__":
    sys.exit(main())
