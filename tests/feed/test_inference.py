"""stitch and detect: a model run over the patches of images, videos and datasets."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest
from kit.detections import count_errors, scatter
from kit.videos import draw

import ndframes as nf
from ndframes.errors import OutputError, PatchError
from ndframes.feed import GridPatches, Patch, RandomPatches, detect, stitch


def noise(shape, dtype="uint8", *, seed=0):
    return np.random.default_rng([seed, *shape]).integers(0, 255, shape, dtype)


@pytest.fixture
def images():
    return {"a": noise((150, 210, 3)), "b": noise((99, 70, 3), seed=1), "gray": noise((64, 90, 1), "uint16", seed=2)}


@pytest.fixture
def frames(images, write_npy, tmp_path):
    return nf.SimpleFrames({name: write_npy(name, image) for name, image in images.items()}, workdir=tmp_path / "work")


def identity(pixels):
    return pixels


# -- stitch ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edge", ["shift", "pad", "keep"])
@pytest.mark.parametrize("batch_size", [1, 7])
def test_an_identity_model_gives_each_image(frames, images, edge, batch_size):
    patches = GridPatches(frames, (60, 64), overlap=(20, 16), edge=edge)
    calls = []
    results = stitch(frames, patches, identity, batch_size=batch_size, progress=lambda *counts: calls.append(counts))
    assert list(results) == list(images)
    for name, image in images.items():
        assert results[name].image_id == name
        assert results[name].dtype == image.dtype
        assert np.array_equal(results[name][...], image)
    assert calls[-1] == (len(patches), len(patches))
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    only = stitch(frames, patches, identity, image_id="b")
    assert np.array_equal(only[...], images["b"])
    assert patches.state_dict()["delivered"] == 0


def test_the_model_gets_batches_of_pixels(frames, images):
    patches = GridPatches(frames, (64, 64), image_ids=["a"], edge="pad")
    seen = []

    def model(pixels):
        seen.append(pixels.copy())
        return pixels[..., 0]

    stitch(frames, patches, model, batch_size=5)
    assert [len(item) for item in seen] == [5, 5, 2]
    for patch, pixels in zip(patches, np.concatenate(seen), strict=True):
        assert np.array_equal(pixels, frames.load_region(*patch.request, pad="constant"))
    assert seen[0].dtype == np.uint8


def test_shuffled_and_repeated_patches(frames, images):
    patches = GridPatches(frames, (50, 50), overlap=10, image_ids=["a", "b"])
    shards = [patches.shuffled(3).shard(0, 1), patches.shard(0, 1)]
    padded = [*patches, dataclasses.replace(patches[0], index=99, is_repeat=True)]
    for chosen in (*shards, padded, iter(patches)):
        results = stitch(frames, chosen, identity)
        for name in ("a", "b"):
            assert np.array_equal(results[name][...], images[name])


@pytest.mark.parametrize("suffix", ["tif", "npy"])
def test_files_for_several_images(frames, images, tmp_path, suffix):
    patches = GridPatches(frames, (50, 50), overlap=10)
    out = {name: tmp_path / f"{name}.{suffix}" for name in ("a", "gray")}
    results = stitch(frames, patches, identity, out=out)
    for name, image in images.items():
        assert np.array_equal(results[name][...], image)
    for name, path in out.items():
        assert np.array_equal(nf.open(path)[...], images[name])
    with pytest.raises(PatchError, match="is for one image, but the patches are of 3; give a mapping"):
        stitch(frames, patches, identity, out=tmp_path / "one.tif")
    with pytest.raises(PatchError, match=r"out names \['c'\]"):
        stitch(frames, patches, identity, out={"c": tmp_path / "c.tif"})


def test_a_model_that_halves_and_one_that_doubles(frames, images):
    patches = GridPatches(frames, (64, 64), stride=32, image_ids=["a"], edge="pad")
    halved = stitch(frames, patches, lambda pixels: pixels[:, ::2, ::2])
    assert np.array_equal(halved[...], images["a"][::2, ::2])
    doubled = stitch(frames, patches, lambda pixels: pixels.repeat(2, axis=1).repeat(2, axis=2))
    assert np.array_equal(doubled[...], images["a"].repeat(2, axis=0).repeat(2, axis=1))


def test_scaled_patches_give_the_scaled_image(frames):
    patches = GridPatches(frames, (32, 32), overlap=8, image_ids=["a"], scale=0.5, edge="pad")
    result = stitch(frames, patches, identity)
    expected = frames.load_region("a", scale=0.5)
    assert result.shape == expected.shape
    assert np.array_equal(result[...], expected)
    mixed = RandomPatches(frames, (32, 32), 20, scales=[1, 0.5], image_ids=["a"])
    with pytest.raises(PatchError, match=r"its patches have the scales \[0.5, 1\]"):
        stitch(frames, mixed, identity)


def test_logits_become_labels(frames, images):
    patches = GridPatches(frames, (64, 64), overlap=16, image_ids=["a"])
    labels = stitch(frames, patches, lambda pixels: pixels.astype("float32"), reduce="argmax")
    assert labels.dtype == np.uint8
    assert np.array_equal(labels[..., 0], images["a"].argmax(axis=2))


def test_tensors_with_gradients_are_taken(frames, images):
    torch = pytest.importorskip("torch")
    patches = GridPatches(frames, (64, 64), overlap=16, image_ids=["a"])
    one = torch.ones(1, requires_grad=True)
    result = stitch(frames, patches, lambda pixels: torch.from_numpy(pixels).float() * one)
    assert result.dtype == np.float32
    assert np.array_equal(result[...], images["a"])


def test_frames_of_a_video_are_results_of_their_own(tmp_path):
    path = tmp_path / "a.mkv"
    nf.write_video(path, [draw(number) for number in range(3)], 10)
    frames = nf.SimpleFrames({"cam": path}, workdir=tmp_path / "work")
    height, width = frames.extents("cam")[-2:]
    patches = GridPatches(frames, (min(32, height), min(32, width)), overlap=4)
    results = stitch(frames, patches, identity)
    video = frames.load_frame("cam")
    assert list(results) == [("cam", time) for time in range(len(video))]
    for (_, time), frame in results.items():
        assert np.array_equal(frame[...], video[time])
    found = detect(
        frames, patches, lambda pixels: [{"boxes": [[0, 0, 3, 4]], "scores": [1], "labels": [1]}] * len(pixels)
    )
    assert found.imgs[2]["frame_index"] == 1
    assert np.array_equal(nf.CocoFrames(found, workdir=tmp_path / "work").load_image(2), video[1])
    clips = GridPatches(frames, (16, 16), times=2)
    with pytest.raises(PatchError, match="patch 0 spans frames 0 to 2; give patches of single frames"):
        stitch(frames, clips, identity)


def test_uncovered_integers_are_an_error_before_the_second_batch(frames, tmp_path):
    patches = [Patch("a", (slice(0, 150), slice(left, left + 60)), image_shape=(150, 210)) for left in (0, 60, 120)]
    calls = []

    def model(pixels):
        calls.append(len(pixels))
        return pixels

    with pytest.raises(PatchError, match=r"\(0, 180\).*give fill="):
        stitch(frames, patches, model, batch_size=1, out=tmp_path / "a.tif")
    assert calls == [1]
    assert not (tmp_path / "a.tif").exists()
    result = stitch(frames, patches, model, fill=0)
    assert not result[:, 180:].any()


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (
            lambda p: p[:-1],
            r"returned \(3, 64, 64, 3\) uint8 for patches 0 to 3 of image 'a'; expected numbers \(4, 64, 64\) or",
        ),
        (lambda p: np.moveaxis(p, -1, 1), r"returned \(4, 3, 64, 64\) uint8"),
        (lambda p: p[:, :50], r"returned \(4, 50, 64, 3\)"),
        (lambda p: p.mean(axis=(1, 2, 3)), r"returned \(4,\)"),
        (lambda p: p.astype(complex), "complex128"),
        (lambda p: None, "object for patches 0 to 3"),
        (lambda p: [np.zeros((64, 64)), 1, 2, 3], "returned a list for patches 0 to 3 of image 'a', which is no array"),
    ],
)
def test_wrong_values_name_the_patches_and_what_was_expected(frames, tmp_path, model, text):
    patches = GridPatches(frames, (64, 64), image_ids=["a"])
    with pytest.raises(PatchError, match=text):
        stitch(frames, patches, model, batch_size=4, out=tmp_path / "out.npy")
    assert not [name for name in os.listdir(tmp_path) if name.endswith((".part", "out.npy"))]


def test_an_error_of_the_model_leaves_no_file(frames, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    patches = GridPatches(frames, (64, 64), image_ids=["a"])
    calls = []

    def model(pixels):
        calls.append(len(pixels))
        if len(calls) == 3:
            raise ZeroDivisionError
        return pixels

    with pytest.raises(ZeroDivisionError):
        stitch(frames, patches, model, batch_size=3, out=folder / "a.tif")
    assert os.listdir(folder) == []


def test_wrong_arguments_are_errors_before_the_model_runs(frames, tmp_path):
    patches = GridPatches(frames, (64, 64), image_ids=["a"])

    def model(pixels):
        raise AssertionError

    for options, error, text in (
        ({"batch_size": 0}, PatchError, "batch_size=0"),
        ({"image_id": "z"}, PatchError, "there are no patches of image 'z'"),
        ({"weights": "flat"}, ValueError, "weights='flat'"),
        ({"out": tmp_path / "a.jpg"}, OutputError, "use one of these endings"),
        ({"dtype": "uint8", "fill": -1}, PatchError, "fill=-1"),
    ):
        with pytest.raises(error, match=text):
            stitch(frames, patches, model, **options)
    with pytest.raises(PatchError, match="is not a Patch"):
        stitch(frames, [("a", None)], model)
    with pytest.raises(PatchError, match="whole=-1"):
        detect(frames, patches, model, whole=-1)
    with pytest.raises(PatchError, match="rule='x'"):
        detect(frames, patches, model, rule="x")


# -- detect ------------------------------------------------------------------------------------------------------------


def paint(shape, boxes):
    """Bright boxes on black; no two touch."""
    image = np.zeros((*shape, 1), np.uint8)
    for number, (x0, y0, x1, y1) in enumerate(boxes.astype(int)):
        image[y0:y1, x0:x1] = 100 + number % 100
    return image


def find_painted(pixels):
    """The painted boxes in each patch, by their connected pixels."""
    import cv2

    answers = []
    for image in pixels:
        _, _, stats, _ = cv2.connectedComponentsWithStats((image[..., 0] > 50).astype(np.uint8), connectivity=4)
        x, y, width, height = stats[1:, :4].T
        boxes = np.stack([x, y, x + width, y + height], axis=1)
        answers.append({"boxes": boxes, "scores": np.full(len(boxes), 0.5), "labels": np.full(len(boxes), 1)})
    return answers


def test_painted_boxes_are_found_once(write_npy, tmp_path):
    shape = (600, 800)
    boxes = np.round(scatter(60, shape, (8, 60), seed=0, most_iou=0, margin=3))
    frames = nf.SimpleFrames({"scene": write_npy("scene", paint(shape, boxes))}, workdir=tmp_path / "work")
    patches = GridPatches(frames, (200, 200), overlap=64)
    found = detect(frames, patches, find_painted, names={1: "box", 2: "other"}, batch_size=5)
    ltrb = np.array([annotation["bbox"] for annotation in found.anns.values()])
    ltrb[:, 2:] += ltrb[:, :2]
    assert count_errors(boxes, ltrb, iou=0.999) == (0, 0)
    assert {annotation["score"] for annotation in found.anns.values()} == {0.5}
    assert [found.cats[number]["name"] for number in (1, 2)] == ["box", "other"]
    assert {annotation["category_id"] for annotation in found.anns.values()} == {1}
    (image,) = found.imgs.values()
    assert (image["id"], image["name"], image["height"], image["width"]) == (1, "scene", *shape)
    again = nf.CocoFrames(found, workdir=tmp_path / "work")
    assert np.array_equal(again.load_image(1), frames.load_image("scene"))
    # The result is plain data.
    path = tmp_path / "found.kwcoco.json"
    found.dump(path)
    assert nf.CocoFrames(path, workdir=tmp_path / "work").extents(1) == shape


def test_a_whole_pass_finds_what_no_patch_holds(write_npy, tmp_path):
    shape = (900, 1200)
    boxes = np.array([[100, 80, 500, 700], [600, 100, 620, 130], [800, 400, 1100, 800]])
    frames = nf.SimpleFrames({"scene": write_npy("scene", paint(shape, boxes))}, workdir=tmp_path / "work")
    patches = GridPatches(frames, (150, 150), overlap=40)
    sizes = []

    def model(pixels):
        sizes.append(pixels.shape[1:3])
        answers = find_painted(pixels)
        # Like a detector, that takes what fills a patch for background.
        for answer in answers:
            sides = answer["boxes"][:, 2:] - answer["boxes"][:, :2]
            is_kept = (sides < 140).all(axis=1) if pixels.shape[1] == 150 else sides.min(axis=1) > 20
            answer.update({name: column[is_kept] for name, column in answer.items()})
        return answers

    found = detect(frames, patches, model, whole=0.25)
    ltrb = np.array([annotation["bbox"] for annotation in found.anns.values()])
    ltrb[:, 2:] += ltrb[:, :2]
    assert count_errors(boxes, ltrb, iou=0.95) == (0, 0)
    assert sizes[-1] == (225, 300)


def test_results_carry_the_images_as_the_frames_describe_them(tmp_path, images, write_npy):
    class Scenes(nf.Frames):
        image_ids = property(lambda self: [7, "x"])

        def build_pathinfo(self, image_id):
            files = (
                nf.ChannelInfo(write_npy("rgb", images["a"]), channels="r|g|b"),
                nf.ChannelInfo(
                    write_npy("nir", images["gray"]), channels="nir", img_from_src=np.diag([2, 2, 1]), nodata=0
                ),
            )
            return nf.PathInfo(image_id, files, default="r|g|b")

    frames = Scenes(workdir=tmp_path / "work")
    patches = GridPatches(frames, (64, 64))

    def model(pixels):
        return [
            {"boxes": [[1, 2, 4, 8], [0, 0, 2, 2]], "scores": [0.5, 0.25], "labels": ["cat", "dog"], "track": [3, 4]}
            for _ in pixels
        ]

    found = detect(frames, patches, model, rule="core")
    assert sorted(found.imgs) == [1, 7]
    assert {cat["name"] for cat in found.cats.values()} == {"cat", "dog"}
    assert {annotation["track"] for annotation in found.anns.values()} == {3, 4}
    again = nf.CocoFrames(found, workdir=tmp_path / "work")
    for image_id in (1, 7):
        for channels in (None, "nir|r"):
            expected = frames.load_image(7, channels)
            assert np.array_equal(again.load_image(image_id, channels), expected)
    names = {cat["id"]: cat["name"] for cat in found.cats.values()}
    first = next(annotation for annotation in found.anns.values() if annotation["image_id"] == 7)
    assert (names[first["category_id"]], first["bbox"], first["score"]) == ("cat", [1, 2, 3, 6], 0.5)


def test_boxes_end_at_the_edge_of_the_image(frames):
    patches = GridPatches(frames, (64, 64), image_ids=["gray"], edge="pad")

    def model(pixels):
        return [{"boxes": [[20, 10, 64, 30], [50, 2, 60, 9]], "scores": [1, 1], "labels": [0, 0]} for _ in pixels]

    found = detect(frames, patches, model, names=["thing"])
    # The second patch hangs over the edge at 90; its second box, at 114 to 124, is outside.
    assert [annotation["bbox"] for annotation in found.anns.values()] == [
        [20, 10, 44, 20],
        [50, 2, 10, 7],
        [84, 10, 6, 20],
    ]
    assert found.cats[0]["name"] == "thing"


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (
            lambda p: {"boxes": []},
            "the model returned a dict for patches 0 to 3 of image 'a'; expected a list of 4 mappings",
        ),
        (lambda p: [{}], "the model returned 1 items"),
        (lambda p: [{}] * len(p), r"part 0 \(patch 0, rows 0:64, columns 0:64\) is \[\]; give a mapping"),
        (
            lambda p: [{"boxes": [[3, 0, 1, 1]], "scores": [1], "labels": [1]}] * len(p),
            r"image 'a': part 0 .*: box 0 is \[3.0, 0.0, 1.0, 1.0\]",
        ),
        (
            lambda p: [{"boxes": [[0, 0, 1, 1]], "scores": [1], "labels": [1.5]}] * len(p),
            "the label 1.5; labels are numbers",
        ),
    ],
)
def test_wrong_answers_name_the_patch(frames, model, text):
    with pytest.raises(PatchError, match=text):
        detect(frames, GridPatches(frames, (64, 64), image_ids=["a"]), model, batch_size=4)


def test_labels_without_a_name(frames):
    patches = GridPatches(frames, (64, 64), image_ids=["a"])

    def model(pixels):
        return [{"boxes": [[0, 0, 1, 1]], "scores": [1], "labels": [3]} for _ in pixels]

    with pytest.raises(PatchError, match=r"returned the labels \[3\], which have no name in names=\['a', 'b'\]"):
        detect(frames, patches, model, names=["a", "b"])
    assert detect(frames, patches, model).cats[3]["name"] == "class_3"
