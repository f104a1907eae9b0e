"""Every workdir of a test run in an object store: the tests of images, channels and videos then run over a remote cache.

``NDFRAMES_TEST_STORE=1 bash dev/test.sh tests/frames`` does it; with ``NDFRAMES_TEST_STORE=tier``, all of them share a local tier.
Tests that look at the files of a cache on the disk fail then.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

import ndframes as nf
from ndframes.cache.remote.cache import RemoteCache
from ndframes.system.objects.addresses import is_url

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

__all__ = ["ON_DISK", "place_workdirs"]
#: Tests that look at the files of a cache, are about options for a disk, or count descriptors or requests, to which connections to a store add.
ON_DISK = (
    "test_a_backend_per_channel",
    "test_a_budget_that_cannot_hold_the_result",
    "test_a_damaged_entry_is_replaced_during_a_batch",
    "test_a_damaged_index_is_made_again",
    "test_a_damaged_overview_is_made_again_or_computed_from_the_source",
    "test_a_killed_worker_is_an_error",
    "test_a_tilde_is_the_home_folder",
    "test_a_workdir_is_a_path",
    "test_an_entry_removed_during_a_batch",
    "test_an_etag_that_is_no_digest_costs_a_second_read_and_no_more",
    "test_an_image_over_the_limits_fails_alone",
    "test_an_isolated_crash_costs_a_read_not_the_process",
    "test_ctrl_c_converts_no_more_than_what_has_begun",
    "test_ctrl_c_leaves_nothing_half_written_and_a_rerun_resumes",
    "test_dask_does_not_repeat_an_earlier_error",
    "test_early_exit_and_forgotten_iterators_leave_nothing",
    "test_entries_keep_the_georeference",
    "test_entries_removed_between_batches_are_made_again",
    "test_files_without_a_georeference_get_none",
    "test_nothing_is_read_before_it_is_computed",
    "test_one_entry_serves_both",
    "test_other_futures_are_refused_before_anything_is_submitted",
    "test_stored_overviews_of_masks_keep_the_area_too",
    "test_workers",
)


def place_workdirs(patch: pytest.MonkeyPatch, bucket: str, tier: Path | None = None) -> None:
    """Make each cache whose workdir is a folder one in the bucket, at a place that only this folder has.

    Args:
        patch: undoes it.
        bucket: where the entries are.
        tier: the local tier of caches that name none.
    """

    def make(cls: type[nf.Cache], workdir: Any, **options: Any) -> nf.Cache:
        return object.__new__(RemoteCache if cls is nf.Cache else cls)

    def begin(self: RemoteCache, workdir: Any, **options: Any) -> None:
        if not is_url(workdir):
            workdir = f"{bucket}/{_name_of(workdir)}"
            options["local_tier"] = options.get("local_tier") or tier
        init(self, workdir, **options)

    init = RemoteCache.__init__
    patch.setattr(nf.Cache, "__new__", make)
    patch.setattr(RemoteCache, "__init__", begin)


def _name_of(folder: Any) -> str:
    return hashlib.blake2b(os.path.abspath(os.fsdecode(folder)).encode(), digest_size=12).hexdigest()
