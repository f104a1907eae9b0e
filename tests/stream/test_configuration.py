"""Pipelines from YAML: every problem at once with its line and key, and imports only below what the caller allows."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ndframes as nf
from ndframes.errors import MissingExtraError, StreamConfigurationError, StreamError
from ndframes.stream import Backoff, Pipeline, Source, Window, load_pipeline, read_configuration
from ndframes.stream.configuration_nodes import MOST_BYTES
from ndframes.stream.imports import Allowed, ImportPath

PACKAGE = """
import functools, os, subprocess
from os import system
from collections import OrderedDict

TOUCHED = os.environ.get("NDFRAMES_TEST_TOUCHED")

class Mean:
    def __init__(self, factor=1.0):
        self.factor = factor
    def setup(self):
        self.offset = 100
    def __call__(self, frames):
        return self.factor * float(frames[0].mean()) + self.offset

def largest(frames, at_least=0):
    return max(at_least, int(frames[-1].max()))

def call(command):
    return system(command)

run = functools.partial(subprocess.run, shell=True)
spoofed = functools.update_wrapper(functools.partial(subprocess.run, shell=True), largest)
bound = "x".join
number = 3
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Packages ``mypkg`` and ``mypkg2`` with algorithms, that can be imported."""
    for name in ("mypkg", "mypkg2"):
        folder = tmp_path / "lib" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("import os, sys\nsys.modules[__name__ + '.hidden'] = os\n")
        (folder / "algos.py").write_text(PACKAGE)
        (folder / "__main__.py").write_text("raise SystemExit('run')\n")
        (folder / "broken.py").write_text("1 / 0\n")
        (folder / "quits.py").write_text("raise SystemExit(0)\n")
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    yield
    for name in [name for name in sys.modules if name.startswith("mypkg")]:
        del sys.modules[name]


@pytest.fixture
def write(tmp_path):
    """A function that writes a file; returns its path."""

    def write_file(text: str | bytes, name: str = "pipeline.yaml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else textwrap.dedent(text).encode())
        return path

    return write_file


def problems_of(path) -> list[tuple[int, str, str]]:
    """The line, key and text of each problem of a file."""
    with pytest.raises(StreamConfigurationError) as caught:
        read_configuration(path)
    assert str(caught.value).splitlines()[: len(caught.value.problems)] == [str(each) for each in caught.value.problems]
    assert all(each.file == str(path) for each in caught.value.problems)
    return [(each.line, each.key, each.text) for each in caught.value.problems]


ONE_SOURCE = "sources: {name: cam, uri: clip.mp4}\n"


def test_every_key_becomes_the_argument_of_its_constructor(write, tmp_path):
    path = write(
        """
        mode: realtime
        errors: skip
        buffer: 7
        sources:
          - name: cam
            uri: rtsp://user:pw@camera/1
            fps: 30000/1001
            shape: [480, 640]
            pixel_format: bgr24
            start: 0
            live: true
            open_timeout: 3
            stall_timeout: 1.5
            reconnect: {first: 0.25, most: 8, attempts: 4}
            options: {rtsp_transport: udp, timeout: 5000}
          - {name: file, uri: clips/a.mp4, reconnect: null, live: null}
          - {name: webcam, uri: 0}
          - {name: test, uri: "lavfi:testsrc2=rate=25"}
          - {name: here, uri: /data/b.mp4}
        algorithms:
          - name: detect
            import: mypkg.algos:Mean
            arguments: {factor: 2.5, names: [a, no, 1:20, 010], nested: {x: null}}
            window: {count: 3, step: 2, every: 5}
            source: [cam, file]
            batch: 4
            worker: process
            with_info: true
            timeout: 9
          - {name: track, import: "mypkg:track", window: {interval: 0.2}, source: cam}
        record:
          - {path: out/a.mkv, annotated: false, source: cam, fps: 12.5}
          - {path: /data/b.mkv, source: file}
        log: out/run.log
        results: {path: out/results.jsonl}
        """
    )
    found = read_configuration(path)
    assert (found.mode, found.errors, found.buffer, found.file) == ("realtime", "skip", 7, str(path))
    assert found.sources[:2] == (
        Source(
            "rtsp://user:pw@camera/1",
            fps=Fraction(30000, 1001),
            shape=(480, 640),
            pixel_format="bgr24",
            start=0,
            name="cam",
            live=True,
            open_timeout=3,
            stall_timeout=1.5,
            reconnect=Backoff(0.25, 8, 4),
            options={"rtsp_transport": "udp", "timeout": "5000"},
        ),
        Source(str(tmp_path / "clips/a.mp4"), name="file", reconnect=None),
    )
    assert [source.uri for source in found.sources[2:]] == [0, "lavfi:testsrc2=rate=25", "/data/b.mp4"]
    detect, track = found.algorithms
    assert detect.path == ImportPath("mypkg.algos", "Mean")
    # Texts of YAML 1.2: no flag, no base 60, no octal number.
    assert detect.arguments == {"factor": 2.5, "names": ["a", "no", "1:20", "010"], "nested": {"x": None}}
    assert detect.window == Window(count=3, step=2, every=5)
    assert (detect.source, detect.batch, detect.worker, detect.with_info, detect.timeout) == (
        ("cam", "file"), 4, "process", True, 9,
    )  # fmt: skip
    assert (track.window, track.source) == (Window(interval=0.2), ("cam",))
    assert [(each.path, each.annotated, each.source, each.fps) for each in found.record] == [
        (str(tmp_path / "out/a.mkv"), False, "cam", 12.5),
        ("/data/b.mkv", True, "file", None),
    ]
    assert found.log == str(tmp_path / "out/run.log")
    assert found.results.path == str(tmp_path / "out/results.jsonl")


def test_all_problems_at_once_with_line_and_key(write):
    path = write(
        """\
        mode: ofline
        bufer: 3
        sources:
          - {name: a, uri: x.mp4, fps: 0, shape: [1], live: maybe}
          - {uri: 3, reconnect: {frist: 3, attempts: -1}}
          - {name: 7}
          - text
        algorithms:
          - name: x
            import: os:system:y
            window:
              every: 2
              interval: 1:20
              every: 3
            worker: gpu
          - {name: x, import: a.b:c, arguments: [1], window: {count: 1.5}}
          - {name: y, import: a:b, window: {every: 2, interval: 3}}
        record: {annotated: yes}
        results: {path: r.txt}
        """
    )
    found = problems_of(path)
    expected = [
        (1, "mode", "found 'ofline'; allowed: offline, realtime; did you mean 'offline'?"),
        (2, "bufer", "did you mean 'buffer'?"),
        (4, "sources[0].fps", "found 0; allowed: a number above 0"),
        (4, "sources[0].shape", "allowed: [height, width]"),
        (4, "sources[0].live", "found 'maybe'; allowed: true, false"),
        (5, "sources[1].reconnect.frist", "did you mean 'first'?"),
        (5, "sources[1].reconnect.attempts", "found -1; allowed: a whole number of at least 0"),
        (6, "sources[2].name", "found 7; allowed: a text; write it in quotes: '7'"),
        (6, "sources[2]", "the key 'uri' is missing"),
        (7, "sources[3]", "found 'text'; allowed: a mapping with the keys name, uri"),
        (10, "algorithms[0].import", "not an import path"),
        (13, "algorithms[0].window.interval", "found '1:20'"),
        (14, "algorithms[0].window.every", "is there twice, first in line 12"),
        (15, "algorithms[0].worker", "found 'gpu'; allowed: inline, thread, process"),
        (16, "algorithms[1].arguments", "found a list; allowed: a mapping"),
        (16, "algorithms[1].window.count", "found 1.5"),
        (16, "algorithms[1].name", "two algorithms have the name 'x'"),
        (17, "algorithms[2].window", "give one of them"),
        (18, "record.annotated", "found 'yes'"),
        (18, "record", "the key 'path' is missing"),
        (19, "results", "found path='r.txt'"),
    ]
    assert sorted((line, key) for line, key, _ in found) == sorted((line, key) for line, key, _ in expected)
    for line, key, words in expected:
        assert any((line, key) == each[:2] and words in each[2] for each in found), (line, key, words)


def test_names_that_refer_to_nothing(write):
    path = write(
        """\
        sources:
          - {name: a, uri: x.mp4}
          - {name: b, uri: x.mp4}
        algorithms:
          - {name: x, import: "m:x", source: c}
          - {name: y, import: "m:y",
             source: [a, d]}
        record:
          - {path: a.mp4, source: e}
          - {path: b.mp4}
        """
    )
    assert problems_of(path) == [
        (5, "algorithms[0].source", "there is no source 'c'; allowed: a, b"),
        (7, "algorithms[1].source[1]", "there is no source 'd'; allowed: a, b"),
        (9, "record[0].source", "there is no source 'e'; allowed: a, b"),
        (10, "record[1]", "the key 'source' is missing; allowed: a, b"),
    ]
    ((line, key, text),) = problems_of(write("mode: offline\nsources: [{name: a, uri: x}, {name: a, uri: y}]"))
    assert (line, key) == (2, "sources")
    assert "two sources have the name 'a'" in text
    ((_, key, text),) = problems_of(write("sources: {uri: 'gopher://host/x'}"))
    assert (key, "gopher:// is not supported" in text) == ("sources", True)


HOSTILE = {
    "a tag": (f"{ONE_SOURCE}mode: !!python/object/apply:os.system ['touch hacked']", 2, "mode", "tags are not allowed"),
    "a tag of a list": ("sources: !!python/tuple [1]", 1, "sources", "tags"),
    "a tag of all": ("!!python/object:os.system {}", 1, "", "tags"),
    "an anchor": (f"{ONE_SOURCE}mode: &m offline\nerrors: *m", 2, "mode", "anchors are not allowed"),
    "an alias": (f"{ONE_SOURCE}errors: *m", 2, "errors", "aliases are not allowed"),
    "a merge": (f"{ONE_SOURCE}<<: {{mode: offline}}", 2, "<<", "no key '<<'"),
    "tabs": ("sources:\n\t- {uri: x}", 2, "", "not with tabs"),
    "not UTF-8": (b"mode: offline\nsources: \xff\xfe", 2, "", "it is not UTF-8"),
    "UTF-16": ("mode: offline".encode("utf-16"), 1, "", "not UTF-8"),
    "a character": ("mode: a\nsources: b\x07", 2, "", "0x7 is not allowed"),
    "two documents": (f"{ONE_SOURCE}---\nmode: offline", 2, "", "second document"),
    "nothing": ("", 0, "", "it is empty"),
    "a comment": ("# nothing", 0, "", "it is empty"),
    "null": ("~", 1, "", "found nothing; allowed: a mapping"),
    "a text": ("sources", 1, "", "found 'sources'; allowed: a mapping"),
    "not closed": ("sources: [{uri: x}", 1, "", "it is not YAML"),
    "a key that is a list": (f"{ONE_SOURCE}? [a, b]\n: c", 2, "?", "the key is not a text"),
    "a key that is nothing": (f"{ONE_SOURCE}'': c", 2, "", "the key is ''"),
    "infinity": ("sources: {uri: x, fps: .inf}", 1, "sources.fps", "found inf"),
    "not a number": ("sources: {uri: x, start: .nan}", 1, "sources.start", "found nan"),
    "a huge number": (f"{ONE_SOURCE}buffer: {'9' * 5000}", 2, "buffer", "allowed: a whole number"),
    "a fraction of zero": ("sources: {uri: x, fps: 1/0}", 1, "sources.fps", "found '1/0'"),
    "too deep": (f"{ONE_SOURCE}results: " + "[" * 2000, 2, None, "20 levels deep"),
    "too deep in blocks": (f"{ONE_SOURCE}results:\n" + "- " * 2000, 3, None, "20 levels deep"),
    "too many values": ("sources: [" + "1, " * 60_000 + "]", 1, None, "more than 5,000 values"),
    "too large": (b"#" * (MOST_BYTES + 1), 0, "", "more than 262,144 bytes"),
    "a long key": (f"{ONE_SOURCE}{'k' * 900}: 1", 2, "k" * 57 + "...", "there is no key"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_errors(write, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text, line, key, words = HOSTILE[name]
    path = tmp_path / "pipeline.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    found = problems_of(path)
    assert any(
        each[0] == line and key in (None, each[1]) and words in each[2] for each in found
    ), found  # fmt: skip
    assert not (tmp_path / "hacked").exists()


def test_many_unknown_keys_are_cut_short(write):
    path = write("".join(f"sourcez{number}: 1\n" for number in range(2000)))
    with pytest.raises(StreamConfigurationError, match=r"\n\.\.\. and 1901 more$") as caught:
        read_configuration(path)
    assert len(caught.value.problems) == 100


def test_files_that_cannot_be_read(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for name, words in (("missing.yaml", "No such file"), ("", "not a regular file"), ("fifo", "not a regular file")):
        with pytest.raises(StreamConfigurationError, match=words):
            read_configuration(tmp_path / name)


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("any") / "pipeline.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(StreamConfigurationError):
        read_configuration(path)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("os:system", "may not be imported; allowed: mypkg"),
        ("mypkg2.algos:Mean", "may not be imported"),
        ("mypk:Mean", "may not be imported"),
        ("mypkg.os:system", "there is no module mypkg.os"),
        ("mypkg.algos.os:system", "no module mypkg.algos.os"),
        # A module of another name under its own, as os.path is.
        ("mypkg.hidden:system", "the module is os under another name"),
        ("mypkg.algos:os", "is a module"),
        ("mypkg.algos:system", "is defined in 'posix', which is not allowed"),
        ("mypkg.algos:OrderedDict", "is defined in 'collections'"),
        ("mypkg.algos:run", "is defined in 'functools'"),
        ("mypkg.algos:spoofed", "is defined in 'subprocess'"),
        ("mypkg.algos:bound", "is defined in None"),
        ("mypkg.algos:number", "is a int"),
        ("mypkg.algos:Missing", "has no 'Missing'"),
        ("mypkg.broken:x", "ZeroDivisionError"),
        ("mypkg.quits:x", "SystemExit"),
        ("mypkg.nowhere:x", "no module mypkg.nowhere"),
    ],
)
def test_what_may_not_be_imported(package, write, path, words):
    file = write(f"{ONE_SOURCE}algorithms:\n- name: x\n  import: {path}\n")
    with pytest.raises(StreamConfigurationError, match=words) as caught:
        load_pipeline(file, allow="mypkg")
    assert [(each.line, each.key) for each in caught.value.problems] == [(4, "algorithms[0].import")]


@pytest.mark.parametrize(
    "path",
    [
        "mypkg.algos", "mypkg.algos:", ":Mean", "mypkg..algos:Mean", ".algos:Mean", "mypkg.algos:Mean.__init__",
        "mypkg.algos:os.system", "mypkg.algos:Mean()", "mypkg/algos:Mean", "mypkg.algos: Mean", "mypkg.__main__:x",
        "mypkg.algos:__loader__", "mypkg.algos:__builtins__", "__import__:x", "mypkg.algos:Mean\n", "m\u0443pkg:x", "a:" + "b" * 400,
    ],
)  # fmt: skip
def test_what_is_no_import_path(path):
    with pytest.raises(StreamError):
        ImportPath.parse(path)


def test_nothing_is_imported_if_anything_is_refused(package, write):
    file = write(
        f"{ONE_SOURCE}algorithms: [{{name: a, import: 'mypkg.algos:Mean'}}, {{name: b, import: 'os:system'}},"
        " {name: c, import: 'sys:exit'}]"
    )
    with pytest.raises(StreamConfigurationError) as caught:
        load_pipeline(file, allow=["mypkg"])
    assert [each.key for each in caught.value.problems] == ["algorithms[1].import", "algorithms[2].import"]
    assert "mypkg.algos" not in sys.modules
    read_configuration(file)
    assert "mypkg.algos" not in sys.modules


@pytest.mark.parametrize("allow", ["", ".", "*", "mypkg.", "my pkg", 3, "mypkg,os"])
def test_prefixes_that_are_none(allow):
    with pytest.raises(StreamError, match="allow="):
        Allowed((allow,))


def test_whole_components_are_compared():
    allowed = Allowed.of("a.b")
    assert [module in allowed for module in ("a.b", "a.b.c", "a", "a.bc", "a.bc.d", "x.a.b", "")] == [
        True, True, False, False, False, False, False,
    ]  # fmt: skip
    assert "a" not in Allowed.of(())


@pytest.mark.parametrize("worker", ["inline", "process"])
def test_a_pipeline_of_a_file_runs(package, write, tmp_path, worker):
    video = np.arange(12, dtype=np.uint8)[:, None, None, None].repeat(32, 1).repeat(32, 2).repeat(3, 3)
    nf.write_video(tmp_path / "clip.mkv", video, 25, codec="ffv1")
    path = write(
        f"""
        sources: {{name: cam, uri: clip.mkv}}
        algorithms:
          - {{name: mean, import: "mypkg.algos:Mean", arguments: {{factor: 2}}, window: {{every: 5}}, worker: {worker}}}
          - {{name: plain, import: "mypkg.algos:Mean", window: {{every: 5}}, worker: {worker}}}
          - {{name: most, import: "mypkg.algos:largest", arguments: {{at_least: 7}}, worker: {worker}}}
        record: {{path: again.mkv, annotated: false}}
        log: run.log
        results: {{path: results.jsonl}}
        """
    )
    (tmp_path / "results.jsonl").write_text("what was there\n")
    pipeline = load_pipeline(path, allow="mypkg")
    assert isinstance(pipeline, Pipeline)
    # Nothing is lost before it runs.
    assert (tmp_path / "results.jsonl").read_text() == "what was there\n"
    results = pipeline.run()
    assert [round(result.value) for result in results["mean"]] == [100, 110, 120]
    assert [round(result.value) for result in results["plain"]] == [100, 105, 110]
    assert [result.value for result in results["most"]] == [7] * 8 + [8, 9, 10, 11]
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 18
    assert len(nf.open(tmp_path / "again.mkv")) == 12
    again = Pipeline.replay(tmp_path / "run.log", {"cam": str(tmp_path / "clip.mkv")})
    assert [result.index for result in again.add("mean", len).run()["mean"]] == [0, 5, 10]


def test_what_cannot_be_made_is_named_by_its_line(package, write):
    path = write(f"{ONE_SOURCE}record:\n- {{path: a.txt}}\n- {{path: nowhere/b.mp4}}\n")
    with pytest.raises(StreamConfigurationError) as caught:
        load_pipeline(path)
    assert [(each.line, each.key) for each in caught.value.problems] == [(3, "record[0]"), (4, "record[1]")]
    with pytest.raises(StreamConfigurationError, match=r"pipeline\.yaml: log: .*cannot be written"):
        load_pipeline(write(f"{ONE_SOURCE}log: nowhere/run.log"))
    for results, error in (("nowhere/r.jsonl", StreamConfigurationError), ("r.parquet", StreamConfigurationError)):
        if results == "r.parquet" and _has_pyarrow():
            continue
        with pytest.raises(error, match=r":2: results: "):
            load_pipeline(write(f"{ONE_SOURCE}results: {{path: {results}}}"))


def _has_pyarrow() -> bool:
    from importlib.util import find_spec

    return find_spec("pyarrow") is not None


def test_without_pyyaml(write):
    path = write(ONE_SOURCE)
    code = f"import sys; sys.modules['yaml'] = None; from ndframes.stream import load_pipeline; load_pipeline({str(path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert MissingExtraError.__name__ in done.stderr
    assert 'pip install "ndframes[stream]"' in done.stderr
