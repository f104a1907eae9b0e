"""Azurite, a server of Azure's blobs, on loopback; a program of npm that may be absent."""

from __future__ import annotations

import base64
import datetime as dt
import hmac
import http.client
import shutil
import subprocess
import time
from pathlib import Path

from .object_servers import find_ports

PROGRAM = "azurite-blob"
# Those that every Azurite has.
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def has_azurite() -> bool:
    """Whether the program is there."""
    return shutil.which(PROGRAM) is not None


class Azurite:
    """A running server with one container.

    Args:
        folder: for its files.
    """

    container = "container"

    def __init__(self, folder: Path) -> None:
        port = find_ports(1)[0]
        self.host = f"127.0.0.1:{port}"
        command = [PROGRAM, "--silent", "--skipApiVersionCheck", "--blobHost", "127.0.0.1", "--blobPort", str(port)]
        with open(folder / "log.txt", "wb") as log:
            self.process = subprocess.Popen(
                [*command, "--location", folder], stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._make_container()
        except BaseException:
            self.close()
            raise

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which a client reaches it."""
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": _ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": _KEY,
            "AZURE_STORAGE_ENDPOINT": f"http://{self.host}/{_ACCOUNT}",
        }

    def _make_container(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                assert self._put(f"/{_ACCOUNT}/{self.container}", "restype:container") == 201
                return
            except ConnectionError:
                assert time.monotonic() < deadline, "Azurite does not listen"
                assert self.process.poll() is None, "Azurite has ended"
                time.sleep(0.05)

    def _put(self, path: str, parameter: str) -> int:
        """A request that is signed with the shared key; its status."""
        now = dt.datetime.now(dt.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
        headers = {"x-ms-date": now, "x-ms-version": "2021-08-06"}
        lines = [f"{name}:{value}" for name, value in headers.items()]
        signed = "\n".join(["PUT", *[""] * 11, *lines, f"/{_ACCOUNT}{path}", parameter])
        signature = base64.b64encode(hmac.digest(base64.b64decode(_KEY), signed.encode(), "sha256")).decode()
        headers["Authorization"] = f"SharedKey {_ACCOUNT}:{signature}"
        connection = http.client.HTTPConnection(self.host, timeout=30)
        try:
            connection.request("PUT", f"{path}?{parameter.replace(':', '=')}", headers=headers)
            return connection.getresponse().status
        finally:
            connection.close()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
