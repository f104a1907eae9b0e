"""Which part of some work is named where a worker process cannot get it."""

from __future__ import annotations

import types

import pytest
from kit.ahead import children, run_script

from ndframes.errors import UnsupportedError
from ndframes.feed.worker_choice import make_workers


class Part:
    """Something with attributes, which pickles if they do."""

    def __init__(self, **parts):
        vars(self).update(parts)


class Opaque(Part):
    """Pickles whatever it holds."""

    def __reduce__(self):
        return Opaque, ()


def work_of(**parts):
    """What a loader gives to its workers."""
    return Part(_dataset=Part(_cache=Opaque(lock=lambda: 0), **parts))


GOOD = {"frames": Part(threads=3), "transform": len}
BAD = {
    "the transform": {**GOOD, "transform": lambda: 0},
    "the frames": {"_frames": Part(table=Part(make=lambda: 0)), "transform": len},
    "the dataset": {**GOOD, "names": [lambda: 0]},
}


@pytest.mark.parametrize("start_method", ["spawn", "command", "forkserver"])
@pytest.mark.parametrize("name", BAD)
def test_the_part_that_does_not_pickle_is_named(name, start_method):
    with pytest.raises(
        UnsupportedError, match=f"^{name} cannot be pickled, and so not sent to a worker process.*'fork'"
    ):
        make_workers(work_of(**BAD[name]), kind="process", start_method=start_method, count=1, depth=1)
    assert children() == set()


def test_of_other_work_the_attribute_is_named():
    for work, name in ((Part(_video=lambda: 0), "the video"), (lambda: 0, "the work")):
        with pytest.raises(UnsupportedError, match=f"^{name} cannot be pickled"):
            make_workers(work, kind="process", start_method="spawn", count=1, depth=1)
    loop = types.SimpleNamespace(call=lambda: 0)
    loop.itself = loop
    with pytest.raises(UnsupportedError, match="cannot be pickled"):
        make_workers(Part(_loop=loop), kind="process", start_method="spawn", count=1, depth=1)


OF_MAIN = """
from feed.test_worker_choice import GOOD, Part, work_of
from ndframes.feed.worker_choice import make_workers
def scale(image): return image
class Own(Part): pass
for parts in ({**GOOD, "transform": scale}, {**GOOD, "transform": Part(steps=[scale])}, {**GOOD, "frames": Own()}):
    try:
        make_workers(work_of(**parts), kind="process", start_method="command", count=1, depth=1)
    except Exception as error:
        print(error)
"""


def test_the_part_of_the_main_module_is_named():
    lines = run_script(OF_MAIN).splitlines()
    expected = (
        "a class or function of the {} is defined in the main module, which a worker process of start_method='command'"
    )
    assert [line[: line.index(" does not load")] for line in lines] == [
        expected.format(name) for name in ("transform", "transform", "frames")
    ]
