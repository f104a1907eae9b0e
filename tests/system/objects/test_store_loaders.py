"""Workers of torch's DataLoader read from a store that their parent has used, and goes on using."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from ndframes.system.objects.connection import connect_store
from ndframes.system.objects.store import Place

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]
torch_data = pytest.importorskip("torch.utils.data")
_DATA = np.random.default_rng(3).bytes(300_000)
_LENGTH = 2900


class Parts(torch_data.Dataset):
    """Parts of an object."""

    def __init__(self, store, count):
        self._store = store
        self._count = count

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        offset = 997 * index % (len(_DATA) - _LENGTH)
        wait = self._store.begin_fetch("data", [Place(offset, _LENGTH)])[0]
        return offset, bytes(wait())


def load_all(bucket, method, count):
    store = connect_store(bucket)
    store.create("data", _DATA)
    is_done = threading.Event()
    wrong = []

    def read():
        while not is_done.is_set():
            if store.load("data").data != _DATA:
                wrong.append(1)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        loader = torch_data.DataLoader(
            Parts(store, count), batch_size=None, num_workers=4, multiprocessing_context=method, timeout=100
        )
        offsets = []
        for offset, data in loader:
            assert data == _DATA[offset : offset + _LENGTH]
            offsets.append(offset)
    finally:
        is_done.set()
        reader.join(60)
    assert not reader.is_alive()
    assert not wrong
    assert len(offsets) == count


def test_forked_workers_read(bucket):
    load_all(bucket, "fork", 100)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_each_start_method_read(bucket, method):
    load_all(bucket, method, 4000)
