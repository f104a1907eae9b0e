"""Fixtures of the experiments: one fork server and one set of images for each test process."""

from __future__ import annotations

import pytest

from ndframes.testing.experiments.fork_server import ForkServer
from ndframes.testing.experiments.images import SyntheticImages


@pytest.fixture(scope="session")
def fork_server():
    with ForkServer() as fork_server:
        yield fork_server


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    return SyntheticImages(str(tmp_path_factory.mktemp("images"))).save()


@pytest.fixture
def check(record_property):
    """Assert that an experiment found no violations, record its counts, and return them."""

    def check_result(result):
        print(result, f"in {result.seconds:.0f} s")
        record_property(result.name, str(result))
        assert not result.skipped, result.skipped
        assert result.ok, str(result)
        return result.counts

    return check_result
