"""The page in a notebook: a frame of a page of another site, as Jupyter's is."""

from __future__ import annotations

import gc
import http.server
import re
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
from kit.browser import Browser
from kit.synthetic import picture
from kit.waiting import wait_until

import ndframes as nf


@pytest.fixture
def frames(tmp_path):
    np.save(tmp_path / "a.npy", picture((61, 83, 3), "uint8"))
    return nf.SimpleFrames({"a": tmp_path / "a.npy", "b c": tmp_path / "a.npy"}, workdir=tmp_path / "work")


@pytest.fixture
def show_html():
    """Serve a text as the page of another site; returns its address."""
    servers = []

    def start(text):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://localhost:{server.server_address[1]}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def find_frame(browser):
    """The id of the frame with the page, once it has loaded."""
    tree = browser.command("Page.getFrameTree")["frameTree"]
    return next((child["frame"]["id"] for child in tree.get("childFrames", ())), None)


def test_in_a_page_of_another_site(tmp_path, frames, show_html):
    view = frames["a"].view(height=400)
    # Sites on their own processes could not be looked into.
    with Browser(
        tmp_path, flags=["--disable-features=IsolateOrigins,site-per-process", "--disable-site-isolation-trials"]
    ) as browser:
        browser.open(show_html(f"<!doctype html><title>notebook</title>{view._repr_html_()}"))
        wait_until(lambda: find_frame(browser) is not None)
        frame = find_frame(browser)

        def evaluate(expression):
            context = browser.command("Page.createIsolatedWorld", frameId=frame)["executionContextId"]
            result = browser.command("Runtime.evaluate", expression=expression, contextId=context, returnByValue=True)
            return result["result"].get("value")

        wait_until(lambda: evaluate("document.getElementById('stage')?.getAttribute('aria-busy')") == "false")
        assert evaluate("document.getElementById('image-name').textContent") == "a"
        assert evaluate("innerHeight") == 400
        assert "token" not in evaluate("location.href")
    assert view.stop()


def test_a_service_of_its_own_is_not_shown_in_other_pages(frames):
    with nf.server.serve(frames) as service:
        address = service.address.partition("#")[0]
        with urllib.request.urlopen(address) as answer:
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    view = frames.view()
    with urllib.request.urlopen(view.address.partition("#")[0]) as answer:
        assert "frame-ancestors" not in answer.headers["content-security-policy"]
        assert "script-src 'self'" in answer.headers["content-security-policy"]
    view.stop()


def test_the_service_ends_with_the_view(frames):
    view = frames.view("b c")
    assert view.address.endswith("&id=b-c")
    address = view.address.partition("#")[0]
    assert urllib.request.urlopen(address).status == 200
    before = set(threading.enumerate())
    del view
    gc.collect()
    wait_until(lambda: not any(each.name == "ndframes-server" for each in before & set(threading.enumerate())))
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address, timeout=10)


def test_bad_arguments(frames):
    with pytest.raises(nf.ImageIdError):
        frames.view("q")
    for height in (0, True, "tall", 10**6):
        with pytest.raises(ValueError, match="height"):
            frames.view(height=height)
    assert not any(each.name == "ndframes-server" for each in threading.enumerate())


def test_through_the_server_of_jupyter(frames, monkeypatch):
    """Its proxy drops the header of the token, so that is in the path. The proxy itself is tried by hand."""
    pytest.importorskip("jupyter_loopback")
    monkeypatch.setenv("JPY_BASE_URL", "/user/me/")
    monkeypatch.setattr("jupyter_loopback._autodetect.is_in_jupyter_kernel", lambda: True)
    view = frames.view("a")
    source = re.search('src="([^"]*)"', view._repr_html_())[1]
    token = view.address.partition("#token=")[2].partition("&")[0]
    assert re.fullmatch(rf".*/ndframes-proxy/\d+/k/{re.escape(token)}/#id=a", source), source
    view.stop()
