"""COCO datasets with polygons, run-length codes and keypoints, and each annotation's mask by a slow definition."""

from __future__ import annotations

import numpy as np

CLASSES = ("cat", "dog", "owl")


def categories(names=CLASSES, keypoints=()):
    return [{"id": 10 * n, "name": name, "keypoints": list(keypoints)} for n, name in enumerate(names, 1)]


def image(number, height=100, width=120, **more):
    return {"id": number, "file_name": f"{number}.png", "height": height, "width": width, **more}


def annot(number, image_id, bbox, category_id=10, **more):
    return {"id": number, "image_id": image_id, "category_id": category_id, "bbox": list(bbox), **more}


def dataset(images, annots, names=CLASSES, **more):
    return {"images": images, "annotations": annots, "categories": categories(names), **more}


def holds(ring, x, y):
    """Whether points lie in a ring: a ray to the right crosses it an odd number of times."""
    inside = np.zeros(np.shape(x), bool)
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=False):
        if y0 != y1:
            crossed = (y >= min(y0, y1)) & (y < max(y0, y1))
            inside ^= crossed & (x0 + (y - y0) * (x1 - x0) / (y1 - y0) > x)
    return inside


def encode(mask):
    """The lengths of runs of a mask, column after column, beginning with 0."""
    flat = np.concatenate([[0], mask.T.reshape(-1).astype(int), [2]])
    ends = np.flatnonzero(np.diff(flat)) - 0
    counts = np.diff(np.concatenate([[0], ends])).tolist()
    return counts if not mask.T.reshape(-1)[:1].any() else [0, *counts[1:]]


def compress(counts):
    """COCO's compressed form of run lengths."""
    text = ""
    for number, count in enumerate(counts):
        value = count - counts[number - 2] if number > 2 else count
        while True:
            group, value = value & 31, value >> 5
            ends = value == (-1 if group & 16 else 0)
            text += chr(48 + (group if ends else group | 32))
            if ends:
                break
    return text


def random_polygon(random, height, width, corners=9):
    """A star-shaped or self-crossing polygon ``(n, 2)`` that may be anywhere in the image."""
    centre = random.uniform((0, 0), (width, height))
    radius = random.uniform(3, 40)
    angles = random.uniform(0, 2 * np.pi, corners)
    if random.random() < 0.8:
        angles.sort()
    points = centre + radius * random.uniform(0.3, 1, (corners, 1)) * np.stack([np.cos(angles), np.sin(angles)], 1)
    return points.clip(0, (width, height)).round(2)


def random_scene(seed, image_count=3, count=40, height=100, width=120):
    """A dataset, and for each annotation a function that tells whether points of the image lie in its mask, or ``None``."""
    random = np.random.default_rng(seed)
    annots, shapes = [], {}
    for number in range(1, count + 1):
        kind = random.choice(["polygon", "several", "hole", "code", "text", "box"])
        first, second = random_polygon(random, height, width), random_polygon(random, height, width)
        more = {"iscrowd": int(random.random() < 0.15)}
        points = first
        if kind == "polygon":
            more["segmentation"] = [first.reshape(-1).tolist()]
            shapes[number] = lambda x, y, a=first: holds(a, x, y)
        elif kind == "several":
            more["segmentation"] = [first.reshape(-1).tolist(), second.reshape(-1).tolist()]
            points = np.concatenate([first, second])
            shapes[number] = lambda x, y, a=first, b=second: holds(a, x, y) | holds(b, x, y)
        elif kind == "hole":
            hole = (first + first.mean(axis=0)) / 2
            more["segmentation"] = {"exterior": first.tolist(), "interiors": [hole.tolist()]}
            shapes[number] = lambda x, y, a=first, b=hole: holds(a, x, y) ^ holds(b, x, y)
        elif kind in ("code", "text"):
            y, x = np.mgrid[:height, :width] + 0.5
            mask = holds(first, x, y)
            counts = encode(mask)
            more["segmentation"] = {"size": [height, width], "counts": counts if kind == "code" else compress(counts)}
            shapes[number] = lambda x, y, a=mask: _look_up(a, x, y)
        low, high = points.min(axis=0), points.max(axis=0)
        annots.append(
            annot(
                number,
                int(random.integers(1, image_count + 1)),
                [*low, *(high - low)],
                int(random.choice([10, 20, 30])),
                **more,
            )
        )
        if kind == "box":
            shapes[number] = None
    return dataset([image(n, height, width) for n in range(1, image_count + 1)], annots), shapes


def _look_up(mask, x, y):
    height, width = mask.shape
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    rows, cols = np.floor(y).astype(int).clip(0, height - 1), np.floor(x).astype(int).clip(0, width - 1)
    return inside & mask[rows, cols]


def chi_square(counts, shares):
    """The statistic of Pearson's test, and a bound that it exceeds once in about 100,000 times."""
    counts, shares = np.asarray(counts, float), np.asarray(shares, float)
    expected = counts.sum() * shares / shares.sum()
    degrees = len(counts) - 1
    # Wilson and Hilferty's approximation of the quantile at 4.26 standard deviations.
    bound = degrees * (1 - 2 / (9 * degrees) + 4.26 * np.sqrt(2 / (9 * degrees))) ** 3
    return ((counts - expected) ** 2 / expected).sum(), bound
