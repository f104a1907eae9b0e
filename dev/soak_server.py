"""Soak of a service: client processes compare every byte of its answers, while its memory and descriptors are watched.

``ndframes serve`` serves images and a sequence from a temporary folder. Clients send requests over connections that are kept open:
regions at random places, and a list of fixed requests for regions in all formats, stored tiles, IIIF, listings and errors. The bytes of
a random region are made from the source by numpy. The answer to each fixed request is first compared with the pixels of the source, and
from then on byte by byte with that answer. At the end, ``/metrics`` must have counted what was sent.

    nice python dev/soak_server.py --requests 1000000 --clients 3
    python dev/soak_server.py --requests 20000 --workers 2 --json soak.json

Exit status: 0 all bytes are right, and memory and descriptors are flat; 1 they are not.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import zstandard

import ndframes as nf

_TOKEN = "a-token-of-this-soak"
_SEQUENCE = "steps"
# The parts of all requests whose samples are compared.
_SPANS = {"warm": (0.1, 0.3), "end": (0.8, 1.0)}
_MOST_GROWTH_MB = 20.0
# Threads that read the same file at the same time have a descriptor each, and keep it for the next read.
_MOST_GROWTH_DESCRIPTORS = 16
_SAMPLE_SECONDS = 0.5


@dataclass(frozen=True)
class Case:
    """A request and its answer.

    Attributes:
        name: of its kind.
        request: its bytes.
        status: of the answer.
        body: of the answer.
    """

    name: str
    request: bytes
    status: int
    body: bytes


class Connection:
    """A connection that is kept open."""

    def __init__(self, place: tuple[str, int]) -> None:
        self._place = place
        self._socket = socket.create_connection(place, timeout=120)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()

    def make(self, method: str, path: str, body: bytes | None = None, **headers: str) -> bytes:
        """The bytes of a request."""
        given = {"Host": f"{self._place[0]}:{self._place[1]}", "Authorization": f"Bearer {_TOKEN}", **headers}
        if body is not None:
            given["Content-Length"] = str(len(body))
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value)
        return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + (body or b"")

    def ask(self, request: bytes) -> tuple[int, bytes, bytes]:
        """Send a request; returns the status, the head and the body of the answer."""
        self._socket.sendall(request)
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            self._read()
        head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        status = int(head[9:12])
        found = re.search(rb"\r\ncontent-length: (\d+)", head)
        length = 0 if found is None or status == 304 or request.startswith(b"HEAD") else int(found[1])
        while len(self._buffer) < length:
            self._read()
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        return status, head, body

    def close(self) -> None:
        self._socket.close()

    def _read(self) -> None:
        data = self._socket.recv(1 << 20)
        if not data:
            raise ConnectionError("the server has closed a connection that is to be kept open")
        self._buffer += data


# -- what is served, and what is asked for ----------------------------------------------------------------------------


def write_sources(folder: Path) -> dict[str, np.ndarray]:
    """Write the images and the sequence; returns their pixels by name."""
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:1000, :1100]
    photograph = np.stack([(y // 4 + draw.integers(0, 9, y.shape)) % 256, x % 251, (x + y) % 256], -1).astype(np.uint8)
    bands = draw.integers(0, 1 << 14, (600, 700, 5), np.uint16)
    steps = draw.normal(size=(4, 90, 80, 1)).astype(np.float32)
    np.save(folder / "photograph.npy", photograph)
    np.save(folder / "bands.npy", bands)
    (folder / _SEQUENCE).mkdir()
    for number, step in enumerate(steps):
        np.save(folder / _SEQUENCE / f"{number}.npy", step)
    return {"photograph": photograph, "bands": bands, _SEQUENCE: steps}


def check_npy(wanted: np.ndarray) -> Callable[[bytes], bool]:
    def check(body: bytes) -> bool:
        got = np.load(io.BytesIO(body))
        return got.dtype == wanted.dtype and np.array_equal(got, wanted)

    return check


def check_picture(decode: Callable[[bytes], Any], wanted: np.ndarray, most: float = 0.0) -> Callable[[bytes], bool]:
    def check(body: bytes) -> bool:
        got = np.asarray(decode(body)).astype(float)
        return got.shape == wanted.shape and float(np.abs(got - wanted).mean()) <= most

    return check


def check_json(*names: str, **wanted: Any) -> Callable[[bytes], bool]:
    """Whether JSON has values; names lead to the object."""

    def check(body: bytes) -> bool:
        value = json.loads(body)
        for name in names:
            value = value[name]
        return all(value[name] == item for name, item in wanted.items())

    return check


def unzstd(body: bytes) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True) as reader:
        return reader.read()


def list_requests(
    connection: Connection, pixels: dict[str, np.ndarray]
) -> list[tuple[str, bytes, int, Callable[[bytes], bool]]]:
    """The fixed requests: the kind, the bytes, the status, and a check of the body against the sources."""
    photograph, bands, steps = pixels["photograph"], pixels["bands"], pixels[_SEQUENCE]
    listed = []

    def add(
        kind: str, path: str, status: int, check: Callable[[bytes], bool], method: str = "GET", **options: Any
    ) -> None:
        listed.append((kind, connection.make(method, path, options.pop("body", None), **options), status, check))

    part = photograph[100:228, 200:328]
    add("region", "/frames/photograph/region?y=100:228&x=200:328", 200, check_npy(part))
    add("region", f"/k/{_TOKEN}/frames/photograph/region?y=100:228&x=200:328", 200, check_npy(part), Authorization="")
    add("region", "/frames/bands/region?y=-64:&x=::-7&c=1:4", 200, check_npy(bands[-64:, ::-7, 1:4]))
    add(
        "region",
        "/frames/photograph/region?y=100:228&x=200:328&format=png",
        200,
        check_picture(imagecodecs.png_decode, part),
    )
    add(
        "region", "/frames/bands/region?y=0:64&x=0:64&format=tif", 200, check_picture(imagecodecs_tiff, bands[:64, :64])
    )
    add("sequence", f"/frames/{_SEQUENCE}/region?t=1&y=3:40", 200, check_npy(steps[1, 3:40]))
    add("sequence", f"/frames/{_SEQUENCE}/region?t=::2&x=::5", 200, check_npy(steps[::2, :, ::5]))
    items = [{"id": "photograph", "region": {"y": [n, n + 50], "x": [n, n + 40]}} for n in (0, 300, 640)]
    stacked = np.stack([photograph[n : n + 50, n : n + 40] for n in (0, 300, 640)])
    add("batch", "/regions", 200, check_npy(stacked), "POST", body=json.dumps(items).encode())
    (file,) = json.loads(connection.ask(connection.make("GET", "/frames/photograph/tiles"))[2])["files"]
    height, width, _ = file["tile_shape"]
    tile = photograph[height : 2 * height, 2 * width : 3 * width].tobytes()
    path = f"/frames/photograph/{file['state']}/tiles/0?rows=1&cols=2"
    add("tile", path, 200, lambda body: body == tile)
    zstd = {"Accept-Encoding": "zstd"}
    add("tile", path, 200, lambda body: unzstd(body) == tile, **zstd)
    _, head, _ = connection.ask(connection.make("GET", path))
    etag = re.search(rb"\r\netag: ([^\r]+)", head)
    assert etag is not None
    add("tile", path, 304, lambda body: body == b"", **{"If-None-Match": etag[1].decode()})
    add("tile", f"/frames/photograph/{'0' * 24}/tiles/0", 410, check_json("error", type="CacheEntryGoneError"))
    picture = photograph[50:170, 100:300]
    add(
        "iiif",
        "/iiif/photograph/100,50,200,120/max/90/default.png",
        200,
        check_picture(imagecodecs.png_decode, np.rot90(picture, -1)),
    )
    add(
        "iiif",
        "/iiif/photograph/100,50,200,120/max/0/default.jpg",
        200,
        check_picture(imagecodecs.jpeg_decode, picture, 12.0),
    )
    add("iiif", "/iiif/photograph/info.json", 200, check_json(width=1100, height=1000))
    add("listing", "/frames?details=0", 200, check_json(count=3))
    add("listing", "/frames/bands", 200, check_json(shape=[600, 700, 5], dtype="uint16"))
    add("listing", "/frames", 200, check_json(images=3))
    add("page", "/", 200, lambda body: b"<html" in body)
    add("head", "/frames/photograph/region?y=0:9", 200, lambda body: body == b"", "HEAD")
    add("error", "/frames/photograph/region?y=wrong", 400, check_json("error", type="RegionError"))
    add("error", "/frames/nobody/region", 404, check_json("error", type="ImageIdError"))
    add("error", "/frames/photograph/region?scale=1000", 413, check_json("error", type="RegionTooLargeError"))
    add("error", "/frames/photograph/region?channels=q", 400, check_json("error", type="ChannelError"))
    add("error", "/nothing/is/here", 404, lambda body: body == b"Not Found\n")
    add("error", "/frames", 401, lambda body: b"token" in body, Authorization="")
    add("error", "/frames", 400, lambda body: b"evil.example" in body, Host="evil.example")
    add("error", "/annotations", 400, check_json("error", type="UnsupportedError"))
    return listed


def imagecodecs_tiff(body: bytes) -> np.ndarray:
    import tifffile

    return np.asarray(tifffile.imread(io.BytesIO(body)))


def prepare_cases(connection: Connection, pixels: dict[str, np.ndarray]) -> list[Case]:
    """Ask for each fixed request once, and compare the answer with the sources."""
    cases = []
    for kind, request, status, check in list_requests(connection, pixels):
        got, _, body = connection.ask(request)
        line = request.partition(b"\r\n")[0].decode()
        if got != status or not check(body):
            raise SystemExit(f"{line}: the status {got} instead of {status}, or a wrong body: {body[:200]!r}")
        cases.append(Case(kind, request, status, body))
    return cases


def draw_region(connection: Connection, draw: random.Random, pixels: dict[str, np.ndarray]) -> Case:
    """A region at a random place, with the bytes that numpy gives."""
    name = draw.choice(("photograph", "bands"))
    array = pixels[name]
    spans = []
    for length in array.shape[:2]:
        count = draw.randrange(1, 120)
        start = draw.randrange(length - count)
        spans.append(slice(start, start + count, draw.choice((1, 1, 1, 2, 3))))
    (y, x), query = spans, "&".join(f"{axis}={s.start}:{s.stop}:{s.step}" for axis, s in zip("yx", spans, strict=True))
    body = io.BytesIO()
    np.save(body, np.ascontiguousarray(array[y, x]))
    return Case("random region", connection.make("GET", f"/frames/{name}/region?{query}"), 200, body.getvalue())


# -- clients ------------------------------------------------------------------------------------------------------------


@dataclass
class Report:
    """What a client has found."""

    asked: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    received_bytes: int = 0


@dataclass(frozen=True)
class Share:
    """What one client does.

    Attributes:
        number: of the client.
        requests: how many it sends.
        seconds: after which it sends no more.
        folder: of the sources.
        cases: the fixed requests.
    """

    number: int
    requests: int
    seconds: float
    folder: str
    cases: list[Case]


def run_client(place: tuple[str, int], share: Share, done: Any, reports: Any) -> None:
    """Send requests, and compare the answers."""
    deadline = time.monotonic() + share.seconds
    pixels = {name: np.load(Path(share.folder) / f"{name}.npy") for name in ("photograph", "bands")}
    connection = Connection(place)
    draw, report = random.Random(share.number), Report()
    for sent in range(share.requests):
        if time.monotonic() > deadline:
            break
        case = draw.choice(share.cases) if draw.random() < 0.7 else draw_region(connection, draw, pixels)
        status, _, body = connection.ask(case.request)
        report.asked[case.name] += 1
        report.received_bytes += len(body)
        if status != case.status or body != case.body:
            report.wrong[case.name] += 1
            line = case.request.partition(b"\r\n")[0].decode()
            report.examples = [*report.examples, f"{line}: {status}, {len(body)} bytes: {body[:80]!r}"][:5]
        done[share.number] = sent + 1
    connection.close()
    reports.put(report)


# -- the server ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """What the processes of the server use."""

    requests: int
    resident_mb: float
    descriptors: int


def start_server(folder: Path, workers: int) -> tuple[subprocess.Popen[str], tuple[str, int]]:
    sources = [str(folder / name) for name in ("photograph.npy", "bands.npy", _SEQUENCE)]
    command = [
        sys.executable,
        "-m",
        "ndframes",
        "serve",
        *sources,
        "--workers",
        str(workers),
        "--workdir",
        str(folder / "work"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "NDFRAMES_TOKEN": _TOKEN})
    assert process.stdout is not None
    found = re.match(r"http://([^:]+):(\d+)/", process.stdout.readline())
    if found is None:
        raise SystemExit("the server does not start")
    return process, (found[1], int(found[2]))


def find_pids(process: subprocess.Popen[str]) -> list[int]:
    """The process of a server, and its workers."""
    children = [path.read_text().split() for path in Path(f"/proc/{process.pid}/task").glob("*/children")]
    return [process.pid, *(int(pid) for listed in children for pid in listed)]


def take_sample(pids: list[int], requests: int) -> Sample:
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    descriptors = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)
    return Sample(requests, pages * os.sysconf("SC_PAGE_SIZE") / 1e6, descriptors)


def count_by_metrics(place: tuple[str, int]) -> int:
    """The requests that the server has counted."""
    connection = Connection(place)
    _, _, body = connection.ask(connection.make("GET", "/metrics"))
    connection.close()
    return sum(
        int(value) for value in re.findall(r"^ndframes_requests_total\{.*\} (\d+)$", body.decode(), re.MULTILINE)
    )


def run_clients(
    place: tuple[str, int], cases: list[Case], folder: Path, pids: list[int], options: argparse.Namespace
) -> tuple[list[Report], list[Sample]]:
    """Run the clients, and sample the server meanwhile."""
    context = multiprocessing.get_context("spawn")
    done, reports = RawArray("q", options.clients), context.Queue()
    count = options.requests // options.clients
    clients = [
        context.Process(target=run_client, args=(place, share, done, reports))
        for share in (
            Share(number, count, 60 * options.minutes, str(folder), cases) for number in range(options.clients)
        )
    ]
    for client in clients:
        client.start()
    samples = []
    while any(client.is_alive() for client in clients) and reports.qsize() < len(clients):
        samples.append(take_sample(pids, sum(done)))
        time.sleep(_SAMPLE_SECONDS)
    if any(client.exitcode for client in clients):
        raise SystemExit("a client has failed")
    found = [reports.get(timeout=60) for _ in clients]
    for client in clients:
        client.join()
    return found, samples


def summarize(samples: list[Sample], name: str) -> dict[str, float]:
    """The medians of what was used when all caches were full, and at the end, and the most."""
    total = samples[-1].requests
    found = {}
    for label, (start, stop) in _SPANS.items():
        chosen = [getattr(sample, name) for sample in samples if start * total <= sample.requests <= stop * total]
        found[label] = round(statistics.median(chosen or [getattr(samples[-1], name)]), 1)
    return {**found, "most": round(max(getattr(sample, name) for sample in samples), 1)}


def soak(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="ndframes-soak-") as name:
        folder = Path(name)
        pixels = write_sources(folder)
        time.sleep(2.1)  # until the sources count as settled, so that opened files stay open
        process, place = start_server(folder, options.workers)
        try:
            connection = Connection(place)
            cases = prepare_cases(connection, pixels)
            connection.close()
            before = count_by_metrics(place)
            pids = find_pids(process)
            started = time.monotonic()
            reports, samples = run_clients(place, cases, folder, pids, options)
            seconds = time.monotonic() - started
            # The request that counted before is counted now.
            counted = count_by_metrics(place) - before - 1
        finally:
            process.send_signal(signal.SIGINT)
            status = process.wait(60)
    asked: Counter[str] = sum((report.asked for report in reports), Counter())
    wrong: Counter[str] = sum((report.wrong for report in reports), Counter())
    return {
        "ndframes": nf.__version__,
        "requests": asked.total(),
        "counted_by_metrics": counted,
        "wrong": wrong.total(),
        "examples": [example for report in reports for example in report.examples],
        "asked": dict(asked.most_common()),
        "received_mb": round(sum(report.received_bytes for report in reports) / 1e6, 1),
        "seconds": round(seconds, 1),
        "requests_a_second": round(asked.total() / seconds),
        "clients": options.clients,
        "workers": options.workers,
        "resident_mb": summarize(samples, "resident_mb"),
        "descriptors": summarize(samples, "descriptors"),
        "exit_status": status,
    }


def is_fine(result: dict[str, Any]) -> bool:
    """Whether all bytes are right, and nothing has grown."""
    resident, descriptors = result["resident_mb"], result["descriptors"]
    return (
        result["wrong"] == 0
        and result["counted_by_metrics"] == result["requests"]
        and resident["end"] - resident["warm"] < _MOST_GROWTH_MB
        and descriptors["end"] - descriptors["warm"] <= _MOST_GROWTH_DESCRIPTORS
        and result["exit_status"] == 0
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--clients", type=int, default=2, help="processes that ask")
    parser.add_argument("--workers", type=int, default=1, help="processes that answer")
    parser.add_argument("--minutes", type=float, default=24 * 60.0, help="after which no further request is sent")
    parser.add_argument("--json", metavar="FILE", help="write the result to a file, too")
    options = parser.parse_args()
    result = soak(options)
    text = json.dumps(result, indent=2)
    print(text)
    if options.json:
        Path(options.json).write_text(text + "\n", encoding="utf-8")
    sys.exit(0 if is_fine(result) else 1)


if __name__ == "__main__":
    main()
