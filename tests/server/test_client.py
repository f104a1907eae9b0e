"""Clients: the images of a server are Frames, with the same pixels and errors, in every thread and process."""

from __future__ import annotations

import multiprocessing
import pickle
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from kit.forking import in_fork
from kit.http_requests import count_descriptors
from kit.numbered import write_clip

import ndframes as nf
from ndframes.errors import AccessError, RemoteError, UnsupportedError
from ndframes.server import serve


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    folder = tmp_path_factory.mktemp("client")
    gradient = np.arange(37 * 53 * 3, dtype=np.uint16).reshape(37, 53, 3)
    sources = {}
    for number, image_id in enumerate(("a", 7, "some/where b.npy")):
        np.save(folder / f"{number}.npy", gradient + number)
        sources[image_id] = folder / f"{number}.npy"
    return nf.SimpleFrames(sources, workdir=folder / "work")


@pytest.fixture(scope="module")
def service(frames):
    with serve(frames) as running:
        yield running


@pytest.fixture
def remote(service):
    return nf.connect(service.address)


def test_ids(frames, remote):
    assert isinstance(remote, nf.Frames)
    assert list(remote.image_ids) == ["a", 7, "where-b.npy"]
    assert len(remote) == 3
    assert 7 in remote
    assert "7" not in remote
    assert np.array_equal(remote.load_image(7), frames.load_image(7))
    assert np.array_equal(remote.load_image("where-b.npy"), frames.load_image("some/where b.npy"))


@pytest.mark.parametrize(
    ("options", "channels"),
    [
        ({}, None),
        ({"fill": 9, "interpolation": "nearest"}, "b|r"),
        ({"nodata": "nan"}, "g"),
        ({"nodata": "mask"}, None),
    ],
)
def test_images_through_a_matrix(frames, remote, options, channels):
    turned = np.array([[0.8, -0.6, 11.3], [0.6, 0.8, -4.75], [0, 0, 1]])
    wanted = frames.load_warped("a", turned, (40, 45), channels, **options)
    got = remote.load_warped("a", turned, (40, 45), channels, **options)
    assert type(got) is type(wanted)
    assert got.dtype == wanted.dtype
    assert np.array_equal(np.ma.getmaskarray(got), np.ma.getmaskarray(wanted))
    assert np.array_equal(np.ma.getdata(got), np.ma.getdata(wanted), equal_nan=got.dtype.kind == "f")
    for transform, shape in ((np.zeros((3, 3)), (5, 5)), (turned, (0, 5)), (turned, (10**6, 10**6)), ("x", (5, 5))):
        with pytest.raises(nf.RegionError):
            remote.load_warped("a", transform, shape)
    with pytest.raises(nf.ChannelError):
        remote.load_warped("a", turned, (5, 5), "q")


def test_times_of_a_video(tmp_path):
    write_clip(tmp_path / "clip.mp4", 30)
    frames = nf.SimpleFrames({"clip": tmp_path / "clip.mp4"}, workdir=tmp_path / "work")
    with serve(frames) as running:
        remote = nf.connect(running.address)
        video = remote["clip"]
        assert np.array_equal(video.times, frames["clip"].times)
        assert np.array_equal(video[[29, 3]], frames["clip"][[29, 3]])
        for each in (frames, remote):  # a list is no region of load_region
            with pytest.raises(nf.RegionError, match=r"image 'clip': axis 0: \[29, 3\] \(list\) is not a region"):
                each.load_region("clip", [29, 3])


def test_an_image_has_no_times(remote):
    with pytest.raises(UnsupportedError, match="only videos"):
        remote["a"].times  # noqa: B018


def test_handles(frames, remote):
    frame = remote["a"]
    own = frames["a"]
    assert (frame.shape, frame.dtype, frame.channels, len(frame)) == (own.shape, own.dtype, own.channels, len(own))
    assert np.array_equal(frame[[3, 1, 3], 5:9], own[[3, 1, 3], 5:9])
    assert np.array_equal(np.asarray(frame), np.asarray(own))
    assert "37 x 53" in repr(frame)
    assert "token" not in repr(remote) + repr(remote.__dict__["_server"]).replace("address", "")
    assert "<figure" in frame._repr_html_()
    assert remote.extents("a") == (37, 53)


