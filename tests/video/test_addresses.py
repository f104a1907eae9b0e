"""Which addresses are streams, and how they are opened."""

from __future__ import annotations

import pytest

from ndframes.errors import StreamOpenError
from ndframes.video.addresses import find_address, hide_secrets


@pytest.mark.parametrize("uri", ["walk.mp4", "/a/b", "walk/*.png", "file:///a.mp4", None, True, 1.5, b"x", [1]])
def test_what_is_no_address(uri):
    assert find_address(uri) is None


@pytest.mark.parametrize("scheme", ["rtsp", "RTSP", "rtsps", "rtmp", "rtmps", "http", "https", "udp", "tcp", "rtp"])
def test_urls_are_live_and_may_be_cut(scheme):
    address = find_address(f"{scheme}://host/1")
    assert (address.url, address.format) == (f"{scheme}://host/1", None)
    assert address.is_live
    assert address.may_be_cut
    assert address.has_sender_clock == (scheme.lower() in ("rtsp", "rtsps", "rtp"))
    assert address.has_connection == (scheme not in ("udp", "rtp"))


def test_rtsp_is_by_tcp_unless_asked_otherwise():
    assert find_address("rtsp://host/1").options["rtsp_transport"] == "tcp"
    options = find_address("rtsp://host/1", {"rtsp_transport": "udp", "stimeout": "1"}).options
    assert (options["rtsp_transport"], options["stimeout"], options["probesize"]) == ("udp", "1", "32")


@pytest.mark.parametrize("uri", [2, "2", "/dev/video2"])
def test_cameras(uri):
    address = find_address(uri, {"video_size": "640x480"})
    assert (address.url, address.format, address.name) == ("/dev/video2", "v4l2", "camera /dev/video2")
    assert address.options == {"video_size": "640x480"}
    assert address.is_live


def test_a_file_may_be_called_like_anything(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "7").touch()
    (tmp_path / "http:").mkdir()
    (tmp_path / "http:" / "a").touch()
    assert find_address("7") is None
    assert find_address("http://a") is None
    assert find_address("8").format == "v4l2"


@pytest.mark.parametrize(
    ("graph", "is_live"),
    [
        ("testsrc2=rate=25", False),
        ("testsrc2=rate=25,realtime", True),
        ("testsrc2 , realtime=speed=2", True),
        ("testsrc2[a];[a]realtime[out0]", True),
        ("color=c=red:size=64x64,drawtext=text=realtime", False),
    ],
)
def test_filters_are_live_if_they_are_paced(graph, is_live):
    address = find_address(f"lavfi:{graph}")
    assert (address.url, address.format, address.is_live, address.may_be_cut) == (graph, "lavfi", is_live, False)


def test_a_description_of_a_session():
    description = find_address("camera.sdp")
    assert (description.url, description.format) == ("file:camera.sdp", "sdp")
    assert description.options == {"protocol_whitelist": "file,udp,rtp"}


@pytest.mark.parametrize("uri", ["ftp://me:secret@host/a", "srt://host:1", "s3://bucket/a.mp4", "gopher://x"])
def test_other_schemes(uri):
    with pytest.raises(StreamOpenError, match=r"allowed are rtsp://, .*lavfi:") as caught:
        find_address(uri)
    assert uri.partition(":")[0] in str(caught.value)
    assert "secret" not in str(caught.value)


def test_no_filters():
    with pytest.raises(StreamOpenError, match="no filters"):
        find_address("lavfi: ")


def test_passwords_are_hidden():
    assert hide_secrets("rtsp://me:a/b@host/1") == "rtsp://me:a/b@host/1"  # no password: a slash ends the host
    assert hide_secrets("rtsp://me:p:w@host/1?x=:y@z") == "rtsp://me:***@host/1?***"
    assert hide_secrets("rtsp://me:p@w@host/1") == "rtsp://me:***@host/1"
    assert hide_secrets("https://abc@host/1?token=abc") == "https://***@host/1?***"
    assert hide_secrets("'http://h/1?key=a' and http://h/2?key=b: no") == "'http://h/1?***' and http://h/2?*** no"
    assert hide_secrets(r"lavfi:movie=http\://me:pw@h/x") == r"lavfi:movie=http\://me:***@h/x"
    assert hide_secrets("what? a:b@c") == "what? a:b@c"
    assert hide_secrets("Connection to rtsp://me:pw@host failed") == "Connection to rtsp://me:***@host failed"
    assert hide_secrets("rtsp://host:554/a@b") == "rtsp://host:554/a@b"
