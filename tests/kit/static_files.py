"""A server of the files of a folder over plain HTTP, with switches for what such servers lack."""

from __future__ import annotations

import hashlib
import http.server
import ssl
import subprocess
import threading
from collections.abc import Callable
from email.utils import formatdate
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit


class StaticFiles:
    """A server in threads of this process.

    Args:
        folder: whose files it serves.
        certificate: a file with a certificate and its key, with which it serves ``https://``.

    Attributes:
        requests: the method, the path and the headers of each request that came.
        has_ranges: whether it answers with ranges.
        has_etags: whether it tells ETags, and compares them.
        has_times: whether it tells when a file was written.
        weak_etags: whether its ETags are weak ones.
        most_bytes: of a range in an answer.
        redirects: the addresses to which paths are redirected.
        needed_header: a name and value without which it answers 401.
        hook: called with the path of each request before it is answered.
    """

    def __init__(self, folder: Path, certificate: Path | None = None) -> None:
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.has_ranges = self.has_etags = self.has_times = True
        self.weak_etags = False
        self.most_bytes: int | None = None
        self.redirects: dict[str, str] = {}
        self.needed_header: tuple[str, str] | None = None
        self.hook: Callable[[str], None] | None = None
        site = self

        class Handler(_Handler):
            files = site
            root = folder

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._scheme = "http" if certificate is None else "https"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://{self.host}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> StaticFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@lru_cache(16)
def _read(file: Path, *_state: int) -> tuple[bytes, str]:
    data = file.read_bytes()
    return data, hashlib.md5(data).hexdigest()


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256

    def handle_error(self, *_: object) -> None:  # of clients that end a connection
        pass


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    files: StaticFiles
    root: Path

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(has_body=True)

    def do_HEAD(self) -> None:
        self._answer(has_body=False)

    def _answer(self, *, has_body: bool) -> None:
        site = self.files
        path = unquote(urlsplit(self.path).path)
        site.requests.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}))
        if site.hook is not None:
            site.hook(path)
        if path in site.redirects:
            self._send(302, {"Location": site.redirects[path]}, b"", has_body=has_body)
            return
        if site.needed_header is not None and self.headers.get(site.needed_header[0]) != site.needed_header[1]:
            self._send(401, {}, b"who are you?", has_body=has_body)
            return
        file = self.root / path.lstrip("/")
        if not file.is_file():
            self._send(404, {}, b"nothing here", has_body=has_body)
            return
        self._send_file(file, has_body=has_body)

    def _send_file(self, file: Path, *, has_body: bool) -> None:
        site, headers, status = self.files, {}, 200
        data, digest = _read(file, file.stat().st_mtime_ns, file.stat().st_size)
        if site.has_times:
            headers["Last-Modified"] = formatdate(file.stat().st_mtime, usegmt=True)
        if site.has_etags:
            headers["ETag"] = ("W/" if site.weak_etags else "") + f'"{digest}"'
            if self.headers.get("If-Match") not in (None, headers["ETag"]):
                self._send(412, {}, b"", has_body=has_body)
                return
        if site.has_ranges and (span := self.headers.get("Range")) is not None:
            first, last = span.removeprefix("bytes=").split("-")
            if int(first) >= len(data):
                self._send(416, {"Content-Range": f"bytes */{len(data)}"}, b"", has_body=has_body)
                return
            size, data, status = len(data), data[int(first) : int(last) + 1][: site.most_bytes], 206
            headers["Content-Range"] = f"bytes {first}-{int(first) + len(data) - 1}/{size}"
        self._send(status, headers, data, has_body=has_body)

    def _send(self, status: int, headers: dict[str, str], body: bytes, *, has_body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if has_body:
            self.wfile.write(body)


def make_certificate(path: Path) -> Path:
    """A file with a certificate of 127.0.0.1 that nobody has signed, and its key; by the program openssl."""
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*command, *names, "-keyout", path, "-out", path.with_suffix(".crt")], check=True, capture_output=True
    )
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path
