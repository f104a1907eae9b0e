"""Videos with a damaged header, or a codec that FFmpeg does not know: one typed error that names the file."""

from __future__ import annotations

import av
import numpy as np
import pytest
from kit.videos import list_clips

import ndframes as nf
from ndframes.video.index import decode_all, demux, naming_video

CLIPS = {clip.name: clip for clip in list_clips()}
NO_DECODER = "FFmpeg has no decoder for the codec of stream 0"
WAYS_IN = (
    lambda path, workdir: nf.open(path, workdir=workdir),
    lambda path, workdir: nf.read_video(path, [0], workdir=workdir),
    lambda path, workdir: nf.video_metadata(path, workdir=workdir),
    lambda path, workdir: nf.SimpleFrames({path: path}, workdir=workdir, backend="intra").prepare(),
)


@pytest.fixture
def damage(tmp_path):
    def make(name: str, *changes: tuple[bytes, bytes]) -> str:
        path = tmp_path / name
        CLIPS[name].make(path, 3)
        data = path.read_bytes()
        for old, new in changes:
            assert old in data
            data = data.replace(old, new)
        path.write_bytes(data)
        return str(path)

    return make


def check_refused(path: str, tmp_path, message: str) -> None:
    for way_in in WAYS_IN:
        with pytest.raises(nf.NdframesError) as caught:
            way_in(path, tmp_path / "work")
        failure = caught.value
        if isinstance(failure, nf.PrepareError):
            ((_, _, failure),) = failure.report.failed
        assert isinstance(failure, nf.UnreadableImageError)
        assert path in str(failure)
        assert message in str(failure)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("plain.mp4", b"avc1", b"zvc1"),
        ("h264.avi", b"H264", b"ZZZZ"),
        ("plain.mkv", b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/ZVC"),
    ],
)
def test_an_unknown_codec(damage, tmp_path, name, old, new):
    check_refused(damage(name, (old, new)), tmp_path, NO_DECODER)


def test_an_edit_list_that_hides_every_frame(damage, tmp_path):
    path = damage("plain.mp4")
    with open(path, "r+b") as file:
        file.seek(file.read().index(b"elst") + 16)
        file.write((1 << 30).to_bytes(4, "big"))  # the first moment that is shown
    check_refused(path, tmp_path, "its video shows none of its 3 packets")


def test_an_empty_file(tmp_path):
    path = tmp_path / "empty.mp4"
    path.write_bytes(b"")
    check_refused(str(path), tmp_path, "is empty (0 bytes)")
    path.write_bytes(b"no video")
    check_refused(str(path), tmp_path, "does not open as a video: Invalid data found when processing input")


def test_a_decoder_that_does_not_open(damage, tmp_path):
    """A width of 0 in a header is refused by the decoder itself, at the first packet."""
    path = tmp_path / "raw.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("rawvideo", rate=10, width=16, height=16, pix_fmt="gray")
        for number in range(2):
            frame = av.VideoFrame.from_ndarray(np.full((16, 16), number, np.uint8), format="gray")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    place = data.index(b"strf") + 12
    data[place : place + 4] = bytes(4)
    path.write_bytes(data)
    check_refused(str(path), tmp_path, "decodes")


def test_errors_of_ffmpeg_name_the_file(damage):
    path = damage("plain.mp4")
    refused = pytest.raises(
        nf.UnreadableImageError, match=r"walk.mp4 cannot be read as a video: Operation not permitted"
    )
    with refused, naming_video("walk.mp4"):
        raise av.error.PermissionError(1, "Operation not permitted")
    with pytest.raises(MemoryError), naming_video("walk.mp4"):
        raise av.error.MemoryError(12, "Cannot allocate memory")

    class Failing:
        def demux(self, stream):
            yield stream
            raise av.error.OSError(5, "Input/output error")

    packets = demux(Failing(), "packet", path)
    assert next(packets) == "packet"
    with pytest.raises(nf.UnreadableImageError, match="Input/output error"):
        next(packets)
    assert len(list(decode_all(path, 0))) == 3
