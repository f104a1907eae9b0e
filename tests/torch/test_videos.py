"""Collections of videos: each frame once an epoch, no group of frames decoded twice, equal loads, known orders."""

from __future__ import annotations

import pickle
from collections import Counter
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from kit.videos import Encoding

import ndframes as nf
from ndframes.feed.order import Draws
from ndframes.feed.segments import SegmentPlan, cut_at_keys, shuffle_in_buffer
from ndframes.torch import VideoCollectionDataLoader, VideoCollectionDataset, balance_load_lpt, videos

GOP = 10
COUNTS = {"long": 120, "short": 25, "folder": 15}


def draw(count):
    return np.random.default_rng(0).integers(0, 255, (count, 32, 48, 3), np.uint8)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Two videos with a key frame each 10 frames, and a folder of images whose numbers do not begin at 0."""
    folder = tmp_path_factory.mktemp("videos")
    for name in ("long", "short"):
        options = {"preset": "veryfast", "bf": "2", "sc_threshold": "0"}
        Encoding("libx264", options=options, gop=GOP, shape=(32, 48))(folder / f"{name}.mp4", COUNTS[name])
        assert nf.video_metadata(folder / f"{name}.mp4").keyframes.tolist() == list(range(0, COUNTS[name], GOP))
    (folder / "images").mkdir()
    for number, pixels in enumerate(draw(COUNTS["folder"])):
        np.save(folder / "images" / f"shot-{number + 95}.npy", pixels)
    return [str(folder / "long.mp4"), folder / "short.mp4", nf.Clip(folder / "images", frame_number=r"(\d+)")]


@pytest.fixture(scope="module")
def pixels(paths):
    """All frames of each video, by another way."""
    return [nf.read_video(paths[0]), nf.read_video(paths[1]), draw(COUNTS["folder"])]


def check(batches, pixels, *, starts=(0, 0, 0)):
    """Compare every frame, and return which ones came, in their order."""
    found = []
    for batch in batches:
        assert batch["frames"].dtype == torch.float32
        for frame, video, number in zip(batch["frames"], batch["video_indices"], batch["frame_indices"], strict=True):
            wanted = torch.from_numpy(pixels[video][starts[video] + number]).permute(2, 0, 1).float() / 255.0
            assert torch.equal(frame, wanted), (video, number)
            assert type(video) is type(number) is int
            found.append((video, number))
    return found


def everything(counts=(120, 25, 15)):
    return [(video, number) for video, count in enumerate(counts) for number in range(count)]


# -- sharing ----------------------------------------------------------------------------------------------------------


def test_longest_processing_time_first():
    assert balance_load_lpt({"a": 5, "b": 3, "c": 3, "d": 2, "e": 2}, 2) == [["a", "d"], ["b", "c", "e"]]
    assert balance_load_lpt({"a": 5}, 3) == [["a"], [], []]
    assert balance_load_lpt({}, 2) == [[], []]
    rng = np.random.default_rng(0)
    for _ in range(50):
        tasks = {number: int(length) for number, length in enumerate(rng.integers(1, 1000, rng.integers(1, 60)))}
        workers = int(rng.integers(1, 9))
        shares = balance_load_lpt(tasks, np.int64(workers))
        assert sorted(task for share in shares for task in share) == list(tasks)
        # Graham's bound.
        best = max(sum(tasks.values()) / workers, *tasks.values())
        assert max(sum(tasks[task] for task in share) for share in shares) <= (4 / 3) * best + max(tasks.values()) / 3
    with pytest.raises(ValueError, match="n_workers=0"):
        balance_load_lpt({"a": 1}, 0)


def make_plans(rng, count):
    for _ in range(count):
        counts = tuple(int(number) for number in rng.integers(1, 400, rng.integers(1, 12)))
        gops = [int(gop) for gop in rng.choice([1, 7, 12, 50], len(counts))]
        keys = tuple(None if gop == 1 else np.arange(0, total, gop) for gop, total in zip(gops, counts, strict=True))
        yield SegmentPlan(counts, keys, (1.0,) * len(counts)), gops


@pytest.mark.parametrize("is_shuffled", [False, True])
def test_each_frame_has_one_worker_and_segments_begin_at_key_frames(is_shuffled):
    rng = np.random.default_rng(int(is_shuffled))
    for plan, gops in make_plans(rng, 60):
        workers = int(rng.integers(1, 7))
        shares = plan.share_shuffled(workers, epoch=3, seed=1) if is_shuffled else plan.share(workers)
        assert len(shares) == workers
        frames = Counter(
            (segment.video, number) for share in shares for segment in share for number in range(*segment[1:])
        )
        assert sorted(frames) == everything(plan.counts)
        assert set(frames.values()) == {1}
        assert all(segment.start % gops[segment.video] == 0 for share in shares for segment in share)


def loads_of(shares):
    return [sum(segment.stop - segment.start for segment in share) for share in shares]


@pytest.mark.parametrize("workers", [2, 3, 4, 7])
@pytest.mark.parametrize("gop", [1, 12, 50])
def test_one_huge_and_ten_small_videos_give_equal_loads(workers, gop):
    counts = (6000, *range(100, 200, 10))
    keys = tuple(None if gop == 1 else np.arange(0, count, gop) for count in counts)
    plan = SegmentPlan(counts, keys, (1.0,) * 11)
    for shares in (plan.share(workers), plan.share_shuffled(workers)):
        assert max(loads_of(shares)) <= 1.1 * min(loads_of(shares))
    # In order, a worker goes through few videos: each start costs a seek.
    if gop < 50:
        assert sum(map(len, plan.share(workers))) < 11 + 2 * workers


def test_few_frames_have_fewer_workers():
    plan = SegmentPlan((70,), (None,), (1.0,))
    assert loads_of(plan.share(4, least=300)) == [70, 0, 0, 0]
    assert loads_of(plan.share(4, least=40)) == [35, 35, 0, 0]
    assert loads_of(plan.share_shuffled(4, least=300)) == [70, 0, 0, 0]
    assert SegmentPlan((0,), (None,), (1.0,)).share(2) == SegmentPlan((), (), ()).share(2) == [[], []]


def test_a_group_of_frames_is_never_cut():
    assert cut_at_keys(100, np.array([0]), 10) == [(0, 100)]
    plan = SegmentPlan((100, 40), (np.array([0]), None), (1.0, 1.0))
    assert loads_of(plan.share(2)) == [100, 40]


def test_a_buffer_shuffles_near_frames():
    once = list(shuffle_in_buffer(range(1000), 50, Draws(1)))
    assert sorted(once) == list(range(1000))
    assert once == list(shuffle_in_buffer(range(1000), 50, Draws(1)))
    assert once != list(shuffle_in_buffer(range(1000), 50, Draws(2)))
    # Half of them move by about the size of the buffer; none comes earlier than it could be in the buffer.
    moved = np.array(once) - np.arange(1000)
    assert 15 < np.median(np.abs(moved)) < 80
    assert moved.max() <= 50
    assert list(shuffle_in_buffer(range(5), 1, Draws(0))) == [0, 1, 2, 3, 4]


# -- loading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"num_workers": 2}, {"num_workers": 1, "persistent_workers": True}])
def test_each_frame_comes_once_an_epoch_with_its_pixels(paths, pixels, options):
    dataset = VideoCollectionDataset(paths)
    loader = VideoCollectionDataLoader(dataset, batch_size=16, **options)
    assert len(dataset) == dataset.n_frames_total == 160
    assert dataset.n_frames_by_video == [120, 25, 15]
    for epoch in range(2):
        batches = list(loader)
        assert len(batches) == len(loader)
        found = check(batches, pixels)
        assert sorted(found) == everything()
        assert loader.epoch == epoch
    if options.get("num_workers", 1) == 1:
        assert found == everything()
    assert {path for batch in batches for path in batch["video_paths"]} == set(dataset.video_paths)


def test_ranges_count_from_their_start(paths, pixels):
    dataset = VideoCollectionDataset(paths, frame_ranges=[(33, 77), None, (5, None)])
    found = check(VideoCollectionDataLoader(dataset, 8), pixels, starts=(33, 0, 5))
    assert found == everything((44, 25, 10))
    # The head of the range is decoded from the key frame before it, and later cuts are at key frames.
    dataset.assign_workers(3)
    inside = [(video, start) for share in dataset.worker_assignments for video, start, _ in share if video == 0]
    assert all(start == 0 or (start + 33) % GOP == 0 for _, start in inside)
    with pytest.raises(nf.PathInfoError, match="goes beyond the 25 frames"):
        VideoCollectionDataset(paths, frame_ranges=[None, (0, 26), None])
    with pytest.raises(nf.PatchError, match="1 frame_ranges for 3 videos"):
        VideoCollectionDataset(paths, frame_ranges=[None])


def test_handles_frames_and_the_same_video_twice(paths, pixels, tmp_path):
    handles = [nf.open(paths[0]), paths[1], nf.open(paths[1])]
    dataset = VideoCollectionDataset(handles, frame_ranges=[(0, 5), (0, 5), (5, 10)])
    batches = list(VideoCollectionDataLoader(dataset, batch_size=15))
    assert check(batches, [pixels[0], pixels[1], pixels[1]], starts=(0, 0, 5)) == everything((5, 5, 5))
    frames = nf.SimpleFrames({"a": paths[1], "b": paths[2]}, workdir=tmp_path)
    dataset = VideoCollectionDataset(frames, channels="b|r", dtype=None)
    (batch,) = VideoCollectionDataLoader(dataset, batch_size=100)
    assert batch["frames"].dtype == torch.uint8
    wanted = np.concatenate([pixels[1], pixels[2]])[..., [2, 0]]
    np.testing.assert_array_equal(batch["frames"].permute(0, 2, 3, 1).numpy(), wanted)
    assert dataset.video_paths == ["a", "b"]


def test_no_frame_is_decoded_twice(paths, monkeypatch):
    """By three workers one after the other, in order and shuffled: as many frames as the videos have leave the decoder."""
    from ndframes.video import cursor

    counts = Counter()
    decode = cursor.decode_packet

    def count(packet, *options):
        frames = decode(packet, *options)
        counts["frames"] += len(frames or ())
        return frames

    monkeypatch.setattr(cursor, "decode_packet", count)
    for is_shuffled in (False, True):
        dataset = VideoCollectionDataset(paths[:2], shuffle=is_shuffled, segment_frames=20)
        dataset.assign_workers(3)
        counts.clear()
        segments = [segment for share in dataset.worker_assignments for segment in share]
        for segment in segments:
            for _ in dataset.read_frames(*segment):
                pass
        # A decoder with B-frames puts out a few more before it is asked to stop.
        # Or it has one already, from the time when the video was opened.
        assert 143 <= counts["frames"] <= 145 + 3 * len(segments)


@pytest.mark.parametrize("persistent", [False, True])
def test_a_shuffled_order_depends_on_seed_and_epoch_alone(paths, pixels, persistent):
    def run(epochs, seed=5, **options):
        dataset = VideoCollectionDataset(paths, shuffle=True, seed=seed, shuffle_buffer=20, segment_frames=GOP)
        loader = VideoCollectionDataLoader(dataset, 16, **options)
        orders = []
        for epoch in epochs:
            if epoch != loader.epoch + 1:
                loader.set_epoch(epoch)
            length = len(loader)
            batches = list(loader)
            assert len(batches) == length
            orders.append(check(batches, pixels))
        return orders

    options = {"num_workers": 1, "persistent_workers": True} if persistent else {}
    first, second, third = run([0, 1, 2], **options)
    assert sorted(first) == sorted(second) == sorted(third) == everything()
    assert len({tuple(order) for order in (everything(), first, second, third)}) == 4
    assert run([2, 0], **options) == [third, first]
    if not persistent:
        assert run([0], seed=6) != [first]
        # Neighbours in the order come from several segments.
        segments = [(video, number // GOP) for video, number in first]
        assert np.mean([left == right for left, right in pairwise(segments)]) < 0.7


def test_an_epoch_that_ends_early_is_followed_by_the_next(paths):
    dataset = VideoCollectionDataset(paths, shuffle=True, shuffle_buffer=20)
    loader = VideoCollectionDataLoader(dataset, 16, num_workers=1, persistent_workers=True)
    wanted = VideoCollectionDataLoader(VideoCollectionDataset(paths, shuffle=True, shuffle_buffer=20), 16)
    for epoch in range(3):
        wanted.set_epoch(epoch)
        assert next(iter(loader))["frame_indices"] == next(iter(wanted))["frame_indices"]


@pytest.mark.parametrize("uneven", ["pad", "drop", "keep"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_ranks_share_the_frames(paths, pixels, uneven, shuffle):
    delivered, lengths = [], []
    for rank in range(3):
        dataset = VideoCollectionDataset(paths, shuffle=shuffle, shuffle_buffer=8)
        loader = VideoCollectionDataLoader(dataset, 7, rank=rank, world_size=3, uneven=uneven)
        batches = list(loader)
        assert len(batches) == len(loader)
        lengths.append(len(batches))
        delivered += check(batches, pixels)
    if uneven != "keep":
        assert len(set(lengths)) == 1
    if uneven == "keep":
        assert sorted(delivered) == everything()
    elif uneven == "pad":
        assert set(delivered) == set(everything())
        assert len(delivered) < 160 + 3 * 7
    else:
        assert len(set(delivered)) == len(delivered) > 160 - 3 * 7


def test_a_transform_gets_frames_as_pvio_has_them(paths, pixels):
    def halve(frame):
        assert frame.dtype == torch.float32
        assert frame.shape == (3, 32, 48)
        return frame[:, ::2] / 2

    (batch,) = VideoCollectionDataLoader(VideoCollectionDataset(paths[2:], transform=halve), 50)
    wanted = torch.from_numpy(pixels[2]).permute(0, 3, 1, 2).float() / 255.0
    assert torch.equal(batch["frames"], wanted[:, :, ::2] / 2)


def test_deep_gray_and_unequal_frames(tmp_path):
    deep = np.random.default_rng(0).integers(0, 2**16, (6, 16, 24), np.uint16)
    nf.write_video(tmp_path / "deep.mkv", deep, fps=5)
    nf.write_video(tmp_path / "small.mp4", np.zeros((2, 64, 64, 3), np.uint8), fps=5)
    dataset = VideoCollectionDataset([tmp_path / "deep.mkv", tmp_path / "small.mp4"])
    first, second = VideoCollectionDataLoader(dataset, 5)
    wanted = torch.from_numpy(deep.astype(np.float32))[:, None] / 65535
    assert torch.equal(first["frames"], wanted[:5])
    assert torch.equal(second["frames"][0], wanted[5])
    assert [tuple(frame.shape) for frame in second["frames"]] == [(1, 16, 24), (3, 64, 64), (3, 64, 64)]
    raw = VideoCollectionDataset([tmp_path / "deep.mkv"], dtype="uint16")
    (batch,) = VideoCollectionDataLoader(raw, 6)
    np.testing.assert_array_equal(batch["frames"][:, 0].numpy(), deep)
    with pytest.raises(nf.PatchError, match=r"dtype='uint8', but .*deep.mkv has uint16"):
        VideoCollectionDataset([tmp_path / "deep.mkv"], dtype="uint8")


def test_frames_by_pixels(tmp_path):
    nf.write_video(tmp_path / "large.mkv", np.zeros((8, 128, 128), np.uint8), fps=5, codec="ffv1")
    nf.write_video(tmp_path / "small.mkv", np.zeros((32, 64, 64), np.uint8), fps=5, codec="ffv1")
    shares = []
    for balance in ("frames", "pixels"):
        dataset = VideoCollectionDataset([tmp_path / "large.mkv", tmp_path / "small.mkv"], balance=balance)
        dataset.assign_workers(2)
        shares.append(dataset.worker_assignments)
    assert shares == [[[(0, 0, 8), (1, 0, 12)], [(1, 12, 32)]], [[(0, 0, 8)], [(1, 0, 32)]]]


def test_a_pickle_reads_the_same(paths, pixels):
    dataset = pickle.loads(pickle.dumps(VideoCollectionDataset(paths)))
    assert check(VideoCollectionDataLoader(dataset, 32), pixels) == everything()


def test_samples_without_a_loader(paths, pixels, monkeypatch):
    dataset = VideoCollectionDataset(paths[1:])
    with pytest.raises(RuntimeError, match="VideoCollectionDataLoader"):
        iter(dataset)
    assert dataset.worker_assignments == []
    dataset.assign_workers(1)
    samples = list(dataset)
    assert [(sample["video_idx"], sample["frame_idx"]) for sample in samples] == everything((25, 15))
    assert {sample["video_path"] for sample in samples} == set(dataset.video_paths)
    assert torch.equal(samples[3]["frame"], torch.from_numpy(pixels[1][3]).permute(2, 0, 1) / 255)
    dataset.assign_workers(2)
    with pytest.raises(RuntimeError, match="shared among 2 workers, and is read by this process"):
        iter(dataset)
    # As in a worker of a stock loader.
    monkeypatch.setattr(videos, "get_worker_info", lambda: SimpleNamespace(id=0, num_workers=3))
    with pytest.raises(RuntimeError, match="read by 3 workers"):
        iter(dataset)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_sampler": [1]}, "does not support custom batch samplers"),
        ({"collate_fn": len}, "must use the built-in collate function"),
        ({"shuffle": True}, "the order belongs to the dataset"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"num_workers": -1000}, "num_workers=-1000"),
        ({"rank": 2, "world_size": 2}, "rank 2 of 2"),
        ({"min_frames_per_worker": 0}, "min_frames_per_worker=0"),
        ({"uneven": "even"}, "uneven="),
        ({"rank": 0, "world_size": 50}, "too few for 50 ranks"),
    ],
)
def test_options_that_are_not_allowed(paths, options, message):
    with pytest.raises(ValueError, match=message):
        VideoCollectionDataLoader(VideoCollectionDataset(paths), **options)


def test_a_loader_of_something_else():
    with pytest.raises(ValueError, match="only works with VideoCollectionDataset"):
        VideoCollectionDataLoader([1, 2], batch_size=1)


@pytest.mark.parametrize(
    ("videos", "options", "error", "message"),
    [
        (["nowhere.mp4"], {}, FileNotFoundError, "nowhere.mp4"),
        ([3], {}, TypeError, "video 3 is a int"),
        ("walk.mp4", {}, TypeError, "one video; give a list"),
        ([], {"shuffle_buffer": 0}, nf.PatchError, "shuffle_buffer=0"),
        ([], {"seed": -1}, ValueError, "seed=-1"),
        ([], {"balance": "bytes"}, ValueError, "balance="),
        ([], {"dtype": "float31"}, nf.PatchError, "float31"),
    ],
)
def test_bad_collections_are_errors_at_construction(videos, options, error, message):
    with pytest.raises(error, match=message):
        VideoCollectionDataset(videos, **options)


def test_an_image_is_no_video():
    with pytest.raises(nf.PatchError, match="no time axis"):
        VideoCollectionDataset([nf.demo_paths()["coffee"]])


def test_no_videos_are_an_error():
    for nothing in ([], ()):
        with pytest.raises(nf.PatchError, match="there are no videos to read frames of; give at least one"):
            VideoCollectionDataset(nothing)


def test_an_error_in_a_worker_reaches_the_loop(paths):
    def fail(frame):
        raise KeyError("odd frame")

    loader = VideoCollectionDataLoader(VideoCollectionDataset(paths, transform=fail), 4, num_workers=1)
    with pytest.raises(KeyError, match="odd frame"):
        list(loader)
