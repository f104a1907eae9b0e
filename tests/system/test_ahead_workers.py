"""Worker processes and threads: order, errors, messages of any size, and what a worker process is told."""

from __future__ import annotations

import errno
import os
import pickle
import socket
import threading

import numpy as np
import pytest
from kit import ahead_work
from kit.ahead import children, descriptors, ignore_other_children
from kit.forking import in_fork

import ndframes as nf
from ndframes.errors import NdframesError, WorkerDied
from ndframes.system.channel import Channel
from ndframes.system.portable_error import PortableError, WorkerTraceback, add_note
from ndframes.system.process_workers import ProcessWorkers
from ndframes.system.thread_workers import ThreadWorkers

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
METHODS = ("command", "fork", "spawn", "forkserver")


@pytest.fixture(autouse=True)
def only_own_children():
    """Other tests of the same run may have left processes."""
    ignore_other_children()


def make(work, kind: str, count: int = 2, depth: int = 2):
    if kind == "thread":
        return ThreadWorkers(work, count=count, depth=depth)
    return ProcessWorkers(work, count=count, depth=depth, method=kind)


def run(workers, payloads) -> list:
    """The results of all payloads, with as many tasks ahead as possible."""
    results, left = [], list(payloads)
    while left or not workers.is_idle:
        while left and workers.has_room:
            workers.submit(left.pop(0), "a payload")
        results.append(workers.receive().value)
    return results


@pytest.mark.parametrize("kind", ["fork", "thread"])
def test_results_come_in_order_however_long_tasks_take(kind):
    workers = make(ahead_work.sleep, kind, count=3)
    seconds = [0.05, 0, 0.02, 0, 0, 0.03, 0, 0.01, 0, 0]
    assert run(workers, seconds) == seconds
    workers.close()


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_process_is_another_one_and_decodes_with_one_thread(method):
    workers = make(ahead_work.describe_process, method, count=1)
    ((pid, threads),) = run(workers, [None])
    assert (pid, threads) == (workers.pids[0], 1)
    assert pid != os.getpid()
    workers.close()
    assert children() == set()


@pytest.mark.parametrize("kind", ["fork", "thread"])
def test_messages_larger_than_a_socket_holds(kind):
    """Both ends send more than fits, and neither waits for the other one first."""
    workers = make(ahead_work.echo, kind, count=1, depth=3)
    payloads = [bytes([number]) * 3_000_000 for number in range(8)]
    assert run(workers, payloads) == payloads
    workers.close()


def test_arrays_of_any_size():
    workers = make(ahead_work.echo, "fork")
    payloads = [np.arange(size, dtype=np.uint8) for size in (0, 1, 5_000_000, 3, 70_000, 0, 9_000_000)]
    results = run(workers, payloads)
    assert all(np.array_equal(result, payload) for result, payload in zip(results, payloads, strict=True))
    workers.close()


def fail(payload, allocate):
    raise {"value": ValueError("not this"), "exit": SystemExit(4)}[payload]


@pytest.mark.parametrize("kind", ["fork", "thread"])
def test_an_error_leaves_the_worker_usable(kind):
    workers = make(fail, kind, count=1)
    for _ in range(6):
        workers.submit("value", "one")
        with pytest.raises(ValueError, match="not this"):
            workers.receive()
    workers.close()


def test_a_result_that_does_not_pickle_is_an_error():
    workers = make(lambda payload, allocate: threading.Lock(), "fork", count=1)
    workers.submit(1, "one")
    with pytest.raises(TypeError, match="pickle"):
        workers.receive()
    workers.close()


def test_work_that_another_process_cannot_load():
    workers = ProcessWorkers(Unloadable(), count=1, depth=1, method="command")
    workers.submit(1, "one")
    with pytest.raises(ZeroDivisionError) as caught:
        workers.receive()
    assert caught.value.__notes__[0].endswith("loaded its work, at builtins.divmod")
    workers.close()
    assert children() == set()


class Unloadable:
    def __reduce__(self):
        return divmod, (1, 0)


def test_a_payload_that_another_process_cannot_load():
    workers = make(ahead_work.echo, "fork", count=1)
    workers.submit(Unloadable(), "one")
    with pytest.raises(ZeroDivisionError) as caught:
        workers.receive()
    assert "start_method='fork'" in caught.value.__notes__[0]
    workers.submit(1, "one")
    assert workers.receive().value == 1
    workers.close()


def test_closing_twice_and_without_a_task():
    before = descriptors()
    for kind in ("fork", "thread"):
        workers = make(ahead_work.echo, kind)
        workers.close()
        workers.close()
    assert descriptors() == before


def test_a_busy_worker_is_ended_soon():
    workers = make(ahead_work.sleep, "fork", count=2)
    for _ in range(4):
        workers.submit(60, "a minute")
    workers.close()
    assert children() == set()


# -- the channel -----------------------------------------------------------------------------------------------------


