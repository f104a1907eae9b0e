"""A headless Chromium, driven through its debugging port: open a page, evaluate, wait, click, take screenshots, see what it asks for."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
)

_SHIFT = 8
_KEY_CODES = {
    "Tab": 9,
    "Enter": 13,
    "Escape": 27,
    " ": 32,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
}  # fmt: skip


def find_browser() -> str:
    """The program; a test is skipped if there is none."""
    found = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if found is None:
        pytest.skip(f"no browser is installed: none of {', '.join(_PROGRAMS)} is there")
    return found


class Browser:
    """One browser with one page. It is a context manager.

    Args:
        folder: a new one, for its files.
        shape: height and width of the page.
        flags: further ones of the program.

    Attributes:
        errors: errors and warnings of the console, uncaught errors, and refused loads, as text.
        addresses: of all requests.
    """

    def __init__(self, folder: Path, shape: tuple[int, int] = (800, 1280), flags: Sequence[str] = ()) -> None:
        from websockets.sync.client import connect

        self.errors: list[str] = []
        self.addresses: list[str] = []
        self._count = 0
        self._closing = contextlib.ExitStack()
        with (folder / "browser.log").open("wb") as log:
            command = [find_browser(), *_FLAGS, *flags, f"--user-data-dir={folder / 'profile'}", "about:blank"]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            address = self._find_page(folder / "profile" / "DevToolsActivePort")
            self._socket = self._closing.enter_context(connect(address, max_size=None))
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.command(f"{domain}.enable")
            self.resize(shape)
        except BaseException:
            self._closing.close()
            self._kill()
            raise

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()
        self._kill()

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the protocol; return its result."""
        self._count += 1
        self._socket.send(json.dumps({"id": self._count, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("id") == self._count:
                assert "error" not in message, (method, message)
                return message["result"]
            self._note(message)

    def open(self, address: str) -> None:
        """Load a page, and wait until it has loaded."""
        result = self.command("Page.navigate", url=address)
        assert "errorText" not in result, result
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript, which may be a promise."""
        result = self.command("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, (expression, result["exceptionDetails"])
        return result["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 90) -> Any:
        """Wait until an expression is true; return its value. While a page loads, what it asks for may not be there."""
        deadline = time.monotonic() + seconds
        problem: object = None
        while True:
            try:
                if value := self.evaluate(expression):
                    return value
            except AssertionError as error:
                problem = error
            assert time.monotonic() < deadline, f"not so after {seconds} s: {expression}; {problem}; {self.errors}"
            time.sleep(0.05)

    def click(self, selector: str) -> None:
        """Press the mouse button in the middle of an element."""
        x, y = self.find_middle(selector)
        self._mouse("mousePressed", x, y, button="left", clickCount=1)
        self._mouse("mouseReleased", x, y, button="left", clickCount=1)

    def find_middle(self, selector: str) -> tuple[float, float]:
        """``x, y`` of the middle of an element, which is scrolled into view."""
        quoted = json.dumps(selector)
        x, y = self.evaluate(
            f"(e => {{ e.scrollIntoView({{block: 'center'}}); const b = e.getBoundingClientRect();"
            f" return [b.x + b.width / 2, b.y + b.height / 2]; }})(document.querySelector({quoted}))"
        )
        return x, y

    def point(self, x: float, y: float) -> None:
        """Move the mouse to a point of the page."""
        self._mouse("mouseMoved", x, y)

    def drag(self, start: tuple[float, float], end: tuple[float, float], *, shift: bool = False) -> None:
        """Press the mouse button at a point ``x, y``, move to another one, and release it."""
        modifiers = _SHIFT if shift else 0
        self._mouse("mouseMoved", *start, modifiers=modifiers)
        self._mouse("mousePressed", *start, button="left", clickCount=1, modifiers=modifiers)
        for part in (0.5, 1):
            x, y = (first + part * (last - first) for first, last in zip(start, end, strict=True))
            self._mouse("mouseMoved", x, y, button="left", modifiers=modifiers)
        self._mouse("mouseReleased", *end, button="left", clickCount=1, modifiers=modifiers)

    def wheel(self, x: float, y: float, down: float) -> None:
        """Turn the wheel by so many pixels at a point."""
        self._mouse("mouseWheel", x, y, deltaX=0, deltaY=down)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key, such as ``"Tab"``, ``"Enter"``, ``"ArrowLeft"`` and ``"+"``."""
        code = _KEY_CODES.get(key, ord(key.upper()) if len(key) == 1 else 0)
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        for kind in ("keyDown", "keyUp"):
            self.command(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                text=text if kind == "keyDown" else "",
                modifiers=_SHIFT if shift else 0,
            )

    def fill(self, selector: str, value: str) -> None:
        """Enter a value into an input, and tell the page as the browser does."""
        self.evaluate(
            f"(e => {{ e.focus(); e.value = {json.dumps(value)}; for (const kind of ['input', 'change'])"
            f" e.dispatchEvent(new Event(kind, {{bubbles: true}})); }})(document.querySelector({json.dumps(selector)}))"
        )

    def _mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self.command("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def resize(self, shape: tuple[int, int]) -> None:
        """Set the height and the width of the page."""
        height, width = shape
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )

    def set_scheme(self, scheme: str) -> None:
        """Prefer ``"light"`` or ``"dark"``."""
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self) -> bytes:
        """The page as PNG."""
        return base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"])

    def _find_page(self, file: Path) -> str:
        """The address at which the page is driven."""
        deadline = time.monotonic() + 120
        while not file.exists() or not (lines := file.read_text().split()):
            assert self._process.poll() is None, f"the browser ended: see {file.parents[1] / 'browser.log'}"
            assert time.monotonic() < deadline, "the browser does not start"
            time.sleep(0.05)
        while time.monotonic() < deadline:
            with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json/list", timeout=60) as answer:
                pages = [each for each in json.load(answer) if each["type"] == "page"]
            if pages:
                return str(pages[0]["webSocketDebuggerUrl"])
            time.sleep(0.05)
        raise AssertionError("the browser opens no page")

    def _note(self, message: dict[str, Any]) -> None:
        method, given = message.get("method"), message.get("params", {})
        if method == "Runtime.consoleAPICalled" and given["type"] in ("error", "warning", "assert"):
            self.errors.append(" ".join(str(each.get("value", each.get("description"))) for each in given["args"]))
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(given["exceptionDetails"]))
        elif method == "Log.entryAdded" and given["entry"]["level"] in ("error", "warning"):
            self.errors.append(f"{given['entry']['text']} {given['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.addresses.append(given["request"]["url"])

    def _kill(self) -> None:
        # Its own process group, so that its helpers end with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(30)
