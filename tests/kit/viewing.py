"""The page of a service in a real browser, as those use it who look at images."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import imagecodecs

from ndframes.server import serve

if TYPE_CHECKING:
    import numpy as np

    from kit.browser import Browser

#: What Chromium says of its own software renderer.
_OWN_WORDS = ("GL Driver Message", "software WebGL", "WebGL-0x")


@dataclass(frozen=True)
class View:
    """Where an image is on the page.

    Attributes:
        left: of the place for the image, on the page.
        top: likewise.
        down: from there to the first row.
        right: likewise, to the first column.
        zoom: pixels of the page for a pixel of the image.
    """

    left: int
    top: int
    down: int
    right: int
    zoom: float

    def locate(self, y: float, x: float) -> tuple[float, float]:
        """``x, y`` on the page of a point of the image."""
        return self.left + self.right + x * self.zoom, self.top + self.down + y * self.zoom


class Page:
    """The page of a service that runs.

    Args:
        browser: shows it.
        address: of the service, with its token.
    """

    def __init__(self, browser: Browser, address: str) -> None:
        self.browser = browser
        self.address = address
        self.site = address.partition("#")[0]

    def open(self, fragment: str = "") -> None:
        """Load the page anew, with the token."""
        self.browser.open("about:blank#")
        self.browser.open(f"{self.address}&{fragment}" if fragment else self.address)

    def open_image(self, name: str, more: str = "") -> None:
        """Load the page at an image, and wait until all of it is drawn."""
        self.open(f"id={name}{more}")
        self.wait_until_drawn(name)

    def wait_until_drawn(self, name: str | None = None) -> None:
        named = "" if name is None else f" && document.getElementById('image-name').textContent === '{name}'"
        self.browser.wait_for(
            "document.getElementById('stage').getAttribute('aria-busy') === 'false'"
            f" && document.querySelector('#error').hidden{named}"
        )

    def text(self, name: str) -> str:
        return self.browser.evaluate(f"document.getElementById('{name}').textContent")

    def rest(self) -> None:
        """Wait until the next frame of the screen has been drawn."""
        self.browser.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    @property
    def stage(self) -> tuple[int, int, int, int]:
        """``left, top, width, height`` of the image's place on the page."""
        box = self.browser.evaluate(
            "(b => [b.x, b.y, b.width, b.height])(document.querySelector('canvas.overlay').getBoundingClientRect())"
        )
        return tuple(map(round, box))

    def picture(self) -> np.ndarray:
        """What is seen of the image, ``(h, w, 3)``."""
        self.rest()
        left, top, width, height = self.stage
        shown = imagecodecs.png_decode(self.browser.screenshot())
        return shown[top : top + height, left : left + width, :3]

    def view(self) -> View:
        """Where the image is on the page now."""
        state, (left, top, width, height) = self.state(), self.stage
        zoom = float(state["zoom"])
        corner = [round(extent / 2 - float(state[name]) * zoom) for name, extent in (("y", height), ("x", width))]
        return View(left, top, *corner, zoom)

    def state(self) -> dict[str, str]:
        """What the address says, when it has come to rest: after a moment without a change."""
        read = "[...new URLSearchParams(location.hash.slice(1))]"
        before = None
        while True:
            self.rest()
            now = dict(self.browser.evaluate(f"new Promise(done => setTimeout(() => done({read}), 300))"))
            if now == before and "zoom" in now:
                return now
            before = now

    def values_at(self, y: int, x: int, view: View | None = None) -> list[str]:
        """The values of all channels under the mouse at a pixel of the image."""
        self.browser.point(*(view or self.view()).locate(y + 0.5, x + 0.5))
        self.browser.wait_for(
            f"document.getElementById('position').textContent === 'y {y}, x {x}'"
            " && ![...document.querySelectorAll('#values dd')].some((dd) => dd.textContent === '–')"
        )
        return self.browser.evaluate("[...document.querySelectorAll('#values dd')].map((dd) => dd.textContent)")

    def pixels(self, shape: tuple[int, int], at: tuple[int, int] = (0, 0)) -> np.ndarray:
        """What is seen of so many pixels of the screen from a pixel of the image on, ``(h, w, 3)``; cut at the edges of the screen."""
        view = self.view()
        x, y = view.locate(*at)
        y, x = round(y) - view.top, round(x) - view.left
        return self.picture()[y : y + shape[0], x : x + shape[1]]

    @property
    def problems(self) -> list[str]:
        """What went wrong in the browser, and requests that left the machine."""
        said = [text for text in self.browser.errors if not any(word in text for word in _OWN_WORDS)]
        return said + [each for each in self.browser.addresses if not each.startswith((self.site, "about:", "blob:"))]


@contextmanager
def show(browser: Browser, frames, **options):
    """The page of some frames."""
    browser.errors.clear()
    browser.addresses.clear()
    with serve(frames, **options) as service:
        yield Page(browser, service.address)
        browser.command("Page.navigate", url="about:blank")
