"""Batches are independent: images and classes come in them as in the whole. Bounds are fixed, seeds too.

Others measure the rest: positions over images of unequal sizes ``test_random_patches``, shares of classes by annotation
``test_box_patches``, orders ``test_order``, sources ``test_mix``.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from kit.sized import sized

from ndframes.feed import BoxPatches, GridPatches, Mix, RandomPatches
from tests.kit.scenes import annot, chi_square, dataset, image

# Images of 4, 36, 100 and 1,600 windows of the grid.
SIZES = (20, 20), (60, 60), (100, 100), (400, 400)
BATCH = 64


def scene():
    """Images of one class each, with 200, 40 and 10 boxes; the first has a common class, the last a rare one."""
    records, number = [], 0
    for image_id, count in ((1, 200), (2, 40), (3, 10)):
        for place in range(count):
            number += 1
            box = (20 * (place % 20), 20 * (place // 20), 9, 9)
            records.append(annot(number, image_id, box, 10 * image_id))
    return dataset([image(n, 400, 400) for n in (1, 2, 3)], records)


ORDERS = {
    "grid": lambda: GridPatches(sized(*SIZES), 10).shuffled(seed=5),
    "random": lambda: RandomPatches(sized(*SIZES), 10, 4000, weights=[1, 2, 3, 4], seed=5),
    "shuffled random": lambda: RandomPatches(sized(*SIZES), 10, 4000, weights=[1, 2, 3, 4]).shuffled(seed=5),
    "boxes": lambda: BoxPatches(scene(), 32, 4000, positives=1, seed=5),
    "mix": lambda: Mix({GridPatches(sized(*SIZES), 10): 1, RandomPatches(sized(*SIZES), 10, 900): 1}, 4000, seed=5),
    "shard": lambda: GridPatches(sized(*SIZES), 10).shuffled(seed=5).shard(1, 2),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("epoch", [0, 3])
def test_image_ids_are_not_correlated_within_batches(order, epoch):
    patches = ORDERS[order]()
    patches.set_epoch(epoch)
    ids = np.array([patch.image_id for patch in patches])
    names, counts = np.unique(ids, return_counts=True)
    # Few windows of an image meet by chance too often for a bound.
    for image_id in names[counts >= 20]:
        centred = (ids == image_id) - (ids == image_id).mean()
        for lag in (1, 2, 3, 5, 8, 32, 63):
            correlation = (centred[lag:] * centred[:-lag]).sum() / (centred**2).sum()
            assert abs(correlation) < 4.5 / len(ids) ** 0.5, (image_id, lag)


@pytest.mark.parametrize("order", ["grid", "random", "shuffled random", "boxes"])
def test_images_come_in_every_batch_as_in_the_whole(order):
    """Neither bunched nor evener than chance."""
    patches = ORDERS[order]()
    ids = np.array([patch.image_id for patch in patches])
    names, counts = np.unique(ids, return_counts=True)
    shares = counts / len(ids)
    total = 0.0
    batches = [ids[first : first + BATCH] for first in range(0, len(ids) - BATCH + 1, BATCH)]
    for batch in batches:
        expected = BATCH * shares
        total += (((batch[:, None] == names).sum(axis=0) - expected) ** 2 / expected).sum()
    degrees = len(batches) * (len(names) - 1)
    # Four standard deviations of chi-square, and those of counts as small as 0.1 in a batch.
    spread = (2 * degrees + (1 / shares).sum() * len(batches) / BATCH) ** 0.5
    assert abs(total - degrees) < 4 * spread


def test_classes_come_in_the_shares_of_their_balance():
    data = scene()
    classes = {record["id"]: record["category_id"] // 10 for record in data["annotations"]}
    # Each class is in one of three images: sqrt(0.75 * 3) = 1.5 for all of them, so images are alike.
    cases = {"class": [1, 1, 1], ("repeat", 0.75): [1, 1, 1], None: [200, 40, 10]}
    for balance, shares in cases.items():
        patches = BoxPatches(data, 32, 1500, positives=1, balance=balance)
        for epoch in range(2):
            patches.set_epoch(epoch)
            counts = Counter(classes[patch.annot_id] for patch in patches)
            found, bound = chi_square([counts[label] for label in (1, 2, 3)], shares)
            assert found < bound, (balance, epoch)


def test_positions_over_images_of_unequal_sizes():
    """All windows of all images are equally likely, by image and by place in it."""
    sizes = (10, 300), (40, 40), (200, 90), (1000, 2000)
    patches = RandomPatches(sized(*sizes), 10, 20_000, seed=2)
    counts = Counter(patch.image_id for patch in patches)
    found, bound = chi_square([counts[n] for n in range(4)], [(h - 9) * (w - 9) for h, w in sizes])
    assert found < bound
    for axis, extent in ((0, 991), (1, 1991)):
        starts = [patch.region[axis].start for patch in patches if patch.image_id == 3]
        found, bound = chi_square(np.histogram(starts, bins=50, range=(0, extent))[0], np.ones(50))
        # Bins hold a whole number of starts, 19 or 20, or 39 or 40.
        assert found < bound + len(starts) / 400
