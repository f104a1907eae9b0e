"""Slots of shared memory: arrays come through unchanged, and a slot is used again only when its array is dead."""

from __future__ import annotations

import errno
import gc
import mmap
import os
import pickle
from collections import Counter
from multiprocessing import resource_tracker

import numpy as np
import pytest
from kit.ahead import descriptors, run_script, segments

from ndframes.errors import SharedMemoryError
from ndframes.system import ring
from ndframes.system.ring import Slots, SlotWriter, create_memory, map_memory, release_handle, unpack

KINDS = [*(["memfd"] if hasattr(os, "memfd_create") else []), "shared_memory"]
by_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def nothing_is_left():
    # It stays, with a pipe to it.
    resource_tracker.ensure_running()
    before, named = descriptors(), segments()
    yield
    gc.collect()
    # Connections of other tests may be closed meanwhile.
    assert not Counter(descriptors()) - Counter(before)
    assert segments() <= named


class Link:
    """A writer and its consumer in one process."""

    def __init__(self, kind: str, count: int = 3) -> None:
        self.writer = SlotWriter(kind)
        self.slots = Slots(count)

    def send(self, make):
        """Write what ``make(allocate)`` returns, and return what the consumer gets."""
        number = self.slots.take()
        self.writer.begin(number)
        packed = self.writer.pack(make(self.writer.allocate))
        handle = self.writer.take_handle()
        if handle is not None:
            self.slots.assign(number, map_memory(handle))
        return unpack(packed, self.slots.lend(number)), packed


@by_kind
def test_memory_is_shared_between_two_mappings(kind):
    ours, handle = create_memory(100_000, kind)
    assert handle.nbytes == len(ours) == 102_400
    theirs = map_memory(handle)
    ours[99_999] = 7
    assert theirs[99_999] == 7
    assert ours[:5] == bytes(5)


@by_kind
def test_a_handle_that_nobody_takes(kind):
    memory, handle = create_memory(100, kind)
    release_handle(handle)
    memory.close()


@by_kind
def test_objects_come_through_unchanged(kind):
    link = Link(kind)
    value = {
        "uint8": np.arange(60, dtype=np.uint8).reshape(3, 4, 5),
        "float": np.linspace(0, 1, 7),
        "bool": np.array([True, False]),
        "big-endian": np.arange(5, dtype=">u2"),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "strided": np.arange(20)[::2],
        "empty": np.zeros((0, 3), np.uint16),
        "number": np.array(5),
        "masked": np.ma.MaskedArray([1, 2, 3], [True, False, True]),
        "text": "anything else",
    }
    got, packed = link.send(lambda allocate: value)
    assert list(got) == list(value)
    for name, array in value.items():
        if name == "text":
            assert got[name] == array
        else:
            assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape)
            assert np.ma.allequal(got[name], array)
    assert np.array_equal(got["masked"].mask, value["masked"].mask)
    assert len(packed.body) < 3000
    assert all(start % 64 == 0 for start, _ in packed.spans)


@by_kind
def test_an_array_that_was_allocated_in_the_slot_is_not_copied(kind):
    link = Link(kind)
    made = []

    def make(allocate):
        array = allocate((30, 40), np.dtype("uint16"))
        array[...] = np.arange(1200).reshape(30, 40)
        made.append(array)
        return {"images": array, "labels": np.arange(5)}

    got, packed = link.send(make)
    assert packed.spans[0] == (0, 2400)
    assert np.array_equal(got["images"], np.arange(1200).reshape(30, 40))
    assert got["labels"].tolist() == [0, 1, 2, 3, 4]
    # The same memory: what the writer changes is seen here.
    made[0][3, 3] = 9
    assert got["images"][3, 3] == 9


@by_kind
def test_a_slot_grows_and_nothing_of_it_is_lost(kind):
    link = Link(kind, count=1)
    for size in (10, 100_000, 50, 300_000, 299_000):

        def make(allocate, size=size):
            array = allocate((size,), np.dtype("uint8"))
            array[...] = size % 251
            return array, np.arange(size, dtype=np.int64)

        (one, other), _ = link.send(make)
        assert (one == size % 251).all()
        assert np.array_equal(other, np.arange(size))
        del one, other


