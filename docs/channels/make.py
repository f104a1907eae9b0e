"""Run the page channels.rst and keep the pictures that it writes: ``python docs/channels/make.py``."""

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
    """Run the page in a temporary folder and copy its pictures; return the number of failed examples."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        failed, _ = doctest.testfile(str(PAGE), module_relative=False, optionflags=flags)
        os.chdir(FOLDER)
        for picture in Path(folder, "channels").glob("*.png"):
            shutil.copy(picture, FOLDER)
    return failed


if __name__ == "__main__":
    sys.exit(main())
