"""The page in a real browser: what it draws, what it counts, what its buttons do, and what it asks for."""

from __future__ import annotations

import runpy
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from kit.browser import Browser, find_browser
from kit.numbered import draw, read_number, write_clip
from kit.waiting import wait_until
from PIL import Image

from ndframes.stream import Pipeline, Window

COUNT = 2000
MARKUP = "<b>bold</b><img src=x onerror=alert(1)>"

# The number of the frame and its pixels, taken in one step.
READ_PICTURE = """(() => {
  const canvas = document.querySelector('canvas');
  const { width, height } = canvas;
  const copy = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const data = copy.getImageData(0, 0, width, height).data;
  return [Number(canvas.dataset.index ?? -1), height, width, Array.from(data.filter((_, place) => place % 4 === 0))];
})()"""

READ_FACTS = """Object.fromEntries(Array.from(document.querySelectorAll('article'), (card) => [
  card.dataset.source ?? card.dataset.algorithm,
  Object.fromEntries(Array.from(card.querySelectorAll('[data-fact]'), (fact) => [fact.dataset.fact, fact.textContent])),
]))"""


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    find_browser()
    return write_clip(tmp_path_factory.mktemp("clip") / "numbers.mp4", COUNT)


@pytest.fixture
def browser(tmp_path):
    with Browser(tmp_path) as made:
        yield made


def see(frames) -> int | None:
    """Takes a while, so that the pipeline is still running when the page has been loaded."""
    time.sleep(0.05)
    return read_number(frames[0])


def show_state(browser: Browser) -> str:
    return browser.evaluate("document.getElementById('state').textContent")


def read_picture(browser: Browser) -> tuple[int, int | None]:
    """The index of the frame that is shown, and the number that its pixels show."""
    index, height, width, values = browser.evaluate(READ_PICTURE)
    return index, read_number(np.array(values, np.uint8).reshape(height, width))


def test_a_run_from_its_pictures_to_its_end(browser, clip):
    pipeline = Pipeline({"cam": clip}, buffer=2).add("see", see).add("half", len, Window(2, 3, every=2))
    browser.open(pipeline.serve())
    seen = []
    while len(seen) < 5:
        browser.wait_for(
            f"Number(document.querySelector('canvas[data-index]')?.dataset.index ?? -1) > {max(seen, default=-1)}"
        )
        index, number = read_picture(browser)
        assert number == index
        seen.append(index)
    assert show_state(browser) == "running"
    assert browser.evaluate("document.querySelector('canvas').getAttribute('aria-label')").startswith("Frame ")
    browser.click("#stop")
    browser.wait_for("document.getElementById('state').textContent === 'stopped'")
    assert pipeline.state == "stopped"
    stats, facts = pipeline.stats, browser.evaluate(READ_FACTS)
    counts = stats["sources"]["cam"]
    assert 0 < counts["captured"] < COUNT
    for key in ("captured", "decoded", "decimated", "held_back", "reconnects", "stalls", "epochs"):
        assert facts["cam"][key] == f"{counts[key]:,}"
    for name, each in stats["algorithms"].items():
        shown = {key: facts[name][key] for key in ("scheduled", "processed", "pending", *each["dropped"])}
        values = {**each["dropped"], **{key: each[key] for key in ("scheduled", "processed", "pending")}}
        assert shown == {key: f"{value:,}" for key, value in values.items()}
        assert float(facts[name]["p50"].split()[0].replace(",", "")) == pytest.approx(
            each["latency_ms"]["p50"], rel=0.01, abs=0.006
        )
    # The last picture stays, and so does the page.
    last = counts["captured"] - 1
    browser.wait_for(f"document.querySelector('canvas').dataset.index === '{last}'")
    assert read_picture(browser) == (last, last)
    assert browser.evaluate("document.getElementById('start').disabled && document.getElementById('stop').disabled")
    assert browser.errors == []
    check_requests(browser)
    # Without the server the page says so, and keeps what it shows.
    assert pipeline.stop(60)
    browser.wait_for("document.getElementById('state').textContent === 'not connected'")
    assert "does not answer" in browser.evaluate("document.getElementById('problem').textContent")
    assert read_picture(browser) == (last, last)


def check_requests(browser: Browser) -> None:
    """Nothing leaves loopback, and no address holds the token."""
    hosts = {urlsplit(address).hostname for address in browser.addresses if not address.startswith("about:")}
    assert hosts == {"127.0.0.1"}
    assert "token" not in browser.evaluate("location.href")
    assert not [address for address in browser.addresses if "token" in urlsplit(address).path + urlsplit(address).query]
    assert browser.evaluate("document.cookie") == ""
    # It survives that the page is loaded again.
    browser.command("Page.reload")
    browser.wait_for("document.querySelector('article') !== null")


