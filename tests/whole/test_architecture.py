"""The layout: which packages a package may import, how long code may be, and what ``import ndframes`` loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

import ndframes

PACKAGE = Path(ndframes.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

#: Modules without dependencies, which every package may import.
GROUND = ("errors", "text", "_lazy", "_typing", "_version")
_BASE = ("geometry", "spec", "system")
_UP_TO_ENTRIES = ("cache", "video", "formats", "pixels", *_BASE)
_UP_TO_FRAMES = ("items", "entries", *_UP_TO_ENTRIES)
#: The floor of each package, and the packages that its modules may import besides their own and the ground.
FLOORS = {
    **dict.fromkeys(GROUND, (1, ())),
    **dict.fromkeys(_BASE, (2, ())),
    "pixels": (3, _BASE),
    "formats": (3, _BASE),
    "cache": (3, ("spec", "system")),
    "video": (4, ("formats", *_BASE)),
    "entries": (5, _UP_TO_ENTRIES),
    "items": (6, ("entries", *_UP_TO_ENTRIES)),
    "frames": (7, _UP_TO_FRAMES),
    "movie": (8, ("frames", *_UP_TO_FRAMES)),
    "feed": (8, ("frames", *_UP_TO_FRAMES)),
    "testing": (8, ("frames", *_UP_TO_FRAMES)),
    "server": (8, ("frames", *_UP_TO_FRAMES)),
    "stream": (9, ("server", "feed", "movie", "frames", *_UP_TO_FRAMES)),
    "torch": (9, ("feed", "movie", "frames", *_UP_TO_FRAMES)),
    "compat": (10, ("torch", "stream", "feed", "movie", "frames", *_UP_TO_FRAMES)),
    "cli": (11, ("testing", "server", "stream", "feed", "movie", "frames", *_UP_TO_FRAMES)),
    "__init__": (11, ("server", "movie", "frames", *_UP_TO_FRAMES)),
}

#: Heavy libraries, and the only places that may import them.
HOMES = {
    "rasterio": {"formats/images"},
    "tifffile": {"formats"},
    "imagecodecs": {"formats", "pixels"},
    "kwimage": {"formats", "frames/coco.py", "cli", "compat"},
    "PIL": {"formats", "pixels"},
    "kwcoco": {"frames/coco.py"},
    "delayed_image": {"compat"},
    "ndsampler": set(),
    "cv2": {"formats", "pixels"},
    "av": {"video"},
    "torch": {"torch", "compat/pvio"},
    "starlette": {"server"},
    "uvicorn": {"server"},
    "obstore": {"system"},
    "yaml": {"stream"},
    "click": {"cli"},
    "skimage": set(),
    "dask": {"frames"},
    "xarray": {"frames"},
    "ray": {"frames/ray_executor.py"},
    "pde": {"compat"},
    "matplotlib": {"compat"},
}

#: The packages that define names; all others are empty, so that importing one module loads no others.
NOT_EMPTY = (
    "__init__.py",
    "cli/__init__.py",
    "feed/__init__.py",
    "server/__init__.py",
    "stream/__init__.py",
    "torch/__init__.py",
    "compat/pvio/__init__.py",
    "compat/stream_infer/__init__.py",
)

MOST_LEVELS = 11
MOST_LINES_OF_A_FILE = 600
MOST_LINES_OF_A_CLASS = 400
MOST_LINES_OF_A_FUNCTION = 50


def place_of(file: Path) -> str:
    return file.relative_to(PACKAGE).as_posix()


def package_of(file: Path) -> str:
    name = place_of(file).partition("/")[0].removesuffix(".py")
    return "cli" if name == "__main__" else name


def find_module(dotted: str) -> Path | None:
    """The file of a module of this package; ``None`` for others."""
    path = PACKAGE.joinpath(*dotted.split(".")[1:])
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.exists() and dotted.split(".", maxsplit=1)[0] == "ndframes":
            return file
    return None


@cache
def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def imports_of(file: Path) -> frozenset[str]:
    """Dotted names of all modules that a file imports, including imports in functions and for annotations."""
    package = ["ndframes", *file.relative_to(PACKAGE).parts[:-1]]
    found = set()
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                is_module = find_module(f"{stem}.{alias.name}") is not None
                found.add(f"{stem}.{alias.name}" if is_module else stem)
    return frozenset(found)


def own_imports_of(file: Path) -> list[Path]:
    modules = [find_module(name) for name in sorted(imports_of(file))]
    return [module for module in modules if module is not None and module != file]


by_place = pytest.mark.parametrize("file", FILES, ids=place_of)


@by_place
def test_a_module_imports_only_what_its_package_may(file):
    own = package_of(file)
    allowed = {own, *GROUND, *FLOORS[own][1]}
    for module in own_imports_of(file):
        assert package_of(module) in allowed, f"{place_of(file)} imports {place_of(module)}"


def test_a_package_may_import_only_lower_floors():
    for package, (floor, allowed) in FLOORS.items():
        assert all(FLOORS[other][0] < floor for other in allowed), package
    assert max(floor for floor, _ in FLOORS.values()) <= MOST_LEVELS


def test_no_two_modules_import_each_other():
    """Directly or through others, including imports in functions and for annotations."""
    done: set[Path] = set()

    def visit(file: Path, path: tuple[Path, ...]) -> None:
        assert file not in path, " -> ".join(place_of(item) for item in (*path[path.index(file) :], file))
        if file not in done:
            for module in own_imports_of(file):
                visit(module, (*path, file))
            done.add(file)

    for file in FILES:
        visit(file, ())


@by_place
def test_a_heavy_library_is_imported_in_its_home_only(file):
    for name in imports_of(file):
        homes = HOMES.get(name.split(".")[0])
        assert homes is None or any(place_of(file).startswith(home) for home in homes), name


def lines_of(node: ast.AST) -> int:
    return node.end_lineno - node.lineno + 1


def lines_of_body(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without signature and docstring."""
    has_docstring = ast.get_docstring(node, clean=False) is not None
    body = node.body[1:] if has_docstring else node.body
    return node.end_lineno - body[0].lineno + 1 if body else 0


