"""Run both public validators of the IIIF Image API 3.0 against a service of ndframes.

iiif-validator-ng (2025) and iiif-validator (2019) install a module of the same name and need different versions of Python, so each has an
environment of its own, which is made once. An image that they know is served on loopback. Both contradict the text of the API or their own
Python in some checks; those are listed here with the reason. The exit status is 0 if these checks fail and no others.

    python dev/validate_iiif.py --folder /var/tmp/validators
    python dev/validate_iiif.py --only ng
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ndframes as nf
from ndframes.server import ServiceLimits, serve

IMAGE_ID = "67352ccc-d1b0-11e1-89ae-279075081939"
TOKEN = "a-token-of-the-validators"
#: So that the largest picture of ^max is made quickly.
LIMITS = ServiceLimits(max_pixels=2000 * 2000)


@dataclass(frozen=True)
class Validator:
    """A validator.

    Attributes:
        name: for people.
        python: the version that it needs.
        packages: what is installed.
        make_command: its command line, from the folder of its programs and the address of the service.
        parse: from its output to the number of checks, and the failures by name.
        expected: the failures that are no faults of the service, with what the output says and the reason.
    """

    name: str
    python: str
    packages: Sequence[str]
    make_command: Callable[[Path, str], list[str]]
    parse: Callable[[str], tuple[int, dict[str, str]]]
    expected: Mapping[str, tuple[str, str]]


def make_ng_command(programs: Path, address: str) -> list[str]:
    return [str(programs / "iiif-validator"), f"{address}k/{TOKEN}/iiif"]


def parse_ng(text: str) -> tuple[int, dict[str, str]]:
    """Its exit status is always 0, so the lines are read; a check that fails twice has two lines."""
    passed, failed = (int(number) for number in re.findall(r"✓ (\d+) ✗ (\d+)", text)[-1])
    failures: dict[str, str] = {}
    for name, details in re.findall(r"^✗ .*?\[(\w+)\]: (.*)$", text, re.MULTILINE):
        failures[name] = f"{failures[name]}; {details}" if name in failures else details
    return passed + failed, failures


def make_old_command(programs: Path, address: str) -> list[str]:
    server = address.removeprefix("http://").rstrip("/")
    where = ["-s", server, "-p", f"k/{TOKEN}/iiif", "-i", IMAGE_ID]
    return [str(programs / "python"), str(programs / "iiif-validate.py"), *where, "--version=3.0", "--level", "3"]


def parse_old(text: str) -> tuple[int, dict[str, str]]:
    parts = re.split(r"^\[\d+\] test ", text, flags=re.MULTILINE)[1:]
    failures = {}
    for part in parts:
        name, verdict, details = re.match(r"(\w+) (PASS|FAIL)(.*)", part, re.DOTALL).groups()
        if verdict == "FAIL":
            failures[name] = " ".join(details.split())
    return len(parts), failures


_CRASH = "has no attribute 'urlopen'", "the validator calls a function of Python 2"
_ANGLE = "got: 501 expected: 200", "other angles are a feature that the service does not list"
VALIDATORS = {
    "ng": Validator(
        "iiif-validator-ng",
        "3.12",
        ("iiif-validator-ng==0.1.0", "pyvips-binary"),
        make_ng_command,
        parse_ng,
        {
            "size_noup": ("size='!2000,3000' succeeded", "the text wants the region's own size for !w,h beyond it"),
            "size_up": (
                "An unexpected error occurred during the test execution",
                "the text enlarges ^max up to the limits, which it takes for wrong, and its message of that crashes",
            ),
        },
    ),
    "old": Validator(
        "iiif-validator",
        "3.11",
        ("iiif-validator==1.0.5", "lxml", "bottle", "python-magic", "setuptools<81"),
        make_old_command,
        parse_old,
        {
            "format_gif": ("got: 400 expected: 200", "GIF is a format that the service does not list"),
            "format_jp2": _CRASH,
            "format_pdf": _CRASH,
            "format_webp": _CRASH,
            "rot_full_non90": _ANGLE,
            "rot_region_non90": _ANGLE,
            "size_noup": ("missing 3 required positional arguments", "as of the other one, and its error crashes"),
            "size_up": ("Failed to get max size while using the ^ notation", "as of the other one"),
        },
    ),
}


def find_python(version: str) -> str | None:
    """An interpreter of this version: this one, one on the path, or one of pyenv."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    managed = sorted(root.glob(f"versions/{version}.*/bin/python{version}"))
    # The programs that pyenv puts on the path are there for versions that are not selected, too.
    return str(managed[-1]) if managed else shutil.which(f"python{version}")


def ensure_environment(validator: Validator, folder: Path) -> Path | None:
    """The folder of the programs of a validator, which is installed unless it is there; ``None`` without its Python."""
    home = folder / validator.name
    programs = home / "bin"
    if (home / "ready").exists():
        return programs
    python = find_python(validator.python)
    if python is None:
        return None
    run([python, "-m", "venv", "--clear", str(home)])
    run(
        [
            str(programs / "python"),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            *validator.packages,
        ]
    )
    (home / "ready").touch()
    return programs


def find_image(programs: Path) -> Path:
    """The image of the validators, which the new one brings."""
    (path,) = programs.parent.glob("lib/python*/site-packages/iiif_validator/validation_image.png")
    return path


def run(command: Sequence[str]) -> str:
    """What a program writes. Its status says nothing: one validator ends with 0, the other with the number of failures."""
    # Lines of the new validator are cut at the width of the terminal.
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "2000"})
    if done.returncode and "-m" in command:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout + done.stderr


def compare(failures: Mapping[str, str], expected: Mapping[str, tuple[str, str]]) -> list[str]:
    """What is not as expected, for people."""
    unexpected = [
        f"{name}: {details}"
        for name, details in failures.items()
        if name not in expected or expected[name][0] not in details or ";" in details.replace(expected[name][0], "")
    ]
    return unexpected + [f"{name} passes; take it off the list" for name in expected if name not in failures]


def validate(validator: Validator, programs: Path, image: Path, workdir: Path) -> bool:
    """Run a validator; returns whether all is as expected."""
    frames = nf.SimpleFrames({IMAGE_ID: image}, workdir=workdir)
    with serve(frames, token=TOKEN, limits=LIMITS) as service:
        text = run(validator.make_command(programs, service.address.partition("#")[0]))
    count, failures = validator.parse(text)
    differences = compare(failures, validator.expected)
    print(f"{validator.name}: {count} checks, {len(failures)} fail, {len(validator.expected)} of them expected")
    for name in failures:
        print(f"  {name}: {validator.expected.get(name, ('', 'not expected'))[1]}")
    for line in differences:
        print(f"  UNEXPECTED {line}")
    return not differences and count > len(failures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, help="keep the environments here for later runs; default: a temporary folder"
    )
    parser.add_argument("--only", choices=VALIDATORS, help="run one of them")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ndframes-validators-") as scratch:
        folder = (options.folder or Path(scratch)).resolve()
        # The new one always: it brings the image.
        chosen = {
            name: ensure_environment(VALIDATORS[name], folder)
            for name in VALIDATORS
            if options.only in (None, name, "old")
        }
        missing = [
            f"{VALIDATORS[name].name} needs Python {VALIDATORS[name].python}"
            for name, at in chosen.items()
            if at is None
        ]
        if missing:
            raise SystemExit(f"not found: {'; '.join(missing)}")
        image = find_image(chosen["ng"])
        names = [name for name in chosen if options.only in (None, name)]
        results = [validate(VALIDATORS[name], chosen[name], image, Path(scratch) / "work") for name in names]
    raise SystemExit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
