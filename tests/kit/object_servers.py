"""Servers of object stores on loopback: SeaweedFS in a process of its own.

The proxy with faults in front of them is in ``faulty_proxy``, the server of plain files in ``static_files``.
"""

from __future__ import annotations

import ctypes
import datetime as dt
import hashlib
import hmac
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from multiprocessing import forkserver
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

ACCESS_KEY = "access-key-of-tests"
SECRET_KEY = "secret-key-of-tests"
REGION = "us-east-1"
# SeaweedFS takes the ports of its services for gRPC this far above the others.
_GRPC_OFFSET = 10000
# Below the ports that the system gives to outgoing connections, as far as they leave room.
_FIRST_PORT, _LAST_PORT = 10240, 32000
# Loaded before any fork.
_LIBC = ctypes.CDLL(None)


def find_ports(count: int) -> list[int]:
    """Ports of loopback that are free now, as are those for gRPC above them."""
    # Workers of the suite begin at different places, so that they do not race for the same ports.
    port = _FIRST_PORT + uuid.uuid4().int % (_LAST_PORT - _FIRST_PORT - 64 * count)
    found: list[int] = []
    while len(found) < count:
        port += 1
        assert port < _LAST_PORT, "no free ports"
        if _is_free(port) and _is_free(port + _GRPC_OFFSET):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@dataclass
class ObjectServer:
    """A running SeaweedFS.

    Attributes:
        host: ``127.0.0.1:port`` of its S3 service.
        process: which serves it.
        folder: of its files, which are removed at its end.
        buckets: those that were made.
    """

    host: str
    process: subprocess.Popen[bytes]
    folder: Path
    buckets: list[str] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"http://{self.host}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which a client reaches it."""
        return store_environment(self.endpoint)

    def use(self, monkeypatch: pytest.MonkeyPatch, endpoint: str | None = None) -> None:
        """Give this process the variables, and no other ones of S3.

        Args:
            monkeypatch: undoes it.
            endpoint: of a proxy in front of the server.
        """
        # It has the variables of the time at which it was started.
        forkserver._forkserver._stop()
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        for name, value in store_environment(endpoint or self.endpoint).items():
            monkeypatch.setenv(name, value)

    def new_bucket(self) -> str:
        """The name of a new bucket."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        status, body = signed_request(self.host, "PUT", f"/{name}")
        assert status == 200, body
        self.buckets.append(name)
        return name

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> ObjectServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def store_environment(endpoint: str) -> dict[str, str]:
    """The variables by which a client reaches a server of S3."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": REGION,
        "NO_PROXY": "127.0.0.1",
    }


def start_seaweedfs(folder: Path) -> ObjectServer:
    """Start SeaweedFS on free ports of loopback, and wait until it serves.

    Args:
        folder: for its files.
    """
    for _ in range(5):  # another process may take one of its ports first
        server = _start(folder / uuid.uuid4().hex)
        if _is_ready(server):
            return server
        server.kill()
    raise AssertionError("SeaweedFS does not start")


def _start(folder: Path) -> ObjectServer:
    data = folder / "data"
    data.mkdir(parents=True)
    keys = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [{"name": "tests", "credentials": keys, "actions": actions}]}))
    services = ("s3", "master", "volume", "filer", "admin")
    ports = dict(zip(services, find_ports(len(services)), strict=True))
    options = [f"-{name}.port={port}" for name, port in ports.items()]
    options += [f"-{name}.port.grpc={port + _GRPC_OFFSET}" for name, port in ports.items()]
    options += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-webdav=false", "-admin.ui=false", "-master.telemetry=false"]
    options += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false", f"-s3.config={config}"]
    # Each bucket has volumes of its own, which are empty files at first.
    options += [f"-dir={data}", "-master.volumeSizeLimitMB=64", "-volume.max=1000"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with open(folder / "log.txt", "wb") as log:
        process = subprocess.Popen(
            [_program(), "mini", *options],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            cwd=folder,
            start_new_session=True,  # Ctrl-C in a terminal is for the suite
            env=environment,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - one call of the system
        )
    return ObjectServer(f"127.0.0.1:{ports['s3']}", process, data)


def _end_with_parent() -> None:
    """Have Linux end this process when the suite is killed."""
    if sys.platform == "linux":
        _LIBC.prctl(1, signal.SIGKILL)


def _program() -> str:
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else "weed"


def _is_ready(server: ObjectServer) -> bool:
    """Wait until an object was written, for which all of its services must be there."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            bucket = server.new_bucket()
            if signed_request(server.host, "PUT", f"/{bucket}/ready", b"ready")[0] == 200:
                return True
        except (OSError, http.client.HTTPException, AssertionError):
            pass
        time.sleep(0.05)
    return False


def signed_request(
    host: str,
    method: str,
    path: str,
    body: bytes = b"",
    *,
    query: str = "",
    keys: tuple[str, str] = (ACCESS_KEY, SECRET_KEY),
) -> tuple[int, bytes]:
    """A request to a server of S3, signed with version 4; its status and body.

    Args:
        host: with its port.
        method: of HTTP.
        path: of the bucket or the object, percent-encoded.
        body: to send.
        query: with its parameters in alphabetical order.
        keys: the access key and the secret.
    """
    headers = {"host": host, **signature_headers(host, method, path, query, hashlib.sha256(body).hexdigest(), keys)}
    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        connection.request(method, path + (f"?{query}" if query else ""), body or None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def signature_headers(
    host: str, method: str, path: str, query: str, digest: str, keys: tuple[str, str] = (ACCESS_KEY, SECRET_KEY)
) -> dict[str, str]:
    """The headers that sign a request, as :func:`signed_request`; ``digest`` is that of the body."""
    now = dt.datetime.now(dt.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": now}
    names = ";".join(headers)
    lines = [f"{name}:{value}\n" for name, value in headers.items()]
    canonical = "\n".join([method, path, query, "".join(lines), names, digest])
    scope = f"{now[:8]}/{REGION}/s3/aws4_request"
    signed = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{keys[1]}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.new(key, signed.encode(), "sha256").hexdigest()
    authorization = f"AWS4-HMAC-SHA256 Credential={keys[0]}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {"x-amz-content-sha256": digest, "x-amz-date": now, "authorization": authorization}
