"""The page while something changes under it: files, the service, the history of the browser, and the graphics of the machine."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from kit.browser import Browser
from kit.viewing import Page, show

import ndframes as nf
from ndframes.server import serve

SCREEN = (560, 880)
TOKEN = "token-of-these-tests"
ERROR = "document.getElementById('error-text').textContent"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("browser"), SCREEN) as made:
        yield made


@pytest.fixture
def put(tmp_path):
    """Put a file of one value in the place of the one before."""

    def put_one(value, shape=(1800, 1800)):
        np.save(tmp_path / "new.npy", np.full(shape, value, np.uint8))
        os.replace(tmp_path / "new.npy", tmp_path / "a.npy")

    return put_one


def count_images(browser, count):
    browser.wait_for(f"document.querySelectorAll('#frames li').length === {count}")


def name_is(browser, name):
    browser.wait_for(
        f"document.getElementById('image-name').textContent === '{name}' && !document.getElementById('viewer').hidden"
    )


def shown_values(page):
    """The values that a gray picture shows, without the small map and the gray beyond the image."""
    page.browser.evaluate("document.getElementById('minimap').style.visibility = 'hidden'")
    return set(np.unique(page.picture())) - {244}


def test_pixels_of_a_file_before_and_after_a_change_are_never_mixed(put, tmp_path, browser):
    put(50)
    frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path / "work", backend=None)
    with show(browser, frames) as page:
        page.open_image("a", "&zoom=8&y=60&x=60")
        assert shown_values(page) == {50}
        put(90)
        browser.press("1")
        # To where nothing is loaded.
        for _ in range(12):
            browser.press("ArrowRight")
        browser.wait_for(f"{ERROR}.includes('has changed')")
        assert 90 not in shown_values(page)
        browser.click("#retry")
        page.wait_until_drawn("a")
        assert shown_values(page) == {90}
        assert float(page.state()["x"]) > 800  # at the same place as before
        assert browser.evaluate(ERROR) == ""


def test_values_are_not_those_of_a_changed_file(put, tmp_path, browser):
    put(50)
    frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path / "work", backend=None)
    with show(browser, frames) as page:
        page.open_image("a")  # as a whole: values are asked for
        view = page.view()
        assert page.values_at(300, 300, view) == ["50"]
        put(200)
        browser.point(*view.locate(600.5, 600.5))
        browser.wait_for(f"{ERROR}.includes('has changed')")
        assert page.text("values") == "gray–"
        browser.click("#retry")
        page.wait_until_drawn("a")
        assert page.values_at(300, 300) == ["200"]


def test_try_again_after_the_service_was_stopped(put, tmp_path, browser):
    put(50, (40, 40))
    sources = dict.fromkeys("ab", tmp_path / "a.npy")

    def start(port=0):
        frames = nf.SimpleFrames(sources, workdir=tmp_path / "work")
        return serve(frames, token=TOKEN, port=port)

    service = start()
    port = int(service.address.partition("#")[0].strip("/").rpartition(":")[2])
    page = Page(browser, service.address)
    try:
        page.open()
        count_images(browser, 2)
        service.stop()
        # An image that could not be opened is opened.
        browser.click("[data-id=b]")
        browser.wait_for(f"{ERROR}.includes('does not answer')")
        service = start(port)
        browser.click("#retry")
        page.wait_until_drawn("b")
        # And a list that could not be loaded is loaded.
        browser.click("#to-gallery")
        service.stop()
        browser.fill("#search", "a")
        browser.wait_for(f"{ERROR}.includes('does not answer')")
        service = start(port)
        browser.click("#retry")
        count_images(browser, 1)
        assert browser.evaluate(ERROR) == ""
    finally:
        browser.command("Page.navigate", url="about:blank")
        service.stop()


def test_back_and_forward(tmp_path, browser):
    for name, value in (("a", 40), ("b", 90)):
        np.save(tmp_path / f"{name}.npy", np.full((40, 40), value, np.uint8))
    frames = nf.SimpleFrames({name: tmp_path / f"{name}.npy" for name in "ab"}, workdir=tmp_path / "work")

    def go(step):
        # It navigates, so it cannot be waited for in the page.
        browser.command("Runtime.evaluate", expression=f"setTimeout(() => history.go({step}))")

    with show(browser, frames) as page:
        page.open()
        count_images(browser, 2)
        browser.click("[data-id=a]")
        page.wait_until_drawn("a")
        browser.press("+")
        zoom = page.state()["zoom"]
        browser.click("#to-gallery")
        browser.click("[data-id=b]")
        page.wait_until_drawn("b")
        go(-1)
        browser.wait_for("!document.getElementById('gallery').hidden && location.hash === ''")
        go(-1)
        page.wait_until_drawn("a")
        assert page.state()["zoom"] == zoom
        go(-1)
        browser.wait_for("!document.getElementById('gallery').hidden && location.hash === ''")
        go(3)
        page.wait_until_drawn("b")
        assert page.state()["id"] == "b"
        assert page.problems == []


def test_a_lost_context_is_replaced(tmp_path, browser):
    np.save(tmp_path / "a.npy", np.full((40, 40), 70, np.uint8))
    with show(browser, nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path / "work")) as page:
        page.open_image("a", "&zoom=20&y=20&x=20")
        for _ in range(2):
            assert shown_values(page) == {70}
            # As the browser does it, for good.
            browser.evaluate(
                "window.lost = document.querySelector('canvas.pixels');"
                " window.lost.getContext('webgl2').getExtension('WEBGL_lose_context').loseContext(); 1"
            )
            browser.wait_for("document.querySelector('canvas.pixels') !== window.lost")
        assert shown_values(page) == {70}
        assert page.problems == []


def test_values_belong_to_the_pixel_that_is_pointed_at(tmp_path, browser):
    array = np.arange(1600 * 1600, dtype=np.uint32).reshape(1600, 1600)
    np.save(tmp_path / "a.npy", array)
    with show(browser, nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path / "work")) as page:
        page.open_image("a", "&zoom=1&y=256&x=256")
        browser.press("0")
        page.wait_until_drawn("a")
        view = page.view()
        # The blocks around the first pixel are loaded, and those around the other are not: its value is asked for.
        for y, x in ((200, 200), (1400, 1400), (200, 200), (1400, 1400)):
            assert page.values_at(y, x, view) == [str(array[y, x])]
        browser.point(2, 2)
        browser.wait_for("document.getElementById('position').textContent === '–'")
        assert page.values_at(1400, 1400, view) == [str(array[1400, 1400])]
        assert page.problems == []


def test_another_image_while_one_to_compare_is_opened(tmp_path, browser):
    for name in "abc":
        np.save(tmp_path / f"{name}.npy", np.full((40, 40), 70, np.uint8))
    frames = nf.SimpleFrames({name: tmp_path / f"{name}.npy" for name in "abc"}, workdir=tmp_path / "work")
    with show(browser, frames) as page:
        page.open_image("a")
        # It comes when another image is shown already.
        browser.evaluate(
            "window.came = 0; window.gate = new Promise((go) => { window.go = go; }); window.ask = window.fetch;"
            " window.fetch = async (path, ...more) => {"
            " if (!path.startsWith('frames/c')) return window.ask(path, ...more);"
            " window.asked = true; await window.gate; const answer = await window.ask(path, ...more); window.came += 1; return answer; }; 1"
        )
        browser.fill("#compare-with", "c")
        browser.wait_for("window.asked")
        browser.click("#next")
        page.wait_until_drawn("b")
        browser.evaluate("window.go(); 1")
        browser.wait_for("window.came === 3")  # description, statistics and stored tiles
        page.state()  # at rest
        assert browser.evaluate("document.querySelectorAll('canvas.pixels').length") == 1
        assert browser.evaluate(ERROR) == ""
        assert page.problems == []


def test_code_for_a_video_of_a_dataset_runs(tmp_path, browser):
    folder = tmp_path / "data"
    folder.mkdir()
    arrays = [np.full((20, 30, 3), value, np.uint8) for value in (10, 20)]
    for number, array in enumerate(arrays):
        np.save(folder / f"{number}.npy", array)
    dataset = {
        "videos": [{"id": 7, "name": "v", "width": 30, "height": 20}],
        "images": [
            {
                "id": 1 + n,
                "file_name": str(folder / f"{n}.npy"),
                "width": 30,
                "height": 20,
                "video_id": 7,
                "frame_index": n,
            }
            for n in range(2)
        ],
        "categories": [{"id": 5}],
        "annotations": [
            {"id": 1, "image_id": 1, "bbox": [1, 2, 3, 4]},
            {"id": 2, "image_id": 1, "category_id": 5, "bbox": [1, 2, 3, 4]},
        ],
    }
    with show(browser, nf.CocoFrames(dataset, workdir=tmp_path / "work")) as page:
        page.open_image("video-7", "&t=1&box=2,3,8,9")
        assert browser.wait_for(
            "document.querySelector('#annotations-panel') && document.getElementById('code').textContent"
        )
        (tmp_path / "code.py").write_text(page.text("code") + "\nnp.save('crop.npy', crop)\n")
        subprocess.run([sys.executable, "code.py"], cwd=tmp_path, check=True, timeout=120)
        assert np.array_equal(np.load(tmp_path / "crop.npy"), arrays[1][2:8, 3:9])
        # Annotations without a category, and with one without a name, say so; the list is that of the frame that is shown.
        browser.press(",")
        texts = "[...document.querySelectorAll('#annotation-list button, #categories li')].map((each) => each.textContent).join()"
        browser.wait_for(f"{texts} === 'category 5 (1),no category #1,category 5 #2'")
        assert page.problems == []


def test_the_token_is_entered_where_the_page_had_none(tmp_path, browser):
    sources = dict.fromkeys("ab", tmp_path / "a.npy")
    np.save(sources["a"], np.full((40, 40), 70, np.uint8))
    with show(browser, nf.SimpleFrames(sources, workdir=tmp_path / "work")) as page:
        browser.open(page.site)
        browser.wait_for(f"{ERROR}.includes('whole address')")
        fragment = page.address.partition("#")[2]
        # The browser does not load the page again.
        browser.evaluate(f"location.hash = '{fragment}'")
        count_images(browser, 2)
        assert browser.evaluate(ERROR) == ""
        assert browser.evaluate("location.hash") == ""
        browser.evaluate(f"location.hash = '{fragment}&id=b'")
        page.wait_until_drawn("b")
        assert fragment not in page.state()


def test_quick_steps_through_images(tmp_path, browser):
    sources = {}
    for number in range(6):
        sources[f"i{number}"] = tmp_path / f"{number}.npy"
        np.save(sources[f"i{number}"], np.full((40, 40), 20 * number, np.uint8))
    with show(browser, nf.SimpleFrames(sources, workdir=tmp_path / "work")) as page:
        page.open_image("i0")
        # In one task of the page, so that none of them comes in between.
        browser.evaluate(
            "(async () => { for (let step = 0; step < 4; step += 1) {"
            " document.getElementById('next').click(); await null; await null; await null; } })()"
        )
        page.wait_until_drawn("i4")
        assert page.state()["id"] == "i4"
        assert page.problems == []


def test_limits_are_kept_for_the_next_image_of_the_same_dtype_only(tmp_path, browser):
    arrays = {name: np.full((40, 40), 100, dtype) for name, dtype in (("a", "u1"), ("b", "u1"), ("c", "f4"))}
    arrays["c"][:20] = 0.5
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    frames = nf.SimpleFrames({name: tmp_path / f"{name}.npy" for name in arrays}, workdir=tmp_path / "work")
    with show(browser, frames) as page:
        page.open_image("a")
        browser.fill("[aria-label='high limit of gray']", "110")
        browser.click("#next")
        page.wait_until_drawn("b")
        assert page.state()["channels"].startswith("gray:ffffff:0:110:")
        browser.click("#next")
        page.wait_until_drawn("c")
        assert page.state()["channels"].startswith("gray:ffffff:0.5:100:")
        assert page.problems == []
