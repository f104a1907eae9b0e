"""The public validators of IIIF: what they find is what is expected."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import ndframes as nf
from ndframes.server import serve

SCRIPT = Path(__file__).parents[2] / "dev" / "validate_iiif.py"
NG_LINES = """
✗ Size greater than 100% (sizeUpscaling) [size_up]: An unexpected error occurred during the test execution
  Expected: Test to complete without error
✗ Size greater than 100% should only work with the ^ notation [size_noup]: Retrieving upscaled image with size='!2000,3000' succeeded but should have failed.
  URL: http://127.0.0.1:1/full/!2000,3000/0/default.jpg
Running tests... ━━━━ 100% ✓ 110 ✗ 2 98% passed
"""
OLD_LINES = """[1] test cors PASS
[2] test size_noup FAIL
  exception: ValidatorError.__init__() missing 3 required positional arguments: 'type'
[3] test size_wc PASS
Done (3 tests, 1 failures)
"""


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("validate_iiif", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_the_lines_of_the_validators(script):
    count, failures = script.parse_ng(NG_LINES)
    assert (count, [*failures]) == (112, ["size_up", "size_noup"])
    assert script.compare(failures, script.VALIDATORS["ng"].expected) == []
    count, failures = script.parse_old(OLD_LINES)
    assert (count, [*failures]) == (3, ["size_noup"])


def test_what_is_not_expected_is_told(script):
    expected = script.VALIDATORS["ng"].expected
    _, failures = script.parse_ng(NG_LINES)
    # Another check; the same one for another reason, and twice; and one that is mended.
    assert script.compare({**failures, "cors": "no header"}, expected) == ["cors: no header"]
    assert len(script.compare({**failures, "size_noup": "size='pct:200' succeeded"}, expected)) == 1
    _, twice = script.parse_ng(NG_LINES + "✗ Size [size_noup]: Retrieving upscaled image with size='9,9' succeeded\n")
    assert len(script.compare(twice, expected)) == 1
    assert script.compare({"size_up": failures["size_up"]}, expected) == ["size_noup passes; take it off the list"]


@pytest.mark.slow
def test_both_validators_in_environments_of_their_own(script, tmp_path):
    missing = [each.python for each in script.VALIDATORS.values() if script.find_python(each.python) is None]
    if missing:
        pytest.skip(f"needs Python {' and '.join(missing)}")
    try:
        for validator in script.VALIDATORS.values():
            script.ensure_environment(validator, tmp_path)
    except SystemExit as error:
        pytest.skip(f"the validators cannot be installed: {error}")
    done = subprocess.run(
        [sys.executable, SCRIPT, "--folder", tmp_path], capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_new_validator_in_this_environment(script, tmp_path):
    """Where it is installed: it needs Python 3.12."""
    validate = pytest.importorskip("iiif_validator.validate")
    from iiif_validator.tests.test import IIIFVersion, TargetServer, ValidationFailure

    image = Path(validate.__file__).with_name("validation_image.png")
    frames = nf.SimpleFrames({script.IMAGE_ID: image}, workdir=tmp_path / "work")
    with serve(frames, token=script.TOKEN, limits=script.LIMITS) as service:
        address = f"{service.address.partition('#')[0]}k/{script.TOKEN}/iiif"
        target = TargetServer(address, validation_id=script.IMAGE_ID, version=IIIFVersion.V3)
        passed, failures = 0, {}
        for check, found in validate.run_tests(target, max_threads=2):
            results = found if isinstance(found, list) else [found]
            details = [each.details for each in results if isinstance(each, ValidationFailure)]
            passed += len(results) - len(details)
            if details:
                failures[check.__module__.rpartition(".")[2]] = "; ".join(details)
    assert script.compare(failures, script.VALIDATORS["ng"].expected) == []
    assert passed > 100
