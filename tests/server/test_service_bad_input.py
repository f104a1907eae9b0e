"""Services: what strangers send. Nothing is opened that is not an image of the service, and nothing is told of the server's files."""

from __future__ import annotations

import json
import random
import resource
import socket
import sys
from urllib.parse import quote

import numpy as np
import pytest
from kit.waiting import wait_until

import ndframes as nf
from ndframes.server import ServiceLimits, create_app

TOKEN = "a-token-of-these-tests"
SECRET = "folder-that-nobody-may-know"


@pytest.fixture
def frames(tmp_path, gradient):
    folder = tmp_path / SECRET
    folder.mkdir()
    np.save(folder / "a.npy", gradient)
    (folder / "broken.tif").write_bytes(b"II*\0" + bytes(100))
    sources = {"a": folder / "a.npy", "broken": folder / "broken.tif", "gone": folder / "gone.tif"}
    return nf.SimpleFrames(sources, workdir=tmp_path / "work")


def error_of(reply):
    assert reply.headers["content-type"] == "application/json"
    assert SECRET not in reply.text
    error = reply.json["error"]
    assert {"type", "message"} <= error.keys()
    return error


def make_payloads(folder, port: int) -> list[str]:
    """Names of images that try to reach a file or another server."""
    files = ["etc/passwd", "proc/self/environ", f"{folder}/a.npy", "a.npy", "windows/win.ini"]
    ups = ["", "/", "../", "../../../../../../", "..\\..\\", "%2e%2e/", "..;/", "....//", "./", "\\\\host\\share\\"]
    schemes = [
        "file:///",
        f"http://127.0.0.1:{port}/",
        f"https://127.0.0.1:{port}/",
        "/vsicurl/",
        "/vsizip//vsicurl/",
        "/vsis3/",
    ]
    schemes += [
        f"rtsp://127.0.0.1:{port}/",
        f"/vsicurl/http://127.0.0.1:{port}/",
        f"ftp://127.0.0.1:{port}/",
        "video:",
        "data:,",
    ]
    ends = ["", "\0", "\0.tif", "?", "#", ";.png", " ", "\r\nX: y", "\u202e", "/."]
    return [f"{start}{file}{end}" for start in [*ups, *schemes] for file in files for end in ends]


def test_names_that_are_paths_or_addresses(frames, serve_frames, tmp_path):
    site, _ = serve_frames(frames)
    opened: list[str] = []
    is_watching = False

    def watch(event: str, arguments: tuple) -> None:
        if is_watching and event == "open":
            opened.append(str(arguments[0]))

    sys.addaudithook(watch)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        payloads = make_payloads(tmp_path / SECRET, listener.getsockname()[1])
        assert len(payloads) >= 500
        is_watching = True
        for payload in payloads:
            path = random.Random(payload).choice(
                ["/frames/{}/region", "/frames/{}", "/annotations?id={}", "/frames?after={}"]
            )
            reply = site.ask(path.format(quote(payload, safe="")))
            assert reply.status in (400, 404), payload
            assert "passwd" not in reply.text or reply.headers["content-type"] == "application/json"
            body = json.dumps([{"id": payload}]).encode()
            # The message repeats what was asked for, and tells nothing else.
            reply = site.ask("/regions", "POST", body=body)
            assert reply.json["error"]["type"] == "ImageIdError"
            assert (SECRET in payload) or SECRET not in reply.text
            raw = payload.encode("unicode-escape").decode().replace(" ", "").replace("#", "")
            assert site.ask(f"/frames/{raw}/region").status in (400, 404), payload
        is_watching = False
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert not [path for path in opened if SECRET in path or "passwd" in path or "environ" in path or "win.ini" in path]


