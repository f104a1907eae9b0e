"""IIIF: pictures are the pixels of ``load_region``, by the text of the Image API 3.0; and the token in the path."""

from __future__ import annotations

import io
import tracemalloc

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from kit.http_requests import Site
from kit.numbered import write_clip
from starlette.applications import Starlette
from starlette.routing import Mount

import ndframes as nf
from ndframes.formats.export import encode_png
from ndframes.server import create_app
from ndframes.server.iiif import Iiif
from ndframes.server.iiif_request import parse_request
from ndframes.server.serving import Server

TOKEN = "a-token-of-these-tests"


@pytest.fixture
def served(tmp_path, serve_frames):
    """A photograph, gray, 16 bits with alpha, floats, and a video."""
    rng = np.random.default_rng(0)
    photo = nf.SimpleFrames.demo(workdir=tmp_path / "work").load_region("coffee")
    arrays = {
        "photo": photo,
        "gray": rng.integers(0, 256, (90, 70, 1), np.uint8),
        "deep": rng.integers(0, 60_000, (80, 100, 4), np.uint16),
        "floats": rng.normal(size=(64, 48, 1)).astype(np.float32),
        "mask": rng.integers(0, 2, (40, 50, 1)).astype(bool),
        "bands": rng.integers(0, 256, (64, 48, 7), np.uint8),
    }
    sources = {}
    for name, array in arrays.items():
        sources[name] = str(tmp_path / f"{name}.npy")
        np.save(sources[name], array)
    sources["clip"] = str(write_clip(tmp_path / "clip.mp4", 5))
    frames = nf.SimpleFrames(sources, workdir=tmp_path / "work")
    site, _ = serve_frames(frames, token=TOKEN)
    return site, frames, arrays


def decode(reply) -> np.ndarray:
    assert reply.status == 200, reply.text
    kind = reply.headers["content-type"]
    if kind == "image/tiff":
        return tifffile.imread(io.BytesIO(reply.body))
    decoders = {"image/png": imagecodecs.png_decode, "image/jpeg": imagecodecs.jpeg8_decode}
    return decoders.get(kind, imagecodecs.webp_decode)(reply.body)


def get(site, path: str, **headers):
    """Ask as a viewer does, with the token in the path."""
    return site.ask(f"/k/{TOKEN}{path}", has_token=False, **headers)


def test_pictures_are_the_pixels_of_load_region(served):
    site, frames, arrays = served
    photo = arrays["photo"]
    height, width = photo.shape[:2]
    for text, expected in {
        "full/max/0/default.png": photo,
        "100,50,200,120/max/0/color.png": photo[50:170, 100:300],
        "100,50,9999,120/max/0/default.tif": photo[50:170, 100:],
        "full/max/90/default.png": np.rot90(photo, -1),
        "full/max/!0/default.png": photo[:, ::-1],
        "0,0,30,20/max/!270/default.png": np.rot90(photo[:20, :30][:, ::-1], 1),
        "full/!200,200/0/default.png": frames.load_region("photo", shape=(round(height * 200 / width), 200)),
        "10,20,64,32/^128,64/180/default.png": np.rot90(
            frames.load_region("photo", np.s_[20:52, 10:74], shape=(64, 128)), 2
        ),
    }.items():
        assert np.array_equal(decode(get(site, f"/iiif/photo/{text}")), expected), text
    # The same with the token in a header.
    assert np.array_equal(decode(site.ask("/iiif/photo/full/max/0/default.png")), photo)


def test_qualities_and_lossy_formats(served):
    site, _, arrays = served
    photo = arrays["photo"]
    gray = decode(get(site, "/iiif/photo/full/max/0/gray.png"))
    assert np.abs(gray.astype(int) - cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)).max() <= 1
    bitonal = decode(get(site, "/iiif/photo/full/max/0/bitonal.png"))
    assert np.array_equal(bitonal, np.where(gray >= 128, 255, 0))
    for form in ("jpg", "webp"):
        picture = decode(get(site, f"/iiif/photo/full/max/0/default.{form}"))
        assert picture.shape == photo.shape
        assert np.abs(picture.astype(int) - photo).mean() < 6
    for form in ("jpg", "webp", "png", "tif"):
        for name in ("gray", "deep", "floats", "mask", "bands"):
            shape = decode(get(site, f"/iiif/{name}/full/max/0/default.{form}")).shape[:2]
            assert shape == arrays[name].shape[:2], (name, form)


