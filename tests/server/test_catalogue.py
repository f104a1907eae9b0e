"""Lists of a service: its images page by page, one image, counts, and the annotations of a dataset."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
from kit.coco_bundles import make_bundle

import ndframes as nf


@pytest.fixture
def many(tmp_path, gradient):
    for number in range(7):
        np.save(tmp_path / f"{number}.npy", gradient[number:])
    return nf.SimpleFrames({f"i{n}": tmp_path / f"{n}.npy" for n in range(7)}, workdir=tmp_path / "work")


def test_an_image_is_described_without_converting_it(many, serve_frames):
    site, _ = serve_frames(many)
    described = site.ask("/frames/i2").json
    state = described.pop("state")
    assert described == {
        "id": "i2", "key": "i2", "kind": "image", "shape": [35, 53, 3], "dtype": "uint16", "channels": list(many["i2"].channels),
        "all_channels": list(many["i2"].channels),
    }  # fmt: skip
    # many["i2"] has converted it, and the description stays the same.
    assert site.ask("/frames/i2").json["state"] == state
    site.ask("/frames")
    assert many.cache.stat().entries == 1
    code = many["i2"].channels[1]
    assert site.ask(f"/frames/i2?channels={code}").json["shape"] == [35, 53, 1]
    assert site.ask("/frames/i2?channels=zz").json["error"]["type"] == "ChannelError"
    assert site.ask("/frames/i2?colour=red").status == 400


def test_a_file_that_changes_has_another_state(many, serve_frames, tmp_path):
    site, _ = serve_frames(many)
    before = site.ask("/frames/i0").json["state"]
    np.save(tmp_path / "0.npy", np.zeros((3, 4, 1), np.float32))
    after = site.ask("/frames/i0").json
    assert after["state"] != before
    assert (after["shape"], after["dtype"]) == ([3, 4, 1], "float32")


@pytest.mark.parametrize("details", ["1", "0"])
def test_pages(many, serve_frames, details):
    site, _ = serve_frames(many)
    found, after = [], ""
    while after is not None:
        page = site.ask(f"/frames?limit=3&details={details}{after and '&after=' + after}").json
        assert page["count"] == page["images"] == 7
        assert len(page["frames"]) <= 3
        assert all(("shape" in entry) == (details == "1") for entry in page["frames"])
        found += [entry["id"] for entry in page["frames"]]
        after = page["after"]
    assert found == list(many.image_ids)
    assert site.ask("/frames?after=i6").json["frames"] == []
    for query, status in (
        ("limit=0", 400),
        ("limit=x", 400),
        ("limit=-1", 400),
        ("details=2", 400),
        ("page=2", 400),
        ("after=q", 404),
    ):
        assert site.ask(f"/frames?{query}").status == status


def test_no_images(serve_frames):
    site, remote = serve_frames(nf.SimpleFrames({}))
    assert site.ask("/frames").json == {
        "frames": [],
        "count": 0,
        "images": 0,
        "after": None,
        "has_annotations": False,
    }
    assert list(remote) == []
    with pytest.raises(nf.ImageIdError, match="nothing can be read"):
        remote.load_region("a")


def test_health_and_counts(many, serve_frames):
    site, _ = serve_frames(many)
    health = site.ask("/health").json
    assert (health["status"], health["images"], health["version"]) == ("ok", 7, nf.__version__)
    assert site.ask("/frames/i0/region").status == 200
    assert site.ask("/frames/q/region").status == 404
    stats = site.ask("/stats").json
    assert (stats["answered"], stats["failed"], stats["cache"]["entries"]) == (2, 1, 1)


def test_annotations(tmp_path, serve_frames):
    dataset, folder = make_bundle(tmp_path)
    dataset["categories"] = [{"id": 1, "name": "tree"}]
    dataset["annotations"] = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": float("nan")},
        {
            "id": 2,
            "image_id": 2,
            "category_id": 1,
            "bbox": np.arange(4),
            "segmentation": {"counts": [3, 4], "size": [2, 5]},
        },
    ]
    site, _ = serve_frames(nf.CocoFrames(dataset, bundle_dpath=folder, workdir=tmp_path / "work"))
    every = site.ask("/annotations").json
    assert every["categories"] == dataset["categories"]
    assert every["annotations"][0] == {**dataset["annotations"][0], "score": "nan"}
    assert every["annotations"][1] == {**dataset["annotations"][1], "bbox": [0, 1, 2, 3]}
    assert [annot["id"] for annot in site.ask("/annotations?id=2").json["annotations"]] == [2]
    assert [annot["id"] for annot in site.ask("/annotations?id=video-8").json["annotations"]] == [1, 2]
    assert (every["count"], every["start"]) == (2, None)
    first = site.ask("/annotations?limit=1").json
    assert (first["count"], first["start"], len(first["annotations"])) == (2, 1, 1)
    assert [annot["id"] for annot in site.ask("/annotations?start=1").json["annotations"]] == [2]
    for query in ("start=-1", "start=x", "limit=0"):
        assert site.ask(f"/annotations?{query}").status == 400
    assert site.ask("/annotations?id=9").status == 404
    assert site.ask("/annotations?box=1").status == 400


def test_images_without_annotations(many, serve_frames):
    site, _ = serve_frames(many)
    reply = site.ask("/annotations")
    assert (reply.status, reply.json["error"]["type"]) == (400, "UnsupportedError")


def test_the_page_is_static(many, serve_frames):
    site, _ = serve_frames(many)
    page = site.ask("/", has_token=False)
    assert page.status == 200
    assert "i0" not in page.text
    for name in ("page.js", "page.css"):
        assert f"static/{name}" in page.text
        assert site.ask(f"/static/{name}", has_token=False).status == 200


def test_a_region_is_refused_if_it_is_not_of_the_state_that_is_asked_for(many, serve_frames, tmp_path):
    site, _ = serve_frames(many)
    state = site.ask("/frames/i0").json["state"]
    assert site.ask(f"/frames/i0/region?state={state}").status == 200
    assert site.ask("/frames/i0/region?state=").status == 200  # nothing was entered
    path = many.pathinfo("i0").channels[0].path
    pixels = np.load(path)
    np.save(tmp_path / "new.npy", pixels + 1)
    os.replace(tmp_path / "new.npy", path)
    answer = site.ask(f"/frames/i0/region?state={state}")
    assert (answer.status, answer.json["error"]["type"]) == (410, "SourceChangedError")
    state = site.ask("/frames/i0").json["state"]
    answer = site.ask(f"/frames/i0/region?state={state}")
    assert np.array_equal(np.load(io.BytesIO(answer.body)), many.load_region("i0"))


def test_the_state_of_a_sequence_is_that_of_the_files_that_are_read(tmp_path, gradient, serve_frames):
    (tmp_path / "walk").mkdir()
    for number in range(4):
        np.save(tmp_path / "walk" / f"{number}.npy", gradient + number)
    frames = nf.SimpleFrames({"walk": tmp_path / "walk"}, workdir=tmp_path / "work")
    site, _ = serve_frames(frames)
    state = site.ask("/frames/walk").json["state"]

    def ask(time, known=state):
        return site.ask(f"/frames/walk/region?t={time}&state={known}").status

    assert [ask(time) for time in (0, 1, "0:4", 2, -1)] == [200] * 5
    np.save(tmp_path / "new.npy", gradient)
    os.replace(tmp_path / "new.npy", tmp_path / "walk" / "2.npy")
    # Frames of other files are those of the state, until the change has been seen.
    assert [ask(time) for time in (1, 2, 1, "0:4", 2, 1)] == [200, 410, 200, 410, 410, 410]
    now = site.ask("/frames/walk").json["state"]
    assert now != state
    assert [ask(time, now) for time in (1, 2, "0:4")] == [200] * 3


def test_regions_of_a_dataset_are_of_the_state_of_their_descriptions(tmp_path, serve_frames):
    dataset, folder = make_bundle(tmp_path)
    site, _ = serve_frames(nf.CocoFrames(dataset, bundle_dpath=folder, workdir=tmp_path / "work"))
    for each in site.ask("/frames").json["frames"]:
        assert site.ask(f"/frames/{each['id']}/region?state={each['state']}").status == 200
