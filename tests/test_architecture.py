"""The rules of the house: who may import whom, and what ``import ndframes`` may cost."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ndframes

PACKAGE = Path(ndframes.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# A module imports only modules of a lower level, or of its own folder.
LEVELS = {
    "errors": 0,
    "_process": 0,
    "regions": 0,
    "channels": 0,
    "pathinfo": 0,
    "display": 0,
    "drawing": 1,
    "lru": 1,
    "stamp": 1,
    "mounts": 1,
    "backends": 1,
    "segments": 1,
    "warp": 1,
    "values": 1,
    "affine": 1,
    "crew": 1,
    "padding": 2,
    "results": 2,
    "clip": 2,
    "cache": 2,
    "formats": 2,
    "item": 3,
    "interop": 3,
    "workers": 3,
    "video.kinds": 1,
    "video.codecs": 1,
    "video.slices": 1,
    "video.index": 3,
    "video.pixels": 3,
    "video.reader": 4,
    "video.intra": 5,
    "video.sink": 3,
    "video.writer": 5,
    "payload": 6,
    "entry": 7,
    "video.advice": 7,
    "video.store": 8,
    "video.stack": 9,
    "video.read": 10,
    "video.metadata": 11,
    "source": 10,
    "convert": 11,
    "image": 4,
    "lazyframe": 4,
    "explain": 5,
    "batch": 5,
    "sequence": 5,
    "opener": 12,
    "video.item": 13,
    "prepare": 13,
    "frames": 14,
    "coco": 15,
    "demo": 15,
    "testing": 15,
    "__init__": 15,
    "cli": 16,
    "compat": 16,
    "__main__": 17,
}

# Folders whose modules stand on several levels.
FLOORS = {"video"}

# Modules of one level that work hand in hand: the left may import the right.
NEIGHBOURS = {
    ("regions", "errors"),
    ("channels", "errors"),
    ("pathinfo", "errors"),
    ("pathinfo", "channels"),
}

# Heavy libraries, and the only places that may know them.
HOMES = {
    "rasterio": {"formats"},
    "tifffile": {"formats"},
    "imagecodecs": {"formats", "image"},
    "kwimage": {"formats", "coco", "cli", "compat"},
    "PIL": {"formats", "drawing"},
    "kwcoco": set(),
    "delayed_image": {"compat"},
    "ndsampler": set(),
    "cv2": {"formats", "warp"},
    "av": {"video"},
    "torch": set(),
    "starlette": set(),
    "click": {"cli"},
    "skimage": set(),
    "dask": {"interop"},
    "xarray": {"interop"},
}


def room_of(module: Path) -> str:
    parts = module.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:2]) if parts[0] in FLOORS and parts[1] != "__init__" else parts[0]


def room_of_name(name: str) -> str:
    parts = name.split(".")[1:]
    return ".".join(parts[:2]) if parts[0] in FLOORS else parts[0]


def imports_of(module: Path) -> set[str]:
    """Every module that is imported when the code runs, as absolute dotted names; type-checking imports left out."""
    tree = ast.parse(module.read_text())
    package = ["ndframes", *module.relative_to(PACKAGE).with_suffix("").parts[:-1]]
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            found |= {stem} if node.module else {f"{stem}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_lower_levels(module):
    room = room_of(module)
    for name in imports_of(module):
        if not name.startswith("ndframes."):
            continue
        other = room_of_name(name)
        if other == room or (room, other) in NEIGHBOURS:
            continue
        assert LEVELS[other] < LEVELS[room], f"{room} (level {LEVELS[room]}) imports {other} (level {LEVELS[other]})"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_heavy_library_is_known_in_one_room(module):
    for name in imports_of(module):
        library = name.split(".")[0]
        room = room_of(module).partition(".")[0]
        assert room in HOMES.get(library, {room}), f"{module.name} imports {library}"


def test_every_room_has_a_level():
    assert {room_of(module) for module in MODULES} - FLOORS <= set(LEVELS)


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_import_pulls_in_nothing_heavy():
    loaded = run_python("import ndframes, sys; print(' '.join(sys.modules))").split()
    heavy = {
        "rasterio",
        "kwimage",
        "kwcoco",
        "av",
        "torch",
        "cv2",
        "tifffile",
        "imagecodecs",
        "click",
        "ubelt",
        "skimage",
        "dask",
        "xarray",
    }
    assert heavy.isdisjoint(loaded)


def test_import_is_quick():
    """Under 0.15 s beyond numpy: the best of five, since a busy machine only ever adds."""
    code = "import numpy, time; t = time.perf_counter(); import ndframes; print(time.perf_counter() - t)"
    assert min(float(run_python(code)) for _ in range(5)) < 0.15


def test_using_frames_directly_needs_no_heavy_library_until_something_is_opened():
    code = "import ndframes as nf, sys; nf.SimpleFrames({}, workdir='/nowhere'); print(' '.join(sys.modules))"
    assert {"rasterio", "kwimage", "kwcoco", "av", "torch", "cv2"}.isdisjoint(run_python(code).split())


def test_every_public_name_is_there_and_documented():
    for name in ndframes.__all__:
        if name != "__version__":
            assert getattr(ndframes, name).__doc__, name
    assert set(ndframes.__all__) <= set(dir(ndframes))


def test_an_unknown_name_says_so():
    with pytest.raises(AttributeError, match="frobnicate"):
        ndframes.frobnicate  # noqa: B018


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_nothing_is_cached_under_a_lock_that_a_fork_would_keep(path):
    """Before Python 3.12 that of a functools.cached_property is one for all instances, and held while a value is found."""
    assert "cached_property" not in path.read_text(encoding="utf-8")
