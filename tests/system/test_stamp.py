"""Stamps: what a file is, and a typed error in no time for everything that is no file."""

from __future__ import annotations

import errno
import os
import pickle
import socket
import time

import numpy as np
import pytest
from kit.waiting import within

from ndframes.errors import (
    SourceAccessError,
    SourceChangedError,
    SourceError,
    SourceKindError,
    SourceMissingError,
    UnreadableImageError,
)
from ndframes.system.stamp import (
    SourceStamp,
    require_same_file,
    source_error,
    stamp_of,
    stat_source,
)


@pytest.fixture(autouse=True)
def in_no_time():
    with within(1):
        yield


def test_a_stamp_says_what_stat_says(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"12345")
    os.utime(path, ns=(1, 1_600_000_000_123_456_789))
    status = path.stat()
    stamp = stat_source(str(path))
    assert stamp == SourceStamp(status.st_dev, status.st_ino, 5, 1_600_000_000_123_456_789, status.st_ctime_ns)
    assert pickle.loads(pickle.dumps(stamp)) == stamp
    assert hash(stamp) == hash(stat_source(str(path)))


def test_a_link_is_what_it_links_to(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("a.bin")
    assert stat_source(str(tmp_path / "link")) == stat_source(str(tmp_path / "a.bin"))


def test_a_new_file_of_the_old_name_has_another_stamp(tmp_path):
    """With size and mtime set back, as rsync and tar do, inode and ctime still differ."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"12345")
    old = stat_source(str(path))
    time.sleep(0.02)
    other = tmp_path / "b.bin"
    other.write_bytes(b"54321")
    os.utime(other, ns=(old.mtime_ns, old.mtime_ns))
    other.replace(path)
    new = stat_source(str(path))
    assert (new.size_bytes, new.mtime_ns) == (old.size_bytes, old.mtime_ns)
    assert new != old


def test_an_edit_in_place_has_another_stamp(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"12345")
    old = stat_source(str(path))
    time.sleep(0.02)
    with path.open("r+b") as file:
        file.write(b"9")
    os.utime(path, ns=(old.mtime_ns, old.mtime_ns))
    new = stat_source(str(path))
    assert new.ctime_ns > old.ctime_ns
    assert new._replace(ctime_ns=old.ctime_ns) == old


# -- the same file ------------------------------------------------------------------------------------------------


def test_an_open_file_has_the_stamp_of_its_path(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"12345")
    with path.open("rb") as file:
        assert stamp_of(os.fstat(file.fileno())) == stat_source(str(path))
        path.unlink()
        path.write_bytes(b"12345")
        assert not stamp_of(os.fstat(file.fileno())).is_same_file(stat_source(str(path)))


def test_a_link_or_a_mode_leaves_a_file_the_same(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"12345")
    old = stat_source(str(path))
    time.sleep(0.02)
    (tmp_path / "other").hardlink_to(path)
    path.chmod(0o400)
    new = stat_source(str(path))
    assert new != old
    assert new.is_same_file(old)
    assert old.is_same_file(new)


@pytest.mark.parametrize("field", ["device", "inode", "size_bytes", "mtime_ns"])
def test_anything_else_makes_it_another(field):
    stamp = SourceStamp(1, 2, 3, 4, 5)
    other = stamp._replace(**{field: 9})
    assert stamp.is_same_file(stamp)
    assert not stamp.is_same_file(other)
    assert not other.is_same_file(stamp)


@pytest.fixture
def stamped(tmp_path):
    """A file, a replacement for it, and the stamp of the file."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"12345")
    return path, stat_source(str(path))


def replace_file(path):
    path.with_name("new").write_bytes(b"54321")
    path.with_name("new").replace(path)


def remove_file(path):
    path.unlink()


def make_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("change", [replace_file, remove_file, make_folder])
@pytest.mark.parametrize("error", [None, UnreadableImageError("garbage")], ids=["fine", "failed"])
def test_another_file_is_told_whatever_came_of_it(stamped, change, error):
    path, stamp = stamped

    def open_meanwhile() -> None:
        change(path)
        if error is not None:
            raise error

    with (
        pytest.raises(SourceChangedError, match="a.bin was replaced or removed since it was opened"),
        require_same_file(str(path), stamp),
    ):
        open_meanwhile()
    ran = False
    with pytest.raises(SourceChangedError), require_same_file(str(path), stamp):
        ran = True
    assert not ran


def test_the_same_file_lets_everything_pass(stamped):
    path, stamp = stamped
    with require_same_file(str(path), stamp):
        assert path.read_bytes() == b"12345"
    with pytest.raises(LookupError, match="mine"), require_same_file(str(path), stamp):
        raise LookupError("mine")


def test_without_a_stamp_nothing_is_asked():
    with require_same_file("/no/such/file", None):
        pass


def test_a_file_that_may_be_gone_may_not_be_another(stamped):
    path, stamp = stamped
    path.unlink()
    with require_same_file(str(path), stamp, may_be_gone=True):
        pass
    for change in (lambda: path.write_bytes(b"a longer one"), lambda: (path.unlink(), path.mkdir())):
        change()
        with pytest.raises(SourceChangedError), require_same_file(str(path), stamp, may_be_gone=True):
            pass


def test_an_interrupt_stays_an_interrupt(stamped):
    path, stamp = stamped

    def interrupt() -> None:
        path.unlink()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), require_same_file(str(path), stamp):
        interrupt()