@pytest.mark.parametrize(
    ("query", "kind", "says"),
    [
        ("y=a", "RegionError", "y='a' is not a slice"),
        ("y=1:2:3:4", "RegionError", "is not a slice"),
        ("y=1.5", "RegionError", "is not a slice"),
        ("y=0:1:0", "RegionError", "step not 0"),
        ("y=9999999999999999999", "RegionError", "at most 18 digits"),
        ("y=1e9", "RegionError", "is not a slice"),
        ("y=５", "RegionError", "is not a slice"),
        ("y=1000", "RegionIndexError", "out of bounds"),
        ("y=1,2", "RegionError", "is not a slice"),
        ("t=0", "RegionError", "axes y, x, c"),
        ("z=0", "RegionError", "is not a parameter"),
        ("y=0&y=1", "RegionError", "given twice"),
        ("url=http://127.0.0.1/", "RegionError", "is not a parameter"),
        ("channels=q", "ChannelError", "no channel 'q'"),
        ("scale=0", "RegionError", "scale"),
        ("scale=-1", "RegionError", "scale"),
        ("scale=nan", "RegionError", "not a finite number"),
        ("scale=inf", "RegionError", "not a finite number"),
        ("scale=1,2,3", "RegionError", "two numbers"),
        ("scale=x", "RegionError", "not a number"),
        ("shape=0x5", "RegionError", "shape"),
        ("shape=-1x5", "RegionError", "shape"),
        ("shape=5", "RegionError", "two numbers"),
        ("shape=5x5&scale=2", "RegionError", "scale"),
        ("pad=mirror", "RegionError", "pad"),
        ("fill=red", "RegionError", "fill"),
        ("pad=constant&fill=-1&y=-5:5", "RegionError", "fill"),
        ("interpolation=sharp", "RegionError", "interpolation"),
        ("nodata=zero", "RegionError", "nodata"),
        ("antialias=maybe", "RegionError", "antialias"),
        ("outside=raise&y=0:38", "RegionError", "leaves the image"),
        ("format=jpg", "RegionError", "format"),
        ("format=../../etc", "RegionError", "format"),
        ("y=5:5&format=png", "OutputError", "with pixels"),
        ("y=5&format=png", "OutputError", "take slices"),
    ],
)
def test_queries_that_are_wrong(frames, serve_frames, query, kind, says):
    site, _ = serve_frames(frames)
    reply = site.ask(f"/frames/a/region?{quote(query, safe='=&:,')}")
    error = error_of(reply)
    assert (reply.status, error["type"]) == (400, kind)
    assert says in error["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[", b"null", b"5", b"{}", b'{"requests": 5}', b"[5]", b"[{}]", b'[{"id": null}]', b'[{"id": true}]',
        b'[{"id": ["a"]}]', b'[{"id": "a", "regions": null}]', b'[{"id": "a", "region": 5}]', b'[{"id": "a", "region": [0, 1, 2, 3, 4]}]',
        b'[{"id": "a", "region": [[0, 1, 2, 3]]}]', b'[{"id": "a", "region": [true]}]', b'[{"id": "a", "region": [0.5]}]',
        b'[{"id": "a", "region": {"z": 0}}]', b'[{"id": "a", "region": {"y": {"list": [0]}}}]',
        b'[{"id": "a", "region": [1000000000000000000000]}]', b'{"requests": [], "channels": 5}', b'{"requests": [], "channels": [5]}',
        b'{"requests": [], "format": "png"}', b'{"requests": [], "url": "x"}', b'{"requests": [{"id": "a"}], "scale": [1]}',
        b'{"requests": [{"id": "a"}], "scale": {"a": 1}}', b'{"requests": [{"id": "a"}], "scale": "2"}',
        b'{"requests": [{"id": "a"}], "shape": [1, null]}', b'{"requests": [{"id": "a"}], "fill": []}',
        b'{"requests": [{"id": "a"}], "interpolation": {"r": 5}}', b'{"requests": [{"id": "a"}], "interpolation": {"r": []}}',
        b'{"requests": [{"id": "a"}], "nodata": 5}', b'{"requests": [{"id": "a"}], "pad": 7}', b"\xff\xfe", b"[" * 100_000,
        json.dumps([{"id": "a"}] * 5000).encode(),
    ],
)  # fmt: skip
def test_bodies_that_are_wrong(frames, serve_frames, body):
    site, _ = serve_frames(frames)
    reply = site.ask("/regions", "POST", body=body)
    assert reply.status == 400, reply.text
    assert error_of(reply)["type"] in ("RegionError", "RegionIndexError", "ImageIdError")


def test_a_body_that_is_too_long(frames, serve_frames):
    site, _ = serve_frames(frames)
    reply = site.ask("/regions", "POST", body=b" " * (2**20 + 1))
    assert (reply.status, error_of(reply)["type"]) == (413, "RegionTooLargeError")


def test_extreme_requests_cost_nothing(frames, serve_frames):
    site, remote = serve_frames(frames)
    remote.load_region("a")
    draw = random.Random(0)
    numbers = ["", "0", "-1", "7", "999999999999999999", "-999999999999999999", "2147483648", "1000000"]
    statuses = set()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(1000):
        axes = "&".join(
            f"{axis}={draw.choice(numbers)}:{draw.choice(numbers)}:{draw.choice(numbers[2:])}" for axis in "yx"
        )
        options = draw.choice(
            [
                "",
                "&scale=1e300",
                "&scale=1e-300",
                "&shape=99999999x99999999",
                "&pad=reflect",
                "&pad=constant&scale=50",
                "&pad=edge&shape=9x9",
            ]
        )
        statuses.add(site.ask(f"/frames/a/region?{axes}{options}").status)
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert statuses == {200, 400, 413}
    assert grown_kb < 100_000


