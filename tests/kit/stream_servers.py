"""Servers of numbered pictures on loopback, each in a process of its own that can be stopped and killed.

This file is also the program that they run.
"""

from __future__ import annotations

import http.server
import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import wait
from functools import partial
from pathlib import Path
from typing import Any

import av
from PIL import Image

if __name__ == "__main__":
    from numbered import RATE, Encoder, draw
else:
    from .numbered import RATE

#: Kinds whose server must be there before its reader; with the others the reader listens.
LISTENING = ("rtsp", "http_ts", "mjpeg", "tcp", "hls")
#: Kinds that need no other package than those of ndframes.
PLAIN = ("rtsp_push", "http_ts", "mjpeg", "udp", "tcp", "rtmp")
#: A playlist and its segments, written to a folder that is served as it grows.
HLS = "hls"


def find_port() -> int:
    """A port of loopback that is free now, for TCP and UDP."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server of numbered pictures, 25 a second; see :data:`PLAIN`, and ``"rtsp"``, which serves the files of a folder.

    Args:
        kind: of the server.
        port: that it, or its reader, listens on.
        first: the number of the first picture.
        shape: of the pictures.
        folder: for ``"rtsp"``: of ``clip.mp4``.
    """

    def __init__(
        self, kind: str, port: int, *, first: int = 0, shape: tuple[int, int] = (120, 160), folder: Path | None = None
    ) -> None:
        self.kind = kind
        self.port = port
        arguments = [kind, str(port), str(first), *map(str, shape), str(folder or "")]
        self.process = subprocess.Popen(
            [sys.executable, __file__, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            if kind in LISTENING:
                self._await_port()
        except BaseException:
            self.kill()
            raise

    def _await_port(self) -> None:
        deadline = time.monotonic() + 60
        while not _listens(self.port):
            assert time.monotonic() < deadline, f"{self.kind} does not listen"
            assert self.process.poll() is None, f"{self.kind} has ended"
            time.sleep(0.02)

    def stop(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def _listens(port: int) -> bool:
    """Whether a process listens on a port, or has got its reader, after which some servers do not listen any more.

    It is found without a connection, which these servers would take as their only reader.
    """
    listening, established = "0A", "01"
    pattern = rf":{port:04X} [0-9A-F]{{8}}:[0-9A-F]{{4}} ({listening}|{established}) "
    return re.search(pattern, Path("/proc/net/tcp").read_text()) is not None


def find_source(kind: str, port: int) -> tuple[str, dict[str, str]]:
    """The address and the options with which a server is read."""
    return {
        "rtsp": (f"rtsp://127.0.0.1:{port}/clip.mp4", {}),
        "rtsp_push": (f"rtsp://127.0.0.1:{port}/x", {"rtsp_flags": "listen", "listen_timeout": "20"}),
        "http_ts": (f"http://127.0.0.1:{port}/live.ts", {}),
        "mjpeg": (f"http://127.0.0.1:{port}/live.mjpeg", {}),
        "hls": (f"http://127.0.0.1:{port}/live.m3u8", {}),
        "udp": (f"udp://127.0.0.1:{port}", {}),
        "tcp": (f"tcp://127.0.0.1:{port}", {}),
        "rtmp": (f"rtmp://127.0.0.1:{port}/live/x", {"listen": "1"}),
    }[kind]


class _Pace:
    """Numbers by the clock: a process that was stopped goes on with the number that is due."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._begin = time.monotonic()

    def __iter__(self) -> Any:
        place = 0
        while True:
            place = max(place + 1, int((time.monotonic() - self._begin) * RATE))
            time.sleep(max(0.0, self._begin + place / RATE - time.monotonic()))
            yield self._first + place, place


def _push(port: int, pace: _Pace, shape: tuple[int, int], url: str, name: str, options: dict[str, str]) -> None:
    """Send to a reader that listens, or to one that connects, again and again."""
    while True:
        try:
            with av.open(url.format(port), "w", format=name, options=options) as container:
                encoder = Encoder(container, shape)
                for number, place in pace:
                    encoder.add(number, place)
        except (av.error.FFmpegError, OSError):
            time.sleep(0.1)


class _Handler(http.server.BaseHTTPRequestHandler):
    pace: _Pace
    shape: tuple[int, int]

    def do_GET(self) -> None:
        self.send_response(200)
        try:
            if self.path.endswith("ts"):
                self._send_transport_stream()
            elif self.path.endswith("mjpeg"):
                self._send_pictures()
        except (av.error.FFmpegError, OSError):
            pass

    def _send_transport_stream(self) -> None:
        self.send_header("Content-Type", "video/mp2t")
        self.end_headers()
        with av.open(self.wfile, "w", format="mpegts") as container:
            encoder = Encoder(container, self.shape)
            for number, place in self.pace:
                encoder.add(number, place)

    def _send_pictures(self) -> None:
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.end_headers()
        for number, _ in self.pace:
            data = io.BytesIO()
            Image.fromarray(draw(number, self.shape)).save(data, "JPEG", quality=90)
            head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {data.tell()}\r\n\r\n"
            self.wfile.write(head.encode() + data.getvalue() + b"\r\n")

    def log_message(self, *_: object) -> None:
        pass


def _put_once(_: object, loop: Any, queue: Any, item: object, stopped: Any) -> bool:
    """Put an item into a queue of another thread; whether it was put."""
    import asyncio

    future = asyncio.run_coroutine_threadsafe(queue.put(item), loop)
    while not stopped.is_set():
        if wait([future], 0.05).done:
            return future.exception() is None
    future.cancel()
    return False


def _serve_files(port: int, folder: str) -> None:
    import asyncio

    from aio_rtsp_toolkit.server import RtspServer
    from aio_rtsp_toolkit.server_streaming import RtspStreamingMixin

    # Its own tries anew after 0.05 s, and a busy server, or one that was stopped, then sends a picture twice (0.1.4).
    RtspStreamingMixin._threadsafe_queue_put = _put_once
    asyncio.run(RtspServer(folder, "127.0.0.1", port).serve_forever())


def _serve_segments(port: int, pace: _Pace, shape: tuple[int, int], folder: str) -> None:
    handler = partial(_QuietHandler, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    options = {"hls_time": "0.4", "hls_list_size": "6", "hls_flags": "delete_segments"}
    with av.open(f"{folder}/live.m3u8", "w", format="hls", options=options) as container:
        encoder = Encoder(container, shape)
        for place, (number, time_of) in enumerate(pace):
            encoder.add(number, time_of)
            if place == 40:
                # A reader begins three segments before the end.
                threading.Thread(target=server.serve_forever, daemon=True).start()


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def _main(kind: str, port: int, first: int, shape: tuple[int, int], folder: str) -> None:
    pace = _Pace(first)
    if kind == "rtsp":
        _serve_files(port, folder)
    elif kind == HLS:
        _serve_segments(port, pace, shape, folder)
    elif kind in ("http_ts", "mjpeg"):
        _Handler.pace, _Handler.shape = pace, shape
        http.server.ThreadingHTTPServer(("127.0.0.1", port), _Handler).serve_forever()
    else:
        url, name, options = {
            "rtsp_push": ("rtsp://127.0.0.1:{}/x", "rtsp", {"rtsp_transport": "tcp"}),
            "udp": ("udp://127.0.0.1:{}?pkt_size=1316", "mpegts", {}),
            "tcp": ("tcp://127.0.0.1:{}?listen=1", "mpegts", {}),
            "rtmp": ("rtmp://127.0.0.1:{}/live/x", "flv", {}),
        }[kind]
        _push(port, pace, shape, url, name, options)


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), (int(sys.argv[4]), int(sys.argv[5])), sys.argv[6])
