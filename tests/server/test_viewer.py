"""The page in a real browser: what it shows equals the arrays, whatever the dtype, and its mouse, keys and links work."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from kit.browser import Browser, find_browser
from kit.coco_bundles import make_bundle
from kit.numbered import read_number, write_clip
from kit.synthetic import DTYPES, picture
from kit.viewing import show

import ndframes as nf

SHAPE = (61, 83)
SCREEN = (560, 880)
SHAPE_OF_BUNDLE = (90, 120)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("browser"), SCREEN) as made:
        yield made


@pytest.fixture
def save_arrays(tmp_path):
    def save(arrays, **options):
        for name, array in arrays.items():
            np.save(tmp_path / f"{name}.npy", array)
        sources = {name: tmp_path / f"{name}.npy" for name in arrays}
        return nf.SimpleFrames(sources, workdir=tmp_path / "work", **options)

    return save


def to_value(text, dtype):
    if dtype.kind == "b":
        return {"true": True, "false": False}[text]
    return dtype.type(complex(text) if dtype.kind == "c" else float(text) if dtype.kind == "f" else int(text))


def test_the_list_page_by_page_and_by_names(save_arrays, tmp_path, gradient, browser):
    frames = save_arrays({"a": gradient})
    sources = {f"i<b>{number}": tmp_path / ("gone.npy" if number == 3 else "a.npy") for number in range(70)}
    frames = nf.SimpleFrames(sources, workdir=tmp_path / "work")
    with show(browser, frames) as page:
        page.open()
        browser.wait_for("document.querySelectorAll('#frames li').length === 60")
        texts = browser.evaluate("[...document.querySelectorAll('#frames li')].map((item) => item.innerText)")
        assert texts[0].split("\n")[0] == "i-b-0"
        assert "37 × 53 × 3 uint16" in texts[0]
        assert "a file of the image is not there any more" in texts[3]
        # The token is kept for the tab, and taken out of the address.
        assert browser.evaluate("location.href") == page.site
        browser.click("#more")
        browser.wait_for("document.querySelectorAll('#frames li').length === 70")
        assert browser.evaluate("document.getElementById('more').hidden")
        browser.fill("#search", "B-6")
        browser.wait_for("document.querySelectorAll('#frames li').length === 11")
        assert page.text("status") == "11 images for “B-6”"
        assert page.problems == []


def test_without_the_token(save_arrays, gradient, browser):
    with show(browser, save_arrays({"a": gradient})) as page:
        browser.evaluate("1")
        browser.command("Storage.clearDataForOrigin", origin=page.site.rstrip("/"), storageTypes="all")
        browser.open(page.site)
        browser.wait_for("document.getElementById('status').textContent.includes('whole address')")


def check_pixels(page, array, low, high):
    """The picture equals the formula of the documentation, at one pixel for one."""
    shown = page.pixels(SHAPE)
    real = np.abs(array) if array.dtype.kind == "c" else array
    wanted = ((real.astype(np.float64) - low) / (high - low)).clip(0, 1) * 255
    is_missing = np.isnan(wanted).any(axis=2)
    assert np.abs(shown - np.nan_to_num(wanted))[~is_missing].max() <= 1


def check_values(page, array, points):
    view = page.view()
    for y, x in points:
        got = [to_value(text, array.dtype) for text in page.values_at(y, x, view)]
        assert np.array_equal(np.array(got, array.dtype), array[y, x], equal_nan=array.dtype.kind in "fc"), (y, x)


def limits(low, high):
    colours = {"r": "ff0000", "g": "00ff00", "b": "0000ff"}
    return ",".join(f"{code}:{colour}:{low}:{high}:1" for code, colour in colours.items())


def test_pixels_and_values_of_every_dtype(save_arrays, browser):
    arrays = {dtype: picture((*SHAPE, 3), dtype) for dtype in DTYPES}
    rng = np.random.default_rng(5)
    with show(browser, save_arrays(arrays, backend="auto")) as page:
        for name, array in arrays.items():
            low, high = (0, 1) if array.dtype.kind == "b" else (30, 200)
            page.open_image(name, f"&zoom=1&y=30&x=41&channels={limits(low, high)}")
            assert browser.evaluate("Boolean(document.querySelector('canvas.pixels').getContext('webgl2'))")
            check_pixels(page, array, low, high)
            check_values(page, array, rng.integers(0, SHAPE, (3, 2)).tolist())
        assert page.problems == []


def test_without_webgl(save_arrays, tmp_path):
    arrays = {
        dtype: picture((*SHAPE, 3), dtype) for dtype in ("bool", "uint8", "int16", "float32", "uint64", "complex64")
    }
    (tmp_path / "browser").mkdir()
    flags = ["--disable-software-rasterizer", "--disable-3d-apis"]
    with Browser(tmp_path / "browser", SCREEN, flags) as browser, show(browser, save_arrays(arrays)) as page:
        for name, array in arrays.items():
            low, high = (0, 1) if array.dtype.kind == "b" else (30, 200)
            page.open_image(name, f"&zoom=1&y=30&x=41&channels={limits(low, high)}")
            assert not browser.evaluate("Boolean(document.querySelector('canvas.pixels').getContext('webgl2'))")
            check_pixels(page, array, low, high)
            check_values(page, array, [(3, 5), (60, 82)])
        page.open_image("uint8", "&zoom=8&y=30&x=41")
        view = page.view()
        browser.drag(view.locate(20.5, 20.5), view.locate(30.5, 40.5), shift=True)
        assert page.state()["box"] == "20,20,31,41"
        assert page.problems == []


def test_zoom_and_pan_by_mouse_and_keys(save_arrays, browser):
    array = picture((900, 1400, 3), "uint8")
    with show(browser, save_arrays({"a": array})) as page:
        page.open_image("a")
        left, top, width, height = page.stage
        before = float(page.state()["zoom"])
        assert before == pytest.approx(min(height / 900, width / 1400), rel=1e-6)
        # The pixel under the wheel stays where it is.
        at = page.view().locate(200.5, 300.5)
        browser.wheel(*at, -800)
        page.wait_until_drawn()
        assert float(page.state()["zoom"]) > 2 * before
        # Browsers give the mouse's place in whole pixels.
        assert np.allclose(page.view().locate(200.5, 300.5), at, atol=1 + float(page.state()["zoom"]) / before)
        assert page.values_at(200, 300) == [str(value) for value in array[200, 300]]
        start = (left + width / 2, top + height / 2)
        state = page.state()
        browser.drag(start, (start[0] - 100, start[1] + 50))
        moved = page.state()
        zoom = float(state["zoom"])
        assert float(moved["x"]) - float(state["x"]) == pytest.approx(100 / zoom, abs=1e-3)
        assert float(moved["y"]) - float(state["y"]) == pytest.approx(-50 / zoom, abs=1e-3)
        browser.press("0")
        assert float(page.state()["zoom"]) == pytest.approx(before)
        browser.press("1")
        assert float(page.state()["zoom"]) == 1
        browser.press("ArrowRight")
        assert float(page.state()["x"]) == pytest.approx(780)
        browser.press("+")
        assert float(page.state()["zoom"]) == 1.5
        browser.press("-")
        page.wait_until_drawn()
        assert np.array_equal(page.pixels((100, 100), (450, 780)), array[450:550, 780:880])
        assert page.problems == []


def test_the_small_map(save_arrays, browser):
    array = np.zeros((900, 1400, 3), np.uint8)
    array[600:, 1000:] = 255, 0, 0
    with show(browser, save_arrays({"a": array})) as page:
        page.open_image("a")
        assert browser.evaluate("document.getElementById('minimap').hidden")
        browser.press("1")
        browser.wait_for("!document.getElementById('minimap').hidden")
        left, top, width, height = browser.evaluate(
            "(b => [b.x, b.y, b.width, b.height])(document.getElementById('minimap').getBoundingClientRect())"
        )
        at = (left + 0.9 * width, top + 0.9 * height)
        browser.drag(at, at)
        state = page.state()
        assert abs(float(state["y"]) - 810) < 15
        assert abs(float(state["x"]) - 1260) < 15
        assert page.values_at(800, 1250) == ["255", "0", "0"]
        assert "box" not in state
        assert page.problems == []


def test_two_fingers_zoom_and_one_moves(save_arrays, browser):
    with show(browser, save_arrays({"a": picture((900, 1400, 3), "uint8")})) as page:
        page.open_image("a", "&zoom=1&y=450&x=700")
        view = page.view()
        (x, y), before = view.locate(450, 700), page.state()

        def touch(kind, *points):
            points = [{"x": x + right, "y": y + down, "id": number} for number, (down, right) in enumerate(points)]
            browser.command("Input.dispatchTouchEvent", type=kind, touchPoints=points)

        touch("touchStart", (0, -50), (0, 50))
        for distance in (60, 80, 100):
            touch("touchMove", (0, -distance), (0, distance))
        touch("touchEnd")
        after = page.state()
        assert float(after["zoom"]) == pytest.approx(2, rel=0.05)
        # What was between the fingers is there still.
        assert np.allclose(page.view().locate(450, 700), (x, y), atol=8)
        touch("touchStart", (0, 0))
        touch("touchMove", (20, 40))
        touch("touchMove", (40, 80))
        touch("touchEnd")
        moved = page.state()
        zoom = float(after["zoom"])
        assert float(after["x"]) - float(moved["x"]) == pytest.approx(80 / zoom, abs=10)
        assert float(after["y"]) - float(moved["y"]) == pytest.approx(40 / zoom, abs=10)
        assert before["zoom"] == "1"
        assert page.problems == []


def test_a_large_image_without_overviews(save_arrays, browser):
    """Its tiles are not asked for one by one."""
    backend = {"type": "cog", "config": {"compress": "ZSTD", "overviews": False}}
    with show(browser, save_arrays({"a": np.zeros((6000, 9000), np.uint8)}, backend=backend)) as page:
        page.open_image("a")
        assert len([each for each in browser.addresses if "/region" in each or "/tiles/" in each]) <= 8
        assert page.problems == []


def test_an_overview_is_shown_at_a_distance(save_arrays, browser):
    array = picture((1024, 2048), "uint16")[:, :, None]
    frames = save_arrays({"a": array}, backend="auto")
    with show(browser, frames) as page:
        page.open_image("a", "&zoom=0.25&y=512&x=1024&channels=gray:ffffff:0:65535:1")
        shown = page.pixels((256, 512))
        wanted = frames.load_region("a", scale=0.25) / 65535 * 255
        assert np.abs(shown - wanted).max() <= 1
        read = [each for each in browser.addresses if "/tiles/" in each]
        assert read
        assert not any("/tiles/0?" in each for each in read)


def test_channels_and_limits_need_no_request(save_arrays, browser):
    array = picture((*SHAPE, 6), "uint16")
    with show(browser, save_arrays({"a": array}, backend="auto")) as page:
        page.open_image("a", "&zoom=1&y=30&x=41")
        before = len(browser.addresses)
        for band in (0, 4, 5):
            browser.evaluate(
                "for (const input of document.querySelectorAll('#channels input[type=checkbox]'))"
                f" if (input.checked !== (input.dataset.channel === 'band.{band}')) input.click()"
            )
            code = f"band.{band}"
            browser.fill(f"[aria-label='low limit of {code}']", "1000")
            browser.fill(f"[aria-label='high limit of {code}']", "50000")
            browser.fill(f"[aria-label='colour of {code}']", "#ffffff")
            shown = page.pixels(SHAPE)
            wanted = ((array[:, :, band] - 1000.0) / 49000).clip(0, 1) * 255
            assert np.abs(shown - wanted[:, :, None]).max() <= 1
        assert len(browser.addresses) == before
        assert page.problems == []


def test_missing_values_are_seen_as_squares(save_arrays, browser):
    array = picture((*SHAPE, 1), "float32")
    array[10:30, 20:50] = np.nan
    with show(browser, save_arrays({"a": array})) as page:
        page.open_image("a", "&zoom=4&y=20&x=35")
        shown = page.pixels((80, 120), (10, 20))
        assert set(np.unique(shown)) <= {0xCC, 0xEC}
        assert page.values_at(15, 30) == ["nan"]


def test_frames_of_a_video(tmp_path, browser):
    write_clip(tmp_path / "clip.mp4", 40)
    frames = nf.SimpleFrames({"clip": tmp_path / "clip.mp4"}, workdir=tmp_path / "work")
    with show(browser, frames) as page:
        page.open_image("clip", "&zoom=2&y=60&x=80")

        def number():
            page.wait_until_drawn()
            return read_number(page.pixels((240, 320)))

        assert number() == 0
        browser.fill("#time", "23")
        browser.wait_for("document.getElementById('time-text').textContent.startsWith('frame 23 of 40, 0.920 s')")
        assert number() == 23
        browser.evaluate("document.getElementById('stage').focus()")
        browser.press(".")
        browser.wait_for("document.getElementById('time-text').textContent.startsWith('frame 24 ')")
        assert number() == 24
        browser.press(",")
        browser.press(",")
        browser.wait_for("document.getElementById('time-text').textContent.startsWith('frame 22 ')")
        assert number() == 22
        browser.press(" ")
        browser.wait_for("Number(document.getElementById('frame-number').value) > 25")
        browser.press(" ")
        shown = int(page.state()["t"])
        assert number() == shown
        assert page.problems == []


def test_a_box_as_code_that_runs(save_arrays, tmp_path, browser):
    array = picture((300, 400, 4), "uint16")
    with show(browser, save_arrays({"a b": array})) as page:
        page.open()
        browser.wait_for("document.querySelectorAll('#frames a').length === 1")
        page.wait_until_drawn("a-b")
        view = page.view()
        browser.drag(view.locate(40.5, 50.5), view.locate(99.5, 149.5), shift=True)
        assert page.state()["box"] == "40,50,100,150"
        browser.evaluate("document.getElementById('code').closest('details').open = true")
        assert page.text("box-size").startswith("60 x 100 pixels")
        (tmp_path / "code.py").write_text(page.text("code") + "\nnp.save('crop.npy', crop)\n")
        subprocess.run([sys.executable, "code.py"], cwd=tmp_path, check=True, timeout=120)
        assert np.array_equal(np.load(tmp_path / "crop.npy"), array[40:100, 50:150])
        # As a command of the shell, where there is curl.
        browser.fill("#code-kind", "curl")
        assert "y=40:100&x=50:150" in page.text("code")
        browser.press("Escape")
        assert page.problems == []


def test_a_link_restores_the_view(save_arrays, browser):
    arrays = {name: picture((400, 500, 5), "float32", seed=seed) for seed, name in enumerate(("a", "b"))}
    with show(browser, save_arrays(arrays)) as page:
        page.open_image("a")
        browser.wheel(*page.view().locate(120, 130), -900)
        browser.fill("#preset", "hues")
        browser.fill("[aria-label='low limit of band.1']", "17.5")
        browser.fill("[aria-label='gamma of band.2']", "0.5")
        browser.fill("#compare-with", "b")
        page.wait_until_drawn()
        browser.fill("#compare-amount", "0.25")
        browser.evaluate("document.getElementById('box-view').click()")
        page.wait_until_drawn()
        state, shown = page.state(), page.picture()
        link = browser.evaluate("location.href")
        assert page.address.partition("#token=")[2] not in link
        assert {"id", "y", "x", "zoom", "channels", "box", "compare"} <= set(state)
        page.open(link.partition("#")[2])
        page.wait_until_drawn("a")
        browser.wait_for("document.querySelectorAll('canvas.pixels').length === 2")
        page.wait_until_drawn("a")
        assert page.state() == state
        assert np.array_equal(page.picture(), shown)
        assert page.problems == []


def test_by_the_keyboard_alone(save_arrays, browser):
    array = picture((64, 64, 3), "uint8")
    with show(browser, save_arrays({"a": array, "b": array})) as page:
        page.open()
        browser.wait_for("document.querySelectorAll('#frames a').length === 2")
        browser.evaluate("document.getElementById('search').focus()")
        browser.press("Tab")
        assert browser.evaluate("document.activeElement.dataset.id") == "a"
        # What has the focus is seen.
        assert browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        browser.press("Enter")
        page.wait_until_drawn("a")
        assert browser.evaluate("document.activeElement.id") == "stage"
        for _ in range(3):
            browser.press("ArrowRight", shift=True)
        browser.press("ArrowDown", shift=True)
        browser.wait_for("document.getElementById('position').textContent === 'y 33, x 35'")
        wanted = ", ".join(f"{code} {value}" for code, value in zip("rgb", array[33, 35], strict=True))
        browser.wait_for(f"document.getElementById('readout').textContent.endsWith('{wanted}')")
        browser.press("v")
        assert page.state()["box"] == "0,0,64,64"
        browser.press("Escape")
        assert "box" not in page.state()
        browser.press("]")
        page.wait_until_drawn("b")
        browser.press("?")
        assert browser.evaluate("document.getElementById('keys').open")
        browser.press("Enter")
        assert not browser.evaluate("document.getElementById('keys').open")
        # Every control has a name, and is reached by Tab.
        unnamed = browser.evaluate(
            "[...document.querySelectorAll('button, input, select')].filter((each) => !each.hidden && !each.textContent.trim()"
            " && !each.ariaLabel && !each.closest('label')?.textContent.trim()).map((each) => each.outerHTML)"
        )
        assert unnamed == []
        assert page.problems == []


def test_annotations_over_the_image(tmp_path, browser):
    array = picture((200, 300, 3), "uint8")
    np.save(tmp_path / "a.npy", array)
    run = [0, 0, 200 * 250 + 20, 30, 170, 30]  # two columns of a mask, as COCO counts them
    dataset = {
        "images": [{"id": 1, "file_name": str(tmp_path / "a.npy"), "height": 200, "width": 300}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "<i>dog"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [50, 40, 100, 60], "score": 0.9},
            {
                "id": 2,
                "image_id": 1,
                "category_id": 2,
                "bbox": [60, 50, 20, 20],
                "segmentation": [[60, 50, 80, 50, 70, 70]],
                "score": 0.2,
            },
            {
                "id": 3,
                "image_id": 1,
                "category_id": 2,
                "segmentation": {"size": [200, 300], "counts": run},
                "score": 0.7,
            },
        ],
    }
    with show(browser, nf.CocoFrames(dataset, workdir=tmp_path / "work")) as page:
        page.open_image("1", "&zoom=2&y=100&x=150")
        browser.wait_for("document.querySelectorAll('#annotation-list li').length === 3")
        plain = array.repeat(2, 0).repeat(2, 1)

        def changed():
            shown = page.pixels((400, 600))
            return (shown.astype(int) - plain[: shown.shape[0]] != 0).any(axis=2)

        drawn = changed()
        # On the edges of the box, of the triangle and of the mask, and not inside them.
        edges, inside = [(80, 200), (199, 200), (140, 100), (100, 140), (60, 500)], [(170, 260), (300, 200)]
        assert [bool(drawn[at]) for at in edges] == [True] * 5
        assert [bool(drawn[at]) for at in inside] == [False] * 2
        browser.click("[data-category='cat']")
        browser.wait_for("document.querySelectorAll('#annotation-list li').length === 2")
        assert not changed()[199, 200]
        browser.fill("#least-score", "0.5")
        assert page.text("annotation-count") == "1 of 3 shown"
        browser.click("[data-category='cat']")
        x, y = page.view().locate(45, 140)
        browser.drag((x, y), (x, y))
        assert '"id": 1' in page.text("annotation-facts")
        assert page.problems == []


def test_two_images_side_by_side_and_divided(save_arrays, browser):
    arrays = {name: np.full((*SHAPE, 3), value, np.uint8) for name, value in (("a", 40), ("b", 200))}
    with show(browser, save_arrays(arrays)) as page:
        page.open_image("a", "&zoom=4&y=30&x=41&compare=b,opacity,0.5,0.5")
        browser.wait_for("document.querySelectorAll('canvas.pixels').length === 2")
        page.wait_until_drawn("a")
        _, _, width, height = page.stage
        assert abs(int(page.picture()[height // 2, width // 2, 0]) - 120) <= 1
        browser.fill("#compare-mode", "swipe")
        shown = page.picture()[height // 2, :, 0]
        assert (shown[width // 2 - 9], shown[width // 2 + 9]) == (40, 200)
        browser.fill("#compare-mode", "side")
        page.wait_until_drawn("a")
        shown = page.picture()[height // 2, :, 0]
        assert (shown[width // 4], shown[3 * width // 4]) == (40, 200)
        assert page.problems == []


def test_a_narrow_screen(save_arrays, browser):
    with show(browser, save_arrays({"a": picture((*SHAPE, 3), "uint8")})) as page:
        browser.resize((640, 360))
        try:
            page.open_image("a", "&box=1,2,30,40")
            browser.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
            assert browser.evaluate("document.documentElement.scrollWidth") <= 360
            browser.resize(SCREEN)
            page.rest()
            assert browser.evaluate("document.querySelector('aside').scrollWidth") <= 320
            browser.resize((640, 360))
            page.open()
            browser.wait_for("document.querySelectorAll('#frames a').length === 1")
            assert browser.evaluate("document.documentElement.scrollWidth") <= 360
        finally:
            browser.resize(SCREEN)


def test_the_pictures_of_the_documentation_are_taken_by_their_script(tmp_path):
    """``python docs/service/make.py`` takes them again, after a change of the page."""
    find_browser()
    folder = Path(__file__).parents[2] / "docs" / "service"
    taken = runpy.run_path(str(folder / "make.py"))["take"](tmp_path)
    assert {path.stem for path in folder.glob("*.png")} == set(taken)
    for name, shot in taken.items():
        path = folder / f"{name}.png"
        assert path.stat().st_size < 50_000
        kept = imagecodecs.imread(str(path))
        assert kept.shape == shot.shape
        # Fonts differ, the layout does not.
        assert np.median(np.abs(kept.astype(int) - shot)) <= 8, name


def test_aligned_channels_of_several_files(tmp_path, browser):
    """Also those that are not read by default, whose files have other dtypes."""
    dataset, folder = make_bundle(tmp_path)
    frames = nf.CocoFrames(dataset, bundle_dpath=folder, workdir=tmp_path / "work")
    codes = ["r", "g", "b", "nir", "turned", "real", "same"]
    bands = {code: frames.load_region(1, channels=code, nodata="nan")[:, :, 0] for code in codes}
    limits = {"r": ("ff0000", 20, 220), "nir": ("00ff00", 1000, 60000), "real": ("0000ff", 2, 30)}
    with show(browser, frames) as page:
        shown = ",".join(f"{code}:{colour}:{low}:{high}:1" for code, (colour, low, high) in limits.items())
        page.open_image("1", f"&zoom=2&y=45&x=60&channels={shown}")
        for y, x in ((3, 5), (50, 70)):
            got = dict(zip(codes, page.values_at(y, x), strict=True))
            for code in ("r", "g", "b", "nir", "real"):
                assert np.array_equal(bands[code].dtype.type(got[code]), bands[code][y, x], equal_nan=True), code
            assert got["turned"] == got["same"] == ""
        browser.point(5, 5)
        wanted = np.zeros((*SHAPE_OF_BUNDLE, 3))
        is_seen = np.zeros(SHAPE_OF_BUNDLE, bool)
        for place, (code, (_, low, high)) in enumerate(limits.items()):
            values = bands[code].astype(float)
            wanted[:, :, place] = np.nan_to_num((values - low) / (high - low)).clip(0, 1) * 255
            is_seen |= ~np.isnan(values)
        pixels = page.pixels((180, 240))[::2, ::2]
        assert np.abs(pixels - wanted)[is_seen].max() <= 1
        browser.evaluate("document.getElementById('box-view').click()")
        assert 'channels="r|g|b|nir|turned|real|same"' in page.text("code")
        assert page.problems == []
