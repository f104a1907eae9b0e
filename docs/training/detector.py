"""Train a small detector on patches of large images, measure it, and run it over a mosaic: ``python docs/training/detector.py``.

The images are photographs, with cats' faces and coffee cups pasted into them at random. Needs ``pip install "ndframes[torch,demo]"``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import l1_loss, max_pool2d, relu

import ndframes as nf
from ndframes.feed import BoxPatches, GridPatches, detect
from ndframes.torch import DetectionPatches, PatchLoader

CLASSES = ("cat", "cup")
STRIDE = 4  # pixels of a patch for each pixel of the heat maps


# -- the scenes -----------------------------------------------------------------------------------------------------


def make_scenes(folder: Path, count: int, side: int, objects: int, seed: int) -> Path:
    """Write photographs with pasted objects, and a kwcoco file that says where they are."""
    rng = np.random.default_rng(seed)
    photos = nf.SimpleFrames.demo(backend=None)
    backgrounds = [photos.load_region(name, shape=(side, side)) for name in ("astronaut", "rocket", "retina", "ihc")]
    cutouts = [
        photos.load_region("chelsea", np.s_[40:220, 130:310]),
        photos.load_region("coffee", np.s_[60:340, 200:480]),
    ]
    images, annotations = [], []
    for number in range(count):
        canvas = backgrounds[number % len(backgrounds)].copy()
        taken = np.zeros((side, side), bool)
        for _ in range(objects):
            label, extent = int(rng.integers(2)), int(rng.integers(28, 48))
            y, x = (int(place) for place in rng.integers(0, side - extent, 2))
            if taken[y : y + extent, x : x + extent].any():
                continue
            taken[y : y + extent, x : x + extent] = True
            picture = Image.fromarray(cutouts[label]).resize((extent, extent))
            picture = np.asarray(picture)[:, :: rng.choice((-1, 1))]
            axis = np.arange(extent) - (extent - 1) / 2
            is_inside = axis[:, None] ** 2 + axis**2 < extent**2 / 4
            canvas[y : y + extent, x : x + extent][is_inside] = picture[is_inside]
            box = {"bbox": [x, y, extent, extent], "category_id": label + 1}
            annotations.append({"id": len(annotations) + 1, "image_id": number, **box})
        name = f"scene{seed}-{number}.png"
        Image.fromarray(canvas).save(folder / name)
        images.append({"id": number, "file_name": name, "height": side, "width": side})
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(CLASSES)]
    path = folder / f"scenes{seed}.kwcoco.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


# -- the detector: heat maps of centres, and the size at each (CenterNet, Zhou et al., 2019) ------------------------


class Detector(nn.Module):
    """From images ``(n, 3, h, w)`` of uint8 to heat maps and sizes ``(n, 2 + 2, h / 4, w / 4)``."""

    def __init__(self) -> None:
        super().__init__()
        shrinking = [nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.Conv2d(16, 32, 3, stride=2, padding=1)]
        looking_around = [nn.Conv2d(32, 32, 3, padding=reach, dilation=reach) for reach in (2, 3)]
        self.layers = nn.ModuleList([*shrinking, *looking_around])
        self.head = nn.Conv2d(32, len(CLASSES) + 2, 1)
        nn.init.constant_(self.head.bias[: len(CLASSES)], -4.0)  # centres are rare

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The heat maps as logits, and the height and width in pixels, divided by 32."""
        values = images.float() / 128 - 1
        for layer in self.layers:
            values = relu(layer(values))
        return self.head(values)

    @torch.no_grad()
    def find(self, arrays: np.ndarray) -> list[dict[str, np.ndarray]]:
        """What ``detect`` calls: patches ``(n, h, w, 3)`` in, boxes, scores and labels out."""
        output = self(torch.from_numpy(arrays).movedim(-1, 1))
        heat, sizes = output[:, : len(CLASSES)].sigmoid(), output[:, len(CLASSES) :] * 32
        peaks = (heat == max_pool2d(heat, 5, stride=1, padding=2)) & (heat > 0.25)
        found = []
        for number in range(len(arrays)):
            labels, rows, cols = torch.nonzero(peaks[number], as_tuple=True)
            centres = (torch.stack((cols, rows, cols, rows), 1) + 0.5) * STRIDE
            height, width = sizes[number][:, rows, cols].clamp(min=2) / 2
            boxes = centres + torch.stack((-width, -height, width, height), 1)
            scores = heat[number][labels, rows, cols]
            found.append({"boxes": boxes.numpy(), "scores": scores.numpy(), "labels": labels.numpy() + 1})
        return found


def loss_of(output: torch.Tensor, targets: list[dict[str, torch.Tensor]]) -> torch.Tensor:
    """The focal loss of the heat maps, and the error of the sizes at the centres."""
    logits, sizes = output[:, : len(CLASSES)], output[:, len(CLASSES) :]
    wanted = torch.zeros_like(logits)
    grid = (torch.arange(logits.shape[2]) + 0.5) * STRIDE
    size_loss = logits.new_zeros(())
    for number, target in enumerate(targets):
        for (x0, y0, x1, y1), label in zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True):
            y, x, spread = (y0 + y1) / 2, (x0 + x1) / 2, max(x1 - x0, y1 - y0) / 8
            bump = torch.exp(-((grid - y)[:, None] ** 2 + (grid - x) ** 2) / (2 * spread**2))
            wanted[number, label - 1] = torch.maximum(wanted[number, label - 1], bump)
            at = min(int(y / STRIDE), len(grid) - 1), min(int(x / STRIDE), len(grid) - 1)
            wanted[number, label - 1, at[0], at[1]] = 1
            size = torch.tensor([y1 - y0, x1 - x0]) / 32
            size_loss = size_loss + l1_loss(sizes[number, :, at[0], at[1]], size)
    is_centre, chance = wanted == 1, logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    hits = ((1 - chance) ** 2 * chance.log())[is_centre].sum()
    misses = ((1 - wanted) ** 4 * chance**2 * (1 - chance).log())[~is_centre].sum()
    return (size_loss - hits - misses) / max(1, int(is_centre.sum()))