def test_other_dtypes_are_stretched_by_the_whole_image(served):
    site, frames, arrays = served
    assert np.array_equal(decode(get(site, "/iiif/gray/full/max/0/default.png")), arrays["gray"][:, :, 0])
    assert np.array_equal(decode(get(site, "/iiif/mask/full/max/0/default.png")), arrays["mask"][:, :, 0] * 255)
    assert np.array_equal(decode(get(site, "/iiif/bands/full/max/0/default.png")), arrays["bands"][:, :, :3])
    floats = arrays["floats"][:, :, 0].astype(float)
    low, high = np.percentile(floats, (1, 99))
    whole = decode(get(site, "/iiif/floats/full/max/0/default.png"))
    assert np.array_equal(whole, np.rint(((floats - low) * (255 / (high - low))).clip(0, 255)))
    # A tile is a part of the whole picture.
    tile = decode(get(site, "/iiif/floats/16,32,20,10/max/0/default.png"))
    assert np.array_equal(tile, whole[32:42, 16:36])
    deep = decode(get(site, "/iiif/deep/full/max/0/default.png"))
    assert np.array_equal(deep[:, :, 3], np.rint(arrays["deep"][:, :, 3] * (255 / 65535)))
    # Another file under the same name has limits of its own.
    np.save(str(frames.pathinfo("floats").channels[0].path), 1000 * arrays["floats"])
    assert np.array_equal(decode(get(site, "/iiif/floats/full/max/0/default.png")), whole)


def test_the_description(served):
    site, _, arrays = served
    reply = get(site, "/iiif/photo/info.json")
    info = reply.json
    height, width = arrays["photo"].shape[:2]
    assert info["id"] == f"http://{site.place[0]}:{site.place[1]}/k/{TOKEN}/iiif/photo"
    assert (info["width"], info["height"], info["profile"]) == (width, height, "level2")
    assert info["protocol"] == "http://iiif.io/api/image"
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["access-control-allow-origin"] == "*"
    linked = get(site, "/iiif/photo/info.json", Accept="application/ld+json")
    assert linked.headers["content-type"].startswith("application/ld+json;profile=")
    for size in info["sizes"]:
        path = f"/iiif/photo/full/{size['width']},{size['height']}/0/default.jpg"
        assert decode(get(site, path)).shape[:2] == (size["height"], size["width"])
    redirect = get(site, "/iiif/photo")
    assert (redirect.status, redirect.headers["location"]) == (303, f"{info['id']}/info.json")
    picture = get(site, "/iiif/photo/square/100,/0/default.jpg")
    assert f'<{info["id"]}/100,0,400,400/100,100/0/default.jpg>;rel="canonical"' in picture.headers["link"]
    assert "level2.json" in picture.headers["link"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/iiif/none/info.json", 404),
        ("/iiif/none", 404),
        ("/iiif/clip/info.json", 400),
        ("/iiif/photo/full/max/0/default.gif", 400),
        ("/iiif/photo/full/full/0/default.jpg", 400),
        ("/iiif/photo/9999,0,1,1/max/0/default.jpg", 400),
        ("/iiif/photo/full/9999,/0/default.jpg", 400),
        ("/iiif/photo/full/^16000,16000/0/default.jpg", 400),
        ("/iiif/photo/full/max/45/default.jpg", 501),
        ("/iiif/photo/full/max/0", 404),
        ("/iiif/..%2fphoto/info.json", 404),
    ],
)
def test_what_is_refused(served, path, status):
    reply = get(served[0], path)
    assert reply.status == status
    if path.startswith("/iiif/photo/full/max/45"):
        assert "0, 90, 180 and 270" in reply.json["error"]["message"]


def test_the_token_in_the_path(served):
    site, _, arrays = served
    for path in ("/k/wrong/frames", "/k//frames", "/k/", f"/k/{TOKEN}x/frames", "/k/%00/frames"):
        assert site.ask(path, has_token=False).status == 401
    # A right header does not help a wrong path.
    assert site.ask("/k/wrong/frames").status == 401
    assert get(site, "/frames").json["count"] == len(arrays) + 1
    assert get(site, "/frames", Host="evil.example").status == 400
    # A page that was given the address may read; without it, other sites may not.
    assert get(site, "/frames", Origin="http://viewer.example").headers["access-control-allow-origin"] == "*"
    assert site.ask("/frames", Origin="http://viewer.example").status == 403
    assert "access-control-allow-origin" not in site.ask("/frames").headers
    assert get(site, "/nothing").status == 404
    assert get(site, "").status == 404


def test_png_is_compressed_in_little_time(served):
    """Level 6 takes up to nine times as long for enlarged images, and longer than the deadline for the largest answers."""
    site, frames, _ = served
    pixels = frames.load_region("photo", np.s_[:64, :64], shape=(256, 256))
    wanted = encode_png(pixels, level=2)
    assert wanted != encode_png(pixels)
    assert np.array_equal(imagecodecs.png_decode(wanted), pixels)
    assert get(site, "/iiif/photo/0,0,64,64/^256,256/0/default.png").body == wanted
    assert site.ask("/frames/photo/region?y=0:64&x=0:64&shape=256x256&format=png").body == wanted