def test_a_channel_passes_messages_of_any_size_and_their_descriptors():
    ours, theirs = map(Channel, socket.socketpair())
    files = [os.memfd_create(str(number)) for number in range(3)]
    for number, file in enumerate(files):
        os.write(file, b"%d" % number)
        ours.send(bytes([number]) * 10 ** (2 + 2 * number), file)
        ours.send(b"between")
    received = []
    while len(received) < 6:
        received += theirs.receive()
        ours.flush()
    assert [len(message.data) for message in received] == [100, 7, 10_000, 7, 1_000_000, 7]
    for number, message in enumerate(received[::2]):
        assert os.pread(message.descriptor, 10, 0) == b"%d" % number
        assert not os.get_inheritable(message.descriptor)
        os.close(message.descriptor)
    assert [message.descriptor for message in received[1::2]] == [None] * 3
    ours.close()
    assert theirs.receive() == []
    assert theirs.has_ended
    theirs.close()


def test_a_message_that_was_cut_off_is_none():
    ours, theirs = socket.socketpair()
    channel = Channel(theirs)
    whole, other = map(Channel, socket.socketpair())
    whole.send(b"0123456789")
    data = other._socket.recv(100)
    ours.send(data + data[:-1])
    assert [message.data for message in channel.receive()] == [b"0123456789"]
    assert not channel.has_ended
    ours.close()
    assert channel.receive() == []
    assert channel.has_ended
    channel.send(b"nobody reads this")
    assert not channel.is_sending
    for item in (channel, whole, other):
        item.close()


def test_closing_a_channel_closes_what_it_did_not_deliver():
    before = descriptors()
    ours, theirs = map(Channel, socket.socketpair())
    while not ours.is_sending:
        ours.send(bytes(100_000))
    ours.send(b"late", os.memfd_create("late"))
    theirs.receive()
    ours.close()
    theirs.close()
    assert descriptors() == before


def test_a_fork_closes_its_copy_of_a_channel():
    ours, theirs = map(Channel, socket.socketpair())

    def check() -> bool:
        return ours.fileno() == -1 and ours.receive() == []

    in_fork(check)
    ours.send(b"still here")
    assert [message.data for message in theirs.receive()] == [b"still here"]
    ours.close()
    theirs.close()


# -- errors ----------------------------------------------------------------------------------------------------------


def carry(error: Exception) -> Exception:
    try:
        raise error
    except Exception as raised:
        return pickle.loads(pickle.dumps(PortableError(raised))).error


class StubbornError(Exception):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("no words")

    def __reduce__(self):
        raise TypeError("never")


class ImpostorError(Exception):
    """Loads as something that is no exception."""

    def __reduce__(self):
        return int, ()


def test_an_error_keeps_what_pickles():
    error = KeyError("a")
    error.detail = [1, 2]
    add_note(error, "one")
    add_note(error, "two")
    got = carry(error)
    assert (type(got), got.args, got.detail, got.__notes__) == (KeyError, ("a",), [1, 2], ["one", "two"])
    assert isinstance(got.__cause__, WorkerTraceback)
    assert "in carry" in str(got.__cause__)


class PeculiarError(Exception):
    """Neither its constructor nor ``__new__`` takes what it says."""

    def __new__(cls, one, two):
        return super().__new__(cls, one, two)

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class CodeError(Exception):
    """Its constructor takes more than it passes on."""

    def __init__(self, path, code):
        super().__init__(f"{path} has code {code}")
        self.code = code


class PrefixError(ValueError):
    """Made again from its arguments, it has another message."""

    def __init__(self, code):
        super().__init__(f"code {code}")


class MissingError(nf.SourceError):
    """A subclass of an error of the system, by way of one of ours."""

    def __init__(self, path, *, tries):
        super().__init__(errno.ENOENT, "gone", path)
        self.tries = tries


@pytest.mark.parametrize(
    "error",
    [
        CodeError("a.tif", 7),
        PrefixError(7),
        MissingError("a.tif", tries=3),
        StubbornError(),
        ImpostorError("x"),
        ImportError("no", name="a", path="b"),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "odd"),
        WorkerDied("it"),
    ],
)
def test_an_error_crosses_whatever_its_constructor_takes(error):
    add_note(error, "a note")
    got = carry(error)
    assert type(got) is type(error)
    assert (got.args, vars(got)) == (error.args, vars(error))
    for name in ("errno", "filename", "name", "path", "object"):
        assert getattr(got, name, None) == getattr(error, name, None)
    if not isinstance(error, StubbornError):
        assert str(got) == str(error)


@pytest.mark.parametrize("error", [PeculiarError(1, 2), ValueError(threading.Lock())])
def test_an_error_that_does_not_pickle_is_told(error):
    add_note(error, "a note")
    got = carry(error)
    assert type(got) is NdframesError
    assert type(error).__name__ in str(got)
    assert got.__notes__ == ["a note"]


def make_large_array(number, allocate):
    array = allocate((1000,), np.dtype(np.int64))
    array[...] = number
    return array


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_tasks_after_a_pause_find_slots_whatever_is_kept(depth):
    """After the last result of a run, the consumer may submit as many tasks as ever, and keeps all results."""
    workers = ProcessWorkers(make_large_array, count=1, depth=depth, method="fork")
    kept = []
    for _ in range(3):
        for _ in range(depth):
            workers.submit(len(kept), label="")
        kept += [(len(kept), workers.receive().value) for _ in range(depth)]
    workers.close()
    for start in range(0, 3 * depth, depth):
        assert all((array == start).all() for _, array in kept[start : start + depth])
