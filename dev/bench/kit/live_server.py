"""A live stream on loopback: a clip as MPEG-TS over HTTP, in real time, from the frame that is due. Who reads late finds it waiting.

The server knows when each frame was sent, by the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import io
import multiprocessing
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_HEADER = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nConnection: close\r\n\r\n"


class LiveStream:
    """What is being sent.

    Attributes:
        url: its address.
        begin: when frame 0 was due, by the monotonic clock.
        fps: frames a second.
    """

    def __init__(self, url: str, begin: float, fps: float) -> None:
        self.url, self.begin, self.fps = url, begin, fps

    def age(self, number: int, now: float) -> float:
        """Seconds from the sending of a frame to ``now``."""
        return now - self.begin - number / self.fps

    def newest(self, now: float) -> int:
        """The number of the newest frame that has been sent."""
        return int((now - self.begin) * self.fps)


@contextmanager
def serving(clip: Path, fps: float) -> Iterator[LiveStream]:
    """Serve a clip in a process of its own, from now on."""
    context = multiprocessing.get_context("spawn")
    pipe, far_end = context.Pipe()
    process = context.Process(target=_serve, args=(far_end, str(clip), fps), daemon=True)
    process.start()
    far_end.close()
    try:
        port, begin = pipe.recv()
        yield LiveStream(f"http://127.0.0.1:{port}/live.ts", begin, fps)
    finally:
        process.kill()
        process.join()


def _serve(pipe: Any, clip: str, fps: float) -> None:
    pieces, keys = _split(clip)
    listener = socket.create_server(("127.0.0.1", 0))
    begin = time.monotonic()
    pipe.send((listener.getsockname()[1], begin))
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_send, args=(connection, pieces, keys, begin, fps), daemon=True).start()


def _split(clip: str) -> tuple[list[bytes], list[int]]:
    """The clip as MPEG-TS, the bytes of each frame apart, and which ones are key frames."""
    import av

    sink = io.BytesIO()
    pieces, keys, start = [], [], 0
    with av.open(clip) as source, av.open(sink, "w", format="mpegts", options={"flush_packets": "1"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is None:
                continue
            if packet.is_keyframe:
                keys.append(len(pieces))
            packet.stream = stream
            target.mux(packet)
            pieces.append(sink.getvalue()[start:])
            start = sink.tell()
    return pieces, keys


def _send(connection: socket.socket, pieces: list[bytes], keys: list[int], begin: float, fps: float) -> None:
    with connection:
        connection.recv(4096)
        try:
            connection.sendall(_HEADER)
            due = int((time.monotonic() - begin) * fps)
            first = next((key for key in keys if key >= due), len(pieces))
            for number in range(first, len(pieces)):
                time.sleep(max(0.0, begin + number / fps - time.monotonic()))
                connection.sendall(pieces[number])
        except OSError:
            return  # the reader is gone