# -- training, measuring, using -----------------------------------------------------------------------------------------


def train(path: Path, workdir: Path, steps: int) -> Detector:
    """Train on patches of 128 x 128 pixels, half of them around objects."""
    frames = nf.CocoFrames(path, workdir=workdir)
    dataset = DetectionPatches(frames, BoxPatches(frames, 128, 16 * steps, positives=0.75))
    torch.manual_seed(0)
    detector = Detector()
    optimizer = torch.optim.Adam(detector.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    with PatchLoader(dataset, 16, workers=1) as loader:
        for step, (images, targets) in enumerate(loader):
            loss = loss_of(detector(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if step % 100 == 0:
                print(f"step {step}: loss {loss.item():.3f}")
    return detector


def average_precision(found: list[dict], wanted: list[dict], category_id: int) -> float:
    """The area under the curve of precision over recall; a box is right if it shares half of the union with a free object."""
    found = sorted((item for item in found if item["category_id"] == category_id), key=lambda item: -item["score"])
    free = [item for item in wanted if item["category_id"] == category_id]
    total, is_right = len(free), []
    for item in found:
        shares = [
            share_of_union(item["bbox"], other["bbox"]) * (item["image_id"] == other["image_id"]) for other in free
        ]
        best = int(np.argmax(shares)) if shares else -1
        is_right.append(bool(shares) and shares[best] >= 0.5)
        if is_right[-1]:
            free.pop(best)
    hits = np.cumsum(is_right)
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    return float(precision[np.array(is_right, bool)].sum() / total)


def share_of_union(one: list[float], other: list[float]) -> float:
    """The intersection of two boxes ``x, y, width, height`` over their union."""
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    common = max(0, height) * max(0, width)
    return common / (one[2] * one[3] + other[2] * other[3] - common)


def find_in(path: Path, workdir: Path, detector: Detector, side: int = 256) -> list[dict]:
    """The objects in all images of a dataset."""
    frames = nf.CocoFrames(path, workdir=workdir)
    patches = GridPatches(frames, side, overlap=64)
    return detect(frames, patches, detector.find, batch_size=8, names=dict(enumerate(CLASSES, 1))).dataset[
        "annotations"
    ]


def draw(path: Path, workdir: Path, found: list[dict], output: Path) -> None:
    """A part of the first image with the boxes that were found."""
    picture = nf.CocoFrames(path, workdir=workdir).load_region(0, np.s_[:512, :768]).copy()
    for item in found:
        x, y, width, height = (round(value) for value in item["bbox"])
        if item["image_id"] == 0 and x >= 2 and y >= 2 and x + width < 766 and y + height < 510:
            colour = ((255, 210, 40), (60, 170, 255))[item["category_id"] - 1]
            for rows, cols in (
                (slice(y - 2, y), slice(x - 2, x + width + 2)),
                (slice(y + height, y + height + 2), slice(x - 2, x + width + 2)),
                (slice(y, y + height), slice(x - 2, x)),
                (slice(y, y + height), slice(x + width, x + width + 2)),
            ):
                picture[rows, cols] = colour
    Image.fromarray(picture).save(output)


def main() -> None:
    """Train, print the average precision on other scenes, and search a mosaic."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("detector"), help="for scenes, cache and picture")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--side", type=int, default=8192, help="of the mosaic in pixels")
    options = parser.parse_args()
    options.folder.mkdir(exist_ok=True)
    workdir = options.folder / "cache"
    started = time.perf_counter()
    detector = train(make_scenes(options.folder, 8, 1024, 120, seed=1), workdir, options.steps)
    print(f"trained in {time.perf_counter() - started:.0f} s")
    test = make_scenes(options.folder, 4, 1024, 60, seed=2)
    found, wanted = find_in(test, workdir, detector), json.loads(test.read_text())["annotations"]
    for label, name in enumerate(CLASSES, 1):
        print(f"average precision of {name}: {average_precision(found, wanted, label):.3f}")
    mosaic = make_scenes(options.folder, 1, options.side, 60 * options.side**2 // 1024**2, seed=3)
    started = time.perf_counter()
    found, wanted = find_in(mosaic, workdir, detector), json.loads(mosaic.read_text())["annotations"]
    print(
        f"{len(found):,} of {len(wanted):,} objects in {options.side} x {options.side} px, {time.perf_counter() - started:.0f} s"
    )
    for label, name in enumerate(CLASSES, 1):
        print(f"average precision of {name}: {average_precision(found, wanted, label):.3f}")
    draw(mosaic, workdir, found, options.folder / "detections.png")


if __name__ == "__main__":
    main()