@by_place
def test_nothing_is_too_long(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= MOST_LINES_OF_A_FILE
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.ClassDef):
            assert lines_of(node) <= MOST_LINES_OF_A_CLASS, node.name
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert lines_of_body(node) <= MOST_LINES_OF_A_FUNCTION, node.name


def test_every_package_has_a_floor():
    assert {package_of(file) for file in FILES} == set(FLOORS)


def test_packages_are_empty_but_for_a_docstring():
    for file in FILES:
        if file.name == "__init__.py" and place_of(file) not in NOT_EMPTY:
            assert len(parse(file).body) <= 1, place_of(file)


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
        "starlette",
        "uvicorn",
    }
    assert heavy.isdisjoint(loaded)


def test_import_is_quick():
    """Under 0.15 s of processor time beyond numpy: the best of three, since other load can only add to it."""
    code = "import numpy, time; t = time.process_time(); import ndframes; print(time.process_time() - t)"
    assert min(float(run_python(code)) for _ in range(3)) < 0.15


def test_using_frames_directly_needs_no_heavy_library_until_something_is_opened():
    code = "import ndframes as nf, sys; nf.SimpleFrames({}, workdir='/nowhere'); print(' '.join(sys.modules))"
    assert {"rasterio", "kwimage", "kwcoco", "av", "torch", "cv2"}.isdisjoint(run_python(code).split())


def test_every_public_name_is_there_and_documented():
    for name in ndframes.__all__:
        if name != "__version__":
            assert getattr(ndframes, name).__doc__, name
    assert set(ndframes.__all__) <= set(dir(ndframes))


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="frobnicate"):
        ndframes.frobnicate  # noqa: B018


@by_place
def test_nothing_is_cached_under_a_lock_that_a_fork_would_keep(file):
    """Before Python 3.12 all instances share the lock of a functools.cached_property, which holds it while computing."""
    assert "cached_property" not in file.read_text(encoding="utf-8")


def test_the_names_of_test_files_are_unique():
    """pytest imports two modules of one name as one."""
    counts = Counter(path.name for path in Path(__file__).parents[1].rglob("test_*.py"))
    assert [name for name, count in counts.items() if count > 1] == []
