"""Every example of the README and the documentation runs and prints what its page shows.

A page is one session: its ``>>>`` examples and console blocks run in order, in one empty folder and one namespace. Runs of
blanks compare as one, and ``...`` matches any text.
"""

from __future__ import annotations

import ast
import doctest
import inspect
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ndframes
import ndframes.errors

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.rst", ROOT / "CHANGELOG.rst", *sorted((ROOT / "docs").glob("*.rst"))]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
COLUMN = 100  # characters of code in a line of the HTML pages; docs/_static/ndframes.css makes room for them

CODE_BLOCK = re.compile(
    r"^(?P<indent> *)\.\. code-block:: (?P<language>\S+)\n(?P<body>(?:(?P=indent) +.*\n|\s*\n)*)", re.M
)
COMMAND = re.compile(r"^\$ (?P<command>(?:.*\\\n)*.*\n)(?P<want>(?:(?!\$ ).*\n)*)", re.M)


def dedent(body: str) -> str:
    lines = body.split("\n")
    indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return "\n".join(line[indent:] for line in lines)


def examples_of(text: str) -> list[doctest.Example]:
    """Return the page's examples in order; a console command becomes a call of ``run_command``."""
    examples = doctest.DocTestParser().get_examples(text)
    for block in CODE_BLOCK.finditer(text):
        if block["language"] != "console":
            continue
        first_line = text.count("\n", 0, block.start("body"))
        body = dedent(block["body"])
        for found in COMMAND.finditer(body):
            source = f"print(run_command({found['command']!r}), end='')\n"
            lineno = first_line + body.count("\n", 0, found.start())
            examples.append(doctest.Example(source, found["want"], lineno=lineno))
    return sorted(examples, key=lambda example: example.lineno)


def run_command(command: str) -> str:
    """Run a command and return its output; a non-zero exit status is an error."""
    prelude = f'ndframes() {{ "{sys.executable}" -m ndframes "$@"; }}\n'
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", prelude + command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "100"},
    )
    if done.returncode:
        raise AssertionError(f"exit status {done.returncode}\n{done.stdout}")
    return done.stdout


def run_page(text: str, name: str) -> list[str]:
    """Run a page; return a report for each example that failed."""
    session = doctest.DocTest(examples_of(text), {"run_command": run_command}, name, name, 0, text)
    complaints: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(session, out=complaints.append)
    return complaints