# -- settled ------------------------------------------------------------------------------------------------------

SECOND = 10**9


@pytest.mark.parametrize(
    ("changed", "now", "is_settled"),
    [
        (10.0, 11.999, False),
        (10.0, 12.0, True),
        (10.0, 10.0, False),
        (10.0, 9.0, False),
        (10.0, 5.0, False),
        (0.0, 99.0, True),
    ],
)
def test_a_stamp_settles_two_seconds_after_the_last_change(changed, now, is_settled):
    stamp = SourceStamp(1, 2, 3, mtime_ns=0, ctime_ns=int(changed * SECOND))
    assert stamp.is_settled(int(now * SECOND)) is is_settled


@pytest.mark.skipif(os.name != "posix", reason="ctime is the time of creation here")
@pytest.mark.parametrize("hours", [-500_000, 0, 1], ids=["long ago", "now", "in an hour"])
def test_a_time_that_was_set_by_hand_does_not_settle_a_file(tmp_path, hours):
    path = tmp_path / "a.bin"
    path.write_bytes(b"12345")
    now_ns = time.time_ns()
    os.utime(path, ns=(now_ns, now_ns + hours * 3600 * SECOND))
    stamp = stat_source(str(path))
    assert not stamp.is_settled(now_ns)
    assert stamp.is_settled(now_ns + 3 * SECOND)


# -- what is no file ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["missing.tif", "no/such/folder/a.tif", "file/below.tif", "dangling", "empty/"])
def test_nothing_there(tmp_path, name):
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "dangling").symlink_to("nowhere")
    path = str(tmp_path / name)
    with pytest.raises(SourceMissingError, match="does not exist; check the path") as caught:
        stat_source(path)
    assert str(caught.value).startswith(path)
    assert isinstance(caught.value, FileNotFoundError)
    assert caught.value.errno in (errno.ENOENT, errno.ENOTDIR)
    assert isinstance(caught.value.__cause__, OSError)
    assert pickle.loads(pickle.dumps(caught.value)).errno == caught.value.errno


def test_a_relative_path_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceMissingError) as caught:
        stat_source("missing.tif")
    assert str(caught.value) == f"missing.tif does not exist; check the path (relative to {tmp_path})"


def test_a_working_directory_that_is_gone(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(SourceMissingError, match="relative to a working directory that was removed"):
        stat_source("missing.tif")


def make_socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)


@pytest.mark.parametrize(
    ("make", "kind"),
    [(os.mkdir, "a directory"), (os.mkfifo, "a FIFO"), (make_socket, "a socket")],
    ids=["mkdir", "mkfifo", "socket"],
)
@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_file_is_named(tmp_path, monkeypatch, make, kind, linked):
    monkeypatch.chdir(tmp_path)  # a socket's path may only be short
    make("thing")
    os.symlink("thing", "link")
    with pytest.raises(SourceKindError, match=f"is {kind}; give the path of an image file"):
        stat_source("link" if linked else "thing")


