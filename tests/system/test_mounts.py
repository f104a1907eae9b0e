"""Mounts: the kind of file system under a path, by the kernel's table."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ndframes.system import mounts
from ndframes.system.mounts import file_system_of, is_remote, is_remote_type

needs_a_table = pytest.mark.skipif(not os.path.exists("/proc/self/mountinfo"), reason="no table of mounts here")


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "mountinfo"
    path.write_text(
        "1 0 8:1 / / rw - ext4 /dev/vda rw\n"
        "2 1 0:40 / /data rw shared:7 - nfs4 server:/ rw\n"
        "3 2 0:41 / /data/my\\040disk rw - tmpfs tmpfs rw\n"
        "4 1 0:42 / /a\\134b\\011c rw master:1 propagate_from:2 - fuse.sshfs me@there: rw\n"
        "5 1 0:43 / /twice rw - xfs /dev/vdb rw\n"
        "6 5 0:44 / /twice rw - cifs //server/share rw\n"
    )
    return path


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/home/a", "ext4"),
        ("/data", "nfs4"),
        ("/data/x", "nfs4"),
        ("/data/my disk/y", "tmpfs"),
        ("/data/my", "nfs4"),
        ("/database", "ext4"),
        ("/data/../home", "ext4"),
        ("/a\\b\tc/d.tif", "fuse.sshfs"),
        ("/twice/a", "cifs"),
    ],
)
def test_the_longest_mount_point_above_a_path_says(table, path, kind):
    assert file_system_of(path, table) == kind
    assert file_system_of(Path(path), table) == kind


def test_links_are_followed(table, tmp_path):
    (tmp_path / "link").symlink_to("/data/x")
    assert file_system_of(str(tmp_path / "link"), table) == "nfs4"


def test_nobody_says(table, tmp_path):
    assert file_system_of("/", tmp_path / "no table") is None
    (tmp_path / "loop").symlink_to("loop")
    assert file_system_of(tmp_path / "loop", table) in (None, "ext4")  # Python 3.13 leaves a loop as it is


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "9p", "lustre", "fuse", "fuse.sshfs", "fuseblk"])
def test_what_another_machine_or_program_answers_for(kind):
    assert is_remote_type(kind)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "apfs", "nfsd", "", None])
def test_what_this_machine_answers_for(kind):
    assert not is_remote_type(kind)


@needs_a_table
def test_the_real_table():
    assert file_system_of("/proc/self/status") == "proc"
    assert not is_remote("/proc/self/status")


@pytest.mark.parametrize("path", ["/no/such/file", "", "a\0b"])
def test_nothing_is_not_remote(path):
    assert is_remote(path) is False


@needs_a_table
def test_the_table_is_read_once_for_each_file_system(tmp_path):
    paths = [tmp_path / f"{number}.npy" for number in range(20)]
    for path in paths:
        path.touch()
    mounts._type_at.cache_clear()
    answers = {is_remote(path) for path in paths} | {is_remote(str(path)) for path in paths}
    assert answers == {is_remote_type(file_system_of(tmp_path))}
    assert mounts._type_at.cache_info().misses == 1
    assert is_remote("/proc/self/status") is False
    assert mounts._type_at.cache_info().misses == 2
