"""pvio's datasets and loaders, of its head and of 0.1.3."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from kit.videos import Encoding

import ndframes as nf
from ndframes.compat.pvio import torch as old
from ndframes.compat.pvio import torch_tools as new
from ndframes.compat.pvio.video import EncodedVideo, ImageDirVideo, Video
from ndframes.system.process import core_count

COUNTS = (40, 15, 9)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Two videos and a folder of images."""
    folder = tmp_path_factory.mktemp("loaders")
    for name, count in zip("ab", COUNTS, strict=False):
        Encoding("libx264", options={"preset": "veryfast"}, gop=8, shape=(32, 48))(folder / f"{name}.mp4", count)
    (folder / "images").mkdir()
    for number in range(COUNTS[2]):
        np.save(folder / "images" / f"frame_{number:03d}.npy", make_image(number))
    return [folder / "a.mp4", folder / "b.mp4", folder / "images"]


def make_image(number):
    return np.random.default_rng(number).integers(0, 255, (32, 48, 3), np.uint8)


@pytest.fixture(scope="module")
def pixels(paths):
    return [nf.read_video(paths[0]), nf.read_video(paths[1]), np.stack([make_image(n) for n in range(COUNTS[2])])]


def check(batches, pixels, find):
    """Compare all frames, and return where they come from."""
    found = []
    for batch in batches:
        for place, frame in enumerate(batch["frames"]):
            video, number = find(batch, place)
            assert torch.equal(frame, torch.from_numpy(pixels[video][number]).permute(2, 0, 1).float() / 255.0)
            found.append((video, number))
    return found


def everything(counts=COUNTS):
    return [(video, number) for video, count in enumerate(counts) for number in range(count)]


def find_new(batch, place):
    assert set(batch) == {"frames", "video_indices", "frame_indices"}
    assert type(batch["video_indices"][place]) is type(batch["frame_indices"][place]) is int
    return batch["video_indices"][place], batch["frame_indices"][place]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_of_paths(paths, pixels, workers):
    loader = new.SimpleVideoCollectionLoader(
        [str(paths[0]), paths[1], paths[2]], batch_size=10, num_workers=workers, min_frames_per_worker=8
    )
    assert isinstance(loader.dataset, new.VideoCollectionDataset)
    for _ in range(2):
        batches = list(loader)
        assert len(batches) == len(loader) == (7 if workers == 0 else 8)
        assert sorted(check(batches, pixels, find_new)) == everything()
    assert [[stop - start for _, start, stop in share] for share in loader.dataset.worker_assignments] == (
        [[40, 15, 9]] if workers == 0 else [[32], [8, 15, 9]]
    )


def test_videos_of_all_kinds_with_ranges_and_a_transform(paths, pixels):
    class Own(Video):
        def _validate_init_params(self):
            pass

        def _load_metadata(self):
            return 3, (32, 48), 30.0

        def _read_frame(self, index, transform=None):
            frame = torch.full((3, 32, 48), float(index))
            return frame if transform is None else transform(frame)

    videos = [EncodedVideo(paths[0], (4, 20)), ImageDirVideo(paths[2], (1, 4)), Own("own")]
    dataset = new.VideoCollectionDataset(videos, transform=lambda frame: frame + 1)
    assert (dataset.n_frames_by_video, dataset.n_frames_total, len(dataset)) == ([16, 3, 3], 22, 22)
    (batch,) = new.VideoCollectionDataLoader(dataset, batch_size=30)
    assert list(zip(batch["video_indices"], batch["frame_indices"], strict=True)) == everything((16, 3, 3))
    wanted = np.concatenate([pixels[0][4:20], pixels[2][1:4]])
    assert torch.equal(batch["frames"][:19], torch.from_numpy(wanted).permute(0, 3, 1, 2) / 255.0 + 1)
    assert batch["frames"][19:].amax((1, 2, 3)).tolist() == [1, 2, 3]


def test_integers_on_request(paths, pixels):
    (batch,) = new.SimpleVideoCollectionLoader(paths[1:2], batch_size=20, dtype=None)
    np.testing.assert_array_equal(batch["frames"].permute(0, 2, 3, 1).numpy(), pixels[1])