def test_too_much_at_once(frames, serve_frames):
    site, remote = serve_frames(frames, limits=ServiceLimits(max_pixels=500, max_bytes=2000))
    assert site.ask("/frames/a/region?y=0:20&x=0:10").status == 200
    for query in ("y=0:20&x=0:26", "y=0:26&x=0:20&c=0", "shape=30x30&c=0", "y=::30&x=::30&c=0"):
        reply = site.ask(f"/frames/a/region?{query}")
        assert (reply.status, error_of(reply)["type"]) == (413, "RegionTooLargeError")
    three = json.dumps([{"id": "a", "region": [[0, 10], [0, 20]]}] * 3).encode()
    assert site.ask("/regions", "POST", body=three).status == 413
    with pytest.raises(nf.RegionTooLargeError, match="over the server's limit of 500"):
        remote.load_region("a")


def test_errors_of_files_tell_no_path(frames, serve_frames, caplog):
    site, remote = serve_frames(frames)
    for name, status, kind in (("broken", 500, "UnreadableImageError"), ("gone", 410, "SourceMissingError")):
        for path in (f"/frames/{name}/region", f"/frames/{name}"):
            reply = site.ask(path)
            assert (reply.status, error_of(reply)["type"]) == (status, kind)
        with pytest.raises(getattr(nf, kind), match=f"image '{name}': .* file of the image"):
            remote.load_region(name)
    # The log has it.
    assert SECRET in caplog.text
    listed = site.ask("/frames")
    assert SECRET not in listed.text
    assert [entry.get("error", {}).get("type") for entry in listed.json["frames"]] == [
        None,
        "UnreadableImageError",
        "SourceMissingError",
    ]


def test_without_the_token_or_from_elsewhere(frames, serve_frames):
    site, _ = serve_frames(frames)
    for path in ("/health", "/stats", "/frames", "/frames/a", "/frames/a/region", "/annotations"):
        assert site.ask(path, has_token=False).status == 401
        assert site.ask(path, Host="evil.example").status == 400
        assert site.ask(path, Origin="http://evil.example").status == 403
    assert site.ask("/regions", "POST", has_token=False, body=b"[]").status == 401
    assert site.ask("/", has_token=False).status == 200
    assert "no-store" in site.ask("/frames/a/region").headers["cache-control"]


def test_methods_and_paths_that_are_not_there(frames, serve_frames):
    site, _ = serve_frames(frames)
    assert site.ask("/frames/a/region", "POST").status == 405
    assert site.ask("/frames/a", "DELETE").status == 405
    assert site.ask("/regions").status == 405
    assert site.ask("/frames/a/region/").status == 404
    assert site.ask("/frames//region").status == 404
    assert site.ask("/frames/a/region", "HEAD").body == b""


@pytest.mark.parametrize(
    "options", [{"max_pixels": 0}, {"threads": 1.5}, {"max_waiting": True}, {"deadline_seconds": 0}]
)
def test_limits_that_are_none(options):
    with pytest.raises(nf.errors.ServerError, match=next(iter(options))):
        ServiceLimits(**options)


def test_a_token_that_is_too_weak(frames):
    with pytest.raises(nf.errors.AccessError):
        create_app(frames, token="short")
    assert create_app(frames, token=TOKEN).token == TOKEN


HEAD = "POST /regions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n"


def test_a_body_that_is_announced_as_too_long_is_not_awaited(frames, serve_frames):
    site, _ = serve_frames(frames)
    with socket.create_connection(site.place, timeout=30) as connection:
        connection.sendall(HEAD.format(site.token, 10**14).encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_leaves_within_its_body_is_no_error(frames, serve_frames, caplog):
    site, _ = serve_frames(frames)
    with socket.create_connection(site.place, timeout=30) as connection:
        connection.sendall(HEAD.format(site.token, 100).encode() + b"[")
    counted = 'ndframes_requests_total{endpoint="/regions",method="POST",status="499"} 1'
    wait_until(lambda: counted in site.ask("/metrics").text.splitlines())
    assert [record for record in caplog.records if record.name == "ndframes.server"] == []


@pytest.mark.parametrize("wrong", ["scans/", None, ["a.tif"]])
def test_what_is_not_frames_is_not_served(wrong):
    with pytest.raises(TypeError, match="frames=.*; give Frames, such as SimpleFrames or CocoFrames"):
        create_app(wrong)