REQUESTS = [
    ("b", None, None, {}),
    ("7", None, None, {}),
    (["a"], None, None, {}),
    ("a", np.s_[0:5, 0:5, 0:1, 0:1], None, {}),
    ("a", np.s_[0.5:], None, {}),
    ("a", np.s_[1, None], None, {}),
    ("a", np.s_[..., ...], None, {}),
    ("a", np.s_[::0], None, {}),
    ("a", np.s_[37], None, {}),
    ("a", np.s_[10**30], None, {}),
    ("a", True, None, {}),
    ("a", [1, 2], None, {}),
    ("a", np.s_[0:2, 0:2, [0]], None, {}),
    ("a", np.s_[0:2, [0, 1]], None, {"pad": "edge"}),
    ("a", "text", None, {}),
    ("a", None, "q", {}),
    ("a", None, ["r", "q"], {}),
    ("a", None, None, {"scale": 0}),
    ("a", None, None, {"scale": (1, 2, 3)}),
    ("a", None, None, {"shape": (0, 5)}),
    ("a", None, None, {"shape": (5, 5), "scale": 1}),
    ("a", None, None, {"pad": "mirror"}),
    ("a", np.s_[-1:3, ::2], None, {"pad": "constant", "fill": -1}),
    ("a", np.s_[5:3], None, {"pad": "edge"}),
    ("a", np.s_[5], None, {"pad": "edge"}),
    ("a", None, None, {"interpolation": "sharp"}),
    ("a", None, None, {"nodata": "zero"}),
    ("a", np.s_[0:38], None, {"outside": "raise"}),
    ("a", np.s_[0:50, 0:30], None, {"outside": "raise"}),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=repr)
def test_errors_are_those_of_the_frames(frames, remote, request_):
    image_id, region, channels, options = request_
    found = []
    for each in (frames, remote):
        with pytest.raises(nf.NdframesError) as caught:
            each.load_region(image_id, region, channels, **options)
        found.append(
            (type(caught.value), str(caught.value).replace("some/where b.npy", "where-b.npy"), caught.value.image_id)
        )
    assert found[0] == found[1]
    with pytest.raises(found[0][0]):
        remote.load_regions([("a", None), (image_id, region)], channels, **options)


@pytest.mark.parametrize("fill", ["x", "7", None, [1, 2], np.zeros(2)], ids=repr)
def test_a_fill_that_is_no_number(frames, remote, fill):
    for each in (frames, remote):
        with pytest.raises(nf.RegionError, match="image 'a': fill=.* is not a"):
            each.load_region("a", np.s_[-2:3, 0:2], pad="constant", fill=fill)


def test_regions_that_are_boxes_and_dots(frames, remote):
    import kwimage

    box = kwimage.Box.coerce([-3.5, 2, 10, 8.1], format="xywh")
    for region, options in (
        (box, {}),
        ((box, 0), {}),
        (box, {"pad": "reflect"}),
        (np.s_[..., 1], {}),
        (np.s_[np.int64(3) : np.uint8(9), ...], {}),
        (np.s_[: 10**19], {}),
    ):
        assert np.array_equal(remote.load_region("a", region, **options), frames.load_region("a", region, **options))


def test_out_and_limits(service, frames, remote):
    with pytest.raises(nf.RegionError, match="out holds 1"):
        remote.load_regions([("a", None), ("a", None)], out=[np.zeros((37, 53, 3), np.uint16)])
    with pytest.raises(nf.RegionError, match="masked arrays"):
        remote.load_regions([("a", None)], out=np.zeros((1, 37, 53, 3), np.uint16), nodata="mask")
    with pytest.raises(TypeError, match="load_regions"):
        remote.load_regions([("a", None)], colour="red")
    small = nf.connect(service.address, max_region_bytes=1000)
    with pytest.raises(nf.RegionTooLargeError, match="over the limit of 1,000"):
        small.load_region("a")
    with pytest.raises(nf.RegionTooLargeError, match="a batch of 20 regions"):
        small.load_regions([("a", np.s_[:5, :5])] * 20)
    assert small.load_region("a", np.s_[:5, :5]).shape == (5, 5, 3)


def test_what_works_on_files_is_refused(remote):
    for call in (
        lambda: remote.pathinfo("a"),
        remote.prepare,
        lambda: remote.explain("a"),
        lambda: remote["a"].chunks,
        lambda: remote.load_image("a", cache=False),
    ):
        with pytest.raises((UnsupportedError, nf.PrepareError), match="where the server at http://127"):
            call()


def read_crops(remote) -> int:
    return sum(int(remote.load_region("a", np.s_[y : y + 5, 3:9]).sum()) for y in range(30))


def test_a_client_needs_no_library_of_servers(service):
    code = f"import sys, ndframes as nf; nf.connect({service.address!r}).load_region('a'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True)
    assert {"starlette", "uvicorn", "h11", "anyio", "rasterio"}.isdisjoint(done.stdout.split())


def test_pickles_threads_and_processes(frames, remote):
    wanted = read_crops(frames)
    assert read_crops(remote) == wanted
    data = pickle.dumps(remote)
    assert len(data) < 5000
    assert read_crops(pickle.loads(data)) == wanted
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read_crops, [remote] * 16)) == {wanted}
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert set(pool.map(read_crops, [remote] * 4)) == {wanted}


def test_a_fork_opens_connections_of_its_own(frames, remote):
    wanted = read_crops(remote)

    def check():
        return read_crops(remote) == wanted

    stop = threading.Event()

    def read_on():
        while not stop.is_set():
            assert read_crops(remote) == wanted

    reader = threading.Thread(target=read_on)
    reader.start()
    try:
        for _ in range(3):
            in_fork(check)
    finally:
        stop.set()
        reader.join()
    assert read_crops(remote) == wanted