@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero"])
def test_a_device(path):
    with pytest.raises(SourceKindError, match=f"^{path} is a character device"):
        stat_source(path)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("a" * 300, "too long"),
        ("/" + "a/" * 5000, "too long"),
        ("a\0b.tif", "null"),
        ("loop", "symbolic links"),
        ("loop/a.tif", "symbolic links"),
    ],
    ids=["name", "path", "null", "loop", "below a loop"],
)
def test_a_path_that_the_system_refuses(tmp_path, monkeypatch, path, says):
    monkeypatch.chdir(tmp_path)
    os.symlink("loop", "loop")
    with pytest.raises(SourceError, match=f"cannot be read: .*{says}") as caught:
        stat_source(path)
    assert type(caught.value) is SourceError


def test_an_empty_path_is_missing():
    with pytest.raises(SourceMissingError, match="does not exist"):
        stat_source("")


def test_a_name_of_stray_bytes(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff\xfe.tif"
    with pytest.raises(SourceMissingError) as caught:
        stat_source(os.fsdecode(path))
    assert "\udcff\udcfe.tif" in str(caught.value)
    with open(path, "wb") as file:
        file.write(b"abc")
    assert stat_source(os.fsdecode(path)).size_bytes == 3


def as_nobody(check) -> str:
    """The result of ``check`` in a forked child that is not root, because file modes do not apply to root."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(read_end)
            if os.getuid() == 0:
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
            os.write(write_end, check().encode())
        except BaseException as error:
            os.write(write_end, f"unexpected: {error!r}".encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as file:
        said = file.read().decode()
    os.waitpid(child, 0)
    return said


@pytest.fixture
def open_folder(tmp_path, monkeypatch):
    """A working directory that every user may search; relative paths do not depend on the folders above it."""
    tmp_path.chmod(0o711)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_permission_denied_on_the_way(open_folder):
    locked = open_folder / "locked"
    locked.mkdir()
    (locked / "a.tif").write_bytes(b"x")
    locked.chmod(0)

    def check() -> str:
        try:
            stat_source("locked/a.tif")
        except SourceAccessError as error:
            return f"{error.errno} {isinstance(error, PermissionError)} {error}"
        return "no error"

    try:
        said = as_nobody(check)
    finally:
        locked.chmod(0o700)
    denied = "locked/a.tif cannot be read by this user (permission denied); check its mode and folders"
    assert said == f"{errno.EACCES} True {denied}"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_permission_denied_on_the_file_itself(open_folder):
    """A file that may be statted but not read gives the same error for every way to open it."""
    import ndframes as nf

    for name in ("a.npy", "b.npy"):
        np.save(name, np.zeros((4, 4), np.uint8))
    (open_folder / "a.npy").chmod(0)

    def frames_by(mode, workdir):
        return nf.SimpleFrames({"a": "a.npy", "b": "b.npy"}, workdir=workdir, hashid_mode=mode, backend="npy")

    frames_by("PIXELS", open_folder / "work").load_region(
        "b"
    )  # imports all that nobody may not, where Python is root's

    def check() -> str:
        said = [str(stat_source("a.npy").size_bytes == 144)]
        for mode in ("PATH", "PIXELS"):
            try:
                frames_by(mode, "/nowhere").load_region("a")
            except SourceAccessError as error:
                said.append(str(error))
        return "\n".join(said)

    denied = (
        f"image 'a': {open_folder}/a.npy cannot be read by this user (permission denied); check its mode and folders"
    )
    assert as_nobody(check) == f"True\n{denied}\n{denied}"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FileNotFoundError(errno.ENOENT, "x"), SourceMissingError),
        (NotADirectoryError(errno.ENOTDIR, "x"), SourceMissingError),
        (PermissionError(errno.EACCES, "x"), SourceAccessError),
        (PermissionError(errno.EPERM, "x"), SourceAccessError),
        (OSError(errno.EIO, "x"), SourceError),
        (OSError(errno.ESTALE, "x"), SourceError),
        (ValueError("x"), SourceError),
        (OSError("x"), SourceError),
    ],
    ids=repr,
)
def test_every_failed_call_has_its_error(error, expected):
    told = source_error("/a/b.tif", error)
    assert type(told) is expected
    assert str(told).startswith("/a/b.tif ")
    assert told.errno == getattr(error, "errno", None)
