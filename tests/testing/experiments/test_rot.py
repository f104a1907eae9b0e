"""A disk that damages everything: the source's pixels all the same, after two conversions at most."""

from __future__ import annotations

from ndframes.testing.experiments.rot import damage_always


def test_everything_is_damaged(fork_server, scene, tmp_path, report):
    done = report(damage_always(fork_server, scene, str(tmp_path)))
    assert done["damaged entries"] == done["conversions"]
    assert done["conversions"] > 3 * 10  # in most cases it is tried twice
