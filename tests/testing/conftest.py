"""One clean process to fork from, and one set of images, for all experiments of a worker."""

from __future__ import annotations

import pytest

from ndframes.testing.experiments.fork_server import ForkServer
from ndframes.testing.experiments.scene import Scene


@pytest.fixture(scope="session")
def fork_server():
    with ForkServer() as fork_server:
        yield fork_server


@pytest.fixture(scope="session")
def scene(tmp_path_factory):
    return Scene(str(tmp_path_factory.mktemp("scene"))).save()


@pytest.fixture
def report(record_property):
    """Hold the promises, and put the counts on record."""

    def hold(findings):
        print(findings, f"in {findings.seconds:.0f} s")
        record_property(findings.name, str(findings))
        assert not findings.skipped, findings.skipped
        assert findings.ok, str(findings)
        return findings.done

    return hold