@pytest.fixture
def session(tmp_path, monkeypatch):
    """Run in an empty folder, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NDFRAMES_WORKDIR", str(tmp_path / "workdir"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_prints_what_it_shows(page, session):
    complaints = run_page(page.read_text(), page.name)
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize(
    "page",
    [
        "README",
        "quickstart",
        "regions",
        "channels",
        "backends",
        "sources",
        "video",
        "movies",
        "prepare",
        "cli",
        "design",
    ],
)
def test_a_page_has_examples(page):
    path = ROOT / "README.rst" if page == "README" else ROOT / "docs" / f"{page}.rst"
    assert len(examples_of(path.read_text())) >= 3


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_code_escapes_the_run(page):
    """Python is shown as a session and commands in console blocks; bash blocks contain only installation steps."""
    for block in CODE_BLOCK.finditer(page.read_text()):
        assert block["language"] in {"pycon", "console", "bash", "text"}
        if block["language"] == "pycon":
            assert block["body"].strip().startswith(">>>")
        if block["language"] == "bash":
            for line in dedent(block["body"]).split("\n"):
                assert re.match(r"(bash dev/|pip install |git clone |cd |#|$)", line), line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_fits_the_column(page):
    """A longer line would scroll sideways in a browser window of 1280 pixels."""
    for block in CODE_BLOCK.finditer(page.read_text()):
        for line in dedent(block["body"]).split("\n"):
            assert len(line) <= COLUMN, line


def test_examples_of_the_reference_fit_the_column():
    public = [getattr(ndframes, name) for name in ndframes.__all__]
    members = [getattr(value, name) for value in public if isinstance(value, type) for name in vars(value)]
    for documented in [*public, *members]:
        for example in doctest.DocTestParser().get_examples(inspect.getdoc(documented) or ""):
            for line in f">>> {example.source}{example.want}".split("\n"):
                assert len(line) <= COLUMN, line


@pytest.mark.parametrize("page", ["channels", "movies"])
def test_the_pictures_of_a_page_are_those_that_its_code_makes(session, tmp_path, page):
    """``python docs/PAGE/make.py`` makes them again after an intended change."""
    text = (ROOT / "docs" / f"{page}.rst").read_text()
    assert run_page(text, page) == []
    shown = set(re.findall(rf"image:: {page}/(\S+)", text))
    folder = ROOT / "docs" / page
    assert (
        shown == {path.name for path in folder.glob("*.png")} == {path.name for path in tmp_path.glob(f"{page}/*.png")}
    )
    for name in shown:
        kept, made = (np.asarray(Image.open(place / name), int) for place in (folder, tmp_path / page))
        assert kept.shape == made.shape, name
        assert np.abs(kept - made).max() <= 1, name  # OpenCV and numpy round halves differently


def test_the_picture_of_the_first_screen_is_what_its_script_draws():
    """``python docs/pictures/make.py`` draws it again, after an intended change."""
    path = ROOT / "docs" / "pictures" / "patches.png"
    assert path.stat().st_size < 50_000
    kept = np.asarray(Image.open(path).convert("RGB"), int)
    drawn = runpy.run_path(str(path.with_name("make.py")))["draw"]()
    assert kept.shape == drawn.shape
    assert np.abs(kept - drawn).max() < 100  # its 64 colours come as close as 79; an outline elsewhere differs by 200


def test_the_figures_of_the_first_screen_are_measured():
    results = json.loads((ROOT / "dev" / "bench" / "results" / "crops.json").read_text())["results"]
    measured = {row["contender"]: row.get("median_us") for row in results if row["crop_px"] == 256}
    text = (ROOT / "README.rst").read_text().partition("What it offers")[0]
    figures = [float(number) for number in re.findall(r"([\d.]+) µs", text.replace("*", ""))]
    expected = [measured[name] for name in ("ndframes none", "rasterio none", "ndframes auto")]
    assert figures == pytest.approx(expected, rel=0.005)


def test_scripts_and_extras_that_pages_name_are_there():
    listing = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    extras = set(re.findall(r"^(\w+) = \[", listing, re.M))
    text = "".join(page.read_text() for page in PAGES)
    scripts = set(re.findall(r"dev/\w+\.sh", text))
    assert {"dev/demo.sh", "dev/test.sh"} <= scripts
    assert all((ROOT / script).is_file() for script in scripts)
    named = {extra for group in re.findall(r"(?:ndframes|\.)\[(\w[\w,]*)\]", text) for extra in group.split(",")}
    assert "demo" in named
    assert named <= extras


def test_every_public_name_stands_in_the_reference():
    text = (ROOT / "docs" / "api.rst").read_text()
    documented = set(re.findall(r"^\.\. auto(?:class|function):: ndframes\.(\w+)$", text, re.M))
    assert ".. automodule:: ndframes.errors\n   :members:\n" in text
    assert documented == set(ndframes.__all__) - {"__version__", *ndframes.errors.__all__}


def test_each_line_of_the_table_of_other_packages_is_an_example():
    """So it runs with the page."""
    text = (ROOT / "docs" / "video.rst").read_text()
    cells = re.findall(r"^   \* - .*\n(?:       .*\n)*     - .*\n(?:       .*\n)*     - (.*)\n", text, re.M)
    lines = [cell.strip("`") for cell in cells if cell != "Here"]
    assert len(lines) == 11
    sources = [example.source.strip() for example in examples_of(text)]
    for line in lines:
        assert any(line == source or repr(f"{line}\n") in source for source in sources), line


def test_every_page_is_in_the_table_of_contents():
    index = (ROOT / "docs" / "index.rst").read_text()
    for page in (ROOT / "docs").glob("*.rst"):
        assert page.stem == "index" or re.search(rf"^   {page.stem}$", index, re.M), page.name


def test_the_design_page_lists_every_package_on_its_floor():
    source = (ROOT / "tests" / "whole" / "test_architecture.py").read_text()
    text = (ROOT / "docs" / "design.rst").read_text()
    rows = re.findall(r"^(\d+) +(``\w+``(?:, ``\w+``)*) ", text, re.M)
    listed = {name.strip("`"): int(floor) for floor, names in rows for name in names.split(", ")}
    floors = run_floors(source)
    assert listed == {name: floor for name, floor in floors.items() if not name.startswith("__")}
    assert len(rows) <= 20


def run_floors(source: str) -> dict[str, int]:
    """The floors as ``test_architecture.py`` states them."""
    names: dict[str, object] = {}
    for node in ast.parse(source).body:
        targets = [target.id for target in getattr(node, "targets", ()) if isinstance(target, ast.Name)]
        if {"GROUND", "FLOORS", "_BASE", "_UP_TO_ENTRIES", "_UP_TO_FRAMES"} & {*targets}:
            exec(ast.unparse(node), names)
    return {package: floor for package, (floor, _) in names["FLOORS"].items()}


PAGE = """
A page with a session, a command and a second one.

.. code-block:: pycon

   >>> value = {value}
   >>> print(f"value   is {{value}} at 12:34")
   value is 1 at ...

.. code-block:: console

   $ echo made > file.txt
   $ cat \\
       file.txt
   {word}

And after it:

   >>> from pathlib import Path; Path("file.txt").read_text()
   'made\\n'
"""


def test_the_runner_takes_a_page_in_order(session):
    assert len(examples_of(PAGE)) == 5
    assert run_page(PAGE.format(value=1, word="made"), "page") == []


@pytest.mark.parametrize(("change", "reported"), [({"value": 2}, "value   is 2"), ({"word": "lost"}, "made")])
def test_the_runner_sees_a_difference(session, change, reported):
    complaints = run_page(PAGE.format(**{"value": 1, "word": "made", **change}), "page")
    assert len(complaints) == 1
    assert reported in complaints[0]


def test_the_runner_sees_a_command_that_fails(session):
    complaints = run_page(".. code-block:: console\n\n   $ exit 3\n", "page")
    assert "exit status 3" in complaints[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_tests_and_scripts_that_a_page_names_exist(page):
    named = set(re.findall(r"\b(?:tests|dev)/[\w/]+\.(?:py|sh)\b", page.read_text()))
    assert not [name for name in sorted(named) if not (ROOT / name).exists() and "TOPIC" not in name]
