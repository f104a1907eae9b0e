"""A client of HTTP that keeps its connections open: as little work as a client can do, so that the server is what is measured."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

_CHUNK_BYTES = 1 << 18


class Connection:
    """One connection.

    Args:
        port: on loopback.
        headers: of each request.
    """

    def __init__(self, port: int, headers: Mapping[str, str]) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        given = {"Host": f"127.0.0.1:{port}", **headers}
        self._head = "".join(f"{name}: {value}\r\n" for name, value in given.items())

    def send(self, path: str) -> None:
        """Send a request."""
        self._socket.sendall(f"GET {path} HTTP/1.1\r\n{self._head}\r\n".encode())

    def receive(self) -> bytes:
        """The body of the next answer.

        Raises:
            ConnectionError: it is not a whole answer with status 200.
        """
        data = self._receive_some()
        while b"\r\n\r\n" not in data:
            data += self._receive_some()
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        if not lines[0].startswith(b"http/1.1 200"):
            raise ConnectionError(f"{lines[0].decode()}: {body[:200]!r}")
        if b"transfer-encoding: chunked" in lines:
            return self._receive_chunks(body)
        length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
        pieces, missing = [body], length - len(body)
        while missing > 0:
            pieces.append(self._receive_some())
            missing -= len(pieces[-1])
        return b"".join(pieces)

    def _receive_chunks(self, data: bytes) -> bytes:
        body = bytearray()
        while True:
            while b"\r\n" not in data:
                data += self._receive_some()
            size, _, data = data.partition(b"\r\n")
            while len(data) < int(size, 16) + 2:
                data += self._receive_some()
            body += data[: int(size, 16)]
            data = data[int(size, 16) + 2 :]
            if not int(size, 16):
                return bytes(body)

    def _receive_some(self) -> bytes:
        data = self._socket.recv(_CHUNK_BYTES)
        if not data:
            raise ConnectionError("the server has closed the connection")
        return data

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()


@dataclass(frozen=True)
class Load:
    """What requests took.

    Attributes:
        seconds: until the last answer was there.
        bodies_bytes: of all answers.
    """

    seconds: float
    bodies_bytes: int


def ask_all(port: int, paths: Sequence[str], headers: Mapping[str, str], *, at_once: int) -> Load:
    """Ask for all paths over so many connections, each with one request at a time."""
    connections = [Connection(port, headers) for _ in range(min(at_once, len(paths)))]
    try:
        started = time.perf_counter()
        for connection, path in zip(connections, paths, strict=False):
            connection.send(path)
        size = 0
        # In turn: while one answer is read, the others are made.
        for number in range(len(paths)):
            connection = connections[number % len(connections)]
            size += len(connection.receive())
            if number + len(connections) < len(paths):
                connection.send(paths[number + len(connections)])
        return Load(time.perf_counter() - started, size)
    finally:
        for connection in connections:
            connection.__exit__(None, None, None)


def count_cpu_seconds(pids: Sequence[int]) -> float:
    """The processor time of all threads of some processes, in the resolution of the scheduler."""
    from pathlib import Path

    files = [file for pid in pids for file in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(int(file.read_text().split()[0]) for file in files) / 1e9