def test_workers_of_the_head(paths):
    dataset = new.VideoCollectionDataset([EncodedVideo(paths[0])], use_cached_video_metadata=False)
    assert dataset.worker_assignments == []
    with pytest.raises(RuntimeError, match="VideoCollectionDataLoader"):
        iter(dataset)
    dataset.assign_workers(n_loading_workers=4)
    assert dataset.worker_assignments == [[(0, 0, 40)], [], [], []]
    dataset.assign_workers(2, min_frames_per_worker=1)
    assert dataset.worker_assignments == [[(0, 0, 20)], [(0, 20, 40)]]
    loader = new.VideoCollectionDataLoader(dataset, 10, batch_size=4)
    assert loader.batch_size == 4
    assert new.SimpleVideoCollectionLoader([], num_workers=-1).num_workers == core_count()
    for videos, error in ((["nowhere.mp4"], FileNotFoundError), ([42], TypeError)):
        with pytest.raises(error, match="video"):
            new.SimpleVideoCollectionLoader(videos)


def find_old(paths):
    def find(batch, place):
        assert set(batch) == {"frames", "video_paths", "frame_indices"}
        assert isinstance(batch["video_paths"][place], Path)
        return paths.index(batch["video_paths"][place]), batch["frame_indices"][place]

    return find


def test_videos_of_the_old_version(paths, pixels):
    dataset = old.VideoCollectionDataset([str(paths[0]), paths[1]])
    with pytest.raises(ValueError, match="assign_workers"):
        len(dataset)
    first = next(iter(dataset))
    assert set(first) == {"frame", "video_path", "frame_idx"}
    loader = old.VideoCollectionDataLoader(dataset, batch_size=12)
    assert sorted(check(loader, pixels, find_old(paths))) == everything(COUNTS[:2])
    assert (len(dataset), dataset.n_frames_lookup) == (55, {paths[0]: 40, paths[1]: 15})
    dataset.assign_workers(n_frame_loading_workers=2, n_metadata_indexing_workers=1)
    loads = [sum(stop - start for _, start, stop in share) for share in dataset.worker_assignments]
    assert sorted(loads) == [24, 31]  # groups of 8 frames are not cut
    (batch,) = old.VideoCollectionDataLoader(
        old.VideoCollectionDataset(paths[1:2], transform=lambda frame: frame.mean()), batch_size=20
    )
    assert torch.allclose(batch["frames"], torch.from_numpy(pixels[1]).float().mean((1, 2, 3)) / 255)


@pytest.mark.parametrize("regex", [None, r"frame\D*(\d+)"])
def test_folders_of_the_old_version(paths, pixels, regex):
    dataset = old.VideoCollectionDataset(paths[2:], as_image_dirs=True, frame_sorting=regex)
    assert [path.name for path in dataset.frame_sortings[paths[2]]] == [f"frame_{n:03d}.npy" for n in range(9)]
    loader = old.VideoCollectionDataLoader(dataset, batch_size=4)
    assert check(loader, pixels[2:], find_old(paths[2:])) == everything(COUNTS[2:])


def test_what_the_old_version_does_not_allow(paths):
    for arguments in ((["nowhere.mp4"],), (paths[2:],), (paths[:1], True), (paths[2:], True, r"(\d)")):
        with pytest.raises(ValueError, match="is not a|matches found"):
            old.VideoCollectionDataset(*arguments)
    for module in (old, new):
        with pytest.raises(ValueError, match="only works with VideoCollectionDataset"):
            module.VideoCollectionDataLoader(object(), batch_size=1)


class WithoutConstructor(old.VideoCollectionDataset):
    def __init__(self):
        self.video_paths = []

    def assign_workers(self, n_loading_workers):
        pass

    def __iter__(self):
        for number in range(3):
            yield {"frame": torch.full((3, 4, 5), float(number)), "video_idx": number, "frame_idx": number}


def test_the_keys_of_a_batch_are_those_of_the_samples():
    (batch,) = old.VideoCollectionDataLoader(WithoutConstructor(), batch_size=3)
    assert (batch["video_indices"], batch["frame_indices"]) == ([0, 1, 2], [0, 1, 2])
    assert batch["frames"].amax((1, 2, 3)).tolist() == [0, 1, 2]