@by_kind
def test_allocating_twice_keeps_the_first_array(kind):
    link = Link(kind)

    def make(allocate):
        first = allocate((1000,), np.dtype("uint8"))
        first[...] = 1
        second = allocate((1_000_000,), np.dtype("uint8"))
        second[...] = 2
        return first, second

    (first, second), _ = link.send(make)
    assert (first == 1).all()
    assert (second == 2).all()


def test_a_slot_is_free_when_the_last_view_is_dead():
    link = Link(KINDS[0], count=2)
    (array, label), _ = link.send(lambda allocate: (np.arange(100), np.arange(3)))
    assert link.slots.free_count == 1
    view = array[10:20, None][::2]
    memory = memoryview(array)
    del array
    assert link.slots.free_count == 1
    del label
    del view
    assert link.slots.free_count == 1
    del memory
    assert link.slots.free_count == 2
    assert [link.slots.take(), link.slots.take(), link.slots.take()] == [0, 1, None]


def test_arrays_outlive_slots_and_writer():
    link = Link(KINDS[0])
    array, _ = link.send(lambda allocate: np.arange(100_000))
    del link
    gc.collect()
    assert np.array_equal(array, np.arange(100_000))


def test_a_copy_gives_its_slot_back_at_once():
    writer, slots = SlotWriter(KINDS[0]), Slots(1)
    writer.begin(slots.take())
    packed = writer.pack(np.arange(10))
    slots.assign(0, map_memory(writer.take_handle()))
    array = unpack(packed, slots.lend(0), is_copied=True)
    assert slots.free_count == 1
    assert array.flags.writeable
    writer.begin(slots.take())
    writer.pack(np.zeros(10, np.int64))
    assert array.tolist() == list(range(10))


def test_the_memory_of_a_slot_is_used_again():
    link = Link(KINDS[0])
    addresses = set()
    for _ in range(10):
        array, _ = link.send(lambda allocate: np.arange(10_000))
        addresses.add(array.ctypes.data)
        del array
    assert len(addresses) == 1
    assert link.writer.take_handle() is None


@pytest.mark.skipif("memfd" not in KINDS, reason="no memfd here")
@pytest.mark.parametrize(("number", "message"), [(errno.ENOSPC, "no space"), (errno.EMFILE, "no file descriptor left")])
def test_no_memory_is_an_error(monkeypatch, number, message):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    for kind in KINDS:
        with pytest.raises(
            SharedMemoryError, match=f"1 MB of shared memory for a chunk: .*{message}.*worker='thread'"
        ) as caught:
            create_memory(1_000_000, kind)
        assert caught.value.errno == number
    # The writer goes on when there is space again.
    writer = SlotWriter("memfd")
    writer.begin(0)
    with pytest.raises(SharedMemoryError):
        writer.pack(np.arange(10))
    monkeypatch.undo()
    packed = writer.pack(np.arange(10))
    assert unpack(packed, np.frombuffer(map_memory(writer.take_handle()), np.uint8)).tolist() == list(range(10))


def test_named_memory_leaves_no_name_and_no_warning():
    """Processes that made and attached named memory end in silence, whether they share a resource tracker or not."""
    script = """if True:
        from kit.ahead_work import fill
        from ndframes.system.process_workers import ProcessWorkers
        for method in ("fork", "forkserver", "spawn", "command"):
            workers = ProcessWorkers(fill, count=2, depth=2, method=method, memory_kind="shared_memory")
            for _ in range(4):
                workers.submit(100_000, "x")
            kept = [workers.receive().value for _ in range(4)]
            assert all((array == 5).all() and len(array) == 100_000 for array in kept)
            if method != "spawn":
                workers.close()
    """
    assert run_script(script) == ""


def test_a_page_is_the_unit():
    assert ring._PAGE_BYTES == mmap.PAGESIZE
    memory, handle = create_memory(1, KINDS[0])
    assert len(memory) == mmap.PAGESIZE
    release_handle(handle)


def test_a_packed_object_pickles():
    writer = SlotWriter(KINDS[0])
    writer.begin(0)
    packed = writer.pack([1, np.arange(3)])
    assert ring.Packed(*pickle.loads(pickle.dumps(tuple(packed)))) == packed
    release_handle(writer.take_handle())