class Crops(torch.utils.data.Dataset):
    def __init__(self, remote) -> None:
        self.remote = remote

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> np.ndarray:
        return self.remote.load_region("a", np.s_[index % 30 : index % 30 + 4, 0:8]).astype(np.int32)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_in_the_workers_of_a_loader(frames, remote, method):
    remote.load_region("a", np.s_[:1])
    loader = torch.utils.data.DataLoader(Crops(remote), batch_size=8, num_workers=2, multiprocessing_context=method)
    got = np.concatenate([batch.numpy() for batch in loader])
    wanted = np.stack([Crops(frames)[index] for index in range(40)])
    assert np.array_equal(got, wanted)


def test_connections_are_used_again(remote):
    remote.load_region("a")
    before = count_descriptors()
    for _ in range(50):
        remote.load_region("a", np.s_[:3])
        with pytest.raises(nf.ChannelError):
            remote.load_region("a", None, "q")
    assert count_descriptors() <= before


def test_a_server_that_was_started_again(frames):
    with serve(frames) as first:
        remote = nf.connect(first.address)
        wanted = remote.load_region("a")
        port = int(remote.address.rpartition(":")[2].rstrip("/"))
        token = first.address.partition("token=")[2]
    with pytest.raises(RemoteError, match=r"cannot be read: .*is it still running"):
        remote.load_region("a")
    with serve(frames, port, token=token):
        # Idle connections to the first server are dropped without an error.
        assert np.array_equal(remote.load_region("a"), wanted)


def test_descriptions_are_asked_for_again(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((5, 6, 1), np.uint8))
    frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path / "work")
    with serve(frames) as service:
        remote = nf.connect(service.address, recheck_seconds=0)
        assert remote["a"].shape == (5, 6, 1)
        np.save(tmp_path / "a.npy", np.ones((7, 8, 2), np.float32))
        assert (remote["a"].shape, remote["a"].dtype) == ((7, 8, 2), np.float32)
        assert remote.load_region("a").all()


@pytest.mark.parametrize(
    "address",
    [
        "",
        "localhost:8000",
        "ftp://localhost/",
        "http://",
        "http://localhost:port/",
        "http://localhost/?token=x",
        5,
        None,
        "/work",
        "http://[::1",
    ],
)
def test_addresses_that_are_none(address):
    with pytest.raises(RemoteError, match="is not an address"):
        nf.connect(address)


def test_the_wrong_token(service):
    bare = service.address.partition("#")[0]
    token = service.address.partition("token=")[2]
    assert len(nf.connect(bare, token=token)) == 3
    for wrong in (nf.connect(bare), nf.connect(bare, token="x" * 30)):
        with pytest.raises(AccessError, match="wants another token") as caught:
            len(wrong)
        assert token not in str(caught.value)


def answer_with(data: bytes):
    """A server that answers each connection with the same bytes, and its address."""
    listener = socket.create_server(("127.0.0.1", 0))

    def work() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                client.recv(65536)
                client.sendall(data)

    thread = threading.Thread(target=work)
    thread.start()
    return listener, thread, f"http://127.0.0.1:{listener.getsockname()[1]}/"


def http_answer(body: bytes, media_type: str = "application/json", status: str = "200 OK") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\ncontent-type: {media_type}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\n",
        http_answer(b"<html>", "text/html"),
        http_answer(b"[]"),
        http_answer(b'{"frames": 5}'),
        http_answer(b'{"frames": [{"id": "a"}], "images": 1, "after": null}'),
        http_answer(b'{"frames"')[:-3],
        http_answer(b"no", "text/plain", "404 Not Found"),
        http_answer(b'{"error": 5}', status="500 No"),
        http_answer(b'{"error": {"type": "SystemExit", "message": "x"}}', status="400 No"),
        http_answer(b'{"error": {"type": "shorten", "message": "x"}}', status="400 No"),
    ],
)
def test_servers_that_are_no_service(data):
    listener, thread, address = answer_with(data)
    try:
        with pytest.raises(RemoteError):
            len(nf.connect(address, timeout=20))
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_a_token_in_the_path_of_the_address_is_never_shown(tmp_path, gradient, serve_frames):
    np.save(tmp_path / "a.npy", gradient)
    site, _ = serve_frames(nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path / "work"))
    address = site.address.partition("#")[0]
    remote = nf.connect(f"{address}k/{site.token}/")
    assert np.array_equal(remote.load_region("a"), gradient)
    assert site.token not in repr(remote)
    wrong = "wrong-token-of-this-test"
    with pytest.raises(AccessError, match="wants another token") as raised:
        len(nf.connect(f"{address}k/{wrong}").image_ids)
    assert wrong not in str(raised.value)
    # The one that is given counts.
    assert nf.connect(f"{address}k/{wrong}", token=site.token).image_ids == ("a",)
