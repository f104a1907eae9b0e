"""Whatever FFmpeg raises is an NdframesError that names the file and, where it is known, the frame."""

from __future__ import annotations

import itertools
import pickle

import av
import pytest
from kit.videos import Recipe, read_number

import ndframes as nf
from ndframes.video.index import decode_packet, demux, naming_video, open_container

#: All classes of FFmpeg's errors; that of MemoryError is also a builtin MemoryError.
CLASSES = [kind for kind in set(av.error.classes.values()) if issubclass(kind, av.error.FFmpegError)]
OURS = sorted((kind for kind in CLASSES if not issubclass(kind, MemoryError)), key=lambda kind: kind.__name__)
#: What PyAV raises itself.
BUILTIN = [ValueError("Conversion is not supported"), OverflowError("too large"), OSError(95, "Not supported")]


def make(kind: type) -> Exception:
    return kind(95, "the cause", "log")


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    return str(Recipe("mp4", "h264", 2).make(tmp_path_factory.mktemp("walk")))


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_each_class_of_error_names_file_and_frame(kind):
    refused = pytest.raises(nf.UnreadableImageError, match=r"^walk.mp4 cannot be read as a video: the cause")
    with refused as caught, naming_video("walk.mp4"):
        raise make(kind)
    # Python's own class: PyAV's are not restored by all tools that carry errors from one process to another.
    cause = caught.value.__cause__
    assert (type(cause), cause.args, cause.__traceback__ is not None) == (OSError, (95, "the cause"), True)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), nf.UnreadableImageError)
    # The place that knows the frame adds it to an error that was named before.
    refused = pytest.raises(nf.UnreadableImageError, match=r"^walk.mp4: frame 1,234 cannot be read: the cause")
    with refused as caught, naming_video("walk.mp4", 1234), naming_video("walk.mp4"):
        raise make(kind)
    assert caught.value.__cause__.args == (95, "the cause")


@pytest.mark.parametrize("error", BUILTIN, ids=lambda error: type(error).__name__)
def test_errors_of_pyav_name_file_and_frame(error):
    refused = pytest.raises(nf.UnreadableImageError, match=r"^walk.mp4: frame 7 cannot be read: ")
    with refused, naming_video("walk.mp4", 7):
        raise error


def test_other_errors_stay_as_they_are():
    for error in (
        MemoryError(),
        av.error.MemoryError(12, "Cannot allocate memory"),
        KeyError("a"),
        KeyboardInterrupt(),
    ):
        with pytest.raises(type(error)) as caught, naming_video("walk.mp4", 7):
            raise error
        assert caught.value is error
    better = nf.UnreadableImageError("walk.mp4: frame 7 has the pixel format xyz, which FFmpeg does not convert")
    with pytest.raises(nf.UnreadableImageError) as caught, naming_video("walk.mp4", 7):
        raise better from make(av.error.OSError)
    assert caught.value is better


@pytest.mark.parametrize("kind", sorted({*OURS} - {av.error.InvalidDataError}, key=lambda kind: kind.__name__))
def test_errors_while_packets_are_read_or_decoded(kind):
    class Failing:
        size = 0
        stream = None

        def demux(self, stream):
            yield stream
            raise make(kind)

        def decode(self):
            raise make(kind)

    packets = demux(Failing(), "packet", "walk.mp4")
    assert next(packets) == "packet"
    with pytest.raises(nf.UnreadableImageError, match="walk.mp4 cannot be read as a video: the cause"):
        next(packets)
    # A packet that does not decode is a damaged frame, whatever the decoder says.
    assert decode_packet(Failing()) is None


def test_packets_end_where_the_rest_of_a_file_is_damaged(walk, tmp_path, caplog):
    class Torn:
        def __init__(self, container, count):
            self.container, self.count = container, count

        def demux(self, stream):
            yield from itertools.islice(self.container.demux(stream), self.count)
            raise make(av.error.InvalidDataError)

    name = str(tmp_path / "walk.mp4")
    with av.open(walk) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        packets = [*demux(Torn(container, 7), stream, name), *demux(Torn(container, 2), stream, name)]
        assert [bool(packet.size) for packet in packets] == [True] * 7 + [False] + [True] * 2 + [False]
        # The empty packet lets the decoder put out what it still holds, as at the end of a whole file.
        frames = [read_number(frame.to_ndarray(format="rgb24")) for packet in packets[:8] for frame in packet.decode()]
        assert frames == list(range(7))
        assert [record.getMessage() for record in caplog.records] == [
            f"{name} is damaged, and FFmpeg finds no packet in the rest of it (the cause); the frames before are read"
        ]
        with pytest.raises(nf.UnreadableImageError, match="walk.mp4 cannot be read as a video: the cause"):
            next(demux(Torn(container, 0), stream, name))


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_errors_while_a_file_is_opened(walk, monkeypatch, kind):
    def fail(*_, **__):
        raise make(kind)

    monkeypatch.setattr(av, "open", fail)
    with pytest.raises(nf.UnreadableImageError, match="mp4 does not open as a video: the cause"):
        open_container(walk)


def test_a_lack_of_memory_is_no_damage(walk, monkeypatch):
    def fail(*_, **__):
        raise av.error.MemoryError(12, "Cannot allocate memory")

    class Failing:
        size = 0
        stream = None
        decode = fail

    with pytest.raises(MemoryError):
        decode_packet(Failing())
    monkeypatch.setattr(av, "open", fail)
    with pytest.raises(MemoryError):
        open_container(walk)


@pytest.mark.parametrize(
    "kind", [av.error.PermissionError, av.error.ArgumentError, av.error.EOFError, av.error.OSError]
)
@pytest.mark.parametrize("place", ["cursor.demux", "decoder.to_pixels"])
def test_the_frame_is_named_by_each_way_to_read_it(walk, tmp_path, monkeypatch, at_rest, kind, place):
    video = nf.open(walk, workdir=tmp_path)
    video[0]

    def fail(*_, **__):
        raise make(kind)

    monkeypatch.setattr(f"ndframes.video.{place}", fail)
    ways = (
        lambda: video[23],
        lambda: video[23, :8, :8],
        lambda: video[[23, 24]],
        lambda: nf.SimpleFrames({"a": walk}, workdir=tmp_path).load_region("a", 23),
    )
    for way in ways:
        with pytest.raises(nf.NdframesError, match=r"mp4: frame 23 cannot be read: the cause"):
            way()


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_errors_while_frames_are_indexed(walk, tmp_path, monkeypatch, kind):
    def fail(*_, **__):
        raise make(kind)

    monkeypatch.setattr("ndframes.entries.frame_index.build_index", fail)
    for way in (nf.open, nf.read_video, nf.video_metadata):
        with pytest.raises(nf.UnreadableImageError, match="mp4 cannot be read as a video: the cause"):
            way(walk, workdir=tmp_path)


def test_raw_av1_reads_or_says_why(tmp_path):
    """FFmpeg cannot seek in it, and refuses with PermissionError."""
    path = Recipe("obu", "av1").make(tmp_path)
    video = nf.open(path, workdir=tmp_path)
    for number in (35, 3, 20):
        try:
            video[number]
        except nf.NdframesError as error:
            assert str(path) in str(error)  # noqa: PT017 - both are right
