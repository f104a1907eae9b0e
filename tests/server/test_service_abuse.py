"""A service as a process of its own, and all that it opens while strangers ask for what they should not have."""

from __future__ import annotations

import http.client
import io
import json
import os
import random
import re
import resource
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from kit.http_requests import Site
from test_service_bad_input import make_payloads

import ndframes as nf
from ndframes.server import create_app

TOKEN = "a-token-of-these-tests"
# Run by each Python process with this folder in its path: writes what the process opens to a file while another one is there.
WATCH = """
import json, os, sys
_EVENTS = ("open", "os.listdir", "os.scandir", "os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink", "os.exec", "os.system",
    "os.posix_spawn", "subprocess.Popen", "socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request", "ctypes.dlopen")
_seen = os.open(os.environ["SEEN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def _watch(event, arguments):
    if event in _EVENTS and os.path.lexists(os.environ["ARMED"]):
        os.write(_seen, (json.dumps([event, os.fsdecode(arguments[0]) if isinstance(arguments[0], (str, bytes)) else repr(arguments)]) + "\\n").encode())
sys.addaudithook(_watch)
"""


class Watched:
    """A service, and what it opens."""

    def __init__(self, process: subprocess.Popen, folder: Path) -> None:
        self.process, self.folder = process, folder
        self.site = Site(process.stdout.readline().strip())
        self._connection = http.client.HTTPConnection(*self.site.place, timeout=120)

    def ask(self, path: str, method: str = "GET", body: bytes | None = None) -> tuple[int, bytes]:
        """A request over a connection that is kept open."""
        self._connection.request(method, path, body, {"Authorization": f"Bearer {TOKEN}"})
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def close(self) -> None:
        self._connection.close()
        self.process.terminate()
        assert self.process.wait(60) == 0

    def arm(self) -> None:
        (self.folder / "armed").touch()

    def take_seen(self) -> list[list[str]]:
        (self.folder / "armed").unlink()
        return [json.loads(line) for line in (self.folder / "seen").read_text().splitlines()]

    def resident_peak_kb(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start a service of the images ``"a"``, of three bands, and ``"still"``, and of a sequence ``"steps"``."""
    images = tmp_path / "images"
    (images / "steps").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 1 << 12, (300, 400, 3), np.uint16)
    np.save(images / "a.npy", pixels)
    np.save(images / "still.npy", pixels[:, :, 0])
    dataset = {
        "images": [
            {"id": number, "name": name, "file_name": f"images/{name}.npy", "height": 300, "width": 400}
            for number, name in ((1, "a"), (2, "still"))
        ],
        "videos": [], "categories": [{"id": 1, "name": "cup"}],
        "annotations": [{"id": number, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]} for number in range(50)],
    }  # fmt: skip
    (tmp_path / "data.json").write_text(json.dumps(dataset))
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(WATCH)
    monkeypatch.chdir(tmp_path)
    path = f"{tmp_path / 'site'}{os.pathsep}{Path(nf.__file__).parents[1]}"
    for name, value in (
        ("PYTHONPATH", path),
        ("NDFRAMES_WORKDIR", tmp_path / "work"),
        ("NDFRAMES_TOKEN", TOKEN),
        ("SEEN", tmp_path / "seen"),
        ("ARMED", tmp_path / "armed"),
    ):
        monkeypatch.setenv(name, str(value))
    with ExitStack() as stack:

        def run(*arguments):
            command = [sys.executable, "-m", "ndframes", "serve", "data.json", *map(str, arguments)]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            server = Watched(process, tmp_path)
            stack.callback(server.close)
            return server

        yield run


# With the name of an image, and a state for those that have one.
PATHS = (
    "/frames/{}/region", "/frames/{}", "/frames/{}/tiles", "/frames/{}/{}/tiles/0", "/frames/1/{}/tiles/0", "/iiif/{}",
    "/iiif/{}/info.json", "/iiif/{}/full/max/0/default.png", "/iiif/1/{}/max/0/default.png", "/iiif/1/full/max/0/{}",
    "/frames/{}/stats", "/frames/{}/thumbnail", "/frames/{}/times", "/annotations?id={}", "/frames?after={}", "/{}", "/static/{}",
    "/frames/1/region?format={}", "/frames/1/region?url={}", "/frames/1/region?channels={}", "/frames/1/tiles?url={}",
    "/frames/1?channels={}", "/frames/1/region?y={}", "/frames/1/region?interpolation={}", "/iiif/1/info.json?url={}",
)  # fmt: skip


def warm_up(server: Watched, paths=PATHS) -> None:
    """Ask for each kind of thing once, so that what is imported or converted is there."""
    for path in paths:
        for value in ("1", "2", "nobody", "png", "zip", "tif"):
            server.ask(path.replace("{}", value))
    (state,) = {file["state"] for file in json.loads(server.ask("/frames/1/tiles")[1])["files"]}
    for path in (f"/frames/1/{state}/tiles/0", "/iiif/1/full/max/0/default.jpg", "/frames/2/region?scale=0.5&pad=edge"):
        assert server.ask(path)[0] == 200
    body = json.dumps([{"id": 1, "region": {"y": [0, 9]}}, {"id": 2}]).encode()
    assert server.ask("/regions", "POST", body)[0] == 200


def ask_for(server: Watched, payload: str, path: str) -> None:
    status, body = server.ask(path.replace("{}", quote(payload, safe="")))
    # Some payloads name nothing, or are parameters that /iiif ignores.
    assert status < 500, (payload, path, status)
    assert status in (400, 404, 405, 410) or b"passwd" not in body, (payload, path, status)
    raw = quote(payload, safe="/:%.;\\~")
    assert server.ask(path.replace("{}", raw))[0] < 500, (payload, path)


def check_payloads(server: Watched, tmp_path, *, all_paths: bool) -> None:
    warm_up(server)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        payloads = make_payloads(tmp_path / "images", listener.getsockname()[1])
        payloads = payloads if all_paths else payloads[::2]
        assert len(payloads) >= 500
        server.arm()
        for number, payload in enumerate(payloads):
            for path in PATHS if all_paths else (PATHS[number % len(PATHS)],):
                ask_for(server, payload, path)
            body = json.dumps({"requests": [{"id": payload}], "format": payload, "channels": payload}).encode()
            assert server.ask("/regions", "POST", body)[0] in (400, 404)
            body = json.dumps([{"id": payload}, {"id": "1"}]).encode()
            assert server.ask("/regions", "POST", body)[0] == 404
            body = json.dumps({"id": payload, "transform": payload, "shape": [9, 9], "interpolation": payload}).encode()
            assert server.ask("/warped", "POST", body)[0] in (400, 404)
        seen = server.take_seen()
        with pytest.raises(BlockingIOError):
            listener.accept()
    allowed = tuple(str(tmp_path / name) + os.sep for name in ("images", "work"))
    assert [event for event in seen if event[0] != "open" or not event[1].startswith(allowed)] == []


def test_payloads_open_nothing_and_connect_to_nothing(start, tmp_path):
    check_payloads(start(), tmp_path, all_paths=False)


@pytest.mark.slow
def test_all_payloads_at_all_paths(start, tmp_path):
    check_payloads(start(), tmp_path, all_paths=True)


def test_the_watch_sees_what_is_opened(start, tmp_path):
    """The test above can fail: a region of an image is read, and a conversion writes to the cache."""
    server = start()
    server.arm()
    assert server.ask("/frames/1/region")[0] == 200
    seen = server.take_seen()
    assert any(event == "open" and path.startswith(str(tmp_path / "images")) for event, path in seen)
    assert any(event == "open" and path.startswith(str(tmp_path / "work")) for event, path in seen)


# -- extreme requests ---------------------------------------------------------------------------------------------------

# Tiny, or absurd: nothing between, which a server may rightly answer with a large picture.
NUMBERS = ("0", "1", "-1", "3", "-7", "999999999", "1000000000", "-1000000000", "2147483648", "-9223372036854775808")
NUMBERS += (
    "999999999999999999",
    "1e9",
    "1e309",
    "nan",
    "inf",
    "-0",
    "0x10",
    "1_000",
    "",
    " 1",
    "٣",
    "0.0000001",
    "1" * 400,
)
FLOATS = ("0", "-1", "1e-300", "1e300", "1e9", "nan", "inf", "0.001", "0.0001", "1000000000", "1e-9,1e9", "1,2,3", "x")


def draw_warp(draw: random.Random, name: str) -> bytes:
    values = (0, 1, -1, 0.5, 1e-300, 1e300, 1e7, 1e9, -(10**9), 10**30, None, "nan")
    matrix = [[draw.choice(values) for _ in range(3)], [draw.choice(values) for _ in range(3)], [0, 0, 1]]
    shape = [draw.choice((1, 9, 9, 0, -1, 10**9, 2**63)) for _ in range(2)]
    return json.dumps({"id": name, "transform": matrix, "shape": shape}).encode()


def draw_path(draw: random.Random, state: str) -> tuple[str, bytes | None]:
    """A request of a random kind with extreme values."""

    def number() -> str:
        return quote(draw.choice(NUMBERS))

    def span() -> str:
        return ":".join(number() for _ in range(draw.choice((1, 2, 3, 3))))

    def pixels() -> str:
        return f"{number()},{number()},{number()},{number()}"

    name = draw.choice(("1", "1", "2", number()))
    options = draw.choice(
        (
            f"&scale={draw.choice(FLOATS)}", f"&shape={number()}x{number()}", "&pad=reflect", f"&pad=constant&scale={draw.choice(FLOATS)}",
            f"&pad=edge&shape={number()}x{number()}", f"&format={draw.choice(('png', 'tif', 'zip', 'exe'))}", f"&fill={number()}", "",
        )
    )  # fmt: skip
    region = draw.choice(("full", "square", pixels(), f"pct:{pixels()}"))
    size = draw.choice(
        (
            "max",
            f"{number()},",
            f"^{number()},",
            f"{number()},{number()}",
            f"!{number()},{number()}",
            f"pct:{number()}",
        )
    )
    kind = draw.randrange(7)
    if kind == 0:
        return f"/frames/{name}/region?y={span()}&x={span()}{options}", None
    if kind == 1:
        values = [None, 0, -1, 3, 10**9, -(10**9), 2**63, 10**17, 10**30]
        axes = [[draw.choice(values) for _ in range(draw.randrange(4))] for _ in range(draw.choice((1, 2, 2, 2, 5)))]
        items = [{"id": name, "region": axes}] * draw.choice((1, 2, 4000))
        return "/regions", json.dumps({"requests": items, "scale": draw.choice((1, 1e-300, 1e300, 1e9, -1))}).encode()
    if kind == 2:
        ending = draw.choice(("default.png", "gray.jpg", "bitonal.tif", "default.webp"))
        return f"/iiif/{name}/{region}/{size}/{draw.choice(('0', '90', '!180', number()))}/{ending}", None
    if kind == 3:
        level = draw.choice(("0", "1", number()))
        return (
            f"/frames/1/{draw.choice((state, number()))}/tiles/{level}?rows={span()}&cols={span()}&file={number()}",
            None,
        )
    if kind == 4:
        return f"/annotations?start={number()}&limit={number()}&id={name}", None
    if kind == 5:
        return f"/frames?limit={number()}&after={name}&details={number()}", None
    return f"/frames/{name}{draw.choice(('', '/stats', '/thumbnail', '/times'))}?t={span()}&c={span()}", None


def test_extreme_requests_are_refused_or_small(start):
    server = start()
    warm_up(server)
    state = json.loads(server.ask("/frames/1/tiles")[1])["files"][0]["state"]
    draw = random.Random(0)
    before_kb = server.resident_peak_kb()
    statuses = Counter()
    for _ in range(1000):
        path, body = draw_path(draw, state) if draw.random() < 0.85 else ("/warped", draw_warp(draw, "1"))
        status, content = server.ask(path, "GET" if body is None else "POST", body)
        statuses[status] += 1
        # 501 is the answer of IIIF to a rotation by other angles.
        assert 200 <= status < 300 or 400 <= status < 500 or (status == 501 and path.startswith("/iiif")), (
            path,
            status,
        )
        assert len(content) < 4 << 20, path
        if status == 200 and "/region?" in path and "format" not in path:
            assert np.load(io.BytesIO(content)).ndim <= 4
    assert statuses[200] > 20
    assert statuses[400] > 200
    assert statuses[413] > 0
    assert server.resident_peak_kb() - before_kb < 100_000
    assert server.ask("/frames/1/region")[0] == 200


# -- floods ---------------------------------------------------------------------------------------------------------------


def test_a_flood_at_several_processes_converts_an_image_once(start, tmp_path):
    server = start("--workers", 2)
    server.arm()
    with ThreadPoolExecutor(50) as pool:
        replies = list(pool.map(lambda _: server.site.ask("/frames/1/region"), range(200)))
    seen = server.take_seen()
    assert Counter(reply.status for reply in replies) == {200: 200}
    wanted = np.load(tmp_path / "images" / "a.npy")
    assert all(np.array_equal(np.load(io.BytesIO(reply.body)), wanted) for reply in replies)
    parts = [path for event, path in seen if event == "open" and path.endswith(".part")]
    # Those of zeros are the marks of a new cache.
    assert len({Path(part).name for part in parts if not Path(part).name.startswith("0" * 32)}) == 1


@pytest.mark.slow
def test_500_tricklers_do_not_slow_an_honest_client(start):
    """The 95th percentile stays under twice its calm value, and none of 600 requests fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    server = start()
    site = server.site
    assert site.ask("/frames/1/region?y=0:64&x=0:64").status == 200
    calm = measure_honest(site)
    ending = threading.Event()
    thread = threading.Thread(target=trickle, args=(site, ending))
    thread.start()
    try:
        time.sleep(1)
        busy = measure_honest(site)
    finally:
        ending.set()
        thread.join()
    # Other programs of the machine come and go.
    calm = max(calm, measure_honest(site))
    print(f"p95 calm {1e3 * calm:.2f} ms, busy {1e3 * busy:.2f} ms")
    assert busy < 2 * calm


def measure_honest(site: Site) -> float:
    """The 95th percentile of the time of 600 requests with a connection each, in seconds."""
    seconds = []
    for _ in range(600):
        began = time.perf_counter()
        assert site.ask("/frames/1/region?y=0:64&x=0:64").status == 200
        seconds.append(time.perf_counter() - began)
    return sorted(seconds)[int(0.95 * len(seconds))]


def trickle(site: Site, ending: threading.Event) -> None:
    """Keep 500 connections open that send a byte of a head every now and then; those that are ended are opened again."""
    clients: list[socket.socket | None] = [None] * 500
    while not ending.is_set():
        for place in range(len(clients)):
            client = clients[place]
            try:
                if client is None:
                    clients[place] = socket.create_connection(site.place, timeout=60)
                    clients[place].sendall(b"GET /frames HTTP/1.1\r\nHost: ")
                else:
                    client.sendall(b"x")
            except OSError:
                if client is not None:
                    client.close()
                clients[place] = None
            # Each of them a byte in about five seconds.
            if ending.wait(0.01):
                break
    for client in clients:
        if client is not None:
            client.close()


# -- access ---------------------------------------------------------------------------------------------------------------


def test_every_endpoint_refuses_strangers(tmp_path, gradient, serve_frames):
    """All there are, also those that are added later."""
    np.save(tmp_path / "a.npy", gradient)
    frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path / "work")
    site, _ = serve_frames(frames)
    endpoints = create_app(frames)._endpoints()
    assert len(endpoints) >= 15
    for endpoint in endpoints:
        path = re.sub(r"\{[^}]*\}", "a", endpoint.path)
        ways = [
            ({"has_token": False}, 401),
            ({"Host": "evil.example"}, 400),
            ({"Host": []}, 400),
            ({"Origin": "http://evil.example"}, 403),
        ]
        ways += [
            ({"has_token": False, "Authorization": f"Bearer {word}"}, 401)
            for word in ("", "x", site.token[:-1], f"{site.token}x")
        ]
        ways += [
            ({"has_token": False, "Host": "evil.example"}, 400),
            ({"Host": [f"{site.place[0]}", "evil.example"]}, 400),
        ]
        for options, status in ways:
            assert site.ask(path, endpoint.method, **options).status == status, (path, options)
        assert site.ask(f"/k/{site.token}{path}", endpoint.method, has_token=False, Host="evil.example").status == 400
        assert site.ask(f"/k/{site.token}x{path}", endpoint.method).status == 401
    assert not list((tmp_path / "work").rglob("*.tif"))