def test_text_of_users_is_text(browser):
    frames = np.stack([draw(number) for number in range(4)])
    pipeline = Pipeline({MARKUP: frames}, errors="skip")

    def give(frames):
        if read_number(frames[0]) == 3:
            raise ValueError(MARKUP)
        return MARKUP

    pipeline.add(MARKUP, give)
    browser.open(pipeline.serve())
    browser.wait_for("document.querySelectorAll('tbody td').length === 12")
    assert browser.evaluate("document.querySelectorAll('main b, main img').length") == 0
    texts = browser.evaluate("Array.from(document.querySelectorAll('td:last-child'), (cell) => cell.textContent)")
    assert texts == [f"ValueError: {MARKUP}", MARKUP, MARKUP, MARKUP]
    assert browser.evaluate("Array.from(document.querySelectorAll('h3'), (title) => title.textContent)") == [
        MARKUP,
        MARKUP,
    ]
    assert browser.errors == []
    pipeline.stop()


def test_the_keyboard_starts_it_and_an_error_is_shown(browser):
    pipeline = Pipeline({"cam": np.stack([draw(5)] * 3)}).add("divides", lambda frames: 1 / 0)
    browser.open(pipeline.serve(start=False))
    browser.wait_for(
        "document.getElementById('state').textContent === 'idle' && !document.getElementById('start').disabled"
    )
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.id") == "start"
    assert browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    browser.press("Enter")
    browser.wait_for("document.getElementById('state').textContent === 'failed'")
    assert "ZeroDivisionError" in browser.evaluate("document.querySelector('[role=alert]').textContent")
    assert not browser.evaluate("document.querySelector('[role=alert]').hidden")
    assert browser.errors == []
    pipeline.stop()


def test_without_the_token_and_with_a_wrong_one(browser):
    pipeline = Pipeline({"cam": np.stack([draw(5)] * 3)})
    address = pipeline.serve().partition("#")[0]
    browser.open(address)
    browser.wait_for("document.getElementById('problem').textContent.includes('lacks the token')")
    assert not [each for each in browser.addresses if "/state" in each]
    browser.open(f"{address}#token=a-wrong-token-of-the-tests")
    browser.wait_for("document.getElementById('problem').textContent.includes('token is wrong')")
    asked = sum("/state" in each for each in browser.addresses)
    assert asked >= 1
    browser.evaluate("new Promise((resolve) => setTimeout(resolve, 1500))")
    assert sum("/state" in each for each in browser.addresses) == asked
    assert browser.evaluate("document.querySelectorAll('article').length") == 0
    pipeline.stop()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_narrow_screen_and_has_contrast(browser, scheme):
    sources = {f"camera-{number}" + "x" * 60 * number: np.stack([draw(number)] * 3) for number in range(3)}
    pipeline = Pipeline(sources, errors="skip")
    pipeline.add("long", lambda frames: "y" * 500).add("boxes", lambda frames: np.zeros((100, 6)))
    browser.resize((800, 360))
    browser.set_scheme(scheme)
    browser.open(pipeline.serve())
    browser.wait_for("document.querySelectorAll('tbody td').length > 12")
    assert browser.evaluate("document.documentElement.scrollWidth") <= 360
    assert browser.evaluate("document.querySelectorAll('h1').length") == 1
    # Text against its ground, by the formula of WCAG 2.
    ratios = browser.evaluate(CONTRASTS)
    assert len(ratios) > 50
    assert min(ratios) >= 4.5
    pipeline.stop()


CONTRASTS = """(() => {
  const parse = (text) => text.match(/[0-9.]+/g).map(Number);
  const light = (rgb) => {
    const [r, g, b] = rgb.map((value) => value / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const texts = Array.from(document.querySelectorAll('body *')).filter((each) =>
    Array.from(each.childNodes).some((node) => node.nodeType === 3 && node.textContent.trim()) && each.checkVisibility());
  return texts.map((each) => {
    const [a, b] = [light(parse(getComputedStyle(each).color).slice(0, 3)), light(ground(each))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  });
})()"""


def test_the_picture_of_the_documentation_is_taken_by_its_script(tmp_path):
    """``python docs/streams/make.py`` takes it again, after a change of the page."""
    find_browser()
    path = Path(__file__).parents[2] / "docs" / "streams" / "page.png"
    assert path.stat().st_size < 50_000
    kept = np.asarray(Image.open(path).convert("RGB"), int)
    taken = runpy.run_path(str(path.with_name("make.py")))["take"](tmp_path)
    assert kept.shape == taken.shape
    # Fonts, numbers and the discs differ, the layout does not.
    assert np.median(np.abs(kept - taken)) <= 4


def test_many_sources_do_not_keep_the_page_waiting(browser):
    """A browser opens six connections; pictures that do not come leave some of them free."""
    sources = {f"camera {number}": np.stack([draw(number)] * 3) for number in range(12)}
    pipeline = Pipeline(sources)
    browser.open(pipeline.serve())
    wait_until(lambda: pipeline.state == "stopped")
    browser.wait_for("document.getElementById('state').textContent === 'stopped'")
    browser.evaluate("document.querySelectorAll('article').forEach((card) => card.scrollIntoView())")
    for number in range(12):
        browser.evaluate(f"document.querySelectorAll('canvas')[{number}].scrollIntoView()")
        browser.wait_for(f"document.querySelectorAll('canvas')[{number}].dataset.index === '2'")
    assert browser.errors == []
    pipeline.stop()
