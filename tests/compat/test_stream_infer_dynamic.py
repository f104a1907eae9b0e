"""Stream Infer's ``DynamicApp`` over ours: what a configuration may say, and what it may import."""

from __future__ import annotations

import json
import re
import sys

import numpy as np
import pytest
from kit.numbered import read_number, write_clip

import ndframes as nf
from ndframes.compat.stream_infer import DynamicApp, OpenCVProducer
from ndframes.errors import StreamError

ALGO = """
from subprocess import Popen

import kit.numbered
from ndframes.compat.stream_infer import BaseAlgo


class Numbers(BaseAlgo):
    def init(self, offset=0):
        self.offset = offset

    def run(self, frames):
        return [kit.numbered.read_number(frame) + self.offset for frame in frames]
"""
PROCESS = """
from kit.numbered import draw


def dynamic_process(inference, *args, **kwargs):
    for algo in inference.list_algos()[-1:]:
        _, data = inference.dispatcher.get_last_result(algo, clear=False)
        if data is not None:
            return draw(data[0], kwargs["frame"].shape[:2])
"""
COUNT = 30


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a clip, a file with an algorithm, one with a function, and a package with both."""
    write_clip(tmp_path / "classroom.mp4", COUNT)
    for name in ("algos", "mypkg", "mypkg2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
        (tmp_path / name / "numbers.py").write_text(ALGO)
    (tmp_path / "dynamic_process.py").write_text(PROCESS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] in ("mypkg", "mypkg2")]:
        del sys.modules[name]


def configure(**changes):
    """The example of Stream Infer, but for the algorithm."""
    return {
        "mode": "offline",
        "source": "./classroom.mp4",
        "fps": 25,
        "dispatcher": {
            "module": "stream_infer.dispatcher",
            "name": "DevelopDispatcher",
            "kwargs": {"buffer": 1},
        },
        "algos": [
            {
                "module": "./algos/numbers.py",
                "name": "Numbers",
                "kwargs": {"frame_count": 1, "frame_step": 0, "interval": 0.2},
            }
        ],
        "producer": {"type": "opencv", "width": 160, "height": 120},
        **changes,
    }


def of_algo(module, name="Numbers", **kwargs):
    schedule = {"frame_count": 1, "frame_step": 0, "interval": 0.2}
    return configure(algos=[{"module": module, "name": name, "kwargs": {**schedule, **kwargs}}])


@pytest.mark.parametrize("form", ["dict", "text", "path"])
def test_the_example_from_a_dict_json_text_or_a_path(folder, form):
    config = configure()
    (folder / "config.json").write_text(json.dumps(config))
    given = {"dict": config, "text": json.dumps(config), "path": folder / "config.json"}[form]
    app = DynamicApp(given, allow=["./algos"])
    app.start()
    expected = {str(number / 25): [number] for number in range(4, COUNT, 5)}
    assert app.dispatcher.get_result("Numbers") == expected
    app.start()
    assert app.dispatcher.get_result("Numbers") == expected


@pytest.mark.parametrize("mode", ["offline", "realtime"])
def test_everything_that_a_configuration_can_say(folder, mode):
    config = configure(
        mode=mode,
        algos=[
            {
                "module": "mypkg.numbers",
                "name": "Numbers",
                "args": ["first"],
                "kwargs": {"frame_count": 2, "frame_step": 1, "interval": 0.2, "offset": 100},
            },
            {
                "module": "mypkg.numbers",
                "name": "Numbers",
                "args": ["second"],
                "kwargs": {"frame_count": 1, "frame_step": 0, "interval": 0.4},
            },
        ],
        producer={"type": "pyav", "width": 80, "height": 60},
        process={"module": "./dynamic_process.py", "name": "dynamic_process"},
        recording_path="./processed.mp4",
        logging_level="INFO",
    )
    app = DynamicApp(config, allow=("mypkg", "dynamic_process.py"))
    app.start()
    for key, value in app.dispatcher.get_result("first").items():
        number = round(float(key) * 25)
        assert value == [number + 99, number + 100]
    assert app.dispatcher.get_result("second")
    assert nf.open("processed.mp4").fps == 25
    if mode == "offline":
        newest = app.dispatcher.get_result("second")
        assert list(newest.values()) == [[9], [19], [29]]
        shown = [read_number(np.asarray(frame)) for frame in nf.open("processed.mp4")]
        assert shown == [number if number < 9 else (number + 1) // 10 * 10 - 1 for number in range(COUNT)]


@pytest.mark.parametrize(
    ("config", "allow", "match"),
    [
        (configure(), (), "algos[0]: the module './algos/numbers.py' may not be imported"),
        (configure(), ("algos",), "may not be imported"),
        (configure(), ("./algos/other.py",), "may not be imported"),
        (of_algo("./algos/../mypkg/numbers.py"), ("./algos",), "may not be imported"),
        (of_algo("mypkg2.numbers"), ("mypkg",), "algos[0]: the module 'mypkg2.numbers' may not be imported"),
        (of_algo("mypkg.numbers"), ("mypkg.numb",), "the program allows 'mypkg.numb'; give DynamicApp(config, allow=['mypkg.numbers'])"),
        (of_algo("os"), ("mypkg",), "'os' may not be imported"),
        (of_algo("stream_infer.recorder", "Recorder"), (), "'stream_infer.recorder' may not be imported"),
        (of_algo("mypkg.numbers", "Popen"), ("mypkg",), "'Popen' of the module 'mypkg.numbers' is defined in 'subprocess'"),
        (of_algo("mypkg.numbers", "BaseAlgo"), ("mypkg",), "is defined in 'ndframes.compat.stream_infer.algo'"),
        (of_algo("mypkg.numbers", "Nothing"), ("mypkg",), "has no class or function 'Nothing'"),
        (of_algo("mypkg.numbers", "kit"), ("mypkg",), "has no class or function 'kit'"),
        (of_algo("mypkg.nothing"), ("mypkg",), "'mypkg.nothing' cannot be imported"),
        (of_algo("./algos/nothing.py"), ("./algos",), "no such Python file"),
        (of_algo("./dynamic_process.py", "dynamic_process"), ("./dynamic_process.py",), "is no class that inherits from BaseAlgo"),
        (
            configure(dispatcher={"module": "mypkg.numbers", "name": "Numbers"}),
            ("mypkg", "./algos"),
            "is no class that inherits from Dispatcher",
        ),
        (configure(), ("",), "allow=('',); give names"),
    ],
)  # fmt: skip
def test_only_what_the_caller_allows_is_imported(folder, config, allow, match):
    with pytest.raises(StreamError, match=re.escape(match)):
        DynamicApp(config, allow=allow).start()
    assert "mypkg2.numbers" not in sys.modules


def test_one_name_may_be_allowed_as_text(folder):
    DynamicApp(of_algo("mypkg.numbers"), allow="mypkg").start()


def test_all_errors_at_once(folder):
    config = configure(
        mode="fast",
        fps=0,
        producer={"type": "ffmpeg", "widht": 3, "height": 0},
        algos=[
            {"module": "a", "name": "b.c", "kwargs": {}},
            {"module": "a", "name": "b", "kwargs": {"frame_count": 0, "frame_step": 1.5, "interval": "1"}},
            3,
        ],
        recording="x.mp4",
    )
    del config["source"]
    with pytest.raises(StreamError) as caught:
        DynamicApp(config)
    lines = str(caught.value).splitlines()
    for expected in (
        "mode='fast'; give 'offline' or 'realtime'",
        "fps=0; give a number above 0",
        "source is missing; give a path, a URL or the number of a camera",
        "recording is unknown; did you mean recording_path?",
        "producer.type='ffmpeg'; give 'opencv' or 'pyav'",
        "producer.widht is unknown; did you mean width?",
        "producer.height=0; give a whole number of at least 1, or null",
        "algos[0].name='b.c'; give a name",
        "algos[1].kwargs.frame_count=0; give a whole number of at least 1",
        "algos[1].kwargs.frame_step=1.5; give a whole number of at least 0",
        "algos[1].kwargs.interval='1'; give a number of at least 0",
        "algos[2]=3; give a table",
    ):
        assert f"- {expected}" in lines


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (3, "config=3; give a dict, JSON text, or the path of a JSON file"),
        ("{", "the configuration is not JSON"),
        ("{" * 100_000, "the configuration is not JSON"),
        ("nothing.json", "nothing.json"),
        ("list.json", "list.json holds [1]; a configuration is a table"),
        ("bytes.json", "bytes.json"),
        ({}, "mode is missing"),
        (configure(source=True), "source=True"),
        (configure(algos="abc"), "algos='abc'; give a list"),
        (configure(dispatcher={"module": "x", "name": "y", "args": 3}), "dispatcher.args=3; give a list, or null"),
        (configure(source="nothing.mp4"), "nothing.mp4"),
    ],
)
def test_what_is_no_configuration(folder, config, match):
    (folder / "list.json").write_text("[1]")
    (folder / "bytes.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(StreamError, match=re.escape(match)):
        DynamicApp(config, allow=["./algos"])


def test_a_module_that_fails_is_not_kept(folder):
    (folder / "algos" / "numbers.py").write_text("raise RuntimeError('no weights')")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no weights"):
            DynamicApp(configure(), allow=["./algos"]).start()
    (folder / "algos" / "numbers.py").write_text(ALGO)
    app = DynamicApp(configure(), allow=["./algos"])
    app.start()
    assert [read_number(frame) for frame in OpenCVProducer().read("classroom.mp4")] == list(range(COUNT))
    assert len(app.dispatcher.get_result("Numbers")) == 6