def test_pictures_that_a_viewer_has_are_not_sent_again(tmp_path, serve_frames):
    path = tmp_path / "new.npy"
    np.save(path, np.zeros((40, 50, 3), np.uint8))
    frames = nf.SimpleFrames({"coffee": nf.demo_paths()["coffee"], "new": path}, workdir=tmp_path / "work")
    site, _ = serve_frames(frames, token=TOKEN)
    paths = [
        f"/iiif/coffee/0,0,64,64/{size}/0/{last}" for size in ("max", "32,32") for last in ("default.jpg", "gray.png")
    ]
    first = [site.ask(path) for path in paths]
    tags = [reply.headers["etag"] for reply in first]
    assert len(set(tags)) == 4
    for path, reply in zip(paths, first, strict=True):
        assert reply.headers["cache-control"] == "private, no-cache"
        again = site.ask(path, **{"If-None-Match": f'"other", {reply.headers["etag"]}'})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", reply.headers["etag"])
        anything = site.ask(path, **{"If-None-Match": "*"})
        assert (anything.status, anything.body, anything.headers["etag"]) == (304, b"", reply.headers["etag"])
        other = site.ask(path, **{"If-None-Match": next(tag for tag in tags if tag != reply.headers["etag"])})
        assert (other.status, other.body) == (200, reply.body)
    # Other words for the same picture.
    assert site.ask("/iiif/coffee/0,0,64,64/64,64/0/default.jpg").headers["etag"] == tags[0]
    # A file that has just been written may change again without a trace in its times.
    reply = site.ask("/iiif/new/full/max/0/default.png")
    assert "etag" not in reply.headers
    assert reply.headers["cache-control"] == "no-store"


@pytest.mark.usefixtures("at_rest")
def test_tags_are_of_the_state_of_the_file(tmp_path):
    first, second = np.zeros((40, 50, 3), np.uint8), np.ones((40, 50, 3), np.uint8)
    pictures, tags = [], []
    for pixels in (first, second):
        np.save(tmp_path / "a.npy", pixels)
        frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path / "work")
        iiif = Iiif(frames, 2**20)
        picture = parse_request("full/max/0/default.png", (40, 50), iiif.limits)
        body = iiif.plan("a", picture, "".join(tags)).make()
        tags.append(body.tag)
        pictures.append(imagecodecs.png_decode(body.content))
    assert None not in tags
    assert tags[0] != tags[1]
    assert np.array_equal(pictures, [first, second])


def test_a_picture_takes_little_more_memory_than_its_pixels(tmp_path):
    """Numbers on the way have eight times the bytes of a byte."""
    pixels = np.random.default_rng(0).normal(size=(2000, 1500, 1)).astype(np.float32)
    np.save(tmp_path / "a.npy", pixels)
    frames = nf.SimpleFrames({"a": tmp_path / "a.npy"}, workdir=tmp_path / "work", backend=None)
    iiif = Iiif(frames, 2**23)
    peaks = []
    for last in ("default.png", "gray.png", "bitonal.png"):
        picture = parse_request(f"full/max/0/{last}", (2000, 1500), iiif.limits)
        iiif.render("a", picture)  # imports, and finds the limits
        tracemalloc.start()
        shown = imagecodecs.png_decode(iiif.render("a", picture))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        low, high = iiif._limits_of("a")
        wanted = np.rint(((pixels[:, :, 0].astype(np.float64) - low) * (255 / (high - low))).clip(0, 255)).astype(
            np.uint8
        )
        assert np.array_equal(shown, np.where(wanted >= 128, 255, 0) if last == "bitonal.png" else wanted)
    assert max(peaks) < 2.5 * pixels.nbytes


def test_an_application_that_is_mounted(tmp_path):
    """Below a part of the paths of another application."""
    app = create_app(nf.SimpleFrames.demo(workdir=tmp_path), token=TOKEN)
    server = Server(Starlette(routes=[Mount("/images", app)]))
    server.start()
    try:
        site = Site(f"{server.address}#token={TOKEN}")
        for path in (f"/images/k/{TOKEN}/iiif/coffee", "/images/iiif/coffee"):
            reply = site.ask(f"{path}/info.json")
            assert reply.json["id"] == f"{server.address.rstrip('/')}{path}"
        assert site.ask("/images/frames", has_token=False).status == 401
        assert site.ask("/images/", has_token=False).status == 200
        assert site.ask("/frames").status == 404
    finally:
        app.close()
        assert server.stop(10)
