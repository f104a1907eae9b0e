"""A disk that corrupts every entry."""

from __future__ import annotations

from ndframes.testing.experiments.rot import corrupt_every_entry


def test_the_source_is_read_after_two_corrupted_entries(fork_server, images, tmp_path, check):
    counts = check(corrupt_every_entry(fork_server, images, str(tmp_path)))
    assert counts["corrupted entries"] == counts["conversions"]
    assert counts["conversions"] > 3 * 10  # more than one for each image, form and kind of corruption
